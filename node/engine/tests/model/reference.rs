//! What the world should look like: every job with its history, and the plain rules by which an end leads to the next
//! state. Written without a look at how the engine does it.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Ended;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::state::{Cause, FinishReason, TRANSITIONS};
use jobmesh_protocol::{JobId, JobNumber, JobState, Outcome, RunId};
use jobmesh_store::{Event, Job};

pub(crate) type Edge = (JobState, Cause, JobState);

/// What is remembered of a job.
#[derive(Clone, Debug)]
struct Known {
    last_event: u64,
    state: JobState,
    /// Failures, crashes and snoozes.
    counts: (u32, u32, u32),
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    jobs: BTreeMap<JobId, Known>,
    /// Groups, or single jobs, that a person wanted to be retried.
    pub(crate) retried: BTreeSet<JobNumber>,
    /// Every transition that was seen.
    pub(crate) taken: BTreeSet<Edge>,
}

impl Reference {
    /// The jobs that had not ended when they were last seen.
    pub(crate) fn live(&self) -> Vec<JobId> {
        self.jobs.iter().filter(|(_, known)| !known.state.is_final()).map(|(id, _)| *id).collect()
    }

    pub(crate) fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// Takes in what happened to a job since it was last seen, and finds it legal.
    pub(crate) fn witness(&mut self, job: &Job, events: &[Event], ends: &BTreeMap<RunId, Ended>) {
        let before = self.jobs.get(&job.id).cloned();
        let mut state = before.as_ref().map(|known| known.state);
        let mut counts = before.as_ref().map_or((0, 0, 0), |known| known.counts);
        let seen = before.map_or(0, |known| known.last_event);
        for event in events.iter().filter(|event| event.id > seen) {
            self.judge(job, state, event);
            if let Some(ended) = ends.get(&RunId { job: job.id, epoch: event.epoch }).filter(|_| is_end(event.cause)) {
                counts = verdict(job, counts, event, ended);
            }
            if event.cause == Cause::Retried && !job.plan.is_group {
                counts = (0, 0, 0);
            }
            state = Some(event.state);
        }
        assert_eq!(Some(job.state), state, "job {}: the row and the last event disagree", job.number);
        assert_eq!(events.last().unwrap().epoch, job.epoch, "job {}", job.number);
        let written = (job.failures, job.crashes, job.snoozes);
        assert_eq!(written, counts, "job {}: failures, crashes, snoozes; {events:?}", job.number);
        let known = Known { last_event: events.last().unwrap().id, state: job.state, counts };
        self.jobs.insert(job.id, known);
    }

    /// One event, after a state.
    fn judge(&mut self, job: &Job, before: Option<JobState>, event: &Event) {
        let Some(from) = before.or_else(|| (event.cause == Cause::Admitted).then_some(JobState::Available)) else {
            let is_first = matches!(event.state, JobState::Pending | JobState::Scheduled | JobState::Available);
            assert!(is_first, "job {} began as {}", job.number, event.state);
            return;
        };
        let edge = (from, event.cause, event.state);
        assert!(TRANSITIONS.contains(&edge), "job {} took {edge:?}", job.number);
        if event.cause == Cause::Retried {
            assert!(self.retried.contains(&job.number.group()), "nobody asked to retry job {}", job.number);
        }
        self.taken.insert(edge);
    }
}

/// Whether a cause is the end of an attempt on this node.
fn is_end(cause: Cause) -> bool {
    use Cause::{Abandoned, Cancelled, Exhausted, Failed, Lost, Permanent, Released, Snoozed, Succeeded};
    matches!(cause, Succeeded | Failed | Exhausted | Permanent | Released | Lost | Abandoned | Snoozed | Cancelled)
}

/// Checks where the end of an attempt led, and counts it.
fn verdict(job: &Job, counts: (u32, u32, u32), event: &Event, ended: &Ended) -> (u32, u32, u32) {
    let (failures, crashes, snoozes) = counts;
    let retry = &job.spec.retry;
    let is_last = failures + 1 >= retry.max_attempts;
    let is_last_crash = job.spec.effects == Effects::Once || crashes + 1 > retry.crash_limit;
    let is_last_snooze = retry.max_snoozes.is_some_and(|limit| snoozes + 1 > limit);
    let (expected, counted) = match ended.outcome {
        Outcome::Ok => (Cause::Succeeded, counts),
        Outcome::Error { .. } | Outcome::Timeout | Outcome::Cancelled => {
            let cause = if is_last { Cause::Exhausted } else { Cause::Failed };
            (cause, (failures + 1, crashes, snoozes))
        }
        Outcome::Permanent { .. } => (Cause::Permanent, (failures + 1, crashes, snoozes)),
        Outcome::Snoozed { .. } => {
            let cause = if is_last_snooze { Cause::Exhausted } else { Cause::Snoozed };
            (cause, (failures, crashes, snoozes + 1))
        }
        Outcome::SelfCancelled { .. } => (Cause::Cancelled, counts),
        Outcome::Released { .. } => (Cause::Released, counts),
        Outcome::Lost { .. } => {
            let cause = if is_last_crash { Cause::Abandoned } else { Cause::Lost };
            (cause, (failures, crashes + 1, snoozes))
        }
    };
    if event.cause == Cause::Cancelled && event.cause != expected {
        // Somebody had asked for it, or asked for it while the job waited for its next attempt.
        return counts;
    }
    let is_late = job.deadline.is_some_and(|deadline| deadline <= event.at);
    let expected = if is_late && expected == Cause::Failed { Cause::Exhausted } else { expected };
    let is_stopped = event.cause == Cause::Exhausted && job.finish_reason == Some(FinishReason::Deadline);
    if is_stopped && event.cause != expected {
        // Its group was not over in time.
        return (failures + 1, crashes, snoozes);
    }
    assert_eq!(event.cause, expected, "job {}: {:?} after {counts:?}", job.number, ended.outcome);
    counted
}
