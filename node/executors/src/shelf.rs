//! The folder of blobs, for those who may wait for a disk: bytes by their hash, one file each.
//!
//! A blob's file appears under its name only when it is whole, verified and durable, so whoever finds it may use it. A
//! crash on the way leaves a temporary file, which the next start removes.
//!
//! **The hard cases** are deleting and counting. Nothing keeps count of who refers to a blob; what nothing refers to is
//! deleted once it is old. So whoever finds a blob, and is about to refer to it, makes it young again, and a lock keeps
//! finding and deleting apart. What is being written counts against the quota from its first byte, or several large
//! files on their way at once would each find room that there is only once.

mod draft;
mod error;
mod room;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{TREE_BYTES_MAX, Tree};
use rustix::fs::OFlags;

pub use draft::{Draft, Written};
pub use error::{ShelfError, TreeReadError};
pub use room::Room;

/// Largest blob that is taken: what a disk may hold, so that a stream without end stops somewhere.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A blob that was found gets a new date if its own is older than this; more often is of no use.
const DATE_KEPT: Duration = Duration::from_secs(600);

/// Every unfinished file starts so; no blob does, since a hash is hexadecimal.
const TEMPORARY: &str = "tmp-";

/// Asked between two chunks whether to stop.
pub(crate) type Halt<'a> = &'a dyn Fn() -> bool;

/// A handle on the folder of blobs. Clones share it.
#[derive(Clone)]
pub struct Shelf {
    inner: Arc<Inner>,
}

/// Who deletes what is not needed until so many bytes are free again.
type MakeRoom = dyn Fn(&Shelf, u64) + Send + Sync;

struct Inner {
    folder: PathBuf,
    /// Held while a blob is found, put under its name, or deleted.
    names: Mutex<()>,
    /// Bytes of all blobs.
    stored: AtomicU64,
    /// Bytes of those that are on their way here.
    expected: AtomicU64,
    /// Most of both together.
    quota: AtomicU64,
    make_room: OnceLock<Box<MakeRoom>>,
    /// Held while room is made: one look at what is not needed does for all who want room.
    making_room: Mutex<()>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("folder", &self.inner.folder).field("used", &self.used()).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Opens the folder, which must exist, and removes what a crash has left unfinished. It may hold everything until
    /// [`Self::set_quota`].
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
        let inner = Inner {
            folder,
            names: Mutex::default(),
            stored: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            quota: AtomicU64::new(u64::MAX),
            make_room: OnceLock::new(),
            making_room: Mutex::default(),
        };
        let this = Self { inner: Arc::new(inner) };
        this.count_again()?;
        Ok(this)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// Where the blob is, or will be once it is whole.
    #[must_use]
    pub fn path_of(&self, hash: Hash) -> PathBuf {
        self.inner.folder.join(hash.to_string())
    }

    /// Whether the whole blob is here. It counts as new from now on.
    #[must_use]
    pub fn has(&self, blob: BlobRef) -> bool {
        self.find(blob.hash) == Some(blob.size)
    }

