//! A private key in a file: 32 raw bytes that only their owner can read.
//!
//! The hard cases: another user who can write to the directory could swap the key, so the
//! directory is judged as strictly as the file; and two processes that start at once must end up
//! with one key, so a key is written under a temporary name and then linked to its own, which
//! fails if that is taken. Everything happens relative to an open directory, and what is judged is
//! what was opened, so a swap between look and use gains nothing.

use std::fs::{DirBuilder, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::Identity;

/// Length of a key file: an Ed25519 seed.
const KEY_BYTES: u64 = 32;

/// Mode bits that let anyone but the owner in.
const OTHERS: u32 = 0o077;

/// Says why a key can't be loaded or created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The name is not that of a file in the directory.
    #[error("key file name {name:?} is not a plain file name")]
    Name {
        /// The name given.
        name: String,
    },
    /// The directory could not be created.
    #[error("failed to create the key directory {}", .path.display())]
    CreateDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory could not be opened.
    #[error("failed to open the key directory {}", .path.display())]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others can get at the directory or file.
    #[error(
        "{} is open to others (mode {mode:04o}); run: chmod {wanted:o} {}",
        .path.display(), .path.display()
    )]
    Mode {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have.
        wanted: u32,
    },
    /// Another user owns the directory or file.
    #[error(
        "{} belongs to user {owner}, but this process runs as user {user}; \
         run as its owner, or run: chown {user} {}",
        .path.display(), .path.display()
    )]
    Owner {
        /// The directory or file.
        path: PathBuf,
        /// The user id of its owner.
        owner: u32,
        /// The user id of this process.
        user: u32,
    },
    /// The key file is a symbolic link.
    #[error("key file {} is a symbolic link; replace it by the file itself", .path.display())]
    Symlink {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is a directory, pipe or device.
    #[error("key file {} is not a regular file; move it away", .path.display())]
    NotAFile {
        /// The key file.
        path: PathBuf,
    },
    /// The key file does not hold a key.
    #[error(
        "key file {} has {found} bytes instead of {KEY_BYTES}; restore it from a backup, \
         or move it away to become a new node", .path.display()
    )]
    Length {
        /// The key file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
    },
    /// There is a key already, and keys are never overwritten.
    #[error("key file {} already exists; move it away to make a new key", .path.display())]
    AlreadyExists {
        /// The key file.
        path: PathBuf,
    },
    /// The key file exists but reading failed.
    #[error("failed to read the key file {}", .path.display())]
    Read {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key could not be made durable.
    #[error("failed to write the key file {}", .path.display())]
    Write {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Loads the key `name` from `directory`; `None` if the file or the directory does not exist.
///
/// # Errors
///
/// Every variant of [`KeyFileError`] but those of creating and writing. A key that others can
/// reach is refused, not repaired: they may have read it.
pub fn load(directory: &Path, name: &str) -> Result<Option<Identity>, KeyFileError> {
    check_name(name)?;
    match Directory::open(directory)? {
        Some(directory) => directory.load(name),
        None => Ok(None),
    }
}

/// Writes the key that `entropy` gives to the new file `name` in `directory`.
///
/// A missing directory is created, for its owner only. When this returns, the key survives a power
/// cut. A crash on the way leaves at most a hidden temporary file that is never read.
///
/// # Errors
///
/// [`KeyFileError::AlreadyExists`] if there is a key already; else what is wrong with the
/// directory, or [`KeyFileError::Write`].
pub fn create_new(directory: &Path, name: &str, entropy: impl FnOnce() -> [u8; 32]) -> Result<Identity, KeyFileError> {
    check_name(name)?;
    create_directory(directory)
        .map_err(|source| KeyFileError::CreateDirectory { path: directory.to_owned(), source })?;
    let Some(opened) = Directory::open(directory)? else {
        return Err(KeyFileError::OpenDirectory { path: directory.to_owned(), source: io::ErrorKind::NotFound.into() });
    };
    opened.create(name, Identity::from_seed(entropy()))
}

/// Loads the key `name` from `directory`, or creates it from `entropy` if there is none.
///
/// Of several callers at once, all get the same key.
///
/// # Errors
///
/// Those of [`load`] and [`create_new`].
pub fn load_or_create(
    directory: &Path,
    name: &str,
    entropy: impl FnOnce() -> [u8; 32],
) -> Result<Identity, KeyFileError> {
    if let Some(identity) = load(directory, name)? {
        return Ok(identity);
    }
    match create_new(directory, name, entropy) {
        // Another process was faster, so its key is the one that counts.
        Err(taken @ KeyFileError::AlreadyExists { .. }) => load(directory, name)?.ok_or(taken),
        created => created,
    }
}

/// An open directory that only this user can reach.
struct Directory {
    path: PathBuf,
    file: File,
}

impl Directory {
    /// Opens and judges the directory; `None` if it does not exist.
    fn open(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let failed = |source: io::Error| KeyFileError::OpenDirectory { path: path.to_owned(), source };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno.into())),
        };
        check_private(path, &file.metadata().map_err(failed)?, 0o700)?;
        let path = path.to_owned();
        Ok(Some(Self { path, file }))
    }

    fn load(&self, name: &str) -> Result<Option<Identity>, KeyFileError> {
        let path = self.path.join(name);
        // Without NONBLOCK, opening a pipe would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.file, name, flags, Mode::empty()) {
            Ok(descriptor) => File::from(descriptor),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(KeyFileError::Symlink { path }),
            Err(errno) => {
                let source = errno.into();
                return Err(KeyFileError::Read { path, source });
            }
        };
        read(path, file).map(Some)
    }

    fn create(&self, name: &str, identity: Identity) -> Result<Identity, KeyFileError> {
        let failed = |source: io::Error| KeyFileError::Write { path: self.path.join(name), source };
        // The public name of the new key makes the temporary name unique among all creators.
        let temporary = format!(".{name}.{}", identity.node());
        self.write(&temporary, &identity).map_err(failed)?;
        let flags = AtFlags::empty();
        let linked = rustix::fs::linkat(&self.file, &temporary, &self.file, name, flags);
        self.remove(&temporary);
        match linked {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let path = self.path.join(name);
                return Err(KeyFileError::AlreadyExists { path });
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        self.file.sync_all().map_err(failed)?;
        Ok(identity)
    }

    /// Writes the seed to the new file `temporary`, durably, or leaves no such file.
    fn write(&self, temporary: &str, identity: &Identity) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.file, temporary, flags, mode)?);
        // A default ACL or an odd umask may have changed the mode asked for.
        let written = rustix::fs::fchmod(&file, mode)
            .map_err(io::Error::from)
            .and_then(|()| file.write_all(&identity.to_seed()))
            .and_then(|()| file.sync_all());
        if written.is_err() {
            self.remove(temporary);
        }
        written
    }

    /// Removes a temporary file. One that stays behind is never read, so failing is no error.
    fn remove(&self, temporary: &str) {
        let _ = rustix::fs::unlinkat(&self.file, temporary, AtFlags::empty());
    }
}

