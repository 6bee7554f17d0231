//! Slot leases, the origin's side: one auction, many jobs.
//!
//! When more jobs of a class wait than the one that is awarded, the award opens a slot lease: for up to 20 minutes further
//! jobs of the class go straight to that executor, as many at once as it has slots for by its own word, and their results
//! free the slots for the next. A slot lease replaces the auction and nothing else: each job has its own epoch, award,
//! lease and receipt, and whoever restarts forgets its slot leases and goes on with auctions. So they are in memory only.
//!
//! The hard case is when the lease of such a job begins. Nobody bid for it, so it counts from the last heartbeat that came
//! from the executor: the award names it, the executor counts from when it sent it, the origin from when it came, and the
//! executor stops first as ever. A slot lease whose last heartbeat is old is not used until the next one comes.
//!
//! Another is that a job must not wait for a busy slot while another peer would run it at once: what finds no slot is
//! auctioned as before, though only few jobs of a class at a time, since each award opens slots for more.

mod host;

use std::collections::BTreeSet;

use jobmesh_keys::SealKey;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::resource::Requests;
use jobmesh_protocol::ticket::{AHEAD_MAX, Bid, ReleaseCause, SLOT_LEASE_MAX, SLOTS_MAX, SlotTerms};
use jobmesh_protocol::{BidId, DurationMillis, JobId, JobSpec, MonoMillis, NodeId, Requirement};
use jobmesh_store::{Job, StoreError};

use crate::auction::{Giving, needs};
use crate::engine::Engine;
use crate::step::Step;
use crate::timers::Timer;

pub(crate) use host::Hosted;

/// Slot leases that this node has at once: one for each class and peer in a mesh of some size.
const SLOT_LEASES_MAX: usize = 256;
/// One that no job is under ends after this.
const IDLE_MAX: DurationMillis = DurationMillis::from_secs(5);
/// An executor whose slots are taken is asked in an auction no more often than this: it may have got room beside them.
const ASK_FULL_EVERY: DurationMillis = DurationMillis::from_secs(5);
/// A job that took no longer than this was brief: others of its class may wait behind such ones.
const BRIEF: DurationMillis = DurationMillis(20);
/// Waiting jobs of a lot that are counted for an offer.
const WAITING_COUNTED: usize = 256;

/// What decides who can run a job. Jobs of one class can take each other's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) resources: Requests,
    pub(crate) effects: Effects,
}

impl Class {
    pub(crate) fn of(spec: &JobSpec) -> Self {
        Self { requirements: needs(spec), resources: spec.resources.clone(), effects: spec.effects }
    }
}

/// A slot lease that this node has from an executor.
#[derive(Clone, Debug)]
pub(crate) struct SlotLease {
    node: NodeId,
    class: Class,
    key: SealKey,
    /// Jobs that it runs at once, by its own word.
    slots: usize,
    /// Jobs that it takes on beyond those, by its own word, if they are brief.
    ahead: usize,
    until: MonoMillis,
    /// The last heartbeat that came from it, and when: the bid at first.
    beat: (u64, MonoMillis),
    /// The jobs that are under it now.
    open: BTreeSet<JobId>,
    /// How many jobs under it were brief, one after the other.
    brief: usize,
    /// Not asked in an auction before this while its slots are taken: what was given just now may not have come yet.
    ask_after: MonoMillis,
}

impl SlotLease {
    /// How many jobs like this may be under it at once. What must not run twice never waits behind another: if it were
    /// given back, nobody would know whether it had begun. And what needs an input could not begin at once.
    fn room(&self, spec: &JobSpec) -> usize {
        let may_wait = spec.effects != Effects::Once && spec.blobs().next().is_none();
        self.slots + if may_wait { self.ahead.min(self.brief) } else { 0 }
    }

    fn is_full(&self) -> bool {
        self.open.len() >= self.slots
    }
}

impl Engine {
    /// How many more jobs like this wait here, as far as they are counted.
    pub(crate) fn waiting_beside(&self, job: &Job) -> u32 {
        let Some(lot) = self.ready.lot_of(&self.profile(job)) else { return 0 };
        let left = |number| self.groups.get(&number).map_or(1, |group| group.row.of.saturating_sub(group.row.made));
        let members = self.ready.members(lot).take(WAITING_COUNTED).filter(|number| *number != job.number);
        members.fold(0, |sum: u32, number| sum.saturating_add(left(number)))
    }