    /// The size of the blob of this hash, if it is here. It counts as new from now on.
    #[must_use]
    pub fn find(&self, hash: Hash) -> Option<u64> {
        let _names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(hash);
        let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        if is_older(&found, DATE_KEPT) {
            // A date that can't be set is a blob that may be deleted; then the job says that its input is missing.
            let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Some(found.len())
    }

    /// Opens a blob. Its bytes may be damaged: whoever uses them compares them with the hash, or has it done before by
    /// `verify`.
    ///
    /// # Errors
    /// [`ShelfError::Missing`], or what the system says.
    pub fn open_blob(&self, hash: Hash) -> Result<File, ShelfError> {
        let path = self.path_of(hash);
        let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or_default();
        match File::options().read(true).custom_flags(flags).open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ShelfError::Missing { hash }),
            Err(source) => Err(ShelfError::file(&path, source)),
        }
    }

    /// The bytes of a small blob, compared with its hash.
    ///
    /// # Errors
    /// [`ShelfError`]; a damaged blob is deleted.
    pub fn read(&self, blob: BlobRef, bytes_max: usize) -> Result<Vec<u8>, ShelfError> {
        if blob.size > bytes_max as u64 {
            return Err(ShelfError::TooLarge { limit: bytes_max as u64 });
        }
        let mut bytes = Vec::new();
        let read = self.open_blob(blob.hash)?.take(blob.size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source| ShelfError::file(&self.path_of(blob.hash), source))?;
        if BlobRef::of(&bytes) == blob { Ok(bytes) } else { Err(self.damaged(blob.hash)) }
    }

    /// The tree of this hash. It counts as new from now on.
    ///
    /// # Errors
    /// [`TreeReadError`].
    pub fn tree(&self, hash: Hash) -> Result<Tree, TreeReadError> {
        let size = self.find(hash).ok_or(ShelfError::Missing { hash })?;
        Ok(Tree::decode(&self.read(BlobRef { hash, size }, TREE_BYTES_MAX)?)?)
    }

    /// Copies a blob into an empty file that is open for reading and writing, and compares it with its hash on the way. Where
    /// the file system can share the bytes of two files until one of them is changed, it does.
    ///
    /// # Errors
    /// [`ShelfError`]; what is in `to` then is of no use. A damaged blob is deleted.
    pub(crate) fn copy_to(&self, blob: BlobRef, to: &File, halt: Halt<'_>) -> Result<(), CopyError> {
        let from = self.open_blob(blob.hash).map_err(CopyError::Shelf)?;
        let path = self.path_of(blob.hash);
        let failed = |source| CopyError::Shelf(ShelfError::file(&path, source));
        let mut hasher = blake3::Hasher::new();
        let mut size = 0_u64;
        let is_shared = share(&from, to);
        let mut source = if is_shared { to } else { &from };
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            if halt() {
                return Err(CopyError::Shelf(ShelfError::Stopped));
            }
            let bytes = read_chunk(&mut source, &mut chunk).map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
            size += bytes.len() as u64;
            if size > blob.size {
                break;
            }
            if !is_shared {
                io::Write::write_all(&mut &*to, bytes).map_err(CopyError::To)?;
            }
        }
        let found = BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size };
        if found == blob { Ok(()) } else { Err(CopyError::Shelf(self.damaged(blob.hash))) }
    }

    /// Compares the bytes of a blob with its hash, a chunk at a time: before somebody reads them who can't.
    ///
    /// # Errors
    /// [`ShelfError`]; a damaged blob is deleted.
    pub(crate) fn verify(&self, hash: Hash, halt: Halt<'_>) -> Result<(), ShelfError> {
        let mut file = self.open_blob(hash)?;
        let failed = |source| ShelfError::file(&self.path_of(hash), source);
        let mut hasher = blake3::Hasher::new();
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            if halt() {
                return Err(ShelfError::Stopped);
            }
            let bytes = read_chunk(&mut file, &mut chunk).map_err(failed)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(bytes);
        }
        let found = Hash::from_bytes(*hasher.finalize().as_bytes());
        if found == hash { Ok(()) } else { Err(self.damaged(hash)) }
    }

    /// Takes a blob away whose bytes are not those that its name stands for, so that it can be brought anew.
    pub(crate) fn damaged(&self, hash: Hash) -> ShelfError {
        tracing::error!(blob = %hash, "a blob is damaged; it is deleted, so that it can be brought anew");
        let _names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(hash);
        let size = fs::symlink_metadata(&path).map_or(0, |found| found.len());
        match fs::remove_file(&path) {
            Ok(()) => self.forget(size),
            Err(error) => tracing::error!(path = %path.display(), %error, "failed to delete a damaged blob"),
        }
        ShelfError::Damaged { hash }
    }

    /// Hands every blob to `each`, with its size, that was neither written nor found for so long. Returns how many.
    ///
    /// # Errors
    /// What the system says if the folder can't be read.
    pub fn each_older(&self, age: Duration, mut each: impl FnMut(Hash, SystemTime)) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(&self.inner.folder)? {
            let entry = entry?;
            let Some(hash) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(found) = entry.metadata() else { continue };
            if found.is_file() && is_older(&found, age) {
                each(hash, found.modified().unwrap_or(SystemTime::UNIX_EPOCH));
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
        let _names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path_of(hash);
        match fs::symlink_metadata(&path) {
            Ok(found) if is_older(&found, age) => {
                fs::remove_file(&path)?;
                self.forget(found.len());
                Ok(Some(found.len()))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts finished files under their names, durably: all of them, or at least none that is not whole.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn keep(&self, written: Vec<Written>) -> Result<(), ShelfError> {
        let folder = &self.inner.folder;
        let failed = |source| ShelfError::file(folder, source);
        let open = File::open(folder).map_err(failed)?;
        draft::sync(&open, &written)?;
        for file in written {
            let path = self.path_of(file.blob().hash);
            let _names = self.inner.names.lock().unwrap_or_else(PoisonError::into_inner);
            let replaced = fs::symlink_metadata(&path).ok().map(|found| found.len());
            file.give_name(&path)?;
            self.forget(replaced.unwrap_or(0));
        }
        open.sync_all().map_err(failed)
    }
}

/// Why a blob could not be copied: for a fault of the blob, or of the place that it was to go to.
#[derive(Debug)]
pub(crate) enum CopyError {
    Shelf(ShelfError),
    To(io::Error),
}

/// Has `to` share the bytes of `from`, where the file system can.
#[cfg(target_os = "linux")]
fn share(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

/// Has `to` share the bytes of `from`, where the file system can.
#[cfg(not(target_os = "linux"))]
fn share(_from: &File, _to: &File) -> bool {
    false
}

/// Reads what there is, up to a whole chunk; nothing at the end.
fn read_chunk<'c>(source: &mut impl io::Read, chunk: &'c mut [u8]) -> io::Result<&'c [u8]> {
    loop {
        match source.read(chunk) {
            Ok(count) => return Ok(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a file was last written so long ago. One from the future was not.
fn is_older(found: &fs::Metadata, age: Duration) -> bool {
    let since = found.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    since.is_some_and(|since| since > age)
}

#[cfg(test)]
mod tests;
