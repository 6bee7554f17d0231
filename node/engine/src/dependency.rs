//! Jobs that wait for others: when they are released, and what becomes of them when they never can be.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::{Condition, Conflict, Rule};
use jobmesh_protocol::{Hash, JobNumber, JobState, Submission};
use jobmesh_store::{Edge, Job, StoreError};

use crate::engine::Engine;
use crate::mutant::Mutant;
use crate::step::Step;
use crate::transition::Shift;

/// What was found on the way through the submissions of one request, none of which is written yet.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// The jobs that wait for the end of a group.
    waiting: BTreeMap<JobNumber, BTreeSet<JobNumber>>,
    /// What those with a unique key would wait for.
    pub(crate) by_key: BTreeMap<Hash, BTreeSet<JobNumber>>,
}

/// Whether an upstream job in this state is what the edge asks for.
pub(crate) fn is_met(edge: &Edge, rule: Rule, state: JobState) -> bool {
    let is_completed = state == JobState::Completed;
    match (edge.condition, rule) {
        (Some(Condition::Ok), _) | (None, Rule::AllSuccess | Rule::AnySuccess) => is_completed,
        (Some(Condition::Done), _) | (None, Rule::AllDone) => state.is_final(),
        (Some(Condition::Failed), _) => state.is_final() && !is_completed,
        (None, Rule::NoneFailed) => matches!(state, JobState::Completed | JobState::Skipped),
        (None, Rule::Always) => true,
    }
}

/// Whether an edge is one of those of which one must be met if any may succeed. `42:ok` says what the rule says of 42.
const fn is_one_of_any(edge: &Edge) -> bool {
    matches!(edge.condition, None | Some(Condition::Ok))
}

/// How many edges must still be met before a job may go on.
pub(crate) fn waits<'a>(rule: Rule, edges: impl Iterator<Item = &'a Edge> + Clone) -> u32 {
    let count = |edges: &mut dyn Iterator<Item = &'a Edge>| u32::try_from(edges.count()).unwrap_or(u32::MAX);
    match rule {
        Rule::AllSuccess | Rule::AllDone | Rule::NoneFailed | Rule::Always => {
            count(&mut edges.filter(|edge| !edge.is_met))
        }
        Rule::AnySuccess => {
            let own = count(&mut edges.clone().filter(|edge| !is_one_of_any(edge) && !edge.is_met));
            let mut any = edges.filter(|edge| is_one_of_any(edge)).peekable();
            let is_open = any.peek().is_some() && !any.any(|edge| edge.is_met);
            own.saturating_add(u32::from(is_open))
        }
    }
}

/// Whether these upstream states can never be what a job waits for. An upstream job that is not kept any more (`None`) had
/// ended: if it ended as it was asked to, the edge is met.
fn can_never(rule: Rule, edges: &[(Edge, Option<JobState>)]) -> bool {
    let is_lost = |(edge, state): &&(Edge, Option<JobState>)| {
        !edge.is_met && state.is_none_or(|state| state.is_final() && !is_met(edge, rule, state))
    };
    match rule {
        Rule::AllSuccess | Rule::AllDone | Rule::NoneFailed | Rule::Always => edges.iter().any(|edge| is_lost(&edge)),
        Rule::AnySuccess => {
            let own_lost = edges.iter().any(|edge| !is_one_of_any(&edge.0) && is_lost(&edge));
            let mut any = edges.iter().filter(|edge| is_one_of_any(&edge.0)).peekable();
            own_lost || (any.peek().is_some() && any.all(|edge| is_lost(&edge)))
        }
    }
}

impl Engine {
    /// Whether a new job waits for what can't come any more.
    pub(crate) fn is_doomed(&self, job: &Job, edges: &[(Edge, Option<JobState>)]) -> bool {
        can_never(job.plan.rule, edges)
    }

