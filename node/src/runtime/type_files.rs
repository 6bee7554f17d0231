//! Bringing the files that job types name to where jobs find them: among the blobs.
//!
//! Their hashes are known since the configuration was read. **The hard case** is a file that has changed since: a job would
//! name what is no more, so none is made until the configuration is read again. A blob that nothing refers to is deleted
//! after a day, so the file is looked at whenever a job is made of its type. What the jobs of a type begin with is read
//! then in any case.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jobmesh_protocol::BlobRef;
use tokio_util::io::ReaderStream;

use crate::blobs::{Blobs, WriteError};
use crate::gather::{GatherError, Gathered};
use crate::job_types::{Input, JobType, JobTypes};

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Why a type's file can't be given to its jobs.
#[derive(Debug, thiserror::Error)]
pub enum BringError {
    /// It can't be read any more.
    #[error("failed to read {}, which a job type names", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It can't be kept.
    #[error("failed to keep a copy of {}, which a job type names", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WriteError,
    },
    /// It holds something else by now.
    #[error("{} has changed since the configuration was read; `jobmesh config reload` reads it again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Why a job can't be given the files that it begins with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BringInputsError {
    /// They can't be read, or are no tree.
    #[error(transparent)]
    Gather(#[from] GatherError),
    /// One can't be opened any more.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// One was written to meanwhile.
    #[error("{} has changed while it was read; try again", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// They can't be kept.
    #[error("failed to keep a copy of the files that the job begins with")]
    Write(#[source] WriteError),
    /// Whoever looked for them is gone.
    #[error("the thread that looked for the files ended by a panic; this is a bug")]
    Panicked,
}

/// Brings the files of one type.
pub(crate) async fn bring(blobs: &Blobs, job_type: &JobType) -> Result<(), BringError> {
    for (path, blob) in job_type.files() {
        if !blobs.has(blob) {
            copy(blobs, path, blob).await?;
        }
    }
    Ok(())
}

/// Brings the files of every type whose jobs are made without anybody asking.
pub(super) async fn bring_scheduled(blobs: &Blobs, job_types: &JobTypes) -> Result<(), BringError> {
    for job_type in job_types.all().filter(|it| it.is_enabled() && it.plan().is_some()) {
        bring(blobs, job_type).await?;
    }
    Ok(())
}

/// Keeps the files that a job begins with, as they are now, and returns the tree of them.
pub(crate) async fn bring_inputs(blobs: &Blobs, inputs: Vec<Input>) -> Result<BlobRef, BringInputsError> {
    let gather = move || {
        let mut gathered = Gathered::default();
        inputs.iter().try_for_each(|input| gathered.add(&input.path, &input.name))?;
        gathered.into_tree()
    };
    let (tree, sources) = tokio::task::spawn_blocking(gather).await.map_err(|_| BringInputsError::Panicked)??;
    for (blob, path) in sources.into_iter().filter(|(blob, _)| !blobs.has(*blob)) {
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(source) => return Err(BringInputsError::Read { path, source }),
        };
        let found = blobs.write(ReaderStream::with_capacity(file, PIECE_BYTES)).await;
        if found.map_err(BringInputsError::Write)? != blob {
            return Err(BringInputsError::Changed { path });
        }
    }
    let list = futures::stream::iter([Ok::<_, Infallible>(Bytes::from(tree.encode()))]);
    blobs.write(list).await.map_err(BringInputsError::Write)
}

async fn copy(blobs: &Blobs, path: &Path, blob: BlobRef) -> Result<(), BringError> {
    let path = path.to_owned();
    let file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(source) => return Err(BringError::Read { path, source }),
    };
    match blobs.write(ReaderStream::with_capacity(file, PIECE_BYTES)).await {
        Ok(found) if found == blob => Ok(()),
        Ok(_) => Err(BringError::Changed { path }),
        Err(source) => Err(BringError::Write { path, source }),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[tokio::test]
    async fn a_file_is_copied_once_and_one_that_has_changed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().to_owned()).unwrap();
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("m.wasm");
        std::fs::write(&path, b"module").unwrap();
        copy(&blobs, &path, BlobRef::of(b"module")).await.unwrap();
        assert!(blobs.has(BlobRef::of(b"module")));
        std::fs::write(&path, b"other").unwrap();
        let error = copy(&blobs, &path, BlobRef::of(b"module")).await.unwrap_err();
        assert!(matches!(error, BringError::Changed { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = copy(&blobs, &path, BlobRef::of(b"module")).await.unwrap_err();
        assert!(matches!(error, BringError::Read { .. }), "{error}");
    }
}
