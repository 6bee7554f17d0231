//! Deleting what has been kept long enough, or what a person wants gone: some rows at a time, however many tasks a
//! group has.

use std::collections::BTreeSet;

use jobmesh_protocol::{DurationMillis, JobState, UnixMillis};
use jobmesh_store::{Ended as Which, Job, StoreError};

use crate::command::Retention;
use crate::engine::Engine;
use crate::output::{Output, Refusal, Response};
use crate::step::Step;
use crate::submit::{Answer, NAME_KEPT};
use crate::timers::Timer;

/// Most jobs that one command deletes, whatever it asks for: a transaction of some ten milliseconds.
const PRUNE_MAX: u32 = 1000;

/// Rows of a large group that one step deletes, so that others get in between: some milliseconds.
const REMOVE_BATCH: u32 = 500;
/// The time between two such steps.
const REMOVE_PAUSE: DurationMillis = DurationMillis(5);

impl Engine {
    pub(crate) fn prune(&mut self, step: &Step<'_>, limit: u32, ended_before: Option<UnixMillis>) -> Answer {
        let limit = limit.min(PRUNE_MAX);
        let mut left = limit;
        let mut schedules = BTreeSet::new();
        for which in due(&self.config.declared.retention, step.wall(), ended_before) {
            self.prune_some(step, which, &mut left, &mut schedules)?;
        }
        for schedule in schedules {
            step.txn.forget_fired(&schedule)?;
        }
        step.txn.drop_submission_names_before(earlier(step.wall(), NAME_KEPT))?;
        self.forget_rates(step)?;
        Ok(Ok(Response::Pruned(limit - left)))
    }

    /// Notes the schedules whose jobs went.
    fn prune_some(
        &mut self,
        step: &Step<'_>,
        which: Which,
        left: &mut u32,
        schedules: &mut BTreeSet<String>,
    ) -> Result<(), StoreError> {
        while *left > 0 {
            let before = *left;
            for number in step.view().ended(which, *left)? {
                let Some(job) = step.view().job_by_number(number)?.filter(|_| *left > 0) else { break };
                *left = left.saturating_sub(self.delete(step, &job, *left)?);
                schedules.extend(job.fire.map(|(schedule, _)| schedule));
            }
            if *left == before {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn remove(&mut self, step: &Step<'_>, job: &Job) -> Answer {
        if !job.state.is_final() {
            let rule = "only a job that has ended can be deleted; cancel it first";
            return Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        }
        if job.number.index().is_some() {
            let rule = "a task is deleted with its group";
            return Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        }
        if let Some(waiting) = step.view().live_dependant(job.number)? {
            return Ok(Err(Refusal::Awaited { number: job.number, waiting }));
        }
        self.delete(step, job, REMOVE_BATCH)?;
        forget_fired(step, job)?;
        Ok(Ok(Response::Done))
    }

    /// Deletes at most `limit` rows of an ended job and its tasks, its own last. Returns how many went. Of a group that is
    /// larger it is written down that the rest is to follow, which it then does by itself, after a restart as well.
    fn delete(&mut self, step: &Step<'_>, job: &Job, limit: u32) -> Result<u32, StoreError> {
        let mut deleted = 0;
        if job.plan.is_group {
            for (task, id) in step.view().ended_tasks(job.number, limit)? {
                if step.txn.delete_job(task)? {
                    self.outputs.push(Output::Forget(id));
                    deleted += 1;
                }
            }
        }
        if deleted < limit && step.txn.delete_job(job.number)? {
            self.outputs.push(Output::Forget(job.id));
            self.removing.remove(&job.number);
            deleted += 1;
        } else if deleted > 0 {
            step.txn.set_keep_until(job.number, Some(REMOVED))?;
            self.removing.insert(job.number);
            self.timers.set_if_unset(Timer::Remove, step.now.mono.plus(REMOVE_PAUSE));
        }
        Ok(deleted)
    }

    /// Deletes some more of a group whose deletion has begun.
    pub(crate) fn on_remove(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let Some(number) = self.removing.first().copied() else { return Ok(()) };
        let job = step.view().job_by_number(number)?.filter(|job| job.state.is_final());
        let deleted = match job {
            Some(job) => {
                let deleted = self.delete(step, &job, REMOVE_BATCH)?;
                forget_fired(step, &job)?;
                deleted
            }
            None => 0,
        };
        if deleted == 0 {
            self.removing.remove(&number);
        }
        if !self.removing.is_empty() {
            self.timers.set(Timer::Remove, step.now.mono.plus(REMOVE_PAUSE));
        }
        Ok(())
    }

    /// Finds the groups again whose deletion has begun.
    pub(crate) fn recover_removals(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        self.removing = step.view().ended(Which::KeptUntil(REMOVED), u32::MAX)?.into_iter().collect();
        if !self.removing.is_empty() {
            self.timers.set(Timer::Remove, step.now.mono);
        }
        Ok(())
    }
}

/// Keeps down how many instants of deleted jobs are remembered.
fn forget_fired(step: &Step<'_>, job: &Job) -> Result<(), StoreError> {
    match &job.fire {
        Some((schedule, _)) => step.txn.forget_fired(schedule),
        None => Ok(()),
    }
}

/// Marks a group whose deletion has begun.
const REMOVED: UnixMillis = UnixMillis(0);

/// What may be deleted now. How long a job said it is kept goes before everything but a person's word; what a peer's
/// receipt proves is kept as long as receipts are.
fn due(retention: &Retention, now: UnixMillis, ended_before: Option<UnixMillis>) -> Vec<Which> {
    let own = ended_before.map_or(Which::KeptUntil(now), |before| Which::OfOwnKeep { before });
    let mut due = vec![own];
    for state in [JobState::Completed, JobState::Cancelled, JobState::Skipped, JobState::Discarded] {
        for is_proven in [false, true] {
            let kept = match (kept(retention, state), is_proven) {
                (Some(kept), true) => retention.receipts.map(|receipts| receipts.max(kept)),
                (kept, _) => kept,
            };
            let before = ended_before.or_else(|| kept.map(|kept| earlier(now, kept)));
            due.extend(before.map(|before| Which::As { state, is_proven, before }));
        }
    }
    due
}

const fn kept(retention: &Retention, state: JobState) -> Option<DurationMillis> {
    match state {
        JobState::Completed => retention.completed,
        JobState::Discarded => retention.discarded,
        JobState::Cancelled
        | JobState::Skipped
        | JobState::Pending
        | JobState::Scheduled
        | JobState::Available
        | JobState::Offered
        | JobState::Running
        | JobState::Suspended
        | JobState::Retryable => retention.cancelled,
    }
}

const fn earlier(now: UnixMillis, by: DurationMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_sub(by.0))
}
