//! Slot leases, the executor's side: what it has promised, and what it takes on under that.
//!
//! Its own word is the limit: so many jobs at once as its bid said, and so many more that wait for one of them to end. A job
//! that waits is claimed behind one that runs, as this node's own brief jobs are, and takes over its slot and resources the
//! moment that it ends. It is given back when that takes long after all, or when jobs of this node wait for room.
//!
//! Nothing is kept free for a slot lease, and what bids hold is not for it: whoever comes first has the room. What finds none is given back at once, and its
//! origin goes on with an auction.

use jobmesh_keys::SealSecret;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::resource::Requests;
use jobmesh_protocol::ticket::{AHEAD_MAX, Award, ReleaseCause, SLOT_LEASE_MAX, SLOTS_MAX, Terms};
use jobmesh_protocol::{AwardId, BidId, DurationMillis, Hash, JobSpec, MonoMillis, NodeId, RunId};
use jobmesh_store::StoreError;

use super::Class;
use crate::contract::Taking;
use crate::engine::Engine;
use crate::payload::read_payload;
use crate::run::Room;
use crate::start::{SUCCESSOR_PATIENCE, SUCCESSORS_MAX};
use crate::step::Step;
use crate::timers::Timer;

/// One that is not used ends after this: longer than its origin keeps it, so that the origin ends it first.
const HOSTED_IDLE_MAX: DurationMillis = DurationMillis::from_secs(15);
const _: () = assert!(HOSTED_IDLE_MAX.0 > super::IDLE_MAX.0);
/// Slot leases that others have from this node at once.
const HOSTED_MAX: usize = 256;
/// Jobs that wait for each slot at most. As many come with one commit when the jobs take no time.
const AHEAD_PER_SLOT: u32 = 16;
/// Lots of each queue that are looked at for own jobs that wait.
const LOTS_LOOKED_AT: usize = 16;

/// A slot lease that an origin has from this node.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) origin: NodeId,
    class: Class,
    /// Jobs at once, those that wait included.
    most: usize,
    /// When the bid was sent.
    sent: MonoMillis,
    /// How long a lease of one of its jobs lasts.
    pub(crate) lease: DurationMillis,
    until: MonoMillis,
    used_at: MonoMillis,
    /// Opens the payloads of its awards. It is nowhere else, and gone with this.
    secret: SealSecret,
}

