//! What the end of an attempt, here or on a peer, makes of its job: the accounting of attempts, crashes and snoozes.

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::{AttemptState, DurationMillis, Outcome, RunId};
use jobmesh_store::{Job, StoreError};

use crate::cancel::cause_of;
use crate::engine::Engine;
use crate::run::Conclusion;
use crate::step::Step;
use crate::transition::Shift;

impl Engine {
    /// Ends an attempt of this node's own job and decides what comes next.
    pub(crate) fn conclude(
        &mut self,
        step: &mut Step<'_>,
        mut job: Job,
        run: RunId,
        end: &Conclusion<'_>,
    ) -> Result<(), StoreError> {
        if end.node == self.me
            && let Some(winner) = self.late_winner(step, job.id)?
        {
            return self.yield_to_late(step, job, end, &winner);
        }
        step.txn.finish_attempt(run, &end.filed(), step.wall())?;
        self.observe(step, &job, end)?;
        let note = note(end);
        let shift = self.verdict(step, &job, end).on(end.node).because(note.as_deref()).after(end.ran(step.wall()));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Where the end of an attempt leads.
    fn verdict(&self, step: &mut Step<'_>, job: &Job, end: &Conclusion<'_>) -> Shift<'static> {
        let shift = |cause| Shift::new(job, cause);
        let is_late = job.deadline.is_some_and(|deadline| deadline <= step.wall());
        match end.outcome {
            Outcome::Ok => shift(Cause::Succeeded).finish(FinishReason::Ok),
            _ if job.cancel_reason.is_some() => stopped(job),
            Outcome::SelfCancelled { .. } => shift(Cause::Cancelled).finish(FinishReason::Itself),
            Outcome::Error { .. } | Outcome::Cancelled | Outcome::Timeout if is_late => {
                spent(job, Cause::Exhausted, FinishReason::Deadline)
            }
            Outcome::Error { .. } | Outcome::Cancelled | Outcome::Timeout => failed(step, job, end),
            Outcome::Permanent { .. } => spent(job, Cause::Permanent, FinishReason::Permanent),
            Outcome::Snoozed { for_ms, .. } => snoozed(step, job, *for_ms),
            Outcome::Released { .. } => shift(Cause::Released),
            Outcome::Lost { .. } => lost(job),
        }
    }
}

/// The end of a job that was stopped: by a person, or by the system for a reason that was kept.
const fn stopped(job: &Job) -> Shift<'static> {
    match job.finish_reason {
        None => Shift::new(job, Cause::Cancelled).finish(FinishReason::User),
        Some(FinishReason::Deadline) => spent(job, Cause::Exhausted, FinishReason::Deadline),
        Some(reason) => Shift::new(job, cause_of(reason)).finish(reason),
    }
}

/// The end of a job whose attempt was spent.
const fn spent(job: &Job, cause: Cause, reason: FinishReason) -> Shift<'static> {
    let mut shift = Shift::new(job, cause).finish(reason);
    shift.failures = job.failures.saturating_add(1);
    shift
}

/// Another attempt after a wait, or the end if there is none left or none would help.
fn failed(step: &mut Step<'_>, job: &Job, end: &Conclusion<'_>) -> Shift<'static> {
    let (retry, failures) = (&job.spec.retry, job.failures.saturating_add(1));
    if !retry.may_follow(end.outcome, end.exit) {
        return spent(job, Cause::Permanent, FinishReason::Permanent);
    }
    if failures >= retry.max_attempts {
        let is_timeout = matches!(end.outcome, Outcome::Timeout);
        let reason = if is_timeout { FinishReason::Timeout } else { FinishReason::Exhausted };
        return spent(job, Cause::Exhausted, reason);
    }
    let asked = if let Outcome::Error { retry_after_ms: Some(asked), .. } = end.outcome { *asked } else { NO_WAIT };
    let wait = retry.backoff.wait(failures, step.rng.next_u64()).max(asked.min(jobmesh_protocol::retry::WAIT_MAX));
    let mut shift = Shift::new(job, Cause::Failed);
    shift.failures = failures;
    shift.run_at = Some(step.wall().plus(wait));
    shift
}

/// Later, as it asked, unless it has asked too often.
fn snoozed(step: &Step<'_>, job: &Job, wait: DurationMillis) -> Shift<'static> {
    let snoozes = job.snoozes.saturating_add(1);
    let mut shift = match job.spec.retry.max_snoozes {
        Some(limit) if snoozes > limit => Shift::new(job, Cause::Exhausted).finish(FinishReason::Snoozes),
        Some(_) | None => Shift::new(job, Cause::Snoozed),
    };
    shift.snoozes = snoozes;
    if shift.finish.is_none() {
        let wait = wait.clamp(SNOOZE_MIN, jobmesh_protocol::retry::WAIT_MAX);
        shift.run_at = Some(step.wall().plus(wait));
    }
    shift
}

/// Another attempt at once, unless the job may not run twice or vanishes too often.
fn lost(job: &Job) -> Shift<'static> {
    let crashes = job.crashes.saturating_add(1);
    let mut shift = match job.spec.effects {
        Effects::Once => Shift::new(job, Cause::Abandoned).finish(FinishReason::Lost),
        Effects::Pure | Effects::Idempotent if crashes > job.spec.retry.crash_limit => {
            Shift::new(job, Cause::Abandoned).finish(FinishReason::CrashLimit)
        }
        Effects::Pure | Effects::Idempotent => Shift::new(job, Cause::Lost),
    };
    shift.crashes = crashes;
    shift
}

/// Shortest wait of a job that asks for one: without it, one that asks for none would run again and again.
const SNOOZE_MIN: DurationMillis = DurationMillis::from_secs(1);
/// The wait of a failure that asked for none.
const NO_WAIT: DurationMillis = DurationMillis(0);

/// How an attempt with this outcome is filed.
pub(crate) const fn attempt_state(outcome: &Outcome) -> AttemptState {
    match outcome {
        Outcome::Ok => AttemptState::Succeeded,
        Outcome::Error { .. } | Outcome::Permanent { .. } => AttemptState::Failed,
        Outcome::Timeout => AttemptState::TimedOut,
        Outcome::Cancelled | Outcome::SelfCancelled { .. } => AttemptState::Cancelled,
        Outcome::Released { .. } | Outcome::Snoozed { .. } => AttemptState::Released,
        Outcome::Lost { .. } => AttemptState::Lost,
    }
}

/// What the event log says about the end of an attempt; nothing of one that went well and left nothing running.
fn note(end: &Conclusion<'_>) -> Option<String> {
    let is_good = matches!(end.outcome, Outcome::Ok);
    let message = (!is_good).then(|| end.outcome.message().unwrap_or(end.outcome.word()));
    let parts: Vec<&str> = message.into_iter().chain(end.notice).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}