    /// Whether a task of an open group would wait for that group, if only through others: neither could ever end.
    pub(crate) fn waits_for_group(
        &self,
        step: &Step<'_>,
        task: &Submission,
        group: JobNumber,
        request: &mut Looked,
    ) -> Result<bool, StoreError> {
        let upstream = self.upstream(step, task, request)?;
        if upstream.is_empty() {
            return Ok(false);
        }
        let waiting = match request.waiting.entry(group) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(step.view().all_waiting_for(group)?),
        };
        Ok(upstream.iter().any(|number| waiting.contains(number)))
    }

    /// What a submission would wait for, because it says so or because of its unique key.
    pub(crate) fn upstream(
        &self,
        step: &Step<'_>,
        submission: &Submission,
        request: &Looked,
    ) -> Result<BTreeSet<JobNumber>, StoreError> {
        let mut upstream = BTreeSet::new();
        let of_key = self.key_upstream(step, submission)?;
        for job in submission.after.iter().map(|dependency| dependency.job).chain(of_key) {
            upstream.extend(step.view().job_number(job)?);
        }
        if let Some(unique) = submission.unique.as_ref().filter(|unique| unique.on_conflict == Conflict::Merge) {
            // One that can't be merged into an earlier one of the request will wait for it.
            upstream.extend(request.by_key.get(&unique.digest(&submission.spec)).into_iter().flatten());
        }
        Ok(upstream)
    }

    /// Releases or drops what waited for jobs that ended in this transaction. Dropped ones have dependants of their
    /// own, so this goes on until there are none: a chain of any length costs no stack.
    pub(crate) fn release_dependants(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        while let Some((upstream, state)) = self.ended_upstream.pop() {
            let mut is_awaited = false;
            for edge in step.view().dependants(upstream)? {
                is_awaited |= self.on_upstream_ended(step, edge, state)?;
            }
            if !is_awaited {
                self.awaited.remove(&upstream);
            }
        }
        Ok(())
    }

    /// Returns whether the job still has a use for news of this upstream job.
    fn on_upstream_ended(&mut self, step: &Step<'_>, edge: Edge, state: JobState) -> Result<bool, StoreError> {
        let Some(mut job) = step.view().job_by_number(edge.job)? else { return Ok(false) };
        if is_met(&edge, job.plan.rule, state) && !edge.is_met {
            step.txn.set_met(&edge, true)?;
        }
        if job.state != JobState::Pending {
            return Ok(true);
        }
        let edges = step.view().dependencies(job.number)?;
        job.waits = waits(job.plan.rule, edges.iter().map(|(edge, _)| edge));
        job.waits = job.waits.saturating_sub(u32::from(self.config.plays(Mutant::JoinCountsTwice)));
        step.txn.set_waits(job.number, job.waits)?;
        if job.waits == 0 {
            self.release_pending(step, &mut job)?;
        } else if can_never(job.plan.rule, &edges) {
            self.skip_for_upstream(step, job)?;
        }
        Ok(true)
    }

    /// A job waits for no other any more: for its time, maybe. A wait from its submission on is never longer than it was
    /// then, whatever became of the wall clock since.
    pub(crate) fn release_pending(&mut self, step: &Step<'_>, job: &mut Job) -> Result<(), StoreError> {
        let shift = match job.run_at.filter(|at| *at > step.wall()) {
            Some(at) if job.plan.is_dated => Shift::new(job, Cause::Deferred).at(at),
            Some(at) => {
                let left = at.since(step.wall()).min(at.since(job.created_at));
                Shift::new(job, Cause::Deferred).at(step.wall().plus(left))
            }
            None => Shift::new(job, Cause::Ready),
        };
        self.shift(step, job, &shift)?;
        Ok(())
    }

    pub(crate) fn skip_for_upstream(&mut self, step: &Step<'_>, mut job: Job) -> Result<(), StoreError> {
        let note = "a job that it waits for did not end as it should";
        let shift = Shift::new(&job, Cause::Skipped).finish(FinishReason::UpstreamFailed).because(Some(note));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// A job that had ended is tried again: what was dropped because of it waits for it again.
    pub(crate) fn revive_dependants(&mut self, step: &Step<'_>, upstream: JobNumber) -> Result<(), StoreError> {
        let mut revived = vec![upstream];
        while let Some(upstream) = revived.pop() {
            for edge in step.view().dependants(upstream)? {
                self.awaited.insert(upstream);
                let Some(mut job) = step.view().job_by_number(edge.job)? else { continue };
                let is_dropped =
                    (job.state, job.finish_reason) == (JobState::Skipped, Some(FinishReason::UpstreamFailed));
                if !is_dropped && job.state != JobState::Pending {
                    continue;
                }
                // Another job of its unique key took its place meanwhile.
                if is_dropped && self.key_in_the_way(step, &job)?.is_some() {
                    continue;
                }
                if edge.is_met {
                    step.txn.set_met(&edge, false)?;
                }
                let edges = step.view().dependencies(job.number)?;
                job.waits = waits(job.plan.rule, edges.iter().map(|(edge, _)| edge)).max(1);
                step.txn.set_waits(job.number, job.waits)?;
                if is_dropped {
                    let shift = Shift::new(&job, Cause::Revived);
                    // What waits for this one in turn is found by the loop, not by the shift.
                    if self.shift(step, &mut job, &shift)? {
                        revived.push(job.number);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(rule: Rule, states: &[(Option<Condition>, JobState)]) -> Vec<(Edge, Option<JobState>)> {
        let upstream = JobNumber::new(1);
        let edge = |(condition, state): &(Option<Condition>, JobState)| {
            let mut edge =
                Edge { upstream, job: JobNumber::new(2), condition: *condition, is_met: false, is_of_key: false };
            edge.is_met = is_met(&edge, rule, *state);
            (edge, Some(*state))
        };
        states.iter().map(edge).collect()
    }

    /// Waits for so many, and whether it never can go on.
    fn verdict(rule: Rule, states: &[(Option<Condition>, JobState)]) -> (u32, bool) {
        let edges = edges(rule, states);
        (waits(rule, edges.iter().map(|(edge, _)| edge)), can_never(rule, &edges))
    }

    #[test]
    fn every_rule_knows_when_to_go_on_and_when_to_give_up() {
        use JobState::{Completed as C, Discarded as D, Running as R, Skipped as S};
        let all = |states: [JobState; 2]| states.map(|state| (None, state));
        for (rule, states, expected) in [
            (Rule::AllSuccess, all([C, R]), (1, false)),
            (Rule::AllSuccess, all([C, C]), (0, false)),
            (Rule::AllSuccess, all([C, S]), (1, true)),
            (Rule::AllDone, all([D, R]), (1, false)),
            (Rule::AllDone, all([D, S]), (0, false)),
            (Rule::AnySuccess, all([C, R]), (0, false)),
            (Rule::AnySuccess, all([D, R]), (1, false)),
            (Rule::AnySuccess, all([D, S]), (1, true)),
            (Rule::NoneFailed, all([C, S]), (0, false)),
            (Rule::NoneFailed, all([S, D]), (1, true)),
            (Rule::Always, all([R, R]), (0, false)),
        ] {
            assert_eq!(verdict(rule, &states), expected, "{rule} {states:?}");
        }
    }

    #[test]
    fn a_condition_of_its_own_goes_before_the_rule() {
        use JobState::{Completed as C, Discarded as D};
        assert_eq!(verdict(Rule::AllSuccess, &[(Some(Condition::Failed), D), (None, C)]), (0, false));
        assert_eq!(verdict(Rule::AllSuccess, &[(Some(Condition::Failed), C)]), (1, true));
        assert_eq!(verdict(Rule::AnySuccess, &[(Some(Condition::Done), D), (None, C)]), (0, false));
        assert_eq!(verdict(Rule::AnySuccess, &[(Some(Condition::Failed), C), (None, C)]), (1, true));
    }

    /// Both had to be completed, though `any_success` stood beside them.
    #[test]
    fn to_ask_for_success_is_what_any_success_asks_for_anyway() {
        use JobState::{Completed as C, Discarded as D, Running as R};
        let ok = Some(Condition::Ok);
        for (one, other) in [(ok, ok), (ok, None), (None, None)] {
            for (states, expected) in [([C, R], (0, false)), ([D, R], (1, false)), ([D, D], (1, true))] {
                assert_eq!(verdict(Rule::AnySuccess, &[(one, states[0]), (other, states[1])]), expected);
            }
        }
    }
}
