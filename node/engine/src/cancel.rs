//! Stopping a job, dropping one, and giving an ended one another try.

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::{Epoch, JobState, Outcome, RunId};
use jobmesh_store::{Job, StoreError};

use crate::engine::Engine;
use crate::group::Force;
use crate::output::{Output, Refusal, Response, StopReason};
use crate::run::Conclusion;
use crate::step::Step;
use crate::submit::Answer;
use crate::timers::Timer;
use crate::transition::{Shift, is_held_back};

/// Longest reason that is kept.
pub(crate) const REASON_CHARS_MAX: usize = 256;

impl Engine {
    pub(crate) fn cancel(&mut self, step: &mut Step<'_>, job: Job, reason: &str, force: Force) -> Answer {
        if job.state.is_final() {
            let rule = "only a job that has not ended can be cancelled";
            return Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        self.cancel_job(step, job, &reason, force)?;
        Ok(Ok(Response::Done))
    }

    /// Stops a job that has not ended, and every task of it if it is a group.
    pub(crate) fn cancel_job(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        reason: &str,
        force: Force,
    ) -> Result<(), StoreError> {
        step.txn.set_cancel_reason(job.number, Some((reason, FinishReason::User)))?;
        if job.plan.is_group && self.groups.contains_key(&job.number) {
            return self.stop_group(step, &job, FinishReason::User, reason, force);
        }
        let run = RunId { job: job.id, epoch: job.epoch };
        match self.running.get_mut(&run) {
            Some(running) => {
                running.job.cancel_reason = Some(reason.to_owned());
                running.job.finish_reason = Some(FinishReason::User);
                self.stop_run(step, run, force)
            }
            None => self.end_now(step, job, Cause::Cancelled, FinishReason::User, reason),
        }
    }

    /// Stops every task of a group, and ends the group itself once they have ended.
    fn stop_group(
        &mut self,
        step: &mut Step<'_>,
        job: &Job,
        finish: FinishReason,
        reason: &str,
        force: Force,
    ) -> Result<(), StoreError> {
        if let Some(group) = self.groups.get_mut(&job.number) {
            group.job.cancel_reason = Some(reason.to_owned());
            group.job.finish_reason = Some(finish);
        }
        self.drop_tasks(step, job.number, finish, reason, force)
    }

    /// The system drops a job that has not ended, and every task of it if it is a group. One that a person has cancelled
    /// already ends as that.
    pub(crate) fn drop_job(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        finish: FinishReason,
        reason: &str,
    ) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let is_group = self.has_tasks(&job);
        if (is_group || self.running.contains_key(&run)) && job.cancel_reason.is_some() {
            return Ok(());
        }
        if is_group {
            step.txn.set_cancel_reason(job.number, Some((reason, finish)))?;
            return self.stop_group(step, &job, finish, reason, Force::Gentle);
        }
        if let Some(running) = self.running.get_mut(&run) {
            running.job.cancel_reason = Some(reason.to_owned());
            running.job.finish_reason = Some(finish);
            step.txn.set_cancel_reason(job.number, Some((reason, finish)))?;
            return self.stop_run(step, run, Force::Gentle);
        }
        self.end_now(step, job, Cause::Skipped, finish, reason)
    }

    /// Stops a run here; the job ends when that is reported.
    pub(crate) fn stop_run(&mut self, step: &mut Step<'_>, run: RunId, force: Force) -> Result<(), StoreError> {
        if self.running.get(&run).is_some_and(|running| running.is_ordered) {
            let reason = match force {
                Force::Gentle => StopReason::Cancelled,
                Force::Hard => StopReason::Killed,
            };
            self.outputs.push(Output::Stop { run, reason });
            return Ok(());
        }
        // Its input is still on the way: nothing runs, so it ends here and now.
        let Some(running) = self.take_running(run) else { return Ok(()) };
        self.stirred = true;
        let mut job = running.job;
        job.cancel_reason.get_or_insert_default();
        let end = Conclusion::bare(self.me, &Outcome::Cancelled);
        match job.origin {
            Some(_) => self.conclude_lease(step, job, run, &end, &[]),
            None => self.conclude(step, job, run, &end),
        }
    }