    /// What the award to a bidder says of a slot lease: it opens one if more jobs of the class wait.
    pub(crate) fn slot_terms(&self, job: &Job, bid: &Bid) -> SlotTerms {
        let is_wanted = self.waiting_beside(job) > 0 && bid.slots > 0 && self.slot_leases.len() < SLOT_LEASES_MAX;
        if is_wanted { SlotTerms::Open } else { SlotTerms::None }
    }

    /// Opens a slot lease with the bid that was awarded.
    pub(crate) fn open_slot_lease(&mut self, job: &Job, (giving, bid): (&Giving, &Bid)) {
        let slots = usize::try_from(bid.slots.clamp(1, SLOTS_MAX)).unwrap_or(1);
        let ahead = usize::try_from(bid.ahead.min(AHEAD_MAX)).unwrap_or(0);
        let until = giving.since.plus(SLOT_LEASE_MAX);
        let lease = SlotLease {
            node: giving.node,
            class: Class::of(&job.spec),
            key: giving.key,
            slots,
            ahead,
            until,
            beat: (0, giving.since),
            open: BTreeSet::from([job.id]),
            brief: 0,
            ask_after: giving.since.plus(ASK_FULL_EVERY),
        };
        self.count("slot_lease");
        self.slot_leases.insert(giving.bid, lease);
        self.timers.set(Timer::SlotsEnd(giving.bid), until);
    }

    /// Whether jobs of a class could leave now: under a slot lease or by another auction.
    pub(crate) fn has_way_out(&self, spec: &JobSpec) -> bool {
        let class = Class::of(spec);
        let has_room = |lease: &SlotLease| {
            lease.class == class && lease.open.len() < lease.room(spec) && self.is_entrusted(lease.node, spec)
        };
        self.may_auction(&class) || self.slot_leases.values().any(has_room)
    }

    /// Whether a job of a class that was never given to anyone could go under a slot lease now.
    pub(crate) fn has_slot(&self, step: &Step<'_>, spec: &JobSpec) -> bool {
        self.slot_lease_for(step, None, spec).is_some()
    }

    /// How many slot leases there are for a class.
    pub(crate) fn slot_leases_of(&self, class: &Class) -> usize {
        self.slot_leases.values().filter(|lease| lease.class == *class).count()
    }

    /// The slot lease under which a job can go now: the one with the most room.
    fn slot_lease_for(&self, step: &Step<'_>, job: Option<JobId>, spec: &JobSpec) -> Option<BidId> {
        let (now, class) = (step.now.mono, Class::of(spec));
        let is_excluded = |node| job.is_some_and(|job| self.is_excluded(step, job, node));
        let is_fresh = |lease: &SlotLease| now.since(lease.beat.1) <= self.config.timing.lease.scale(1, 2);
        let is_able = |node: &NodeId| {
            let record = self.peers.get(node).and_then(|peer| peer.record.as_ref());
            self.is_met(*node) && record.is_some_and(|record| record.meets(&class.requirements, &class.resources))
        };
        let fits = |lease: &SlotLease| {
            let has_room = lease.class == class && lease.open.len() < lease.room(spec) && now < lease.until;
            let is_welcome = self.is_entrusted(lease.node, spec) && !is_excluded(lease.node);
            has_room && is_fresh(lease) && is_able(&lease.node) && is_welcome
        };
        let fitting = self.slot_leases.iter().filter(|(_, lease)| fits(lease));
        let best = fitting.max_by_key(|(_, lease)| lease.slots.saturating_sub(lease.open.len()));
        best.map(|(id, _)| *id)
    }

