//! Collecting what a job left: the files that match its patterns become blobs, and their list a tree.
//!
//! Everything of the run is over by now, so nothing changes while it is read; if something did, each blob would still be
//! named after the bytes that were copied. The directory is walked without following a link, and only where something may
//! match: a job that has built something leaves a hundred thousand files that nobody wants.
//!
//! **The hard cases** are what is no file. A link is kept if it stays inside; a device, a pipe or a socket is refused by
//! name, since whoever reads it elsewhere would read something else. A hard link to a file elsewhere is a file like any
//! other: its bytes are copied, and the job could have read them anyway.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use jobmesh_protocol::tree::{ENTRIES_MAX, Entry, Node, Tree, TreeError};
use jobmesh_protocol::{BlobRef, Outcome};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::event::chain;
use crate::files::pattern::{PatternError, Patterns};
use crate::shelf::{Halt, Shelf, ShelfError, Written};

/// Most paths that are looked at: a minute or so.
const SEEN_MAX: usize = 2_000_000;
/// After how many paths it is asked whether to go on.
const SEEN_EVERY: usize = 1024;
/// Deepest directory that is looked into, as in a tree.
const DEPTH_MAX: usize = 64;

/// Why the outputs of a job could not be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("no file matches the output {pattern:?}")]
    NoMatch { pattern: String },
    #[error("the output {path} is {what}; only files, directories and links are kept")]
    Special { path: String, what: &'static str },
    #[error("the output {path} has a name that is no plain text (UTF-8 without control characters); rename it")]
    Name { path: String },
    #[error("the output {path} lies deeper than {DEPTH_MAX} directories; pack it into an archive")]
    Deep { path: String },
    #[error(
        "the job left more than {SEEN_MAX} files to look through for its outputs; give a longer path before the first *"
    )]
    TooMany,
    #[error(
        "the outputs take more than {limit} bytes (`file_bytes` under [limits] in config.toml of the node that ran it)"
    )]
    TooLarge { limit: u64 },
    #[error("the look through the job's files was given up")]
    Stopped,
    #[error("failed to read the output {path}")]
    Read { path: String, source: io::Error },
    #[error("the output {path} could not be kept")]
    Keep { path: String, source: ShelfError },
    #[error("the outputs can't be kept")]
    Tree(#[from] TreeError),
    #[error("the list of the outputs could not be kept")]
    List(#[source] ShelfError),
}

impl CollectError {
    /// What it means for the job: would it fail again?
    pub(super) fn outcome(&self) -> Outcome {
        let message = chain(self);
        match self {
            Self::Pattern(_)
            | Self::Special { .. }
            | Self::Name { .. }
            | Self::Deep { .. }
            | Self::TooMany
            | Self::TooLarge { .. }
            | Self::Tree(_) => Outcome::Permanent { message },
            Self::NoMatch { .. } | Self::Stopped | Self::Read { .. } | Self::Keep { .. } | Self::List(_) => {
                Outcome::error(message)
            }
        }
    }

    /// Whether it was only given up.
    pub(super) const fn is_stop(&self) -> bool {
        matches!(self, Self::Stopped | Self::Keep { source: ShelfError::Stopped, .. })
    }
}

/// What is to be kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) patterns: &'a [String],
    pub(super) bytes_max: u64,
    /// Whether every pattern must match something.
    pub(super) is_whole: bool,
}

/// Keeps what matches in a directory; none if nothing does, or there is no such directory.
pub(super) fn collect(
    shelf: &Shelf,
    work: &Path,
    wish: Wish<'_>,
    halt: Halt<'_>,
) -> Result<Option<BlobRef>, CollectError> {
    let patterns = Patterns::new(wish.patterns)?;
    let found = vec![false; wish.patterns.len()];
    let mut walk = Walk {
        shelf,
        halt,
        patterns,
        found,
        entries: Vec::new(),
        written: Vec::new(),
        bytes_max: wish.bytes_max,
        bytes_left: wish.bytes_max,
        seen: 0,
    };
    match openat(CWD, work, DIRECTORY, Mode::empty()) {
        Ok(root) => walk.directory(root, &mut Vec::new(), Inside::No)?,
        // A run that left nothing may have no directory any more.
        Err(Errno::NOENT) => {}
        Err(error) => return Err(CollectError::Read { path: shown(b"."), source: error.into() }),
    }
    let missing = wish.patterns.iter().zip(&walk.found).find(|(_, is_found)| !**is_found);
    if let Some((pattern, _)) = missing
        && wish.is_whole
    {
        return Err(CollectError::NoMatch { pattern: pattern.clone() });
    }
    walk.keep()
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Whether a directory above matched, and so everything below it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Yes,
    No,
}

struct Walk<'a> {
    shelf: &'a Shelf,
    halt: Halt<'a>,
    patterns: Patterns,
    /// Which patterns have matched something.
    found: Vec<bool>,
    entries: Vec<Entry>,
    written: Vec<Written>,
    bytes_max: u64,
    bytes_left: u64,
    seen: usize,
}

