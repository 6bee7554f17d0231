//! The end of a run put together: what it means, what was written, what it took.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use jobmesh_protocol::outcome::{Exit, Usage};
use jobmesh_protocol::{BlobRef, Outcome};

use crate::directory::{outcome_path, result_path};
use crate::event::{Ended, chain, clip};
use crate::output::{self, Digest, Log, RESULT_INLINE_BYTES_MAX};
use crate::process::exit::{self, Ending, OutOfMemory};
use crate::process::spare::Contents;
use crate::process::word::{self, WordError};

/// What is known about a run whose processes are gone.
#[derive(Debug)]
pub(crate) struct Remains<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) left: Contents,
    pub(crate) stdout: Option<&'a Log>,
    pub(crate) stderr: Option<&'a Log>,
    pub(crate) exit: Exit,
    pub(crate) ending: Ending,
    pub(crate) oom: Option<OutOfMemory>,
    pub(crate) usage: Usage,
    pub(crate) ran: Duration,
}

impl Remains<'_> {
    /// The end of the run. `brought` is its outcome if we brought the end about; then nothing else has a say.
    pub(crate) fn conclude(self, brought: Option<Outcome>) -> Ended {
        let mut said = if self.left.outcome { word::read(&outcome_path(self.directory)) } else { Ok(None) };
        let written = said.as_mut().ok().and_then(|word| word.as_mut()?.result.take());
        let outcome = brought.unwrap_or_else(|| exit::decide(&self.ending, self.oom, said));
        let mut ended = Ended { exit: self.exit, usage: self.usage, ran: self.ran, ..Ended::without_process(outcome) };
        let stdout = self.stdout.map_or(Ok(None), Log::digest);
        ended.outputs.stdout = keep(&mut ended, stdout.map_err(OutputError::Log));
        let stderr = self.stderr.map_or(Ok(None), Log::digest);
        ended.outputs.stderr = keep(&mut ended, stderr.map_err(OutputError::Log));
        let result = match written {
            Some(json) => write_result(self.directory, json.as_bytes()),
            None if self.left.result => read_result(self.directory),
            None => Ok(None),
        };
        ended.outputs.result = keep(&mut ended, result);
        if let Some(error) = self.no_room() {
            self.mark_cut(&mut ended, &error);
        }
        ended
    }

    fn logs(&self) -> impl Iterator<Item = &Log> {
        [self.stdout, self.stderr].into_iter().flatten()
    }

    /// What the system says if the disk is full. Every log is asked, to give back what was kept for it.
    fn no_room(&self) -> Option<io::Error> {
        self.logs().filter_map(Log::no_room).last()
    }

    /// Makes an error of an end whose output is not whole, and says so where nobody knows whether it is.
    fn mark_cut(&self, ended: &mut Ended, error: &io::Error) {
        let is_cut =
            self.logs().any(Log::may_be_cut) || (self.left.result && output::may_result_be_cut(self.directory));
        let why = format!("its output could not be kept: {error}; free some space");
        match &ended.outcome {
            Outcome::Ok if is_cut => ended.outcome = Outcome::error(why),
            Outcome::Error { message, retry_after_ms } if is_cut => {
                let (message, retry_after_ms) = (clip(format!("{message}; {why}")), *retry_after_ms);
                ended.outcome = Outcome::Error { message, retry_after_ms };
            }
            Outcome::Ok
            | Outcome::Error { .. }
            | Outcome::Permanent { .. }
            | Outcome::Timeout
            | Outcome::Cancelled
            | Outcome::Snoozed { .. }
            | Outcome::SelfCancelled { .. }
            | Outcome::Released { .. }
            | Outcome::Lost { .. } => {
                ended.notice = Some(format!("what it wrote last may be lost: {error}"));
            }
        }
    }
}

/// Enters an output's content, and gives its name.
fn keep(ended: &mut Ended, digest: Result<Option<Digest>, OutputError>) -> Option<BlobRef> {
    match digest {
        Ok(digest) => {
            let digest = digest?;
            ended.inline.extend(digest.inline);
            Some(digest.blob)
        }
        // A success without its output is none. An end that we brought about has nothing to lose.
        Err(error) if ended.outcome == Outcome::Ok => {
            ended.outcome = Outcome::error(chain(&error));
            None
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "failed to read an output");
            None
        }
    }
}

/// Why an output has no name.
#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error("failed to read back what the command wrote")]
    Log(#[source] io::Error),
    #[error("failed to read the result file")]
    Result(#[source] io::Error),
    #[error("the result file is not a plain file")]
    NotPlain,
    #[error("failed to write the result of the outcome file to the result file; check the disk's space")]
    Write(#[source] io::Error),
}

fn read_result(directory: &Path) -> Result<Option<Digest>, OutputError> {
    match word::open_plain(&result_path(directory)) {
        Ok(None) => Ok(None),
        Ok(Some(file)) => output::digest(&file, RESULT_INLINE_BYTES_MAX).map_err(OutputError::Result),
        Err(WordError::Read(source)) => Err(OutputError::Result(source)),
        Err(_) => Err(OutputError::NotPlain),
    }
}

/// Puts a result that was part of the outcome file where every other result is.
fn write_result(directory: &Path, json: &[u8]) -> Result<Option<Digest>, OutputError> {
    let path = result_path(directory);
    let written = match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => create(&path, json),
    };
    written.map_err(OutputError::Write)?;
    let inline = (json.len() <= RESULT_INLINE_BYTES_MAX).then(|| json.to_vec());
    Ok(Some(Digest { blob: BlobRef::of(json), inline }))
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)
}
