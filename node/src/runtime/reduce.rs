//! The file from which a job reads what became of the jobs that it waited for: one line of JSON for each of them, and for
//! each task of those that are groups.
//!
//! ```text
//! {"job":"42.7","index":7,"state":"completed","exit_code":0,"exit_signal":null,"result":{"n":1},"result_hash":"…",
//!  "result_path":"…","stdout_hash":"…","stdout_path":"…"}
//! ```
//!
//! `result` is what the job said its result is, if that is JSON and small; the path leads to it in any case, unless it
//! is gone. A job that is not kept any more has no state. **The hard case** is a large array: its tasks are read a page
//! at a time, so neither memory nor a long look at the database grows with it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jobmesh_executors::{Stream, log_path, result_path};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BlobRef, JobNumber, JobState, RunId};
use jobmesh_store::{Attempt, Reader, StoreError, TaskRow, View};
use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;

/// The file's name in the directory of the run.
pub(super) const RESULTS_NAME: &str = "results.jsonl";
/// Tasks of one page.
const PAGE: u32 = 256;
/// Most bytes of the file up to which results are written into it: a bound for the disk. Later lines have paths only.
const RESULTS_BYTES_MAX: u64 = 1 << 30;

/// Why the file could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReduceError {
    #[error("the results of the jobs before it could not be read")]
    Read(#[from] StoreError),
    #[error("failed to write {}; check the disk's space", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("it was stopped before it started")]
    Stopped,
}

/// One line.
#[derive(Serialize)]
struct Line {
    job: JobNumber,
    index: Option<u32>,
    state: Option<JobState>,
    exit_code: Option<i32>,
    exit_signal: Option<i32>,
    result: Option<Value>,
    result_hash: Option<Hash>,
    result_path: Option<String>,
    stdout_hash: Option<Hash>,
    stdout_path: Option<String>,
}

/// Writes the file for a run of job `number`. Leaves early once it is `stopped`.
pub(super) fn write(
    handle: &Handle,
    run: RunId,
    number: JobNumber,
    stopped: &CancellationToken,
) -> Result<(), ReduceError> {
    let directory = handle.home().run(run);
    let path = directory.join(RESULTS_NAME);
    let failed = |source| ReduceError::Write { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    let reader = Reader::open(handle.home().path())?;
    let mut results =
        Results { handle, view: reader.view(), path: &path, file: BufWriter::new(file), written: 0, stopped };
    for (edge, state) in reader.view().dependencies(number)?.into_iter().filter(|(edge, _)| !edge.is_of_key) {
        match reader.view().group(edge.upstream)? {
            Some(_) => results.add_tasks(edge.upstream)?,
            None => results.add_job(edge.upstream, state)?,
        }
    }
    results.file.flush().map_err(failed)
}

struct Results<'a> {
    handle: &'a Handle,
    view: View<'a>,
    path: &'a Path,
    file: BufWriter<File>,
    written: u64,
    stopped: &'a CancellationToken,
}

impl Results<'_> {
    fn add_tasks(&mut self, group: JobNumber) -> Result<(), ReduceError> {
        let mut after = None;
        loop {
            let page = self.view.tasks(group, after, PAGE)?;
            for task in &page {
                self.add(task.number, Some(task.state), Some(*task))?;
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.number);
        }
    }

    fn add_job(&mut self, number: JobNumber, state: Option<JobState>) -> Result<(), ReduceError> {
        let job = self.view.job_by_number(number)?;
        let row = job.map(|job| TaskRow { number, id: job.id, state: job.state, epoch: job.epoch });
        self.add(number, row.map(|row| row.state).or(state), row)
    }

    fn add(&mut self, job: JobNumber, state: Option<JobState>, row: Option<TaskRow>) -> Result<(), ReduceError> {
        if self.stopped.is_cancelled() {
            return Err(ReduceError::Stopped);
        }
        let telling = |row: TaskRow| self.view.telling_attempt(RunId { job: row.id, epoch: row.epoch }, row.state);
        let attempt = row.map(telling).transpose()?.flatten();
        let line = self.line(job, state, attempt.as_ref())?;
        let failed = |source: io::Error| ReduceError::Write { path: self.path.to_owned(), source };
        let mut bytes = serde_json::to_vec(&line).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        self.file.write_all(&bytes).map_err(failed)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn line(&self, job: JobNumber, state: Option<JobState>, attempt: Option<&Attempt>) -> Result<Line, ReduceError> {
        let outputs = attempt.map(|attempt| attempt.outputs).unwrap_or_default();
        let result = outputs.result.map(|blob| self.result(blob)).transpose()?.flatten();
        let exit = attempt.map(|attempt| attempt.exit).unwrap_or_default();
        Ok(Line {
            job,
            index: job.index(),
            state,
            exit_code: exit.code,
            exit_signal: exit.signal,
            result,
            result_hash: outputs.result.map(|blob| blob.hash),
            result_path: attempt.and_then(|attempt| self.path_of(attempt, outputs.result, result_path)),
            stdout_hash: outputs.stdout.map(|blob| blob.hash),
            stdout_path: attempt
                .and_then(|attempt| self.path_of(attempt, outputs.stdout, |run| log_path(run, Stream::Stdout))),
        })
    }

    /// A result itself, if it is JSON, at hand, and there is room for it.
    fn result(&self, blob: BlobRef) -> Result<Option<Value>, ReduceError> {
        if self.written.saturating_add(blob.size) > RESULTS_BYTES_MAX {
            return Ok(None);
        }
        let bytes = self.view.blob(blob.hash)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Where an output is, if it is a file on this node.
    fn path_of(&self, attempt: &Attempt, blob: Option<BlobRef>, within: impl Fn(&Path) -> PathBuf) -> Option<String> {
        let blob = blob?;
        let path = if attempt.node == self.handle.node() {
            within(&self.handle.home().run(RunId { job: attempt.job, epoch: attempt.epoch }))
        } else {
            self.handle.blobs().path_of(blob.hash)
        };
        let is_there = fs::metadata(&path).is_ok_and(|found| found.is_file());
        is_there.then(|| path.to_string_lossy().into_owned())
    }
}
