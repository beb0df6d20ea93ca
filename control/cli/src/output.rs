//! What goes to the terminal.

use std::io::Write;

use proto::errors::Failure;

/// Prints on standard output. A reader that has gone away (`| head`) is no error.
pub(crate) fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
}

/// Prints on standard error, where nobody can be told of a failure either.
pub(crate) fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Prints a failure; gives its exit code.
pub(crate) fn failure(failure: &Failure) -> u8 {
    err(&format!("{failure}\n"));
    failure.exit
}
