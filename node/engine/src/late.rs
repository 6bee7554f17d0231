//! Results that come late: of an attempt that was given up, for a job that has not ended since.
//!
//! Work that may run twice is worth having whenever it comes: the first valid success of any attempt wins, and what runs
//! of a later one is stopped. The hard case is a later attempt on this very node. Its process must not outlive its job,
//! or nobody would find it after a restart; so it is stopped first, and the late result counts when it has ended,
//! whatever that end is. Until then the receipt waits as one whose outputs are on the way does: in the database, without
//! a verdict.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::state::{Cause, FinishReason, transition};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, Epoch, JobId, Outcome, ReceiptId, RunId};
use jobmesh_store::{Attempt, EndedAttempt, Job, StoreError};

use crate::engine::Engine;
use crate::isolation;
use crate::output::{Output, StopReason};
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;

/// Attempts that are over and whose receipts may still decide their jobs. At most as many as there are attempts.
pub(crate) type Late = BTreeMap<JobId, BTreeSet<Epoch>>;

/// A receipt that decides its job now.
pub(crate) struct Winner {
    attempt: Attempt,
    id: ReceiptId,
    receipt: Receipt,
}

impl Engine {
    /// Whether a receipt of an attempt that is over may still decide its job.
    pub(crate) fn may_come_late(
        &self,
        step: &Step<'_>,
        job: &Job,
        attempt: &Attempt,
        receipt: &Receipt,
    ) -> Result<bool, StoreError> {
        let may_run_twice = match job.spec.effects {
            Effects::Pure | Effects::Idempotent => true,
            Effects::Once => false,
        };
        let is_open = transition(job.state, Cause::Late).is_some();
        let is_short = isolation::shortfall(&job.spec, receipt).is_some();
        if receipt.outcome != Outcome::Ok || is_short || !may_run_twice || !is_open || job.origin.is_some() {
            return Ok(false);
        }
        let receipts = step.view().receipts(job.id)?;
        let is_answered = |verdict| matches!(verdict, None | Some(Verdict::Accepted));
        let has_answered = receipts.iter().any(|row| row.epoch == attempt.epoch && is_answered(row.verdict));
        // What succeeded and is tried again is wanted anew, and what was dropped may have run with what is no more.
        let events = step.view().events(job.id)?;
        let is_anew = |cause| matches!(cause, Cause::Succeeded | Cause::Late | Cause::Revived);
        let since = events.iter().rev().find(|event| is_anew(event.cause)).map(|event| event.epoch);
        Ok(!has_answered && since.is_none_or(|since| attempt.epoch > since))
    }

    /// Lets a late receipt, which is kept, decide its job as soon as it can.
    pub(crate) fn await_late(&mut self, step: &mut Step<'_>, run: RunId, receipt: ReceiptId) -> Result<(), StoreError> {
        step.txn.name_receipt(run, receipt)?;
        self.watch_late(step, run);
        self.try_late(step, run.job)
    }

    /// Gives the outputs of a late receipt their time, from now on.
    pub(crate) fn watch_late(&mut self, step: &Step<'_>, run: RunId) {
        self.late.entry(run.job).or_default().insert(run.epoch);
        self.timers.set(Timer::LateOutputs(run), step.now.mono.plus(self.config.timing.fetch_limit));
    }

    /// Whether the receipt of this attempt is a late one that waits.
    pub(crate) fn is_late(&self, run: RunId) -> bool {
        self.late.get(&run.job).is_some_and(|epochs| epochs.contains(&run.epoch))
    }

    /// Takes the late receipts of live jobs up again.
    pub(crate) fn recover_late(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        let mut jobs = BTreeSet::new();
        for run in step.view().open_receipts()? {
            let Some(attempt) = step.view().attempt(run)? else { continue };
            let is_over = attempt.state.is_final();
            let is_live = step.view().job(run.job)?.is_some_and(|job| !job.state.is_final());
            match (is_over, is_live) {
                (true, true) => {
                    self.watch_late(step, run);
                    jobs.insert(run.job);
                }
                (_, false) => self.supersede_pending(step, run)?,
                (false, true) => {}
            }
        }
        jobs.into_iter().try_for_each(|job| self.try_late(step, job))
    }