/// Why a job is not taken on, for its origin and for people.
type TurnedDown = (ReleaseCause, &'static str);

impl Engine {
    /// What a bid says of the class of an offer: how many have room now, and how many more may wait.
    pub(crate) fn slots_for(&self, resources: &Requests, effects: Effects) -> (u32, u32) {
        let (mut free, free_slots) = self.free();
        let mut slots = 0;
        while slots < free_slots.min(SLOTS_MAX) {
            let Some(request) = free.first_fit(resources) else { break };
            free = free.less(&free.taken_by(request));
            slots += 1;
        }
        let ahead = match effects {
            Effects::Once => 0,
            Effects::Pure | Effects::Idempotent => (slots * AHEAD_PER_SLOT).min(AHEAD_MAX),
        };
        (slots, ahead)
    }

    /// An origin has opened a slot lease with its award.
    pub(crate) fn host_slots(
        &mut self,
        step: &Step<'_>,
        (origin, terms): (NodeId, &Terms),
        (class, most, sent): (Class, u32, MonoMillis),
        secret: SealSecret,
    ) {
        if self.hosted.len() >= HOSTED_MAX {
            self.count("refused_slot_lease");
            return;
        }
        let (most, used_at) = (usize::try_from(most).unwrap_or(0), step.now.mono);
        let (lease, until) = (terms.lease_ms, sent.plus(SLOT_LEASE_MAX));
        self.hosted.insert(terms.bid, Hosted { origin, class, most, sent, lease, until, used_at, secret });
        self.timers.set(Timer::HostedEnds(terms.bid), used_at.plus(HOSTED_IDLE_MAX));
    }

    /// Judges a job that is given under a slot lease.
    pub(crate) fn on_slot_award(
        &mut self,
        step: &mut Step<'_>,
        (from, id): (NodeId, AwardId),
        award: &Award,
    ) -> Result<(), StoreError> {
        match self.judge_slot_award(step, from, award)? {
            Err(turned_down) => self.turn_down(step, from, (award.terms.key(), turned_down.0), turned_down.1),
            Ok((spec, hash, since)) => self.take_on_slot(step, (from, id, since), award.terms, (spec, hash)),
        }
    }

    fn judge_slot_award(
        &self,
        step: &Step<'_>,
        from: NodeId,
        award: &Award,
    ) -> Result<Result<(JobSpec, Hash, MonoMillis), TurnedDown>, StoreError> {
        let (terms, now) = (&award.terms, step.now.mono);
        let unwanted = |why| Ok(Err((ReleaseCause::Unwanted, why)));
        let Some(hosted) = self.hosted.get(&terms.bid).filter(|it| it.origin == from && now < it.until) else {
            // It may have ended while this was on its way.
            return Ok(Err((ReleaseCause::Busy, "this node knows of no such slot lease")));
        };
        if self.is_draining {
            return Ok(Err((ReleaseCause::Draining, "this node is shutting down")));
        }
        if self.open_under(terms.bid) >= hosted.most {
            return unwanted("it is more than the slot lease is for");
        }
        if self.is_over_quota(step, from)? {
            return Ok(Err((ReleaseCause::Busy, "this node has taken on as much as it does for one node")));
        }
        let heartbeats = self.peers.get(&from).map(|peer| &peer.heartbeats);
        let sent = match terms.beat {
            0 => Some(hosted.sent),
            number => heartbeats.and_then(|heartbeats| heartbeats.sent_at(number)),
        };
        let Some(since) = sent.filter(|sent| now.since(*sent) < terms.lease_ms.scale(3, 4)) else {
            return Ok(Err((ReleaseCause::Busy, "the award came too late to be taken on")));
        };
        Ok(match read_payload(&hosted.secret, award, None) {
            Ok((spec, _)) if Class::of(&spec) != hosted.class => {
                Err((ReleaseCause::Unwanted, "the awarded job is not of the class of the slot lease"))
            }
            Ok((spec, hash)) => match self.unwelcome(from, &spec) {
                Some(why) => Err((ReleaseCause::Unwanted, why)),
                None => Ok((spec, hash, since)),
            },
            Err(why) => Err((ReleaseCause::Unwanted, why)),
        })
    }

    /// Takes a job on in a free slot, or behind another one of its slot lease.
    fn take_on_slot(
        &mut self,
        step: &mut Step<'_>,
        (origin, award, since): (NodeId, AwardId, MonoMillis),
        terms: Terms,
        (spec, hash): (JobSpec, Hash),
    ) -> Result<(), StoreError> {
        if let Some(hosted) = self.hosted.get_mut(&terms.bid) {
            hosted.used_at = step.now.mono;
        }
        let lease = Some(terms.bid);
        let taking = Taking { origin, award, since, terms, lease };
        let (free, free_slots) = self.free();
        let is_free = free_slots > 0 && free.first_fit(&spec.resources).is_some();
        if let Some(allocation) = is_free.then(|| self.room_for(&spec)).flatten() {
            let room = Room { allocation: Some(allocation), ..Room::default() };
            return self.take_on(step, &taking, (spec, hash), room).map(drop);
        }
        let Some(head) = self.head_of_slot(terms.bid, &spec) else {
            let why = "there is no room under the slot lease now";
            return self.turn_down(step, origin, (terms.key(), ReleaseCause::Busy), why);
        };
        let first = self.running.get(&head).and_then(|running| running.first).unwrap_or(head);
        let room = Room { follows: Some(first), ..Room::default() };
        if let Some(run) = self.take_on(step, &taking, (spec, hash), room)? {
            if let Some(running) = self.running.get_mut(&head) {
                running.successors.push_back(run);
            }
            self.timers.set(Timer::SuccessorWaits(run), step.now.mono.plus(SUCCESSOR_PATIENCE));
        }
        Ok(())
    }

    /// The run of a slot lease behind which another job of it may wait: the one with the fewest that do.
    fn head_of_slot(&self, lease: BidId, spec: &JobSpec) -> Option<RunId> {
        if spec.effects == Effects::Once || spec.blobs().next().is_some() || self.has_own_waiting() {
            return None;
        }
        let is_under = |job| self.held.get(job).is_some_and(|held| held.slots == Some(lease));
        let heads = self
            .running
            .iter()
            .filter(|(run, running)| running.is_ordered && running.allocation.is_some() && is_under(&run.job));
        let head = heads.min_by_key(|(_, running)| running.successors.len());
        head.filter(|(_, running)| running.successors.len() < SUCCESSORS_MAX).map(|(run, _)| *run)
    }

    /// Whether jobs of this node wait for room on it: nobody else's are claimed ahead of them.
    fn has_own_waiting(&self) -> bool {
        let mut queues = self.ready.queues();
        queues.any(|queue| {
            let mut lots = self.ready.lots_after(queue, None).take(LOTS_LOOKED_AT);
            lots.any(|rank| self.ready.profile(rank.3).is_some_and(|profile| profile.is_here))
        })
    }

    /// How many jobs run or wait under a slot lease.
    fn open_under(&self, lease: BidId) -> usize {
        self.held.values().filter(|held| held.slots == Some(lease)).count()
    }

    /// Ends a slot lease that has had its time or is not used any more.
    pub(crate) fn on_hosted_idle(&mut self, step: &Step<'_>, lease: BidId) {
        let (now, is_used) = (step.now.mono, self.open_under(lease) > 0);
        let Some(hosted) = self.hosted.get_mut(&lease) else { return };
        if is_used {
            hosted.used_at = now;
        }
        let ends = hosted.until.min(hosted.used_at.plus(HOSTED_IDLE_MAX));
        if ends <= now {
            self.hosted.remove(&lease);
        } else {
            self.timers.set(Timer::HostedEnds(lease), ends);
        }
    }

    /// How long the leases of a slot lease of that origin last, if it has one: it is told that this node is alive, so that
    /// it knows from when to count.
    pub(crate) fn hosted_lease(&self, origin: NodeId) -> Option<DurationMillis> {
        self.hosted.values().filter(|hosted| hosted.origin == origin).map(|hosted| hosted.lease).min()
    }
}
