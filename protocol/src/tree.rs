//! Files under names: what a job finds in its working directory, and what it leaves there to be kept.
//!
//! A tree is a list of paths with the hash of each file. Its own encoding is a blob, whose hash therefore names every
//! byte of every file below it: a receipt that names the hash of a tree has signed all of it.
//!
//! **The hard case** is a tree of a peer, which is a list of paths to write to. A checked tree is sorted, has every path
//! once, none of which is absolute, climbs, or lies below anything but a directory, and no link that leads out of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::cbor;
use crate::id::BlobRef;

/// Most entries of a tree: more belongs into an archive.
pub const ENTRIES_MAX: usize = 100_000;
/// Longest path or target of a link in bytes, as on Linux and macOS with some room for the folder it is laid out in.
pub const PATH_BYTES_MAX: usize = 960;
/// Largest encoded tree.
pub const TREE_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of directories.
const DEPTH_MAX: usize = 64;
/// The permissions that are kept: none that gives the rights of another user.
const MODE_MASK: u16 = 0o777;

/// Files, links and directories under their paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree {
    entries: Vec<Entry>,
}

/// One path of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Entry {
    /// The path from the root of the tree, its parts parted by `/`.
    pub path: String,
    /// What is there.
    pub node: Node,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Node {
    /// A plain file.
    File {
        /// Its content.
        blob: BlobRef,
        /// Its permissions, of the lowest nine bits.
        mode: u16,
    },
    /// A symbolic link to another path of the same tree.
    Link {
        /// What it says, relative to the directory that it is in.
        target: String,
    },
    /// A directory. Those that hold something need no entry of their own, but may have one for their permissions.
    Directory {
        /// Its permissions, of the lowest nine bits.
        mode: u16,
    },
}

impl Tree {
    /// Makes a tree of entries in any order.
    ///
    /// # Errors
    /// [`TreeError`] names the path that can't be in a tree.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, TreeError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let tree = Self { entries };
        tree.check()?;
        Ok(tree)
    }

    /// Reads a tree that came from elsewhere, and checks it.
    ///
    /// # Errors
    /// [`TreeError`] says what is wrong with the bytes or names the path.
    pub fn decode(bytes: &[u8]) -> Result<Self, TreeError> {
        let tree: Self = cbor::decode(bytes, TREE_BYTES_MAX).map_err(|_| TreeError::NotATree)?;
        tree.check()?;
        Ok(tree)
    }

    /// The bytes of the blob that names it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Its entries, sorted by path.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The contents of its files, each as often as it is there.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        self.entries.iter().filter_map(|entry| match &entry.node {
            Node::File { blob, .. } => Some(*blob),
            Node::Link { .. } | Node::Directory { .. } => None,
        })
    }

    /// Bytes of all its files together.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.blobs().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    fn check(&self) -> Result<(), TreeError> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(TreeError::TooMany { found: self.entries.len() });
        }
        let is_sorted = self.entries.is_sorted_by(|a, b| a.path < b.path);
        let mut known = BTreeMap::new();
        for entry in &self.entries {
            check_path(&entry.path)?;
            entry.check()?;
            if known.insert(entry.path.as_str(), &entry.node).is_some() {
                return Err(TreeError::Twice { path: entry.path.clone() });
            }
        }
        if !is_sorted {
            return Err(TreeError::NotATree);
        }
        for entry in &self.entries {
            let above = entry.path.match_indices('/').filter_map(|(at, _)| entry.path.get(..at));
            for path in above {
                if !matches!(known.get(path), None | Some(Node::Directory { .. })) {
                    return Err(TreeError::Below { path: entry.path.clone(), above: path.to_owned() });
                }
            }
        }
        let size = self.encode().len();
        if size > TREE_BYTES_MAX { Err(TreeError::TooLarge { size }) } else { Ok(()) }
    }
}

impl Entry {
    fn check(&self) -> Result<(), TreeError> {
        match &self.node {
            Node::File { mode, .. } | Node::Directory { mode } if mode & !MODE_MASK != 0 => {
                Err(TreeError::Mode { path: self.path.clone() })
            }
            Node::File { .. } | Node::Directory { .. } => Ok(()),
            Node::Link { target } if stays_inside(&self.path, target) => Ok(()),
            Node::Link { .. } => Err(TreeError::Link { path: self.path.clone() }),
        }
    }
}

/// Checks that a path is one inside a tree.
///
/// # Errors
/// [`TreeError::Path`] if it is empty, absolute, too long or too deep, or has a part that is empty, `.` or `..`, or a
/// control character.
pub fn check_path(path: &str) -> Result<(), TreeError> {
    let is_bad = |part: &str| matches!(part, "" | "." | "..") || part.contains(|c: char| c.is_control());
    let is_long = path.len() > PATH_BYTES_MAX || path.split('/').count() > DEPTH_MAX;
    if is_long || path.split('/').any(is_bad) {
        return Err(TreeError::Path { path: path.chars().take(PATH_BYTES_MAX).collect() });
    }
    Ok(())
}

