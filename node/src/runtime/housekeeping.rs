//! What a node does to keep itself in order, as jobs of its own: on the thread of a slot, in small steps, so that what
//! else goes on hardly notices. Each can be left between two steps and begun again; a node that is told to stop does so.

mod blob_sweep;
mod learning_export;
mod metrics;
mod retention;
mod upkeep;

use std::io;
use std::path::{Path, PathBuf};

use jobmesh_protocol::Outcome;
use jobmesh_protocol::task::Builtin;
use jobmesh_store::{Reader, StoreError};

use super::handle::{CommandError, Handle};
use crate::causes::causes;

/// Why a chore was not done, or not to its end.
#[derive(Debug, thiserror::Error)]
enum ChoreError {
    /// The node shuts down.
    #[error("the node is shutting down")]
    Stopping,
    /// The engine can't do its part.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The database can't be read.
    #[error("the job database can't be read")]
    Read(#[from] StoreError),
    /// The database holds what contradicts itself.
    #[error(
        "the job database is damaged in {table}: {fault}; stop the daemon, copy the data directory to a safe place, then \
         restore a backup or save what still reads with `sqlite3 jobs.db .recover`"
    )]
    Damaged {
        /// Where.
        table: String,
        /// The first fault, in SQLite's words.
        fault: String,
    },
    /// A file can't be read, written or deleted.
    #[error("failed to keep {} in order", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The engine answered another question.
    #[error("the engine gave an answer to another question; this is a bug")]
    Unexpected,
}

impl ChoreError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

pub(super) use blob_sweep::make_room;

/// Does one of the node's own chores, on the thread of a slot.
pub(super) fn perform(handle: &Handle, builtin: Builtin) -> Outcome {
    let done = match builtin {
        Builtin::Metrics => metrics::perform(handle),
        Builtin::Retention => retention::perform(handle),
        Builtin::Upkeep => upkeep::perform(handle),
        Builtin::LearningExport => learning_export::perform(handle),
    };
    match done {
        Ok(()) => Outcome::Ok,
        Err(error @ (ChoreError::Stopping | ChoreError::Command(CommandError::Stopped))) => {
            Outcome::Released { reason: error.to_string() }
        }
        Err(error) => Outcome::error(causes(&error)),
    }
}

/// A look at the last commit, past the pool of those that people wait for.
fn reader(handle: &Handle) -> Result<Reader, ChoreError> {
    Ok(Reader::open(handle.home().path())?)
}

/// Leaves the chore if the node is to stop. To be called between two steps.
fn check(handle: &Handle) -> Result<(), ChoreError> {
    if handle.is_draining() { Err(ChoreError::Stopping) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
