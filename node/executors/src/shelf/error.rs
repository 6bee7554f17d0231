//! Why bytes could not be kept or found.

use std::io;
use std::path::{Path, PathBuf};

use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::TreeError;

use super::BLOB_BYTES_MAX;

/// Why a blob could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The disk is full.
    #[error("the disk that holds {} is full", path.display())]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// The node keeps as much as it may, and all of it is needed.
    #[error(
        "this node's blobs take {used} bytes, and {quota} is its quota; delete jobs that have ended (`jobmesh prune`), or \
         raise `quota` under [blobs] in config.toml"
    )]
    OverQuota {
        /// Bytes of all blobs.
        used: u64,
        /// Most of them.
        quota: u64,
    },
    /// It alone is more than the node keeps of everything, so no room that could be made would do.
    #[error(
        "it has more bytes than this node keeps at all: {quota} is its quota; raise `quota` under [blobs] in config.toml"
    )]
    AboveQuota {
        /// Most bytes of all blobs.
        quota: u64,
    },
    /// The file system refused.
    #[error("failed to read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More bytes than may be.
    #[error("there are more than {limit} bytes of it")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// There is no such blob here.
    #[error("the blob {hash} is not on this node")]
    Missing {
        /// Its hash.
        hash: Hash,
    },
    /// The bytes are not those that the name stands for.
    #[error("the blob {hash} was damaged on this node's disk, and is deleted; bring it anew")]
    Damaged {
        /// Its hash.
        hash: Hash,
    },
    /// Whoever wanted it does no longer.
    #[error("it was stopped")]
    Stopped,
}

impl ShelfError {
    /// What a failure of the system means.
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        let is_full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if is_full {
            return Self::Full { path: path.parent().unwrap_or(path).to_owned() };
        }
        Self::File { path: path.to_owned(), source }
    }

    /// Too much for any blob.
    pub(super) const fn too_large() -> Self {
        Self::TooLarge { limit: BLOB_BYTES_MAX }
    }
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeReadError {
    /// Its bytes can't be had.
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// They are no tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
}