    /// Lets a late receipt decide its job, if its outputs are here and nothing of the job runs on this node.
    pub(crate) fn try_late(&mut self, step: &mut Step<'_>, id: JobId) -> Result<(), StoreError> {
        let Some(job) = step.view().job(id)?.filter(|job| !job.state.is_final()) else { return Ok(()) };
        let Some(winner) = self.late_winner(step, id)? else { return self.fetch_late(step, id) };
        let live = RunId { job: id, epoch: job.epoch };
        if self.running.contains_key(&live) {
            self.count("stopped_for_late_receipt");
            self.outputs.push(Output::Stop { run: live, reason: StopReason::Cancelled });
            return Ok(());
        }
        self.auctions.remove(&id);
        self.timers.clear(Timer::AuctionCloses(id));
        self.end_elsewhere(step, &job, "an earlier attempt succeeded after all")?;
        self.accept_late(step, job, &winner)
    }

    /// The first late receipt of a job whose outputs are all here.
    pub(crate) fn late_winner(&mut self, step: &Step<'_>, id: JobId) -> Result<Option<Winner>, StoreError> {
        let epochs = self.late.get(&id).cloned().unwrap_or_default();
        for epoch in epochs {
            let Some(attempt) = step.view().attempt(RunId { job: id, epoch })? else { continue };
            let Some((receipt_id, receipt)) = self.stored_receipt(step, &attempt)? else { continue };
            if self.missing(step, (attempt.node, &receipt))?.is_empty() {
                return Ok(Some(Winner { attempt, id: receipt_id, receipt }));
            }
        }
        Ok(None)
    }

    /// Asks for what is missing of the outputs of late receipts.
    fn fetch_late(&mut self, step: &Step<'_>, id: JobId) -> Result<(), StoreError> {
        let epochs = self.late.get(&id).cloned().unwrap_or_default();
        for run in epochs.into_iter().map(|epoch| RunId { job: id, epoch }) {
            let Some(attempt) = step.view().attempt(run)? else { continue };
            let Some((_, receipt)) = self.stored_receipt(step, &attempt)? else { continue };
            for wanted in self.missing(step, (attempt.node, &receipt))? {
                self.fetch(step, wanted, run);
            }
        }
        Ok(())
    }

    /// The run on this node that was stopped for a late receipt has ended, however it did.
    pub(crate) fn yield_to_late(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        end: &Conclusion<'_>,
        winner: &Winner,
    ) -> Result<(), StoreError> {
        let run = RunId { job: job.id, epoch: job.epoch };
        let filed = EndedAttempt { state: AttemptState::Superseded, ..end.filed() };
        step.txn.finish_attempt(run, &filed, step.wall())?;
        self.accept_late(step, job, winner)
    }

    fn accept_late(&mut self, step: &mut Step<'_>, mut job: Job, winner: &Winner) -> Result<(), StoreError> {
        let Winner { attempt, id, receipt } = winner;
        let run = RunId { job: job.id, epoch: attempt.epoch };
        self.forget_late(run);
        self.count("late_receipt");
        self.accept_receipt(step, &job, attempt, *id)?;
        let end = Conclusion::of_receipt(attempt, receipt);
        step.txn.finish_attempt(run, &end.filed(), step.wall())?;
        self.observe(step, &job, &end)?;
        let note = format!("attempt {} had succeeded after all", run.epoch);
        let shift = Shift::new(&job, Cause::Late).finish(FinishReason::Ok).on(attempt.node).because(Some(&note));
        self.shift(step, &mut job, &shift.after(end.ran(step.wall())))?;
        Ok(())
    }

    fn forget_late(&mut self, run: RunId) {
        self.timers.clear(Timer::LateOutputs(run));
        self.drop_fetches_of(run);
        if let Some(epochs) = self.late.get_mut(&run.job) {
            epochs.remove(&run.epoch);
            if epochs.is_empty() {
                self.late.remove(&run.job);
            }
        }
    }

    /// The outputs of a late receipt did not come, or its job has ended.
    pub(crate) fn give_up_late(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        self.forget_late(run);
        self.supersede_pending(step, run)
    }

    /// A job has ended: what came late for it is too late.
    pub(crate) fn give_up_all_late(&mut self, step: &Step<'_>, id: JobId) -> Result<(), StoreError> {
        let epochs = self.late.get(&id).cloned().unwrap_or_default();
        epochs.into_iter().try_for_each(|epoch| self.give_up_late(step, RunId { job: id, epoch }))
    }
}
