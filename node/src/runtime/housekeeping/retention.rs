//! Deleting what has been kept long enough: jobs with all that is kept of them, directories of runs whose job is gone,
//! blobs that nothing refers to.

use std::fs;

use jobmesh_engine::{Command, Response};
use jobmesh_executors::remove_tree;
use jobmesh_protocol::RunId;

use super::{ChoreError, blob_sweep, check, reader};
use crate::runtime::Handle;

/// Jobs of one command: a transaction of a few milliseconds.
const JOBS: u32 = 200;
/// Directories between two looks whether the node is to stop.
const DIRECTORIES: usize = 256;

pub(super) fn perform(handle: &Handle) -> Result<(), ChoreError> {
    let jobs = delete_jobs(handle)?;
    let directories = delete_directories(handle)?;
    let blobs = blob_sweep::perform(handle)?;
    tracing::info!(jobs, directories, blobs = blobs.files, bytes = blobs.bytes, "deleted what was kept long enough");
    Ok(())
}

fn delete_jobs(handle: &Handle) -> Result<u64, ChoreError> {
    let mut deleted = 0_u64;
    loop {
        check(handle)?;
        let command = Command::Prune { limit: JOBS, ended_before: None };
        let Response::Pruned(jobs) = handle.command_blocking(command)? else { return Err(ChoreError::Unexpected) };
        deleted += u64::from(jobs);
        if jobs < JOBS {
            return Ok(deleted);
        }
    }
}

/// Deletes directories of runs whose job is gone: a node that was killed may not have come to it.
fn delete_directories(handle: &Handle) -> Result<u64, ChoreError> {
    let folder = handle.home().runs();
    let failed = || ChoreError::file(&folder);
    let reader = reader(handle)?;
    let mut deleted = 0;
    for (count, entry) in fs::read_dir(&folder).map_err(failed())?.enumerate() {
        if count % DIRECTORIES == 0 {
            check(handle)?;
        }
        let entry = entry.map_err(failed())?;
        // A job is committed before its run has a directory, so one that is not found after that is gone.
        let Some(run) = entry.file_name().to_str().and_then(RunId::parse) else { continue };
        if reader.view().job_number(run.job)?.is_none() {
            match remove_tree(&entry.path()) {
                Ok(()) => deleted += 1,
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "failed to delete a run's directory")
                }
            }
        }
    }
    Ok(deleted)
}