    /// Gives a waiting job to an executor under a slot lease, if there is one that has room for it.
    pub(crate) fn give_under_lease(&mut self, step: &mut Step<'_>, job: &Job) -> Result<bool, StoreError> {
        let Some(id) = self.slot_lease_for(step, Some(job.id), &job.spec) else { return Ok(false) };
        let Some(lease) = self.slot_leases.get(&id) else { return Ok(false) };
        let (beat, since) = lease.beat;
        let (node, key, slots) = (lease.node, lease.key, SlotTerms::Under);
        if !self.give(step, job.clone(), &Giving { node, bid: id, key, salt: None, beat, slots, since })? {
            return Ok(false);
        }
        self.count("given_under_slot_lease");
        if let Some(lease) = self.slot_leases.get_mut(&id) {
            lease.open.insert(job.id);
            lease.ask_after = step.now.mono.plus(ASK_FULL_EVERY);
            self.timers.set(Timer::SlotsEnd(id), lease.until);
        }
        Ok(true)
    }

    /// A job under a slot lease has ended, somehow: its slot is for the next one.
    pub(crate) fn free_slot(&mut self, now: MonoMillis, job: JobId, lease: BidId) {
        self.stirred = true;
        let Some(found) = self.slot_leases.get_mut(&lease) else { return };
        found.open.remove(&job);
        if found.open.is_empty() {
            self.timers.set(Timer::SlotsEnd(lease), found.until.min(now.plus(IDLE_MAX)));
        }
    }

    /// Learns from a receipt whether jobs under a slot lease are brief.
    pub(crate) fn learn_brevity(&mut self, lease: BidId, receipt: &Receipt) {
        if let Some(lease) = self.slot_leases.get_mut(&lease) {
            let is_brief = receipt.finished_at.since(receipt.started_at) <= BRIEF;
            lease.brief = if is_brief { lease.brief.saturating_add(1) } else { 0 };
        }
    }

    /// An executor gave back a job under a slot lease, which may be more than it said it could take.
    pub(crate) fn on_slot_released(&mut self, lease: BidId, cause: ReleaseCause) {
        let Some(found) = self.slot_leases.get_mut(&lease) else { return };
        match cause {
            // It had waited for a slot, and those that it waited for are not brief after all.
            ReleaseCause::Busy if found.is_full() => found.brief = 0,
            ReleaseCause::NoInput | ReleaseCause::Known => {}
            ReleaseCause::Busy
            | ReleaseCause::Unwanted
            | ReleaseCause::Draining
            | ReleaseCause::Crashed
            | ReleaseCause::Unknown => self.end_slot_lease(lease),
        }
    }

    fn end_slot_lease(&mut self, lease: BidId) {
        self.timers.clear(Timer::SlotsEnd(lease));
        self.slot_leases.remove(&lease);
        self.stirred = true;
    }

    /// Nothing was given under a slot lease for a while, or it has had its time. What is under it goes on.
    pub(crate) fn on_slots_idle(&mut self, step: &Step<'_>, lease: BidId) {
        let Some(found) = self.slot_leases.get(&lease) else { return };
        if found.open.is_empty() || found.until <= step.now.mono {
            self.end_slot_lease(lease);
        }
    }

    /// The leases of what is given to an executor from here on count from this heartbeat.
    pub(crate) fn on_beat(&mut self, step: &Step<'_>, from: NodeId, number: u64) {
        let mut has_moved = false;
        for lease in self.slot_leases.values_mut().filter(|lease| lease.node == from && number > lease.beat.0) {
            lease.beat = (number, step.now.mono);
            has_moved |= lease.open.len() < lease.slots + lease.ahead.min(lease.brief);
        }
        self.stirred |= has_moved;
    }

    /// Leaves out of an auction those whose slots for the class are all taken: they said how many they have. Now and then
    /// they are asked all the same. Returns when the next of them may be.
    pub(crate) fn leave_out_full(
        &mut self,
        step: &Step<'_>,
        class: &Class,
        able: &mut Vec<NodeId>,
    ) -> Option<MonoMillis> {
        let now = step.now.mono;
        let mut next: Option<MonoMillis> = None;
        let full = self.slot_leases.values_mut().filter(|lease| lease.class == *class && lease.is_full());
        for lease in full {
            if !able.contains(&lease.node) {
                continue;
            }
            if lease.ask_after <= now {
                lease.ask_after = now.plus(ASK_FULL_EVERY);
            } else {
                able.retain(|node| *node != lease.node);
                next = Some(next.map_or(lease.ask_after, |next| next.min(lease.ask_after)));
            }
        }
        next
    }
}
