//! Laying a tree out in a directory: what a job finds there when it begins.
//!
//! Each file is compared with its hash while it is copied, and shares its bytes with the blob where the file system can
//! have that. It is never another name of the blob: what the job writes to it would be written to the blob.
//!
//! **The hard case** is a tree that names one blob many times: it is small, and what it is laid out as is not. So what it
//! comes to is counted before anything is written.

use std::io;
use std::path::Path;

use jobmesh_protocol::tree::Node;
use jobmesh_protocol::{BlobRef, Outcome};

use crate::event::chain;
use crate::files::ground::{Existing, Ground, GroundError, set_file_mode};
use crate::shelf::{CopyError, Halt, Shelf, ShelfError, TreeReadError};

/// Why the inputs of a job could not be laid out.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayOutError {
    #[error("the inputs of the job can't be used")]
    Tree(#[from] TreeReadError),
    #[error(
        "the inputs of the job take {found} bytes; the limit is {limit} (`file_bytes` under [limits] in config.toml)"
    )]
    TooLarge { found: u64, limit: u64 },
    #[error("failed to make the run's directory {path}; check the disk's space and permissions")]
    Directory { path: String, source: io::Error },
    #[error("the input {path:?} can't be read")]
    File { path: String, source: ShelfError },
    #[error("the input {path:?} could not be written; check the disk's space")]
    Write { path: String, source: io::Error },
    #[error("the inputs of the job could not be laid out")]
    Ground(#[from] GroundError),
}

impl LayOutError {
    /// What it means for the job: would it fail again?
    pub(super) fn outcome(&self) -> Outcome {
        let message = chain(self);
        match self {
            Self::Tree(TreeReadError::Tree(_)) | Self::TooLarge { .. } => Outcome::Permanent { message },
            Self::Tree(TreeReadError::Shelf(_))
            | Self::Directory { .. }
            | Self::File { .. }
            | Self::Write { .. }
            | Self::Ground(_) => Outcome::error(message),
        }
    }

    /// Whether it was only given up.
    pub(super) const fn is_stop(&self) -> bool {
        matches!(self, Self::File { source: ShelfError::Stopped, .. })
    }
}

/// Lays a tree out in an empty directory.
pub(super) fn lay_out(
    shelf: &Shelf,
    tree: BlobRef,
    work: &Path,
    bytes_max: u64,
    halt: Halt<'_>,
) -> Result<(), LayOutError> {
    let tree = shelf.tree(tree.hash)?;
    if tree.file_bytes() > bytes_max {
        return Err(LayOutError::TooLarge { found: tree.file_bytes(), limit: bytes_max });
    }
    let opened = Ground::open(work);
    let mut ground = opened.map_err(|source| LayOutError::Directory { path: work.display().to_string(), source })?;
    for entry in tree.entries() {
        match &entry.node {
            Node::File { blob, mode } => make_file(shelf, &mut ground, (&entry.path, *blob, *mode), halt)?,
            Node::Link { target } => ground.make_link(&entry.path, target, Existing::Stays)?,
            Node::Directory { .. } => ground.make_directory(&entry.path)?,
        }
    }
    // Only now, deepest first: nothing could be put into a directory that may not be entered.
    for entry in tree.entries().iter().rev() {
        match &entry.node {
            Node::Directory { mode } => ground.set_mode(&entry.path, *mode)?,
            Node::File { .. } | Node::Link { .. } => {}
        }
    }
    Ok(())
}

fn make_file(
    shelf: &Shelf,
    ground: &mut Ground,
    (path, blob, mode): (&str, BlobRef, u16),
    halt: Halt<'_>,
) -> Result<(), LayOutError> {
    let file = ground.make_file(path)?;
    let write = |source| LayOutError::Write { path: path.to_owned(), source };
    match shelf.copy_to(blob, &file, halt) {
        Ok(()) => set_file_mode(&file, mode).map_err(write),
        Err(CopyError::Shelf(source)) => Err(LayOutError::File { path: path.to_owned(), source }),
        Err(CopyError::To(source)) => Err(write(source)),
    }
}
