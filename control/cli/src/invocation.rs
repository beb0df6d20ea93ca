//! Who was called, with which words, and where the daemon's socket is.

use std::path::PathBuf;

use proto::errors::Failure;

/// The environment variable that names the socket.
pub(crate) const SOCKET_VARIABLE: &str = "SLUICE_SOCKET";

/// Which command this binary plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Itself.
    Sluice,
    /// `ipvsadm`.
    Ipvsadm,
    /// `ipvsadm-save`.
    Save,
    /// `ipvsadm-restore`.
    Restore,
}

impl Program {
    fn of(called: &str) -> Self {
        match called.rsplit('/').next() {
            Some("ipvsadm") => Self::Ipvsadm,
            Some("ipvsadm-save") => Self::Save,
            Some("ipvsadm-restore") => Self::Restore,
            _ => Self::Sluice,
        }
    }

    /// Whether it has to behave as the original does.
    pub(crate) fn is_drop_in(self) -> bool {
        self != Self::Sluice
    }
}

/// One call of the binary.
#[derive(Clone, Debug)]
pub(crate) struct Invocation {
    /// Which command it plays.
    pub(crate) program: Program,
    /// The first word, for messages.
    pub(crate) called: String,
    /// The words behind it, without a leading `--socket`.
    pub(crate) argv: Vec<String>,
    /// Where the daemon listens: option before environment before default.
    pub(crate) socket: PathBuf,
}

impl Invocation {
    /// Sorts the words; `environment` is the value of [`SOCKET_VARIABLE`].
    ///
    /// # Errors
    /// `--socket` without a path.
    pub(crate) fn new(
        called: String,
        mut argv: Vec<String>,
        environment: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let program = Program::of(&called);
        let option = if program.is_drop_in() {
            None
        } else {
            take_socket(&mut argv)?
        };
        let socket = option
            .map(PathBuf::from)
            .or(environment.filter(|path| !path.as_os_str().is_empty()))
            .unwrap_or_else(|| config::model::DEFAULT_SOCKET.into());
        Ok(Self {
            program,
            called,
            argv,
            socket,
        })
    }
}

/// Takes `--socket PATH` or `--socket=PATH` off the front, which ipvsadm's grammar knows nothing
/// of; of several the last one counts.
fn take_socket(argv: &mut Vec<String>) -> Result<Option<String>, Failure> {
    let mut path = None;
    while let Some(first) = argv.first() {
        if let Some(glued) = first.strip_prefix("--socket=") {
            path = Some(glued.to_owned());
            argv.remove(0);
        } else if first == "--socket" {
            if argv.len() < 2 {
                return Err(Failure::usage("sluice: --socket: missing path"));
            }
            path = Some(argv.remove(1));
            argv.remove(0);
        } else {
            break;
        }
    }
    match path {
        Some(path) if path.is_empty() => Err(Failure::usage("sluice: --socket: missing path")),
        path => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoke(line: &str, environment: Option<&str>) -> Result<Invocation, Failure> {
        let mut words = line.split_whitespace().map(str::to_owned);
        let called = words.next().expect("the table has a program everywhere");
        Invocation::new(called, words.collect(), environment.map(PathBuf::from))
    }

    #[test]
    fn names_make_programs_and_options_beat_the_environment() {
        use Program as P;
        let default = config::model::DEFAULT_SOCKET;
        #[rustfmt::skip]
        let cases = [
            ("sluice -Ln",                  None,      P::Sluice,  "-Ln",    default),
            ("/usr/bin/sluice -Ln",         Some("/e"), P::Sluice, "-Ln",    "/e"),
            ("sluice -Ln",                  Some(""),  P::Sluice,  "-Ln",    default),
            ("sluice --socket /a -Ln",      Some("/e"), P::Sluice, "-Ln",    "/a"),
            ("sluice --socket=/a status",   None,      P::Sluice,  "status", "/a"),
            ("sluice --socket /a --socket /b", None,   P::Sluice,  "",       "/b"),
            ("/sbin/ipvsadm -L",            Some("/e"), P::Ipvsadm, "-L",    "/e"),
            ("ipvsadm --socket /a",         None,      P::Ipvsadm, "--socket /a", default),
            ("ipvsadm-save -n",             None,      P::Save,    "-n",     default),
            ("./ipvsadm-restore",           None,      P::Restore, "",       default),
        ];
        for (line, environment, program, argv, socket) in cases {
            let got = invoke(line, environment).expect(line);
            assert_eq!(got.program, program, "{line}");
            assert_eq!(got.argv.join(" "), argv, "{line}");
            assert_eq!(got.socket, PathBuf::from(socket), "{line}");
        }
    }

    #[test]
    fn a_socket_needs_a_path() {
        for line in ["sluice --socket", "sluice --socket="] {
            let failure = invoke(line, None).expect_err(line);
            assert_eq!(
                failure.to_string(),
                "sluice: --socket: missing path",
                "{line}"
            );
            assert_eq!(failure.exit, 2);
        }
    }
}
