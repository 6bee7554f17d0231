//! What a run leaves: its two log files, made before it starts and hashed after it ended, and its result.
//!
//! The process writes straight into them, so nothing has to copy while it runs and a crash of the daemon loses no
//! byte. We hash through the descriptor that we opened, not through the path, which the job could have replaced.
//!
//! **The hard case** is a full disk, of which only the process hears, and it may not care. So on a disk that is nearly
//! full each log is given some room in advance, and at the end it is looked whether it could still grow: one that could
//! not, and ends where a file is cut, is not whole.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use jobmesh_protocol::{BlobRef, Hash};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, fallocate, fstatvfs, openat, unlinkat};
use rustix::io::Errno;

use crate::directory::result_path;
use crate::files::open_plain;

/// Largest output whose content travels with the end of the run: 16 KiB.
///
/// That much fits a receipt's frame and a database row beside everything else.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// Largest result whose content travels with the end of the run: 64 KiB.
///
/// Others compute with results, so more of them is kept at hand than of logs, which are looked at.
pub const RESULT_INLINE_BYTES_MAX: usize = 64 * 1024;

/// How much is read at once while hashing: enough for BLAKE3 to use all its lanes.
const CHUNK_BYTES: usize = 64 * 1024;

/// Room on a disk below which it is doubted that it takes all that a run writes: 64 MiB.
const LOW_BYTES: u64 = 64 << 20;

/// What is kept for a log on such a disk: the usual block, so that a few words always fit.
const RESERVED_BYTES: u64 = 4096;

/// No file system gives out less room than this at once, so a file for which there was no more ends at a multiple of it.
const SECTOR_BYTES: u64 = 512;

/// One of the two things a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both, in the order in which outputs are listed.
    pub(crate) const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    pub(crate) const fn file_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The open log file of one stream.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

impl Log {
    /// Makes an empty log in a run's directory, in place of one that a crash before the start may have left.
    pub(crate) fn create(directory: BorrowedFd<'_>, stream: Stream) -> io::Result<Self> {
        let name = stream.file_name();
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let open = || openat(directory, name, flags, Mode::RUSR | Mode::WUSR);
        let file = match open() {
            Err(Errno::EXIST) => {
                unlinkat(directory, name, AtFlags::empty())?;
                open()?
            }
            opened => opened?,
        };
        let log = Self { file: file.into() };
        log.keep_room();
        Ok(log)
    }

    /// Has room kept for the first words of a run that has said nothing yet, if there may soon be none.
    pub(crate) fn keep_room(&self) {
        if self.is_cramped() && self.length().is_ok_and(|length| length == 0) {
            // Without it the run may still have nothing to say.
            let _ = self.reserve(0);
        }
    }

    fn is_cramped(&self) -> bool {
        fstatvfs(&self.file).is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < LOW_BYTES)
    }

    /// Has room kept for what may be written from `length` on.
    fn reserve(&self, length: u64) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::KEEP_SIZE, length, RESERVED_BYTES)?)
    }

    /// What the system says if there is no room for more. Gives back what was kept, so it is for a run that is over.
    pub(crate) fn no_room(&self) -> Option<io::Error> {
        if !self.is_cramped() {
            return None;
        }
        let length = self.length().ok()?;
        let refused = self.reserve(length).err();
        if let Err(error) = self.truncate(length) {
            tracing::warn!(error = %error, "failed to give back the room that was kept for a log");
        }
        refused.filter(is_full)
    }

    /// Whether it ends where it would if there had been no room for more.
    pub(crate) fn may_be_cut(&self) -> bool {
        self.length().is_ok_and(|length| length > 0 && length.is_multiple_of(SECTOR_BYTES))
    }

    /// Writes behind what was written up to now.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &self.file, bytes)
    }

    /// A second descriptor, for the process to write to.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Opens the log of a run that began in an earlier life of the daemon.
    pub(crate) fn reopen(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open_plain(File::options().read(true).append(true), path)? })
    }

    /// How much was written up to now.
    pub(crate) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Throws away what was written beyond `length`.
    pub(crate) fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    /// Names what was written up to now; none if nothing was.
    pub(crate) fn digest(&self) -> io::Result<Option<Digest>> {
        digest(&self.file, INLINE_BYTES_MAX)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOSPC | Errno::DQUOT))
}

/// Whether a result ends where it would if there had been no room for more.
pub(crate) fn may_result_be_cut(directory: &Path) -> bool {
    let found = std::fs::symlink_metadata(result_path(directory));
    found.is_ok_and(|found| found.is_file() && found.len().is_multiple_of(SECTOR_BYTES))
}

/// Names what a file holds, with its content if that is no longer than `inline_max`; none if it is empty.
pub(crate) fn digest(file: &File, inline_max: usize) -> io::Result<Option<Digest>> {
    // The length is read once, so that something that still writes can't keep us here.
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(None);
    }
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    let mut inline = Vec::new();
    let mut size = 0_u64;
    while size < length {
        let count = match file.read_at(&mut chunk, size) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let rest = usize::try_from(length - size).unwrap_or(usize::MAX);
        let bytes = chunk.get(..count.min(rest)).unwrap_or_default();
        hasher.update(bytes);
        if inline.len() <= inline_max {
            inline.extend_from_slice(bytes);
        }
        size += bytes.len() as u64;
    }
    if size == 0 {
        return Ok(None);
    }
    let blob = BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size };
    let inline = (inline.len() <= inline_max).then_some(inline);
    Ok(Some(Digest { blob, inline }))
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Its name.
    pub(crate) blob: BlobRef,
    /// All of it, if it is short.
    pub(crate) inline: Option<Vec<u8>>,
}
