//! The path of the Unix socket: claimed by one daemon at a time, given back at the end.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group};

/// Who may connect: root and the group.
const MODE: u32 = 0o660;

/// Why the socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers on it.
    #[error(
        "{path}: another sluiced answers on this socket; stop it first, or give this one another \
         socket in [control]"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has that name.
    #[error("{path}: this is no socket; remove it, or give another path in [control]")]
    NoSocket {
        /// The path.
        path: PathBuf,
    },
    /// No such group.
    #[error("group {group:?} does not exist; create it or leave it out of [control]")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// Anything else.
    #[error("{path}: the socket could not be {what}: {reason}")]
    Refused {
        /// The path.
        path: PathBuf,
        /// What failed.
        what: &'static str,
        /// Why.
        reason: io::Error,
    },
}

/// A socket that is ours. Dropping it removes it, and its folder if that was made for it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what we remove later must be what we made.
    made: (u64, u64),
    folder: Option<PathBuf>,
}

impl Socket {
    /// Claims `path`: a stale socket is replaced, a live one is not.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn claim(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let group = group.map(find_group).transpose()?;
        let folder = make_folder(path).map_err(refused(path, "given a folder"))?;
        let claimed = bind(path, group);
        let (listener, made) = claimed.inspect_err(|_| remove_folder(folder.as_deref()))?;
        let path = path.to_owned();
        Ok(Self {
            listener,
            path,
            made,
            folder,
        })
    }

    /// The socket itself.
    ///
    /// # Errors
    /// The system's.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|now| identity(&now) == self.made) {
            let _ = fs::remove_file(&self.path);
        }
        remove_folder(self.folder.as_deref());
    }
}

fn refused(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |reason| SocketError::Refused { path, what, reason }
}

fn find_group(name: &str) -> Result<Gid, SocketError> {
    let found = Group::from_name(name).ok().flatten();
    let group = name.to_owned();
    found
        .map(|group| group.gid)
        .ok_or(SocketError::NoGroup { group })
}

/// Makes the folder of `path` if it isn't there; gives back what was made.
fn make_folder(path: &Path) -> io::Result<Option<PathBuf>> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(None);
    };
    if folder.is_dir() {
        return Ok(None);
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    Ok(Some(folder.to_owned()))
}

/// Only an empty folder goes.
fn remove_folder(folder: Option<&Path>) {
    if let Some(folder) = folder {
        let _ = fs::remove_dir(folder);
    }
}

fn bind(path: &Path, group: Option<Gid>) -> Result<(UnixListener, (u64, u64)), SocketError> {
    let _alone = lock_folder(path);
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(refused(path, "made"))?;
    let set_up = || -> io::Result<(u64, u64)> {
        nix::unistd::chown(path, None, group)?;
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        listener.set_nonblocking(true)?;
        Ok(identity(&fs::metadata(path)?))
    };
    match set_up() {
        Ok(made) => Ok((listener, made)),
        Err(reason) => {
            let _ = fs::remove_file(path);
            Err(refused(path, "given its rights")(reason))
        }
    }
}

fn identity(file: &fs::Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Two daemons that start at once must not both take a stale socket away. Without the lock
/// after half a second we go on: somebody else may hold it for reasons of his own.
fn lock_folder(path: &Path) -> Option<Flock<File>> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = File::open(folder.unwrap_or(Path::new("."))).ok()?;
    for _ in 0..50 {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Some(lock),
            Err((again, _)) => file = again,
        }
        thread::sleep(Duration::from_millis(10));
    }
    None
}

/// Removes a socket that nobody listens on.
fn clear(path: &Path) -> Result<(), SocketError> {
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let path = path.to_owned();
    if !there.file_type().is_socket() {
        return Err(SocketError::NoSocket { path });
    }
    match UnixStream::connect(&path) {
        Ok(_) => Err(SocketError::InUse { path }),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(&path).map_err(refused(&path, "replaced"))
        }
        Err(reason) if reason.kind() == ErrorKind::NotFound => Ok(()),
        Err(reason) => Err(refused(&path, "asked whether a daemon answers")(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(result: Result<Socket, SocketError>) -> String {
        result.map_or_else(|error| error.to_string(), |_| "claimed".to_owned())
    }

    #[test]
    fn a_live_socket_is_refused_and_a_stale_one_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("run/sluice.sock");
        let first = Socket::claim(&path, None).expect("free");
        let mode = fs::metadata(&path).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        assert!(text(Socket::claim(&path, None)).contains("another sluiced answers"));
        assert!(path.exists(), "a refused claim leaves it alone");
        let path_kept = path.clone();
        drop(first);
        assert!(!path.exists() && !path.parent().expect("run").exists());

        fs::create_dir_all(path.parent().expect("run")).expect("made again");
        drop(UnixListener::bind(&path_kept).expect("a socket that nobody removes"));
        assert!(path.exists());
        assert_eq!(text(Socket::claim(&path, None)), "claimed");
        assert!(!path.exists() && path.parent().expect("run").exists());
    }

    #[test]
    fn what_is_no_socket_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("precious");
        fs::write(&path, "data").expect("written");
        assert!(text(Socket::claim(&path, None)).contains("this is no socket"));
        assert_eq!(fs::read_to_string(&path).expect("still there"), "data");
        let unknown = Socket::claim(&folder.path().join("s"), Some("no-such-group-here"));
        assert!(text(unknown).contains("does not exist"));
        let long = folder.path().join("x".repeat(200));
        assert!(text(Socket::claim(&long, None)).contains("could not be made"));
    }

    #[test]
    fn a_socket_that_is_not_ours_any_more_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("s");
        let ours = Socket::claim(&path, None).expect("free");
        fs::remove_file(&path).expect("somebody removed it");
        let theirs = UnixListener::bind(&path).expect("and made another");
        drop(ours);
        assert!(path.exists());
        drop(theirs);
    }
}
