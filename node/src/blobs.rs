//! Bytes by their hash, one file each: inputs that were uploaded, inputs and outputs fetched from peers.
//!
//! A blob's file appears under its name only when it is whole, verified and durable, so whoever finds it may use
//! it. **The hard case** is a crash on the way: what it leaves is a temporary file, which the next start removes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use tokio::io::AsyncWriteExt as _;

/// Largest blob that is taken: what a disk may hold, so that a stream without end stops somewhere.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;

/// Every unfinished file starts so; no blob does, since a hash is hexadecimal.
const TEMPORARY: &str = "tmp-";

/// The folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
}

/// Why bytes could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The disk is full.
    #[error("the disk that holds {} is full", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("failed to write to {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The sender stopped in the middle.
    #[error("the upload ended early: {reason}")]
    Cut {
        /// What is known of it.
        reason: String,
    },
    /// More bytes than any blob may have.
    #[error("the upload is larger than {BLOB_BYTES_MAX} bytes")]
    TooLarge,
}

impl Blobs {
    /// Opens the folder, which must exist, and removes what a crash has left unfinished.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { folder })
    }

    /// Where the blob is, or will be once it is whole.
    #[must_use]
    pub fn path_of(&self, hash: Hash) -> PathBuf {
        self.folder.join(hash.to_string())
    }

    /// Whether the whole blob is here.
    #[must_use]
    pub fn has(&self, blob: BlobRef) -> bool {
        fs::metadata(self.path_of(blob.hash)).is_ok_and(|found| found.is_file() && found.len() == blob.size)
    }

    /// Keeps a stream of bytes under their hash, durably. A dropped call leaves at most a temporary file.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is kept then.
    pub async fn write<S, E>(&self, mut stream: S) -> Result<BlobRef, WriteError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::fmt::Display,
    {
        let temporary = Temporary::new(&self.folder);
        let path = temporary.path.clone();
        let failed = |source| failure(&path, source);
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).await.map_err(failed)?;
        let (mut hasher, mut size) = (blake3::Hasher::new(), 0_u64);
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| WriteError::Cut { reason: error.to_string() })?;
            size = size.saturating_add(chunk.len() as u64);
            if size > BLOB_BYTES_MAX {
                return Err(WriteError::TooLarge);
            }
            hasher.update(&chunk);
            file.write_all(&chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        let hash = Hash::from_bytes(*hasher.finalize().as_bytes());
        tokio::fs::rename(&path, self.path_of(hash)).await.map_err(failed)?;
        let folder = tokio::fs::File::open(&self.folder).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)?;
        Ok(BlobRef { hash, size })
    }
}

fn failure(path: &Path, source: io::Error) -> WriteError {
    let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if is_full {
        return WriteError::Full { path: path.parent().unwrap_or(path).to_owned() };
    }
    WriteError::File { path: path.to_owned(), source }
}

/// The name of an unfinished file; the file goes when the name does.
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn new(folder: &Path) -> Self {
        static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { path: folder.join(format!("{TEMPORARY}{}-{number}", std::process::id())) }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing under this name, which is as it should be.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn parts(parts: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, io::Error>> + Unpin + use<> {
        let owned: Vec<_> = parts.iter().map(|part| Ok(Bytes::from_static(part))).collect();
        futures::stream::iter(owned)
    }

    #[tokio::test]
    async fn what_is_written_is_found_under_its_hash() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let blob = blobs.write(parts(&[b"hello ", b"", b"world"])).await.unwrap();
        assert_eq!(blob, BlobRef::of(b"hello world"));
        assert_eq!(fs::read(blobs.path_of(blob.hash)).unwrap(), b"hello world");
        assert_eq!(blobs.write(parts(&[b"hello world"])).await.unwrap(), blob);
        assert!(blobs.has(blob) && !blobs.has(BlobRef { size: 1, ..blob }));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_upload_that_is_cut_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let cut = futures::stream::iter([Ok(Bytes::from_static(b"half")), Err(io::Error::other("gone"))]);
        let error = blobs.write(cut).await.unwrap_err().to_string();
        assert_eq!(error, "the upload ended early: gone");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_start_removes_what_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tmp-7-0"), b"half").unwrap();
        let whole = Hash::of(b"whole").to_string();
        fs::write(folder.path().join(&whole), b"whole").unwrap();
        Blobs::open(folder.path().to_owned()).unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [whole.as_str()]);
    }
}
