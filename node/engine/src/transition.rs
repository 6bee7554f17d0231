//! The one place where a job changes state: the table says whether it may, a guarded update does it, the event log
//! and the watchers hear of it, and the ready queue follows.

use jobmesh_protocol::state::{Cause, FinishReason, transition};
use jobmesh_protocol::{Epoch, JobState, NodeId, UnixMillis};
use jobmesh_store::{Job, Move, NewEvent, StoreError};

use crate::engine::Engine;
use crate::output::{Change, Output};
use crate::step::Step;
use crate::timers::Timer;

/// A change of a job, beside its new state.
#[derive(Clone, Debug)]
pub(crate) struct Shift<'a> {
    pub(crate) cause: Cause,
    pub(crate) epoch: Epoch,
    pub(crate) failures: u32,
    pub(crate) crashes: u32,
    pub(crate) run_at: Option<UnixMillis>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) node: Option<NodeId>,
    pub(crate) note: Option<&'a str>,
}

impl<'a> Shift<'a> {
    /// A change that leaves all counters as they are.
    pub(crate) const fn new(job: &Job, cause: Cause) -> Self {
        Self {
            cause,
            epoch: job.epoch,
            failures: job.failures,
            crashes: job.crashes,
            run_at: None,
            finish: None,
            node: None,
            note: None,
        }
    }

    pub(crate) const fn on(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    pub(crate) const fn because(mut self, note: Option<&'a str>) -> Self {
        self.note = note;
        self
    }

    pub(crate) const fn finish(mut self, reason: FinishReason) -> Self {
        self.finish = Some(reason);
        self
    }
}

impl Engine {
    /// Moves `job` and updates it. False, and nothing happens, if the table or the guard forbids it.
    pub(crate) fn shift(&mut self, step: &Step<'_>, job: &mut Job, shift: &Shift<'_>) -> Result<bool, StoreError> {
        let Some(to) = transition(job.state, shift.cause) else {
            self.count("illegal_transition");
            return Ok(false);
        };
        let moved = step.txn.move_job(&Move {
            job: job.id,
            from: job.state,
            epoch: job.epoch,
            to,
            new_epoch: shift.epoch,
            failures: shift.failures,
            crashes: shift.crashes,
            run_at: shift.run_at,
            finish_reason: shift.finish,
            at: step.wall(),
        })?;
        if !moved {
            self.count("stale_move");
            return Ok(false);
        }
        self.ready.remove(job);
        job.state = to;
        job.state_since = step.wall();
        job.epoch = shift.epoch;
        job.failures = shift.failures;
        job.crashes = shift.crashes;
        job.run_at = shift.run_at;
        job.finish_reason = shift.finish;
        self.announce(step, job, shift)?;
        self.follow(step, job);
        Ok(true)
    }

    /// Writes a job's event and tells the watchers.
    pub(crate) fn announce(&mut self, step: &Step<'_>, job: &Job, shift: &Shift<'_>) -> Result<(), StoreError> {
        let event = step.txn.append_event(&NewEvent {
            job: job.id,
            epoch: job.epoch,
            state: job.state,
            cause: shift.cause,
            node: shift.node,
            note: shift.note,
            at: step.wall(),
        })?;
        self.outputs.push(Output::Changed(Change {
            event,
            job: job.id,
            number: job.number,
            state: job.state,
            cause: shift.cause,
            epoch: job.epoch,
            node: shift.node,
            at: step.wall(),
        }));
        Ok(())
    }

    /// Keeps queue and timers in step with a job's state.
    pub(crate) fn follow(&mut self, step: &Step<'_>, job: &Job) {
        match job.state {
            JobState::Available => {
                let is_capable = self.is_capable(&job.spec);
                self.ready.insert(job, is_capable);
                self.stirred = true;
            }
            JobState::Scheduled | JobState::Retryable => {
                let wait = job.run_at.unwrap_or(step.wall()).since(step.wall());
                self.timers.set(Timer::Due(job.id), step.now.mono.plus(wait));
            }
            JobState::Pending | JobState::Offered | JobState::Running | JobState::Suspended => {}
            JobState::Completed | JobState::Discarded | JobState::Cancelled | JobState::Skipped => {
                self.timers.clear(Timer::Due(job.id));
                self.timers.clear(Timer::Reoffer(job.id));
                self.patience.remove(&job.id);
            }
        }
    }
}
