//! Jobs of which there may be only one: who holds the key, and what becomes of the second.
//!
//! The key is a column with a unique index, given to the job in the transaction that inserts it and taken from it in
//! the one that ends its right to it, so it can neither leak nor gap.

use std::sync::Arc;

use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Conflict, Span, Unique};
use jobmesh_protocol::{DurationMillis, Epoch, Hash, JobState, Submission};
use jobmesh_store::{Job, StoreError};

use crate::engine::Engine;
use crate::output::{Refusal, Taken};
use crate::step::Step;
use crate::transition::Shift;

/// What came of claiming a unique key.
pub(crate) enum Claimed {
    /// The submission becomes a job of its own, which holds this key.
    Free(Option<Hash>),
    /// Another job answers for it.
    By(Taken),
}

impl Engine {
    /// Whether a submission would be refused for its key.
    pub(crate) fn check_unique(
        &self,
        step: &Step<'_>,
        submission: &Submission,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let Some(unique) = submission.unique.as_ref().filter(|unique| unique.on_conflict == Conflict::Reject) else {
            return Ok(Ok(()));
        };
        let holder = self.holder(step, unique, submission)?;
        Ok(holder.map_or(Ok(()), |job| Err(Refusal::Duplicate(job.number))))
    }

    /// The job that keeps a submission out.
    fn holder(&self, step: &Step<'_>, unique: &Unique, submission: &Submission) -> Result<Option<Job>, StoreError> {
        let Some(job) = step.view().unique_holder(&unique.digest(&submission.spec))? else { return Ok(None) };
        let is_in_the_way = match job.plan.unique {
            Some(Span::Period(period)) => step.wall() < job.created_at.plus(period),
            Some(Span::Incomplete | Span::Retained) | None => true,
        };
        Ok(is_in_the_way.then_some(job))
    }

    /// Claims the key of a submission, or does to the job that has it what the submission says.
    pub(crate) fn claim_unique(&mut self, step: &mut Step<'_>, submission: &Submission) -> Result<Claimed, StoreError> {
        let Some(unique) = &submission.unique else { return Ok(Claimed::Free(None)) };
        let key = unique.digest(&submission.spec);
        let Some(holder) = self.holder(step, unique, submission)? else {
            // Whoever still has it has outlived its period.
            if let Some(late) = step.view().unique_holder(&key)? {
                step.txn.free_unique_key(late.number)?;
            }
            return Ok(Claimed::Free(Some(key)));
        };
        // A group has no attempts of its own.
        let has_started =
            holder.epoch > Epoch::default() || holder.state.is_final() || holder.state == JobState::Running;
        match unique.on_conflict {
            Conflict::Return | Conflict::Reject => Ok(Claimed::By(answer(&holder))),
            Conflict::Replace | Conflict::Merge if has_started => {
                // A job that runs is never changed: its key goes to the one that follows it.
                step.txn.free_unique_key(holder.number)?;
                Ok(Claimed::Free(Some(key)))
            }
            Conflict::Replace => {
                step.txn.free_unique_key(holder.number)?;
                self.replace(step, holder)?;
                Ok(Claimed::Free(Some(key)))
            }
            Conflict::Merge => self.merge(step, holder, submission).map(Claimed::By),
            Conflict::Debounce(wait) if !has_started => self.put_off(step, holder, wait).map(Claimed::By),
            Conflict::Debounce(_) => {
                step.txn.free_unique_key(holder.number)?;
                Ok(Claimed::Free(Some(key)))
            }
            Conflict::Throttle(pause) if step.wall() >= holder.created_at.plus(pause) && has_started => {
                step.txn.free_unique_key(holder.number)?;
                Ok(Claimed::Free(Some(key)))
            }
            Conflict::Throttle(_) => Ok(Claimed::By(answer(&holder))),
        }
    }

    /// A job that has not started makes room for a newer one.
    fn replace(&mut self, step: &Step<'_>, mut holder: Job) -> Result<(), StoreError> {
        let note = "a newer job of its unique key took its place";
        let shift = Shift::new(&holder, Cause::Skipped).finish(FinishReason::Replaced).because(Some(note));
        self.shift(step, &mut holder, &shift)?;
        Ok(())
    }

    /// A job that has not started also does what the newer one would have done: its arguments are added.
    fn merge(&mut self, step: &Step<'_>, mut holder: Job, submission: &Submission) -> Result<Taken, StoreError> {
        use jobmesh_protocol::job::Task;
        let mut spec = (*holder.spec).clone();
        if let (Task::Process(ours), Task::Process(theirs)) = (&mut spec.task, &submission.spec.task) {
            let same = ours.argv.iter().zip(&theirs.argv).take_while(|(a, b)| a == b).count();
            ours.argv.extend(theirs.argv.iter().skip(same.max(1)).cloned());
        }
        if spec.check().is_ok() {
            step.txn.set_spec(holder.number, &spec)?;
            if holder.state == JobState::Available {
                self.unready(&holder);
            }
            holder.spec = Arc::new(spec);
            self.follow(step, &holder);
        }
        Ok(answer(&holder))
    }

    /// A job that has not started waits anew.
    fn put_off(&mut self, step: &Step<'_>, mut holder: Job, wait: DurationMillis) -> Result<Taken, StoreError> {
        if holder.state == JobState::Pending {
            // It waits for other jobs, and must not start without them when its time has come.
            return Ok(answer(&holder));
        }
        let shift = Shift::new(&holder, Cause::Deferred).at(step.wall().plus(wait));
        self.shift(step, &mut holder, &shift)?;
        Ok(answer(&holder))
    }
}

const fn answer(job: &Job) -> Taken {
    Taken { job: job.id, number: job.number, is_new: false }
}
