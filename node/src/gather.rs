//! Files of this machine on their way into a tree: found, hashed, and where their bytes are.
//!
//! Both who names files for one job and who keeps a type of jobs that names some do it by this. Links in a directory are
//! kept as such; whatever is neither a file, a directory nor a link is refused, since nobody could make it elsewhere.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{ENTRIES_MAX, Entry, Node, Tree, TreeError, check_path};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What becomes a tree.
#[derive(Debug, Default)]
pub struct Gathered {
    entries: Vec<Entry>,
    /// Where the bytes of its files are, as far as they are files of this machine.
    sources: BTreeMap<BlobRef, PathBuf>,
}

/// Why a file can't be in a tree.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The system doesn't give it.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is in it was asked for.
    #[error("{} is no directory", path.display())]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// A named pipe, a socket, a device.
    #[error("{} is {what}, which a job can't be given", path.display())]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Names are text.
    #[error(
        "{path:?} has a name that is no plain text (UTF-8), which a job can't be given; rename it, or pack its directory"
    )]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// It is too many.
    #[error("there are more than {ENTRIES_MAX} files; pack them into an archive")]
    TooMany,
    /// The paths go together in no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl GatherError {
    fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }
}

impl Gathered {
    /// Adds a file or a directory under a name; an empty name is for what is in a directory.
    ///
    /// # Errors
    /// [`GatherError`] names what can't be read or can't be in a tree.
    pub fn add(&mut self, path: &Path, name: &str) -> Result<(), GatherError> {
        let found = fs::metadata(path).map_err(GatherError::read(path))?;
        if found.is_dir() {
            return self.add_directory(path, name, &found);
        }
        if name.is_empty() {
            return Err(GatherError::NoDirectory { path: path.to_owned() });
        }
        self.add_file(path, name, &found)
    }

    /// Adds something whose bytes are known elsewhere.
    ///
    /// # Errors
    /// [`GatherError::TooMany`].
    pub fn push(&mut self, name: &str, node: Node) -> Result<(), GatherError> {
        if self.entries.len() >= ENTRIES_MAX {
            return Err(GatherError::TooMany);
        }
        self.entries.push(Entry { path: name.to_owned(), node });
        Ok(())
    }

    /// The tree of all that was added, and the files of this machine whose bytes it names.
    ///
    /// # Errors
    /// [`GatherError::Tree`] if two have one name, or one is below a file.
    pub fn into_tree(self) -> Result<(Tree, BTreeMap<BlobRef, PathBuf>), GatherError> {
        Ok((Tree::new(self.entries)?, self.sources))
    }

    fn add_directory(&mut self, path: &Path, name: &str, found: &fs::Metadata) -> Result<(), GatherError> {
        if !name.is_empty() {
            self.push(name, Node::Directory { mode: mode_of(found) })?;
        }
        let mut entries: Vec<_> = fs::read_dir(path).and_then(Iterator::collect).map_err(GatherError::read(path))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let below = entry.path();
            let Ok(text) = entry.file_name().into_string() else { return Err(GatherError::Name { path: below }) };
            let name = if name.is_empty() { text } else { format!("{name}/{text}") };
            check_path(&name)?;
            let found = fs::symlink_metadata(&below).map_err(GatherError::read(&below))?;
            if found.is_dir() {
                self.add_directory(&below, &name, &found)?;
            } else if found.is_symlink() {
                self.add_link(&below, &name)?;
            } else {
                self.add_file(&below, &name, &found)?;
            }
        }
        Ok(())
    }

    fn add_link(&mut self, path: &Path, name: &str) -> Result<(), GatherError> {
        let target = fs::read_link(path).map_err(GatherError::read(path))?;
        let target = target.to_str().ok_or_else(|| GatherError::Name { path: path.to_owned() })?;
        let parts: Vec<&str> = target.split('/').filter(|part| *part != ".").collect();
        self.push(name, Node::Link { target: parts.join("/") })
    }

    fn add_file(&mut self, path: &Path, name: &str, found: &fs::Metadata) -> Result<(), GatherError> {
        let kind = found.file_type();
        if !kind.is_file() {
            let what = if kind.is_fifo() {
                "a named pipe"
            } else if kind.is_socket() {
                "a socket"
            } else {
                "a device"
            };
            return Err(GatherError::Special { path: path.to_owned(), what });
        }
        let blob = hash_file(path).map_err(GatherError::read(path))?;
        self.sources.insert(blob, path.to_owned());
        self.push(name, Node::File { blob, mode: mode_of(found) })
    }
}

fn mode_of(found: &fs::Metadata) -> u16 {
    u16::try_from(found.permissions().mode() & 0o777).unwrap_or_default()
}

/// The blob that a file's content is now.
///
/// # Errors
/// What the system says.
pub fn hash_file(path: &Path) -> io::Result<BlobRef> {
    let mut file = File::open(path)?;
    let (mut hasher, mut size) = (blake3::Hasher::new(), 0_u64);
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(chunk.get(..count).unwrap_or_default());
        size += count as u64;
    }
    Ok(BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_directory_is_gathered_under_a_name_or_as_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/x"), b"x").unwrap();
        std::os::unix::fs::symlink("./in/x", folder.path().join("link")).unwrap();
        let paths = |name: &str| {
            let mut gathered = Gathered::default();
            gathered.add(folder.path(), name).unwrap();
            let (tree, sources) = gathered.into_tree().unwrap();
            assert_eq!(sources.keys().copied().collect::<Vec<_>>(), [BlobRef::of(b"x")]);
            tree.entries().iter().map(|entry| entry.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(""), ["in", "in/x", "link"]);
        assert_eq!(paths("all"), ["all", "all/in", "all/in/x", "all/link"]);
    }

    #[test]
    fn what_can_not_be_given_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _kept = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let said = |path: &Path, name: &str| Gathered::default().add(path, name).unwrap_err().to_string();
        assert!(said(folder.path(), "").contains("a socket"));
        assert!(said(&folder.path().join("none"), "x").starts_with("failed to read"));
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(said(&file, "").ends_with("is no directory"));
    }
}
