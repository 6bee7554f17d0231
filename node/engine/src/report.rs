//! What running jobs say of themselves. Progress is kept in memory and written now and then; what the next attempt
//! wants to know is written at once.

use jobmesh_protocol::{DurationMillis, JobNumber, MonoMillis, RunId};
use jobmesh_store::{Checkpoint, Progress, StoreError};

use crate::command::Report;
use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::run::Running;
use crate::step::Step;
use crate::submit::Answer;
use crate::timers::Timer;

/// How often the progress of a run is written.
const WRITE_EVERY: DurationMillis = DurationMillis::from_secs(1);
/// Most of it: ten thousandths.
const DONE_MAX: u16 = 10_000;
/// Longest message of a job about itself, in characters.
const MESSAGE_CHARS_MAX: usize = 1024;
/// Longest name and value of a checkpoint, in bytes, and most of them for one job.
const CHECKPOINT_NAME_MAX: usize = 128;
const CHECKPOINT_BYTES_MAX: usize = 16 * 1024;
const CHECKPOINTS_MAX: usize = 64;

/// What a run said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reported {
    progress: Option<Progress>,
    is_unwritten: bool,
    written: MonoMillis,
}

impl Engine {
    pub(crate) fn on_report(&mut self, step: &Step<'_>, run: RunId, report: Report) -> Answer {
        let Some(running) = self.running.get_mut(&run) else { return Ok(Err(Refusal::NotRunning)) };
        if let Some(silence) = running.job.spec.heartbeat_ms {
            self.timers.set(Timer::Silent(run), step.now.mono.plus(silence));
        }
        let number = running.job.number;
        match report {
            Report::Heartbeat => Ok(Ok(Response::Done)),
            Report::Progress { done, message } => {
                let last = running.reported.progress.take();
                let message = message.map(|text| text.chars().take(MESSAGE_CHARS_MAX).collect());
                running.reported.progress = Some(Progress {
                    epoch: run.epoch,
                    done: done.map(|done| done.min(DONE_MAX)).or(last.as_ref().and_then(|last| last.done)),
                    message: message.or(last.and_then(|last| last.message)),
                    at: step.wall(),
                });
                running.reported.is_unwritten = true;
                let due = running.reported.written.plus(WRITE_EVERY);
                if due <= step.now.mono {
                    self.write_progress(step, run)?;
                } else {
                    // A job that says no more for an hour must not look for an hour as it did before.
                    self.timers.set(Timer::Told(run), due);
                }
                Ok(Ok(Response::Done))
            }
            Report::Checkpoint { key, value } => checkpoint(step, number, key, value),
        }
    }

    /// Writes what a run said since its progress was written last.
    pub(crate) fn on_told(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        match self.running.get(&run) {
            Some(running) if running.reported.is_unwritten => self.write_progress(step, run),
            Some(_) | None => Ok(()),
        }
    }

    fn write_progress(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        let Some(running) = self.running.get_mut(&run) else { return Ok(()) };
        running.reported.written = step.now.mono;
        running.reported.is_unwritten = false;
        match &running.reported.progress {
            Some(progress) => step.txn.put_progress(running.job.number, progress),
            None => Ok(()),
        }
    }

    /// Writes the last word of a run that ended.
    pub(crate) fn write_report(&self, step: &Step<'_>, _run: RunId, running: &Running) -> Result<(), StoreError> {
        match &running.reported.progress {
            Some(progress) if running.reported.is_unwritten => step.txn.put_progress(running.job.number, progress),
            Some(_) | None => Ok(()),
        }
    }
}

fn checkpoint(step: &Step<'_>, job: JobNumber, name: String, value: String) -> Answer {
    if name.is_empty() || name.len() > CHECKPOINT_NAME_MAX || value.len() > CHECKPOINT_BYTES_MAX {
        let limits = format!(
            "a checkpoint has a name of 1 to {CHECKPOINT_NAME_MAX} bytes and a value of at most {CHECKPOINT_BYTES_MAX}"
        );
        return Ok(Err(Refusal::BadReport(limits)));
    }
    if value.is_empty() {
        step.txn.drop_checkpoint(job, &name)?;
        return Ok(Ok(Response::Done));
    }
    let known = step.view().checkpoints(job)?;
    if known.len() >= CHECKPOINTS_MAX && !known.iter().any(|known| known.name == name) {
        return Ok(Err(Refusal::TooMany { what: "checkpoints of one job", limit: CHECKPOINTS_MAX }));
    }
    step.txn.put_checkpoint(job, &Checkpoint { name, value, at: step.wall() })?;
    Ok(Ok(Response::Done))
}