/// Refuses a name that leads out of the directory or is hidden like a temporary one.
fn check_name(name: &str) -> Result<(), KeyFileError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        let name = name.to_owned();
        return Err(KeyFileError::Name { name });
    }
    Ok(())
}

/// Creates `path` and what is missing above it for this user only, each durably in its parent.
fn create_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        // A relative name of one part lives in the working directory.
        Some(_) | None => Path::new("."),
    };
    if parent != Path::new(".") {
        create_directory(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        // Another process was faster; what it made is judged when it is opened.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    File::open(parent)?.sync_all()
}

/// Checks that this user owns `path` and nobody else gets in; `wanted` is the mode to recommend.
fn check_private(path: &Path, metadata: &Metadata, wanted: u32) -> Result<(), KeyFileError> {
    let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != user {
        let path = path.to_owned();
        return Err(KeyFileError::Owner { path, owner, user });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        let path = path.to_owned();
        return Err(KeyFileError::Mode { path, mode, wanted });
    }
    Ok(())
}

/// Judges and reads an open key file.
fn read(path: PathBuf, mut file: File) -> Result<Identity, KeyFileError> {
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(source) => return Err(KeyFileError::Read { path, source }),
    };
    if !metadata.is_file() {
        return Err(KeyFileError::NotAFile { path });
    }
    check_private(&path, &metadata, 0o600)?;
    if metadata.len() != KEY_BYTES {
        let found = metadata.len();
        return Err(KeyFileError::Length { path, found });
    }
    let mut seed = [0; 32];
    match file.read_exact(&mut seed) {
        Ok(()) => Ok(Identity::from_seed(seed)),
        Err(source) => Err(KeyFileError::Read { path, source }),
    }
}

#[cfg(test)]
mod tests;
