//! A directory below which files are made, and nowhere else.
//!
//! Every step down is taken from the directory before it and follows no link, so that no name in a tree, and no link that
//! somebody has put there, leads outside. That is slower than to have the kernel do it, and the same on every system.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fchmod, linkat, mkdirat, openat, renameat, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

/// What directories have that nobody said anything about.
const DIRECTORY_MODE: u16 = 0o755;

/// A directory that is filled.
#[derive(Debug)]
pub struct Ground {
    path: PathBuf,
    root: OwnedFd,
    /// The directory that was used last, and where it is: what comes next is mostly beside it.
    last: Option<(String, OwnedFd)>,
}

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// Something has the name already.
    #[error("{} is there already", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A part of the path is no directory.
    #[error("{} is no directory, or a link to one; nothing is written through links", path.display())]
    NoDirectory {
        /// The part.
        path: PathBuf,
    },
    /// A directory has the name of a file.
    #[error("{} is a directory; it is not replaced by a file", path.display())]
    Directory {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("failed to write {}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the new one is refused.
    Stays,
    /// The new one takes its place.
    Goes,
}

impl Ground {
    /// Stands on a directory.
    ///
    /// # Errors
    /// What the system says; also if it is a link.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self { path: path.to_owned(), root: openat(CWD, path, flags, Mode::empty())?, last: None })
    }

    /// Makes a directory and those above it. It may be there.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn make_directory(&mut self, path: &str) -> Result<(), GroundError> {
        self.directory(path).map(drop)
    }

    /// Makes an empty file, for its owner only, open for reading and writing. Directories above it are made.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn make_file(&mut self, path: &str) -> Result<File, GroundError> {
        let whole = self.path.join(path);
        let (directory, name) = self.place(path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(directory, name, flags, Mode::RUSR | Mode::WUSR);
        made.map(File::from).map_err(|error| refused(whole, error))
    }

    /// Makes a symbolic link. Directories above it are made.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn make_link(&mut self, path: &str, target: &str, existing: Existing) -> Result<(), GroundError> {
        let whole = self.path.join(path);
        let (directory, name) = self.place(path)?;
        if existing == Existing::Goes {
            remove(directory, name).map_err(|error| refused(whole.clone(), error))?;
        }
        symlinkat(target, directory, name).map_err(|error| refused(whole, error))
    }

    /// Puts a file under another name in the same directory, whole or not at all.
    ///
    /// # Errors
    /// [`GroundError`]; it has its old name then.
    pub fn give_name(&mut self, from: &str, path: &str, existing: Existing) -> Result<(), GroundError> {
        let whole = self.path.join(path);
        let (directory, name) = self.place(path)?;
        let from = from.rsplit('/').next().unwrap_or(from);
        let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory) {
            return Err(GroundError::Directory { path: whole });
        }
        let named = match existing {
            Existing::Goes => renameat(directory, from, directory, name),
            // A rename would take the place of what is there.
            Existing::Stays => linkat(directory, from, directory, name, AtFlags::empty())
                .and_then(|()| unlinkat(directory, from, AtFlags::empty())),
        };
        named.map_err(|error| refused(whole, error))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn remove(&mut self, path: &str) -> Result<(), GroundError> {
        let whole = self.path.join(path);
        let (directory, name) = self.place(path)?;
        remove(directory, name).map_err(|error| refused(whole, error))
    }

    /// Gives a directory its permissions. Its owner may always enter it, read it and write to it, or nobody could clear
    /// it away.
    ///
    /// # Errors
    /// [`GroundError`].
    pub fn set_mode(&mut self, path: &str, mode: u16) -> Result<(), GroundError> {
        let whole = self.path.join(path);
        let directory = self.directory(path)?;
        fchmod(directory, mode_of(mode | 0o700)).map_err(|error| refused(whole, error))
    }

    /// The directory that `path` is in, and its name there.
    fn place<'p>(&mut self, path: &'p str) -> Result<(BorrowedFd<'_>, &'p str), GroundError> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.directory(above)?, name))
    }

    fn directory(&mut self, path: &str) -> Result<BorrowedFd<'_>, GroundError> {
        if path.is_empty() {
            return Ok(self.root.as_fd());
        }
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == path);
        if !is_last {
            let mut here: Option<OwnedFd> = None;
            let mut way = String::new();
            for part in path.split('/') {
                way = if way.is_empty() { part.to_owned() } else { format!("{way}/{part}") };
                let from = here.as_ref().map_or_else(|| self.root.as_fd(), |here| here.as_fd());
                here = Some(step(from, part).map_err(|error| refused(self.path.join(&way), error))?);
            }
            self.last = here.map(|here| (way, here));
        }
        Ok(self.last.as_ref().map_or_else(|| self.root.as_fd(), |(_, last)| last.as_fd()))
    }
}

/// Gives an open file its permissions, of which only those of the lowest nine bits count.
///
/// # Errors
/// What the system says.
pub fn set_file_mode(file: &File, mode: u16) -> io::Result<()> {
    Ok(fchmod(file, mode_of(mode))?)
}

fn mode_of(mode: u16) -> Mode {
    Mode::from_raw_mode(rustix::fs::RawMode::from(mode & 0o777))
}

/// Steps down into a directory, which is made if it is missing.
fn step(from: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(from, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    match mkdirat(from, name, mode_of(DIRECTORY_MODE)) {
        Ok(()) | Err(Errno::EXIST) => openat(from, name, flags, Mode::empty()),
        Err(error) => Err(error),
    }
}

fn remove(directory: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn refused(path: PathBuf, error: Errno) -> GroundError {
    match error {
        Errno::EXIST => GroundError::Exists { path },
        Errno::NOTDIR | Errno::LOOP => GroundError::NoDirectory { path },
        Errno::ISDIR => GroundError::Directory { path },
        error => GroundError::Write { path, source: error.into() },
    }
}
