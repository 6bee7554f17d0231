//! Stopping a job, and giving an ended one another try.

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::{Epoch, JobId, JobState, Outcome, RunId};
use jobmesh_store::{Job, StoreError};

use crate::engine::Engine;
use crate::output::{Output, Refusal, Response, StopReason};
use crate::run::{Conclusion, attempt_state};
use crate::step::Step;
use crate::submit::Answer;
use crate::timers::Timer;
use crate::transition::Shift;

/// Longest reason that is kept.
const REASON_CHARS_MAX: usize = 256;

impl Engine {
    pub(crate) fn cancel(&mut self, step: &mut Step<'_>, id: JobId, reason: &str) -> Answer {
        let Some(job) = step.view().job(id)? else { return Ok(Err(Refusal::NoSuchJob(id))) };
        if job.state.is_final() {
            let rule = "only a job that has not ended can be cancelled";
            return Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        }
        let reason: String = reason.chars().take(REASON_CHARS_MAX).collect();
        step.txn.set_cancel_reason(id, Some(&reason))?;
        let run = RunId { job: id, epoch: job.epoch };
        if self.running.contains_key(&run) {
            self.stop_run(step, job, run)?;
        } else {
            self.cancel_now(step, job, &reason)?;
        }
        Ok(Ok(Response::Done))
    }

    /// Stops a run here; the job is cancelled when its end is reported.
    pub(crate) fn stop_run(&mut self, step: &mut Step<'_>, mut job: Job, run: RunId) -> Result<(), StoreError> {
        let is_ordered = self.running.get(&run).is_some_and(|running| running.is_ordered);
        if is_ordered {
            self.outputs.push(Output::Stop { run, reason: StopReason::Cancelled });
            return Ok(());
        }
        // Its input is still on the way: nothing runs, so it ends here and now.
        self.running.remove(&run);
        self.stirred = true;
        job.cancel_reason.get_or_insert_default();
        let end = Conclusion::bare(self.me, &Outcome::Cancelled);
        match job.origin {
            Some(_) => self.conclude_lease(step, job, run, &end, &[]),
            None => self.conclude(step, job, run, &end),
        }
    }

    /// Cancels a job that does not run here. A peer that runs it is told, for as long as that takes.
    fn cancel_now(&mut self, step: &Step<'_>, mut job: Job, reason: &str) -> Result<(), StoreError> {
        self.auctions.remove(&job.id);
        self.timers.clear(Timer::AuctionCloses(job.id));
        if let Some(awarded) = self.take_awarded(job.id) {
            let run = RunId { job: job.id, epoch: job.epoch };
            let end = Conclusion::bare(awarded.node, &Outcome::Cancelled);
            let ended = (end.outcome, end.exit, end.written);
            step.txn.finish_attempt(run, attempt_state(end.outcome), ended, step.wall())?;
            self.drop_fetches_of(job.id);
            self.supersede_pending(step, run)?;
            self.revoke(step, awarded.node, run, reason)?;
        }
        let shift = Shift::new(&job, Cause::Cancelled).finish(FinishReason::User).because(Some(reason));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    pub(crate) fn retry(&mut self, step: &Step<'_>, id: JobId) -> Answer {
        let Some(mut job) = step.view().job(id)? else { return Ok(Err(Refusal::NoSuchJob(id))) };
        let refuse = |rule| Ok(Err(Refusal::WrongState { number: job.number, state: job.state, rule }));
        if job.origin.is_some() {
            return refuse("it came from another node, and only that node can retry it");
        }
        if job.spec.effects == Effects::Once && job.epoch > Epoch::default() {
            return refuse("it must not run twice and may have run; submit it anew if that is safe");
        }
        if !job.state.is_final() && job.state != JobState::Retryable {
            return refuse("only a job that has ended or waits for its retry can be retried");
        }
        step.txn.set_cancel_reason(id, None)?;
        let mut shift = Shift::new(&job, Cause::Retried);
        (shift.failures, shift.crashes) = (0, 0);
        self.timers.clear(Timer::Due(id));
        self.shift(step, &mut job, &shift)?;
        Ok(Ok(Response::Done))
    }
}
