//! Bytes by their hash, one file each: inputs that were uploaded, inputs and outputs fetched from peers.
//!
//! A blob's file appears under its name only when it is whole, verified and durable, so whoever finds it may use
//! it. A crash on the way leaves a temporary file, which the next start removes.
//!
//! **The hard case** is deleting. Nothing keeps count of who refers to a blob; what nothing refers to is deleted once it
//! is old. So whoever finds a blob, and is about to refer to it, makes it young again, and a lock keeps finding and
//! deleting apart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use tokio::io::AsyncWriteExt as _;

/// Largest blob that is taken: what a disk may hold, so that a stream without end stops somewhere.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;

/// A blob that was found gets a new date if its own is older than this; more often is of no use.
const DATE_KEPT: Duration = Duration::from_secs(3600);

/// Every unfinished file starts so; no blob does, since a hash is hexadecimal.
const TEMPORARY: &str = "tmp-";

/// The folder of blobs.
#[derive(Clone, Debug)]
pub struct Blobs {
    folder: PathBuf,
    /// Held while a blob is found, put under its name, or deleted.
    names: Arc<Mutex<()>>,
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
        Ok(Self { folder, names: Arc::default() })
    }

    /// Where the blob is, or will be once it is whole.
    #[must_use]
    pub fn path_of(&self, hash: Hash) -> PathBuf {
        self.folder.join(hash.to_string())
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the whole blob is here. It counts as new from now on.
    #[must_use]
    pub fn has(&self, blob: BlobRef) -> bool {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(blob.hash);
        let Ok(found) = fs::metadata(&path) else { return false };
        if is_older(&found, DATE_KEPT) {
            // A date that can't be set is a blob that may be deleted; then the job says that its input is missing.
            let _ = fs::File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        found.is_file() && found.len() == blob.size
    }

    /// Hands every blob to `each` that was neither written nor found for so long. Returns how many.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn each_older(&self, age: Duration, mut each: impl FnMut(Hash)) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let Some(hash) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if entry.metadata().is_ok_and(|found| found.is_file() && is_older(&found, age)) {
                each(hash);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Deletes a blob if it was neither written nor found for so long. Returns its size if it did.
    ///
    /// # Errors
    /// What the system says if it can't be deleted.
    pub fn remove_older(&self, hash: Hash, age: Duration) -> io::Result<Option<u64>> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(hash);
        match fs::metadata(&path) {
            Ok(found) if is_older(&found, age) => fs::remove_file(&path).map(|()| Some(found.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn give_name(&self, path: &Path, hash: Hash) -> io::Result<()> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        fs::rename(path, self.path_of(hash))
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
        self.give_name(&path, hash).map_err(failed)?;
        let folder = tokio::fs::File::open(&self.folder).await.map_err(failed)?;
        folder.sync_all().await.map_err(failed)?;
        Ok(BlobRef { hash, size })
    }
}

/// Whether a file was last written so long ago. One from the future was not.
fn is_older(found: &fs::Metadata, age: Duration) -> bool {
    let since = found.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    since.is_some_and(|since| since > age)
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

    #[tokio::test]
    async fn only_what_nobody_has_found_for_long_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let (day, week) = (Duration::from_secs(86_400), Duration::from_secs(7 * 86_400));
        let [old, found, new] = [b"a".as_slice(), b"b", b"c"].map(BlobRef::of);
        for bytes in [b"a".as_slice(), b"b", b"c"] {
            blobs.write(parts(&[bytes])).await.unwrap();
        }
        for blob in [old, found] {
            let file = fs::File::open(blobs.path_of(blob.hash)).unwrap();
            file.set_modified(SystemTime::now() - week).unwrap();
        }
        fs::write(folder.path().join("note"), "not a blob").unwrap();
        let mut listed = Vec::new();
        assert_eq!(blobs.each_older(day, |hash| listed.push(hash)).unwrap(), 2);
        assert!(blobs.has(found));
        for hash in listed {
            let size = blobs.remove_older(hash, day).unwrap();
            assert_eq!(size, (hash == old.hash).then_some(1));
        }
        assert_eq!(blobs.remove_older(old.hash, day).unwrap(), None);
        assert!(!blobs.has(old) && blobs.has(found) && blobs.has(new));
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
