//! One connection to the daemon: a request goes out, the parts of its reply come back.
//!
//! Nothing here waits for ever: connecting, writing and each read are bounded.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use proto::message::{self, Format, MAX_JSON_LINE, MAX_REPLY_LINE, MessageError, Part};

/// How long the daemon may say nothing.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// The only request of a connection.
const ID: u64 = 1;

/// Why there is no answer. Shows as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody is there, or nobody lets us in.
    #[error("{path}: {reason}: {}", advice(.reason), path = .path.display(), reason = plain(.reason))]
    Connect { path: PathBuf, reason: io::Error },
    /// The connection broke.
    #[error("{path}: the connection to sluiced broke: {reason}", path = .path.display(), reason = plain(.reason))]
    Broken { path: PathBuf, reason: io::Error },
    /// Silence.
    #[error("{path}: sluiced has not answered for {seconds} s; the change may still be made, see its log", path = .path.display())]
    Silent { path: PathBuf, seconds: u64 },
    /// An end before the end.
    #[error("{path}: sluiced closed the connection before it answered; see its log", path = .path.display())]
    Closed { path: PathBuf },
    /// Something else listens there.
    #[error("{path}: {reason}; is this the socket of a sluiced of this version?", path = .path.display())]
    Garbage { path: PathBuf, reason: MessageError },
    /// More than the daemon takes.
    #[error(
        "a request of {length} octets is longer than the {MAX_JSON_LINE} that sluiced takes; split the input"
    )]
    TooLong { length: usize },
}

impl ClientError {
    /// The reason alone, for ipvsadm's own message.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Connect { path, reason } => format!("{}: {}", path.display(), plain(reason)),
            other => other.to_string(),
        }
    }
}

/// An error of the system without Rust's `(os error 2)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "be root, or in the group that the configuration lets read"
        }
        io::ErrorKind::TimedOut => "sluiced takes no connection; see its log",
        _ => "start sluiced, or name its socket with --socket PATH or SLUICE_SOCKET",
    }
}

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    path: PathBuf,
    patience: Duration,
}

impl Client {
    /// Connects to the daemon at `path`, which may be silent for `patience` at most.
    ///
    /// # Errors
    /// Nobody listens, or nobody takes the connection.
    pub(crate) fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        let failed = |reason| ClientError::Connect {
            path: path.to_owned(),
            reason,
        };
        let stream = connect(path, patience).map_err(failed)?;
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        stream.set_write_timeout(Some(patience)).map_err(failed)?;
        Ok(Self {
            stream,
            path: path.to_owned(),
            patience,
        })
    }

    /// Sends a call and gives each part of its reply to `part`.
    ///
    /// # Errors
    /// Silence, a broken connection, or something that is no reply.
    pub(crate) fn ask(
        &mut self,
        argv: &[String],
        stdin: &str,
        format: Format,
        mut part: impl FnMut(Part),
    ) -> Result<(), ClientError> {
        let request = message::encode_request(ID, argv, stdin, format);
        if request.len() > MAX_JSON_LINE + 1 {
            return Err(ClientError::TooLong {
                length: request.len() - 1,
            });
        }
        self.stream
            .write_all(request.as_bytes())
            .map_err(|error| self.broken(error))?;
        let mut lines = BufReader::new(&self.stream);
        loop {
            let got = self.next_part(&mut lines)?;
            let more = got.more;
            part(got);
            if !more {
                return Ok(());
            }
        }
    }

    fn next_part(&self, lines: &mut impl BufRead) -> Result<Part, ClientError> {
        let limit = MAX_REPLY_LINE as u64 + 1;
        let mut line = Vec::new();
        let read = lines.take(limit).read_until(b'\n', &mut line);
        read.map_err(|error| self.broken(error))?;
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() <= MAX_REPLY_LINE {
            return Err(ClientError::Closed {
                path: self.path.clone(),
            });
        }
        let garbage = |reason| ClientError::Garbage {
            path: self.path.clone(),
            reason,
        };
        let part = message::decode_reply(&line).map_err(garbage)?;
        if part.id != ID {
            let text = format!("an answer to request {}, which was not made", part.id);
            return Err(garbage(MessageError::Malformed(text)));
        }
        Ok(part)
    }

    fn broken(&self, reason: io::Error) -> ClientError {
        let path = self.path.clone();
        match reason.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Silent {
                path,
                seconds: self.patience.as_secs(),
            },
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                ClientError::Closed { path }
            }
            _ => ClientError::Broken { path, reason },
        }
    }
}

/// Connects in another thread: the standard library has no bound for it, and a daemon that
/// accepts nobody would keep us for ever. The thread ends with the process at the latest.
fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let (done, result) = mpsc::channel();
    let path = path.to_owned();
    thread::spawn(move || done.send(UnixStream::connect(path)));
    result
        .recv_timeout(patience)
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests;
