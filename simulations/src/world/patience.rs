//! How long origins wait for others: the promise that a defector costs a bounded time is looked at from outside, by when
//! a node last heard of whom.
//!
//! A daemon that was dead, or stood still, could not give anyone up; what it waited counts from when it went on, as its
//! own patience does.

use std::collections::BTreeMap;

use jobmesh_engine::{Input, Timing};
use jobmesh_protocol::{AttemptState, DurationMillis, MonoMillis, NodeId, RunId};
use jobmesh_store::{Attempt, Job};

use super::{Event, World};
use crate::invariants::{Violation, invariant_g6_a_defector_costs_a_bounded_time};
use crate::network::Seat;
use crate::node::{Condition, FETCH_LIMIT};

/// How often the world looks.
pub(super) const LOOK_EVERY: DurationMillis = DurationMillis::from_secs(10);
/// What the clocks of a node may be off in the longest of these times, and a step that waits for another.
const SLACK: DurationMillis = DurationMillis::from_secs(5);

/// Since when everyone waits.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When a daemon began, or went on.
    begun: BTreeMap<Seat, MonoMillis>,
    /// When a node last heard of another.
    heard: BTreeMap<(Seat, NodeId), MonoMillis>,
    /// When an open attempt was first seen, and first seen with its outputs on the way.
    seen: BTreeMap<(Seat, RunId), (MonoMillis, Option<MonoMillis>)>,
}

impl Patience {
    /// A daemon begins, or goes on.
    pub(super) fn begin(&mut self, seat: Seat, now: MonoMillis) {
        self.begun.insert(seat, now);
    }

    /// A node hears of another.
    pub(super) fn hear(&mut self, seat: Seat, now: MonoMillis, input: &Input) {
        if let Input::Frame { from, .. } = input {
            self.heard.insert((seat, *from), now);
        }
    }

    /// Holds what a node has waited for an attempt against what it may.
    fn check(&mut self, seat: Seat, now: MonoMillis, job: &Job, attempt: &Attempt) -> Result<(), Violation> {
        let run = RunId { job: job.id, epoch: attempt.epoch };
        let begun = self.begun.get(&seat).copied().unwrap_or_default();
        let seen = self.seen.entry((seat, run)).or_insert((now, None));
        if attempt.state == AttemptState::Uploading {
            let since = *seen.1.get_or_insert(now);
            let bound = FETCH_LIMIT.plus(SLACK);
            return invariant_g6_a_defector_costs_a_bounded_time(run, now.since(since.max(begun)), bound);
        }
        let timing = Timing::default();
        let patience = timing.lease.scale(102, 100).plus(timing.lease_grace).plus(SLACK);
        let heard = self.heard.get(&(seat, attempt.node)).copied().unwrap_or_default();
        invariant_g6_a_defector_costs_a_bounded_time(run, now.since(heard.max(begun).min(now)), patience)?;
        let Some(timeout) = job.spec.timeout_ms else { return Ok(()) };
        let bound = timeout.plus(job.spec.kill_grace_ms).plus(patience);
        invariant_g6_a_defector_costs_a_bounded_time(run, now.since(seen.0.max(begun)), bound)
    }
}

impl World {
    /// Looks how long everyone has waited for those that they awarded work to.
    pub(super) fn look_at_patience(&mut self) -> Result<(), Violation> {
        self.cause(LOOK_EVERY, Event::LookAtPatience);
        let now = self.now;
        for (seat, node) in self.nodes.iter_mut().enumerate() {
            if node.condition != Condition::Up || node.is_damaged {
                continue;
            }
            let txn = node.store()?.begin()?;
            for job in txn.view().live_jobs()?.into_iter().filter(|job| job.origin.is_none()) {
                let Some(attempt) = txn.view().attempt(RunId { job: job.id, epoch: job.epoch })? else { continue };
                if attempt.award.is_some() && !attempt.state.is_final() {
                    self.patience.check(Seat(seat), now, &job, &attempt)?;
                    self.oracle.meet("somebody waits for another node");
                }
            }
        }
        Ok(())
    }
}
