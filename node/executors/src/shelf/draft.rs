//! Bytes on their way to the shelf: written to a temporary file, hashed as they are written, named at the end.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;

use super::{BLOB_BYTES_MAX, CHUNK_BYTES, Halt, Room, Shelf, ShelfError, TEMPORARY, read_chunk, share};

/// More files than this are synced by syncing their whole file system once.
const SINGLY_SYNCED_MAX: usize = 16;

/// A blob that is being written.
#[derive(Debug)]
pub struct Draft {
    shelf: Shelf,
    file: File,
    temporary: Temporary,
    room: Room,
    hasher: blake3::Hasher,
    size: u64,
}

/// A file that is whole and hashed, and has no name yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Written {
    temporary: Temporary,
    room: Room,
    blob: BlobRef,
}

impl Shelf {
    /// Begins a blob.
    ///
    /// # Errors
    /// [`ShelfError::Full`] or [`ShelfError::File`].
    pub fn begin(&self) -> Result<Draft, ShelfError> {
        let temporary = Temporary::new(&self.inner.folder);
        let path = &temporary.path;
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|source| ShelfError::file(path, source))?;
        let room = self.no_room();
        Ok(Draft { shelf: self.clone(), file, temporary, room, hasher: blake3::Hasher::new(), size: 0 })
    }

    /// Copies what a file holds, of which nothing was read yet, up to `bytes_max`. The name is that of what was copied,
    /// whatever becomes of the file meanwhile.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub(crate) fn copy_from(&self, from: &File, bytes_max: u64, halt: Halt<'_>) -> Result<Written, ShelfError> {
        let mut draft = self.begin()?;
        if draft.share(from, bytes_max)? {
            return draft.hash_shared(halt);
        }
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        let mut source = from;
        loop {
            if halt() {
                return Err(ShelfError::Stopped);
            }
            let path = draft.temporary.path.clone();
            let bytes = read_chunk(&mut source, &mut chunk).map_err(|source| ShelfError::file(&path, source))?;
            if bytes.is_empty() {
                return draft.close();
            }
            if draft.size + bytes.len() as u64 > bytes_max {
                return Err(ShelfError::TooLarge { limit: bytes_max });
            }
            draft.write(bytes)?;
        }
    }
}

impl Draft {
    /// Adds bytes. Zeros take no room on the disk, so that what was a file with holes is one again.
    ///
    /// # Errors
    /// [`ShelfError`]; the blob then can't be finished.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ShelfError> {
        let size = self.size.saturating_add(bytes.len() as u64);
        if size > BLOB_BYTES_MAX {
            return Err(ShelfError::too_large());
        }
        self.room.grow(bytes.len() as u64)?;
        self.hasher.update(bytes);
        if bytes.iter().any(|byte| *byte != 0) {
            let written = self.file.write_all_at(bytes, self.size);
            written.map_err(|source| ShelfError::file(&self.temporary.path, source))?;
        }
        self.size = size;
        Ok(())
    }

    /// Ends the blob without a name; [`Shelf::keep`] gives it one.
    ///
    /// # Errors
    /// [`ShelfError`].
    pub fn close(self) -> Result<Written, ShelfError> {
        // What ends with zeros ends here.
        self.file.set_len(self.size).map_err(|source| ShelfError::file(&self.temporary.path, source))?;
        let hash = Hash::from_bytes(*self.hasher.finalize().as_bytes());
        Ok(Written { temporary: self.temporary, room: self.room, blob: BlobRef { hash, size: self.size } })
    }

    /// Ends the blob and keeps it, durably.
    ///
    /// # Errors
    /// [`ShelfError`]; nothing is kept then.
    pub fn finish(self) -> Result<BlobRef, ShelfError> {
        let shelf = self.shelf.clone();
        let written = self.close()?;
        let blob = written.blob;
        shelf.keep(vec![written])?;
        Ok(blob)
    }

    /// Has the draft share the bytes of a file, where the file system can, which nobody can change in it then.
    fn share(&mut self, from: &File, bytes_max: u64) -> Result<bool, ShelfError> {
        if !share(from, &self.file) {
            return Ok(false);
        }
        let length = self.file.metadata().map_err(|source| ShelfError::file(&self.temporary.path, source))?.len();
        if length > bytes_max {
            return Err(ShelfError::TooLarge { limit: bytes_max });
        }
        if length > BLOB_BYTES_MAX {
            return Err(ShelfError::too_large());
        }
        self.room.grow(length)?;
        Ok(true)
    }

    fn hash_shared(mut self, halt: Halt<'_>) -> Result<Written, ShelfError> {
        let mut chunk = vec![0_u8; CHUNK_BYTES];
        loop {
            if halt() {
                return Err(ShelfError::Stopped);
            }
            let read = read_chunk(&mut &self.file, &mut chunk);
            let bytes = read.map_err(|source| ShelfError::file(&self.temporary.path, source))?;
            if bytes.is_empty() {
                return self.close();
            }
            self.hasher.update(bytes);
            self.size += bytes.len() as u64;
        }
    }
}

impl Written {
    /// What it is.
    #[must_use]
    pub const fn blob(&self) -> BlobRef {
        self.blob
    }

    pub(super) fn give_name(self, path: &Path) -> Result<(), ShelfError> {
        fs::rename(&self.temporary.path, path).map_err(|source| ShelfError::file(path, source))?;
        self.room.keep();
        Ok(())
    }
}

/// Has the disk keep what was written.
pub(super) fn sync(folder: &File, written: &[Written]) -> Result<(), ShelfError> {
    if written.len() > SINGLY_SYNCED_MAX && sync_all(folder) {
        return Ok(());
    }
    for file in written {
        let path = &file.temporary.path;
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(|source| ShelfError::file(path, source))?;
    }
    Ok(())
}

/// Syncs the whole file system of the folder, where that can be asked for.
#[cfg(target_os = "linux")]
fn sync_all(folder: &File) -> bool {
    rustix::fs::syncfs(folder).is_ok()
}

/// Syncs the whole file system of the folder, where that can be asked for.
#[cfg(not(target_os = "linux"))]
fn sync_all(_folder: &File) -> bool {
    false
}

/// The name of an unfinished file; the file goes when the name does.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
}

impl Temporary {
    fn new(folder: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { path: folder.join(format!("{TEMPORARY}{}-{number}", std::process::id())) }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing under this name, which is as it should be.
        let _ = fs::remove_file(&self.path);
    }
}