impl Walk<'_> {
    /// Walks through a directory at `path`, which is empty for the root, and as it was after the call.
    fn directory(&mut self, directory: OwnedFd, path: &mut Vec<u8>, inside: Inside) -> Result<(), CollectError> {
        let failed = |path: &[u8]| {
            let path = shown(path);
            move |error: Errno| CollectError::Read { path, source: error.into() }
        };
        if path.iter().filter(|byte| **byte == b'/').count() + 1 >= DEPTH_MAX {
            return Err(CollectError::Deep { path: shown(path) });
        }
        let list = Dir::read_from(&directory).map_err(failed(path))?;
        for entry in list {
            let entry = entry.map_err(failed(path))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            self.seen += 1;
            if self.seen > SEEN_MAX {
                return Err(CollectError::TooMany);
            }
            if self.seen.is_multiple_of(SEEN_EVERY) && (self.halt)() {
                return Err(CollectError::Stopped);
            }
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            self.entry(&directory, (name, entry.file_type()), path, inside)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        (name, kind): (&[u8], FileType),
        path: &mut Vec<u8>,
        inside: Inside,
    ) -> Result<(), CollectError> {
        let matched = self.patterns.matches(path);
        for number in &matched {
            if let Some(is_found) = self.found.get_mut(*number) {
                *is_found = true;
            }
        }
        let inside = if matched.is_empty() { inside } else { Inside::Yes };
        if inside == Inside::No && !self.patterns.may_match_below(path) {
            return Ok(());
        }
        let read = |error: Errno| CollectError::Read { path: shown(path), source: error.into() };
        let mut kind = kind;
        if kind == FileType::Unknown {
            let found = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(read)?;
            kind = FileType::from_raw_mode(found.st_mode);
        }
        let special = |what| CollectError::Special { path: shown(path), what };
        match (kind, inside) {
            (FileType::Directory, _) => {
                let below = openat(directory, name, DIRECTORY, Mode::empty()).map_err(read)?;
                if inside == Inside::Yes {
                    let mode = mode_of(fstat(&below).map_err(read)?.st_mode);
                    self.add(path, Node::Directory { mode })?;
                }
                self.directory(below, path, inside)
            }
            (_, Inside::No) => Ok(()),
            (FileType::RegularFile, Inside::Yes) => self.file(directory, name, path),
            (FileType::Symlink, Inside::Yes) => {
                let target = readlinkat(directory, name, Vec::new()).map_err(read)?;
                let target = String::from_utf8(target.into_bytes());
                let target = target.map_err(|_| CollectError::Name { path: shown(path) })?;
                self.add(path, Node::Link { target: plain_target(&target) })
            }
            (FileType::Fifo, Inside::Yes) => Err(special("a named pipe")),
            (FileType::Socket, Inside::Yes) => Err(special("a socket")),
            (FileType::CharacterDevice | FileType::BlockDevice, Inside::Yes) => Err(special("a device")),
            (FileType::Unknown, Inside::Yes) => Err(special("of no known kind")),
        }
    }

    fn file(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), CollectError> {
        let read = |error: Errno| CollectError::Read { path: shown(path), source: error.into() };
        // What is no file any more is not waited for, and no terminal becomes ours.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = openat(directory, name, flags, Mode::empty()).map_err(read)?;
        let found = fstat(&file).map_err(read)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(CollectError::Special { path: shown(path), what: "no plain file" });
        }
        let too_large = CollectError::TooLarge { limit: self.bytes_max };
        // By its length, however little of that is on the disk: it grows to it wherever it is copied to.
        if u64::try_from(found.st_size).unwrap_or(u64::MAX) > self.bytes_left {
            return Err(too_large);
        }
        let written = match self.shelf.copy_from(&file.into(), self.bytes_left, self.halt) {
            Ok(written) => written,
            Err(ShelfError::TooLarge { limit }) if limit == self.bytes_left => return Err(too_large),
            Err(source) => return Err(CollectError::Keep { path: shown(path), source }),
        };
        self.bytes_left = self.bytes_left.saturating_sub(written.blob().size);
        self.add(path, Node::File { blob: written.blob(), mode: mode_of(found.st_mode) })?;
        self.written.push(written);
        Ok(())
    }

    fn add(&mut self, path: &[u8], node: Node) -> Result<(), CollectError> {
        let wrong = || CollectError::Name { path: shown(path) };
        let text = String::from_utf8(path.to_vec()).map_err(|_| wrong())?;
        if text.chars().any(char::is_control) {
            return Err(wrong());
        }
        if self.entries.len() >= ENTRIES_MAX {
            return Err(TreeError::TooMany { found: self.entries.len() + 1 }.into());
        }
        self.entries.push(Entry { path: text, node });
        Ok(())
    }

    /// Names everything that was written, the list of it last.
    fn keep(mut self) -> Result<Option<BlobRef>, CollectError> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let bytes = Tree::new(self.entries)?.encode();
        let mut draft = self.shelf.begin().map_err(CollectError::List)?;
        draft.write(&bytes).map_err(CollectError::List)?;
        let list = draft.close().map_err(CollectError::List)?;
        let tree = list.blob();
        self.written.push(list);
        self.shelf.keep(self.written).map_err(CollectError::List)?;
        Ok(Some(tree))
    }
}

/// The permissions that are kept: none that would give a reader the rights of the owner.
fn mode_of(mode: rustix::fs::RawMode) -> u16 {
    u16::try_from(mode & 0o777).unwrap_or_default()
}

/// What a link says, without parts that mean nothing.
fn plain_target(target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let parts: Vec<&str> = target.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/")
}

/// A path for people: in quotes, and without anything that a terminal would obey.
fn shown(path: &[u8]) -> String {
    format!("{:?}", std::ffi::OsString::from_vec(path.to_vec()))
}