    /// Ends a job that does not run here. A peer that runs it is told, for as long as that takes.
    fn end_now(
        &mut self,
        step: &Step<'_>,
        mut job: Job,
        cause: Cause,
        finish: FinishReason,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.auctions.remove(&job.id);
        self.timers.clear(Timer::AuctionCloses(job.id));
        self.end_elsewhere(step, &job, reason)?;
        let shift = Shift::new(&job, cause).finish(finish).because(Some(reason));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Ends the attempt of a job that a peer has, if one has. It is told, for as long as that takes.
    pub(crate) fn end_elsewhere(&mut self, step: &Step<'_>, job: &Job, reason: &str) -> Result<(), StoreError> {
        let Some(awarded) = self.take_awarded(step, job.id) else { return Ok(()) };
        let run = RunId { job: job.id, epoch: job.epoch };
        let end = Conclusion::bare(awarded.node, &Outcome::Cancelled);
        step.txn.finish_attempt(run, &end.filed(), step.wall())?;
        self.drop_fetches_of(run);
        self.supersede_pending(step, run)?;
        self.revoke(step, awarded.node, run, reason)
    }

    pub(crate) fn retry(&mut self, step: &mut Step<'_>, job: Job) -> Answer {
        let refuse = |rule| Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        if job.origin.is_some() {
            return refuse("it came from another node, and only that node can retry it");
        }
        if self.removing.contains(&job.number.group()) {
            return refuse("it is being deleted");
        }
        if job.plan.is_group {
            return self.retry_group(step, job);
        }
        if job.spec.effects == Effects::Once && job.epoch > Epoch::default() {
            return refuse("it must not run twice and may have run; submit it anew if that is safe");
        }
        if !job.state.is_final() && job.state != JobState::Retryable {
            return refuse("only a job that has ended or waits for its retry can be retried");
        }
        if let Some(refusal) = self.keeps_out(step, &job) {
            return Ok(Err(refusal));
        }
        if let Some(holder) = self.key_in_the_way(step, &job)? {
            return Ok(Err(Refusal::KeyTaken { number: job.number, holder }));
        }
        self.retry_job(step, job)?;
        Ok(Ok(Response::Done))
    }

    /// Why a job that is to be tried again can't be: it would be over at once, or its queue takes nothing in. One that
    /// waits for its retry is in its queue already.
    pub(crate) fn keeps_out(&self, step: &Step<'_>, job: &Job) -> Option<Refusal> {
        if let Some(deadline) = job.deadline.filter(|deadline| *deadline <= step.wall()) {
            return Some(Refusal::PastDeadline { number: job.number, deadline });
        }
        let is_in = !job.state.is_final() && !job.plan.is_group;
        (!is_in && self.queues.is_draining(&job.queue)).then(|| Refusal::QueueDraining(job.queue.clone()))
    }

    /// Gives a job another try with all of its attempts; its history stays. Its unique key must be free.
    pub(crate) fn retry_job(&mut self, step: &Step<'_>, mut job: Job) -> Result<(), StoreError> {
        if job.cancel_reason.take().is_some() {
            step.txn.set_cancel_reason(job.number, None)?;
        }
        job.finish_reason = None;
        let mut shift = Shift::new(&job, Cause::Retried);
        (shift.failures, shift.crashes, shift.snoozes) = (0, 0, 0);
        self.clear_due(job.id);
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// A job did not start in time.
    pub(crate) fn on_expired(&mut self, step: &mut Step<'_>, id: jobmesh_protocol::JobId) -> Result<(), StoreError> {
        let Some(job) = step.view().job(id)? else { return Ok(()) };
        let why = "it could not start in time";
        if job.expires_at.is_none() || is_held_back(&job) {
            return Ok(());
        }
        let is_early = self.groups.get(&job.number).is_some_and(|group| group.row.early > 0);
        if job.state == JobState::Available && is_early {
            return self.drop_job(step, job, FinishReason::Expired, why);
        }
        if self.has_tasks(&job) {
            return Ok(());
        }
        match job.state {
            JobState::Running => {
                // It was claimed, and comes back if it has not started.
                let run = RunId { job: id, epoch: job.epoch };
                self.outputs.push(Output::Stop { run, reason: StopReason::Withdrawn });
                Ok(())
            }
            // A peer may have started it. If it has not, the job comes back.
            JobState::Offered if self.awarded.contains_key(&id) => Ok(()),
            JobState::Available | JobState::Offered => self.drop_job(step, job, FinishReason::Expired, why),
            JobState::Pending
            | JobState::Scheduled
            | JobState::Suspended
            | JobState::Retryable
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => Ok(()),
        }
    }

    /// A job is not over when it has to be.
    pub(crate) fn on_deadline(&mut self, step: &mut Step<'_>, id: jobmesh_protocol::JobId) -> Result<(), StoreError> {
        let Some(job) = step.view().job(id)?.filter(|job| !job.state.is_final()) else { return Ok(()) };
        let Some(deadline) = job.deadline else { return Ok(()) };
        if deadline > step.wall() {
            self.set_dated(step, Timer::Deadline(id), deadline);
            return Ok(());
        }
        let run = RunId { job: id, epoch: job.epoch };
        if self.running.contains_key(&run) {
            self.stop_late(run, "it was not over at its deadline");
            return Ok(());
        }
        self.drop_job(step, job, FinishReason::Deadline, "it was not over at its deadline")
    }
}

/// What moves a job that ends for this reason without an attempt that tells.
pub(crate) const fn cause_of(finish: FinishReason) -> Cause {
    match finish {
        FinishReason::User => Cause::Cancelled,
        FinishReason::Ok
        | FinishReason::Exhausted
        | FinishReason::Permanent
        | FinishReason::CrashLimit
        | FinishReason::Lost
        | FinishReason::Timeout
        | FinishReason::Itself
        | FinishReason::Snoozes
        | FinishReason::Deadline
        | FinishReason::Expired
        | FinishReason::UpstreamFailed
        | FinishReason::TasksFailed
        | FinishReason::MaxFails
        | FinishReason::Replaced => Cause::Skipped,
    }
}
