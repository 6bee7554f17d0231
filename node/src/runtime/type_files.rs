//! Bringing the files that job types name to where jobs find them: among the blobs.
//!
//! Their hashes are known since the configuration was read. **The hard case** is a file that has changed since: a job would
//! name what is no more, so none is made until the configuration is read again. A blob that nothing refers to is deleted
//! after a day, so the file is looked at whenever a job is made of its type. What the jobs of a type begin with is read
//! then in any case.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use jobmesh_executors::{Shelf, ShelfError, Written};
use jobmesh_protocol::BlobRef;

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
    let files: Vec<(PathBuf, BlobRef)> = job_type.files().map(|(path, blob)| (path.to_owned(), blob)).collect();
    let Some((first, _)) = files.first().cloned() else { return Ok(()) };
    let shelf = blobs.shelf().clone();
    let bringing = tokio::task::spawn_blocking(move || {
        let missing = files.into_iter().filter(|(_, blob)| !shelf.has(*blob));
        missing.into_iter().try_for_each(|(path, blob)| copy(&shelf, &path, blob))
    });
    bringing.await.map_err(|_| BringError::Write { path: first, source: WriteError::Panicked })?
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
    let shelf = blobs.shelf().clone();
    let bringing = tokio::task::spawn_blocking(move || keep_inputs(&shelf, &inputs));
    bringing.await.map_err(|_| BringInputsError::Panicked)?
}

/// Writes what is not here yet, and the list of it all, and has the disk sync them at once.
fn keep_inputs(shelf: &Shelf, inputs: &[Input]) -> Result<BlobRef, BringInputsError> {
    let failed = |error: ShelfError| BringInputsError::Write(error.into());
    let mut gathered = Gathered::default();
    inputs.iter().try_for_each(|input| gathered.add(&input.path, &input.name))?;
    let (tree, sources) = gathered.into_tree()?;
    let mut written = Vec::new();
    for (blob, path) in sources.into_iter().filter(|(blob, _)| !shelf.has(*blob)) {
        let file = write(shelf, &path).map_err(|error| match error {
            CopyError::Read(source) => BringInputsError::Read { path: path.clone(), source },
            CopyError::Write(error) => failed(error),
        })?;
        if file.blob() != blob {
            return Err(BringInputsError::Changed { path });
        }
        written.push(file);
    }
    let mut list = shelf.begin().map_err(failed)?;
    list.write(&tree.encode()).map_err(failed)?;
    let list = list.close().map_err(failed)?;
    let blob = list.blob();
    written.push(list);
    shelf.keep(written).map_err(failed)?;
    Ok(blob)
}

/// Keeps a file that should be this blob.
fn copy(shelf: &Shelf, path: &Path, blob: BlobRef) -> Result<(), BringError> {
    let failed = |error: ShelfError| BringError::Write { path: path.to_owned(), source: error.into() };
    match write(shelf, path) {
        Ok(file) if file.blob() == blob => shelf.keep(vec![file]).map_err(failed),
        Ok(_) => Err(BringError::Changed { path: path.to_owned() }),
        Err(CopyError::Read(source)) => Err(BringError::Read { path: path.to_owned(), source }),
        Err(CopyError::Write(error)) => Err(failed(error)),
    }
}

/// Why a file was not copied: for a fault of its own, or of the place that it was to go to.
enum CopyError {
    Read(io::Error),
    Write(ShelfError),
}

/// Copies a file to the shelf, without a name yet.
fn write(shelf: &Shelf, path: &Path) -> Result<Written, CopyError> {
    let mut file = File::open(path).map_err(CopyError::Read)?;
    let (mut draft, mut piece) = (shelf.begin().map_err(CopyError::Write)?, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return draft.close().map_err(CopyError::Write),
            Ok(count) => draft.write(piece.get(..count).unwrap_or_default()).map_err(CopyError::Write)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(CopyError::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_file_is_copied_once_and_one_that_has_changed_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::open(folder.path().to_owned()).unwrap();
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("m.wasm");
        std::fs::write(&path, b"module").unwrap();
        copy(&shelf, &path, BlobRef::of(b"module")).unwrap();
        assert!(shelf.has(BlobRef::of(b"module")));
        std::fs::write(&path, b"other").unwrap();
        let error = copy(&shelf, &path, BlobRef::of(b"module")).unwrap_err();
        assert!(matches!(error, BringError::Changed { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = copy(&shelf, &path, BlobRef::of(b"module")).unwrap_err();
        assert!(matches!(error, BringError::Read { .. }), "{error}");
    }
}