/// Whether a link at `path` that says `target` leads to somewhere in the tree, whatever other links there are: it must
/// not climb at all behind its first step down, since what it steps into may be a link itself.
fn stays_inside(path: &str, target: &str) -> bool {
    let is_bad = |part: &str| matches!(part, "" | ".") || part.contains(|c: char| c.is_control());
    if target.len() > PATH_BYTES_MAX || target.split('/').any(is_bad) {
        return false;
    }
    let depth = path.split('/').count() - 1;
    let climbs = target.split('/').take_while(|part| *part == "..").count();
    let climbs_later = target.split('/').skip(climbs).any(|part| part == "..");
    climbs <= depth && !climbs_later
}

/// What is wrong with a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The bytes are not an encoded tree, or not the only encoding of it.
    #[error("these bytes are no tree of files")]
    NotATree,
    /// Too many entries.
    #[error(
        "the tree has {found} files, links and directories; the limit is {ENTRIES_MAX}, so pack them into an archive"
    )]
    TooMany {
        /// How many.
        found: usize,
    },
    /// Too large, though its entries are not too many.
    #[error(
        "the list of the tree's files takes {size} bytes; the limit is {TREE_BYTES_MAX}, so pack them into an archive"
    )]
    TooLarge {
        /// Its encoded size.
        size: usize,
    },
    /// A path that leads elsewhere.
    #[error(
        "{path:?} can't be in a tree: a path must be relative, without `..` and without control characters, and of at most \
         {PATH_BYTES_MAX} bytes"
    )]
    Path {
        /// The path, cut to size. It may have control characters, which the message shows escaped.
        path: String,
    },
    /// One path with two meanings.
    #[error("{path:?} is in the tree twice")]
    Twice {
        /// The path.
        path: String,
    },
    /// Something below what is no directory.
    #[error("{path:?} lies below {above:?}, which is no directory")]
    Below {
        /// The path.
        path: String,
        /// What it lies below.
        above: String,
    },
    /// A link that may lead out of the tree.
    #[error("the link {path:?} leads out of the tree, or may; link to a path inside it, relative to the link")]
    Link {
        /// The link.
        path: String,
    },
    /// Permissions that are not of the lowest nine bits.
    #[error("{path:?} has permissions that a tree doesn't keep; clear its set-user-id, set-group-id and sticky bits")]
    Mode {
        /// The path.
        path: String,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn file(path: &str) -> Entry {
        Entry { path: path.to_owned(), node: Node::File { blob: BlobRef::of(path.as_bytes()), mode: 0o644 } }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.to_owned(), node: Node::Link { target: target.to_owned() } }
    }

    #[test]
    fn a_tree_is_the_same_whatever_order_it_was_made_in() {
        let directory = Entry { path: "a".to_owned(), node: Node::Directory { mode: 0o755 } };
        let entries = vec![file("b"), file("a/x"), link("a/l", "../b"), directory];
        let tree = Tree::new(entries.clone()).unwrap();
        assert_eq!(Tree::new(entries.into_iter().rev().collect()).unwrap(), tree);
        assert_eq!(Tree::decode(&tree.encode()).unwrap(), tree);
        assert_eq!((tree.blobs().count(), tree.file_bytes()), (2, 4));
    }

    #[test]
    fn no_path_leads_out() {
        let long = "a".repeat(PATH_BYTES_MAX + 1);
        let deep = "a/".repeat(DEPTH_MAX) + "a";
        for path in ["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a/", "a\nb", "a\0b", &long, &deep] {
            assert!(matches!(Tree::new(vec![file(path)]), Err(TreeError::Path { .. })), "{path}");
        }
        // Without its line break it would be the name of a file that isn't there.
        let said = check_path("in/new\nline\u{1b}[2J").unwrap_err().to_string();
        assert!(said.starts_with(r#""in/new\nline\u{1b}[2J" can't be in a tree"#), "{said}");
    }

    #[test]
    fn no_link_leads_out() {
        for (path, target) in
            [("l", "../x"), ("l", "/etc"), ("a/l", "../../x"), ("l", "a/../../x"), ("l", ""), ("l", "a/..")]
        {
            let made = Tree::new(vec![link(path, target)]);
            assert_eq!(made, Err(TreeError::Link { path: path.to_owned() }), "{target}");
        }
        for (path, target) in [("l", "x"), ("a/l", "../x/y"), ("a/b/l", "../../x")] {
            assert!(Tree::new(vec![link(path, target)]).is_ok(), "{target}");
        }
    }

    #[test]
    fn nothing_lies_below_a_file_or_a_link() {
        for above in [file("a"), link("a", "b")] {
            let made = Tree::new(vec![above, file("a/b/c")]);
            assert!(matches!(made, Err(TreeError::Below { .. })), "{made:?}");
        }
    }

    #[test]
    fn what_is_not_in_order_or_has_other_rights_is_no_tree() {
        let unsorted = Tree { entries: vec![file("b"), file("a")] };
        assert_eq!(Tree::decode(&unsorted.encode()), Err(TreeError::NotATree));
        let twice = Tree { entries: vec![file("a"), file("a")] };
        assert_eq!(Tree::decode(&twice.encode()), Err(TreeError::Twice { path: "a".to_owned() }));
        let setuid = Entry { path: "a".to_owned(), node: Node::Directory { mode: 0o4755 } };
        assert!(matches!(Tree::new(vec![setuid]), Err(TreeError::Mode { .. })));
        assert_eq!(Tree::decode(b"no tree"), Err(TreeError::NotATree));
    }
}
