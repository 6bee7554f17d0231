//! One daemon per data directory: an advisory lock that dies with its holder.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// The file that is locked; it holds the pid of the last holder.
const LOCK_NAME: &str = "daemon.lock";

/// Who holds the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process number, if it had written it already.
    pub pid: Option<u32>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}"),
            None => f.write_str("an unknown pid"),
        }
    }
}

/// Who holds the lock of a data directory; `None` if nobody does.
///
/// Should nobody hold it, it is taken for a moment, in which no daemon can start. So this is for when one does not answer.
#[must_use]
pub fn find_holder(directory: &Path) -> Option<Holder> {
    let mut file = File::open(directory.join(LOCK_NAME)).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(read_holder(&mut file)),
        Ok(()) | Err(_) => None,
    }
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    Holder { pid: read.ok().and_then(|_| text.trim().parse().ok()) }
}

/// Keeps every other daemon out of a data directory until it is dropped. A [`crate::Store`] has one of its own.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// [`OpenError`] if another daemon has it or the directory can't be written.
    pub fn take(directory: &Path) -> Result<Self, OpenError> {
        let path = directory.join(LOCK_NAME);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|source| OpenError::of_file(path.clone(), source))?;
        if let Err(errno) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if errno != Errno::WOULDBLOCK {
                return Err(OpenError::File { path, source: errno.into() });
            }
            let holder = read_holder(&mut file);
            return Err(OpenError::InUse { directory: directory.to_owned(), holder });
        }
        write_pid(&mut file).map_err(|source| OpenError::File { path, source })?;
        Ok(Self { _file: file })
    }
}

fn write_pid(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", rustix::process::getpid().as_raw_nonzero())
}
