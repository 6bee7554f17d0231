//! How long origins wait for others: the promise that a defector costs a bounded time is looked at from outside, by when
//! a node last heard of whom.
//!
//! A daemon that was dead, or stood still, could not give anyone up; what it waited counts from when it went on, as its
//! own patience does.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Input, Timing};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::{AttemptState, DurationMillis, JobId, MonoMillis, NodeId, RunId};
use jobmesh_store::{Attempt, Job};

use super::{Event, World};
use crate::invariants::{
    Violation, invariant_g6_a_defector_costs_a_bounded_time, invariant_nobody_is_given_up_early,
    invariant_once_jobs_end_with_their_lease, invariant_what_a_member_leaves_is_bounded,
};
use crate::network::Seat;
use crate::node::{Condition, FETCH_LIMIT, Node};
use crate::traitor::Traitor;

/// How often the world looks.
pub(super) const LOOK_EVERY: DurationMillis = DurationMillis::from_secs(10);
/// What the clocks of a node may be off in the longest of these times, and a step that waits for another.
const SLACK: DurationMillis = DurationMillis::from_secs(5);

/// How the engine's word for an executor that was not heard of ends.
const GIVEN_UP: &str = "was not heard of until its lease ended";
/// Most receipts for no job that are kept of one member.
const UNKNOWN_LINKS_MAX: u64 = 256;

/// Since when everyone waits.
#[derive(Debug, Default)]
pub(super) struct Patience {
    /// When a daemon began, or went on.
    begun: BTreeMap<Seat, MonoMillis>,
    /// When a node last heard of another.
    heard: BTreeMap<(Seat, NodeId), MonoMillis>,
    /// When an open attempt was first seen, and first seen with its outputs on the way.
    seen: BTreeMap<(Seat, RunId), (MonoMillis, Option<MonoMillis>)>,
    /// When a job was offered the last time.
    offered: BTreeMap<(Seat, JobId), MonoMillis>,
    /// When an attempt that was awarded had been offered, and whether it had been.
    awarded: BTreeMap<(Seat, RunId), (MonoMillis, bool)>,
    /// The attempts that are known to be lost.
    lost: BTreeSet<(Seat, RunId)>,
    /// When a run of another node's job that must not run twice was first seen.
    runs: BTreeMap<(Seat, RunId), MonoMillis>,
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

    /// Whether this is heard of for the first time.
    pub(super) fn is_new_loss(&mut self, seat: Seat, attempt: &Attempt) -> bool {
        self.lost.insert((seat, RunId { job: attempt.job, epoch: attempt.epoch }))
    }

    /// A node awards an attempt. One that was set back may have used this epoch before.
    pub(super) fn award(&mut self, seat: Seat, now: MonoMillis, run: RunId) {
        self.seen.remove(&(seat, run));
        self.lost.remove(&(seat, run));
        // The lease counts from the bid; a node that stands still between the two awards long after it.
        let offered = self.offered.remove(&(seat, run.job));
        self.awarded.insert((seat, run), (offered.unwrap_or(now), offered.is_some()));
    }

    /// A node offers a job.
    pub(super) fn offer(&mut self, seat: Seat, now: MonoMillis, job: JobId) {
        self.offered.insert((seat, job), now);
    }

    /// An offer came to nothing.
    pub(super) fn withdraw(&mut self, seat: Seat, job: JobId) {
        self.offered.remove(&(seat, job));
    }

    /// Holds what a node has waited before it called an attempt lost against what it must.
    pub(super) fn check_lost(&self, seat: Seat, now: MonoMillis, attempt: &Attempt) -> Result<(), Violation> {
        let run = RunId { job: attempt.job, epoch: attempt.epoch };
        let is_given_up = attempt.message.as_deref().is_some_and(|message| message.ends_with(GIVEN_UP));
        let Some((since, was_offered)) = self.awarded.get(&(seat, run)).filter(|_| is_given_up) else { return Ok(()) };
        let timing = Timing::default();
        // What is given under a slot lease counts from a heartbeat that is half a lease old at most.
        let lease = if *was_offered { timing.lease } else { timing.lease.scale(1, 2) };
        // Clocks differ by a hundredth.
        let least = lease.plus(timing.lease_grace).scale(95, 100);
        invariant_nobody_is_given_up_early(run, now.since(*since), least)
    }

    /// Holds how long a run of another node's job goes on against what its lease allows.
    fn check_once(&mut self, seat: Seat, now: MonoMillis, run: RunId, origin: NodeId) -> Result<(), Violation> {
        let first = *self.runs.entry((seat, run)).or_insert(now);
        let begun = self.begun.get(&seat).copied().unwrap_or_default();
        let heard = self.heard.get(&(seat, origin)).copied().unwrap_or_default();
        let bound = Timing::default().lease.scale(102, 100).plus(SLACK);
        invariant_once_jobs_end_with_their_lease(run, now.since(heard.max(begun).max(first)), bound)
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
            for member in self.traitor.iter().flat_map(Traitor::members) {
                invariant_what_a_member_leaves_is_bounded(txn.view().unknown_links(member)?, UNKNOWN_LINKS_MAX)?;
            }
        }
        self.look_at_once_jobs()
    }

    fn look_at_once_jobs(&mut self) -> Result<(), Violation> {
        let now = self.now;
        let is_up = |node: &Node| node.condition == Condition::Up && !node.is_damaged;
        let mut foreign = Vec::new();
        for (seat, node) in self.nodes.iter().enumerate().filter(|(_, node)| is_up(node)) {
            for (run, process) in node.processes.iter().filter(|(_, process)| process.contract.origin != Seat(seat)) {
                foreign.push((Seat(seat), *run, *process));
            }
        }
        for (seat, run, process) in foreign {
            let work = self.plan.works.get(&process.behaviour.index);
            let origin = self.nodes.get(process.contract.origin.0).map(|node| node.id);
            if let Some(origin) = origin.filter(|_| work.is_some_and(|work| work.effects == Effects::Once)) {
                self.oracle.meet("a once job runs for another node");
                self.patience.check_once(seat, now, run, origin)?;
            }
        }
        Ok(())
    }

    /// Holds the attempts that were just called lost against what their origin has waited.
    pub(super) fn look_at_lost(&mut self, seat: Seat, jobs: &BTreeSet<JobId>) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| !node.is_damaged) else { return Ok(()) };
        let txn = node.store()?.begin()?;
        for job in jobs {
            for attempt in txn.view().attempts(*job)? {
                if attempt.state == AttemptState::Lost && self.patience.is_new_loss(seat, &attempt) {
                    self.patience.check_lost(seat, now, &attempt)?;
                }
            }
        }
        Ok(())
    }
}
