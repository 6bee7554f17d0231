//! Deleting what has been kept long enough, a few jobs at a time.

use jobmesh_protocol::{DurationMillis, JobState, UnixMillis};
use jobmesh_store::{Metric, StoreError};

use crate::command::Retention;
use crate::engine::Engine;
use crate::output::Response;
use crate::step::Step;
use crate::submit::{Answer, NAME_KEPT};

/// How long it is known how many jobs ended how in an hour: a year and a month, to compare with the year before.
const HOURS_KEPT: u64 = 395 * 24;
const HOUR_MS: u64 = 3_600_000;
/// Most jobs that one command deletes, whatever it asks for: a transaction of some ten milliseconds.
const PRUNE_MAX: u32 = 1000;

impl Engine {
    pub(crate) fn prune(&mut self, step: &Step<'_>, limit: u32, ended_before: Option<UnixMillis>) -> Answer {
        let mut left = limit.min(PRUNE_MAX);
        let mut pruned = 0;
        for state in [JobState::Completed, JobState::Cancelled, JobState::Skipped, JobState::Discarded] {
            let kept = kept(&self.config.declared.retention, state);
            let Some(before) = ended_before.or_else(|| kept.map(|kept| earlier(step.wall(), kept))) else { continue };
            pruned += self.prune_state(step, state, before, ended_before.is_some(), &mut left)?;
        }
        step.txn.drop_submission_names_before(earlier(step.wall(), NAME_KEPT))?;
        self.forget_rates(step)?;
        Ok(Ok(Response::Pruned(pruned)))
    }

    /// Writes down what was counted of the last hours, and forgets what is very old.
    #[expect(clippy::unused_self, reason = "commands are carried out by the engine")]
    pub(crate) fn write_metrics(&self, step: &Step<'_>, metrics: &[Metric]) -> Answer {
        for metric in metrics {
            step.txn.put_metric(metric)?;
        }
        step.txn.drop_metrics_before((step.wall().0 / HOUR_MS).saturating_sub(HOURS_KEPT))?;
        Ok(Ok(Response::Done))
    }

    /// Deletes jobs in a state that ended before a time. A task stays as long as its group does, and a job as long as
    /// it said.
    fn prune_state(
        &mut self,
        step: &Step<'_>,
        state: JobState,
        before: UnixMillis,
        is_by_hand: bool,
        left: &mut u32,
    ) -> Result<u32, StoreError> {
        let (mut pruned, mut after) = (0, None);
        while *left > 0 {
            let found = step.view().ended_before(state, before, after, *left)?;
            let Some(last) = found.last().copied() else { break };
            after = Some(last);
            for number in found {
                let Some(job) = step.view().job_by_number(number)? else { continue };
                let own = job.spec.keep_ms.zip(job.finished_at).map(|(keep, ended)| ended.plus(keep));
                let is_kept = !is_by_hand && own.is_some_and(|until| until > step.wall());
                let has_group = number.index().is_some() && step.view().state_of(number.group())?.is_some();
                if is_kept || has_group {
                    continue;
                }
                let deleted = self.delete(step, &job)?;
                pruned += deleted;
                *left = left.saturating_sub(deleted);
            }
        }
        Ok(pruned)
    }
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
