//! Files of the node on their way to this machine: compared with their hashes, and put under their names only when they
//! are whole.
//!
//! **The hard case** is what is there already. Nothing is written through a link, and nothing is replaced unless that was
//! asked for: a name in a job's output must not decide which file of ours is overwritten.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jobmesh_executors::{Existing, Ground, GroundError, set_file_mode};
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::tree::{Entry, Node};

use crate::cli::failure::{Failure, Kind};
use crate::cli::upload::Progress;
use crate::client::Client;

/// A directory that is filled with files of the node.
pub(crate) struct Download<'a> {
    client: &'a Client,
    ground: Ground,
    existing: Existing,
    progress: Progress,
}

impl<'a> Download<'a> {
    /// Into this directory, which is made if it is missing, and so many bytes.
    ///
    /// # Errors
    /// [`Failure`] if it can't be made.
    pub(crate) fn into(client: &'a Client, directory: &Path, existing: Existing, bytes: u64) -> Result<Self, Failure> {
        let failed = |error| Failure::new(Kind::File, format!("failed to make {}: {error}", directory.display()));
        fs::create_dir_all(directory).map_err(failed)?;
        // The person may mean a link to a directory; nobody else's links are followed.
        let whole: PathBuf = directory.canonicalize().map_err(failed)?;
        let ground = Ground::open(&whole).map_err(failed)?;
        Ok(Self { client, ground, existing, progress: Progress::of(bytes) })
    }

    /// Writes everything.
    ///
    /// # Errors
    /// [`Failure`] names what could not be written; what was written before stays.
    pub(crate) async fn entries(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        for entry in entries {
            match &entry.node {
                Node::File { blob, mode } => self.file(&entry.path, *blob, *mode).await?,
                Node::Link { target } => {
                    self.ground.make_link(&entry.path, target, self.existing).map_err(|error| refused(&error))?;
                }
                Node::Directory { .. } => self.ground.make_directory(&entry.path).map_err(|error| refused(&error))?,
            }
        }
        for entry in entries.iter().rev() {
            if let Node::Directory { mode } = &entry.node {
                self.ground.set_mode(&entry.path, *mode).map_err(|error| refused(&error))?;
            }
        }
        self.progress.end();
        Ok(())
    }

    /// Writes one file.
    ///
    /// # Errors
    /// [`Failure`]; there is nothing new under its name then.
    pub(crate) async fn file(&mut self, path: &str, blob: BlobRef, mode: u16) -> Result<(), Failure> {
        let (above, _) = path.rsplit_once('/').unwrap_or(("", path));
        let name = format!(".jobmesh-{}-{}", std::process::id(), blob.hash.short());
        let temporary = if above.is_empty() { name } else { format!("{above}/{name}") };
        let file = self.ground.make_file(&temporary).map_err(|error| refused(&error))?;
        let written = self.copy(&file, path, blob).await;
        let named = written.and_then(|()| {
            let failed = |error| Failure::new(Kind::File, format!("failed to write {path}: {error}"));
            set_file_mode(&file, mode).map_err(failed)?;
            self.ground.give_name(&temporary, path, self.existing).map_err(|error| refused(&error))
        });
        if named.is_err() {
            // Why it failed is what counts.
            let _ = self.ground.remove(&temporary);
        }
        named
    }

    async fn copy(&mut self, mut file: &fs::File, path: &str, blob: BlobRef) -> Result<(), Failure> {
        let failed = |error| Failure::new(Kind::File, format!("failed to write {path}: {error}"));
        let (mut answer, mut check) = (self.client.bytes(&format!("/v1/blobs/{}", blob.hash)).await?, Check::default());
        while let Some(piece) = answer.next().await? {
            check.update(&piece);
            file.write_all(&piece).map_err(failed)?;
            self.progress.add(piece.len() as u64);
        }
        check.is(blob)
    }
}

/// The bytes of a blob as they come, compared with its hash at their end.
#[derive(Debug, Default)]
pub(crate) struct Check {
    hasher: blake3::Hasher,
    size: u64,
}

impl Check {
    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// Says whether that was all of a blob.
    ///
    /// # Errors
    /// [`Failure`] if it was anything else.
    pub(crate) fn is(&self, blob: BlobRef) -> Result<(), Failure> {
        let hash = Hash::from_bytes(*self.hasher.finalize().as_bytes());
        if (BlobRef { hash, size: self.size }) == blob {
            return Ok(());
        }
        let message = format!("the blob {} is damaged on the node", blob.hash);
        Err(Failure::new(Kind::Internal, message).hint("if its job may run again, `jobmesh retry` makes it anew"))
    }
}

fn refused(error: &GroundError) -> Failure {
    let failure = Failure::of(Kind::File, error);
    match error {
        GroundError::Exists { .. } => failure.hint("replace it with --force, or choose another directory"),
        GroundError::NoDirectory { .. } | GroundError::Directory { .. } | GroundError::Write { .. } => failure,
    }
}
