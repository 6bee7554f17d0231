//! The two log files of a run: made before it starts, hashed after it ended.
//!
//! The process writes straight into them, so nothing has to copy while it runs and a crash of the daemon loses no
//! byte. We hash through the descriptor that we opened, not through the path, which the job could have replaced.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jobmesh_protocol::{BlobRef, Hash};

/// Largest output whose content travels with the end of the run: 16 KiB.
///
/// That much fits a receipt's frame and a database row beside everything else.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;

/// How much is read at once while hashing: enough for BLAKE3 to use all its lanes.
const CHUNK_BYTES: usize = 64 * 1024;

/// One of the two things a process writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn file_name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Where the log of `stream` lies in the directory of a run, while it runs and after.
#[must_use]
pub fn log_path(directory: &Path, stream: Stream) -> PathBuf {
    directory.join(stream.file_name())
}

/// The open log file of one stream.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
}

impl Log {
    /// Makes an empty log, in place of one that a crash before the start may have left.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = File::options().read(true).append(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self { file })
    }

    /// A second descriptor, for the process to write to.
    pub(crate) fn writer(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Names what was written up to now; none if nothing was.
    pub(crate) fn digest(&self) -> io::Result<Option<Digest>> {
        // The length is read once, so that something that still writes can't keep us here.
        let length = self.file.metadata()?.len();
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        let mut inline = Vec::new();
        let mut size = 0_u64;
        while size < length {
            let count = match self.file.read_at(&mut chunk, size) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let rest = usize::try_from(length - size).unwrap_or(usize::MAX);
            let bytes = chunk.get(..count.min(rest)).unwrap_or_default();
            hasher.update(bytes);
            if inline.len() <= INLINE_BYTES_MAX {
                inline.extend_from_slice(bytes);
            }
            size += bytes.len() as u64;
        }
        if size == 0 {
            return Ok(None);
        }
        let blob = BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size };
        let inline = (inline.len() <= INLINE_BYTES_MAX).then_some(inline);
        Ok(Some(Digest { blob, inline }))
    }
}

/// What a log holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    /// Its name.
    pub(crate) blob: BlobRef,
    /// All of it, if it is short.
    pub(crate) inline: Option<Vec<u8>>,
}
