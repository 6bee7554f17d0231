//! The executor's side of a ticket: bid, hold, start, renew, report, let go.
//!
//! An awarded job is a job of this node like any other; what sets it apart is its lease. The hard case is time: a
//! lease counts from when this node *sent* what was granted, so a machine that was asleep finds its leases over,
//! and work that may run once only is stopped before the origin may give it to someone else.

use std::sync::Arc;

use jobmesh_keys::SealSecret;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::resource::Offered;
use jobmesh_protocol::session::{ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::ticket::{
    Accept, Accepted, Award, Bid, Cancel, Grant, Heartbeat, LEASES_MAX, LeaseKey, NEEDS_MAX, Offer, Refusal,
    RefusalReason, Release, ReleaseCause, Settle, SlotTerms, Terms,
};
use jobmesh_protocol::{
    AwardId, BidId, DurationMillis, Epoch, Isolation, JobId, JobNumber, JobSpec, JobState, MonoMillis, NodeId, OfferId,
    Outcome, RunId, TicketId,
};
use jobmesh_store::{Job, Lease, LeasePhase, NewJob, Plan, StoreError};
use serde_bytes::ByteBuf;

use crate::engine::Engine;
use crate::group::Force;
use crate::message::Incoming;
use crate::mutant::Mutant;
use crate::output::{Output, StopReason};
use crate::payload::{OUT_OF_BOUNDS, read_payload};
use crate::pool::Allocation;
use crate::run::{Claim, Conclusion, Room};
use crate::slots::Class;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;

/// Bids open at once: room that is held for others is room that this node does not use.
const HOLDS_MAX: usize = 64;
/// When a node that shuts down is worth asking again: by then it has gone, or come back.
const DRAINING_AGAIN: DurationMillis = DurationMillis::from_secs(60);
/// An award under a slot lease is accepted this late: brief jobs have ended by then, and their receipts tell.
const ACCEPT_AFTER: DurationMillis = DurationMillis(200);
/// Work that may run once only is stopped this long before its lease ends, so that a kill can take effect.
const STOP_EARLY: DurationMillis = DurationMillis::from_secs(5);

/// Room that is kept for an origin until it awards or the hold ends.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) origin: NodeId,
    ticket: TicketId,
    epoch: Epoch,
    commitment: Hash,
    class: Class,
    /// How many jobs of the class it would take at once, those that wait included.
    most: u32,
    /// What of the free room it is for.
    pub(crate) taken: Offered,
    sent: MonoMillis,
    /// Opens the payload of the award. It is nowhere else, and gone with the hold.
    secret: SealSecret,
}

/// A lease that this node holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub(crate) origin: NodeId,
    key: LeaseKey,
    effects: Effects,
    lease: DurationMillis,
    /// The slot lease under which it was given, if that was opened.
    pub(crate) slots: Option<BidId>,
}

/// An award that is taken on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taking {
    pub(crate) origin: NodeId,
    pub(crate) award: AwardId,
    /// When this node sent the bid or heartbeat from which the lease counts.
    pub(crate) since: MonoMillis,
    pub(crate) terms: Terms,
    /// The slot lease that it opens, or under which it is given.
    pub(crate) lease: Option<BidId>,
}

impl Engine {
    pub(crate) fn on_offer(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        offer: OfferId,
        asked: Offer,
    ) -> Result<(), StoreError> {
        if asked.to != self.me || asked.requirements.len() > NEEDS_MAX {
            self.count("refused_offer");
            return Ok(());
        }
        let key = LeaseKey { ticket: asked.ticket, epoch: asked.epoch };
        if step
            .view()
            .leases_up_to(from, LeaseKey { ticket: asked.ticket, epoch: Epoch(u32::MAX) })?
            .iter()
            .any(|l| l.epoch >= key.epoch)
        {
            // A copy of an old offer, or an origin that forgot what it awarded: it must go on to the next epoch.
            self.count("refused_old_offer");
            self.refuse(from, (offer, key), (RefusalReason::Known, DurationMillis(0)));
            return Ok(());
        }
        self.holds.retain(|_, hold| (hold.origin, hold.ticket) != (from, asked.ticket));
        match self.refusal(step, from, &asked)? {
            Some(why) => self.refuse(from, (offer, key), why),
            None => self.bid(step, from, offer, asked),
        }
        Ok(())
    }

    fn refuse(
        &mut self,
        to: NodeId,
        (offer, key): (OfferId, LeaseKey),
        (reason, retry_after_ms): (RefusalReason, DurationMillis),
    ) {
        let (ticket, epoch) = (key.ticket, key.epoch);
        self.note(to, Kind::Refusal, &Refusal { offer, ticket, epoch, to, reason, retry_after_ms });
    }

    /// Why this node would not take an offer now, and when it is worth asking again.
    fn refusal(
        &self,
        step: &Step<'_>,
        from: NodeId,
        offer: &Offer,
    ) -> Result<Option<(RefusalReason, DurationMillis)>, StoreError> {
        let (free, free_slots) = self.free();
        let hold = self.config.timing.bid_hold;
        let is_full = free_slots == 0 || free.first_fit(&offer.resources).is_none() || self.holds.len() >= HOLDS_MAX;
        Ok(if self.is_draining {
            Some((RefusalReason::Draining, DRAINING_AGAIN))
        } else if !self.record.meets(&offer.requirements, &offer.resources) {
            Some((RefusalReason::Incapable, DurationMillis(0)))
        } else if let Some(level) = self.level_missed(from, &offer.requirements) {
            Some((RefusalReason::Isolation(level), DurationMillis(0)))
        } else if let Some(refusal) = self.input_refusal(step, from, offer) {
            Some(refusal)
        } else if self.is_over_quota(step, from)? {
            Some((RefusalReason::Quota, hold))
        } else if is_full {
            // What only bids keep is free again when their holds end, at the latest.
            let is_held = self.free_slots() > 0 && self.pools.free().first_fit(&offer.resources).is_some();
            Some((RefusalReason::Busy, if is_held { hold } else { DurationMillis(0) }))
        } else {
            None
        })
    }

    fn bid(&mut self, step: &mut Step<'_>, origin: NodeId, offer: OfferId, asked: Offer) {
        let (free, free_slots) = self.free();
        let taken = free.first_fit(&asked.resources).map(|request| free.taken_by(request)).unwrap_or_default();
        let hold_ms = self.config.timing.bid_hold;
        let (slots, ahead) = self.slots_for(&asked.resources, asked.effects);
        let secret = SealSecret::from_entropy(&step.random());
        let (free_slots, key) = (free_slots.saturating_sub(1), secret.key());
        let bid = Bid { offer, to: origin, hold_ms, free_slots, slots, ahead, key };
        let (envelope, id) = self.seal_with_id(Kind::Bid, &bid);
        let Offer { ticket, epoch, commitment, requirements, resources, effects, .. } = asked;
        let class = Class { requirements, resources, effects };
        let (sent, most) = (step.now.mono, slots.saturating_add(ahead));
        self.holds.insert(id, Hold { origin, ticket, epoch, commitment, class, most, taken, sent, secret });
        self.timers.set(Timer::HoldEnds(id), step.now.mono.plus(hold_ms));
        self.send_note(origin, envelope);
    }

    pub(crate) fn on_award(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        id: AwardId,
        award: &Award,
    ) -> Result<(), StoreError> {
        let Terms { bid, ticket, epoch, to, .. } = award.terms;
        let key = LeaseKey { ticket, epoch };
        if to != self.me {
            self.count("refused_award");
            return Ok(());
        }
        let known = step.view().lease_of(from, key)?;
        if let Some(known) = known.filter(|_| !self.config.plays(Mutant::NoDedup)) {
            if known.award == id {
                self.count("replayed_award");
                return Ok(());
            }
            return self.turn_down(step, from, (key, ReleaseCause::Known), "this node knows that attempt from before");
        }
        if award.terms.slots == SlotTerms::Under {
            return self.on_slot_award(step, (from, id), award);
        }
        let is_its = |hold: &Hold| (hold.origin, hold.ticket, hold.epoch) == (from, ticket, epoch);
        let Some(hold) = self.holds.get(&bid).is_some_and(is_its).then(|| self.holds.remove(&bid)).flatten() else {
            let why = "the award came after the bid's hold had ended";
            return self.turn_down(step, from, (key, ReleaseCause::Unwanted), why);
        };
        self.timers.clear(Timer::HoldEnds(bid));
        self.stirred = true;
        let unwanted = (key, ReleaseCause::Unwanted);
        match read_offered(&hold, award) {
            Ok(_) if self.is_draining => self.turn_down(step, from, unwanted, "this node is shutting down"),
            Ok(read) => match self.unwelcome(from, &read.0).map_or_else(|| Ok(self.room_for(&read.0)), Err) {
                Err(why) => self.turn_down(step, from, unwanted, why),
                Ok(Some(allocation)) => self.take_on_offered(step, hold, (id, award.terms), read, allocation),
                Ok(None) => {
                    self.turn_down(step, from, (key, ReleaseCause::Busy), "this node's own jobs have taken the room")
                }
            },
            Err(why) => self.turn_down(step, from, unwanted, why),
        }
    }

    /// Takes on what was bid for, and with it the slot lease that its award opens.
    fn take_on_offered(
        &mut self,
        step: &mut Step<'_>,
        hold: Hold,
        (award, terms): (AwardId, Terms),
        read: (JobSpec, Hash),
        allocation: Allocation,
    ) -> Result<(), StoreError> {
        let lease = (terms.slots == SlotTerms::Open).then_some(terms.bid);
        let taking = Taking { origin: hold.origin, award, since: hold.sent, terms, lease };
        let room = Room { allocation: Some(allocation), ..Room::default() };
        self.take_on(step, &taking, read, room)?;
        if lease.is_some() {
            self.host_slots(step, (hold.origin, &terms), (hold.class, hold.most, hold.sent), hold.secret);
        }
        Ok(())
    }

    pub(crate) fn turn_down(
        &mut self,
        step: &Step<'_>,
        origin: NodeId,
        (key, cause): (LeaseKey, ReleaseCause),
        why: &str,
    ) -> Result<(), StoreError> {
        self.count("refused_award");
        self.disown(step, origin, (key, cause), why)
    }

    /// Tells an origin that this node does not have an attempt, or not any more.
    pub(crate) fn disown(
        &mut self,
        step: &Step<'_>,
        origin: NodeId,
        (key, cause): (LeaseKey, ReleaseCause),
        why: &str,
    ) -> Result<(), StoreError> {
        let (ticket, epoch, reason) = (key.ticket, key.epoch, why.to_owned());
        self.post_answer(step, origin, Kind::Release, &Release { ticket, epoch, to: origin, cause, reason })
    }

    /// Takes resources for an awarded job, if a slot is free.
    pub(crate) fn room_for(&mut self, spec: &JobSpec) -> Option<Allocation> {
        if self.free_slots() == 0 {
            return None;
        }
        self.pools.allocate_any(&spec.resources)
    }

    /// Makes the award a job of this node and starts it, or claims it behind another. Returns its run, if there is one.
    pub(crate) fn take_on(
        &mut self,
        step: &mut Step<'_>,
        taking: &Taking,
        (spec, spec_hash): (JobSpec, Hash),
        room: Room,
    ) -> Result<Option<RunId>, StoreError> {
        let Taking { origin, award, since, terms, lease: slots } = *taking;
        let effects = spec.effects;
        self.last_number = self.last_number.saturating_add(1).min(jobmesh_protocol::number::NUMBER_MAX);
        let job = awarded_job(step, JobNumber::new(self.last_number), origin, spec);
        let (id, run) = (job.id, RunId { job: job.id, epoch: job.epoch.next() });
        step.txn.insert_job(&NewJob { job: &job, has_spec: true, unique_key: None })?;
        let lease = Lease {
            job: id,
            origin,
            ticket: terms.ticket,
            epoch: terms.epoch,
            award,
            spec_hash,
            lease_ms: terms.lease_ms,
            phase: LeasePhase::Held,
            receipt: None,
        };
        step.txn.insert_lease(&lease)?;
        match terms.slots {
            SlotTerms::Under => self.accept_soon(step, &lease),
            SlotTerms::None | SlotTerms::Open => self.accept_awards(step, origin, vec![accepted(&lease)])?,
        }
        self.hold_lease(&lease, (effects, slots), since);
        self.timers.set_if_unset(Timer::Heartbeat(origin), step.now.mono.plus(terms.lease_ms.scale(1, 4)));
        self.announce(step, &job, &Shift::new(&job, Cause::Ready).on(origin))?;
        let is_started = self.start_run(step, Claim { job, is_written: true }, room)?;
        Ok(is_started.then_some(run))
    }

    fn accept_awards(&mut self, step: &Step<'_>, to: NodeId, accepted: Vec<Accepted>) -> Result<(), StoreError> {
        self.post(step, to, Kind::Accept, &Accept { to, accepted })
    }

    /// Lets the origin know of an award under a slot lease, together with others, unless its receipt comes first.
    fn accept_soon(&mut self, step: &Step<'_>, lease: &Lease) {
        self.unaccepted.entry(lease.origin).or_default().push(lease.job);
        self.timers.set_if_unset(Timer::Accepts(lease.origin), step.now.mono.plus(ACCEPT_AFTER));
    }

    pub(crate) fn on_accepts_due(&mut self, step: &Step<'_>, origin: NodeId) -> Result<(), StoreError> {
        let mut open = Vec::new();
        for job in self.unaccepted.remove(&origin).unwrap_or_default() {
            if self.held.contains_key(&job) {
                open.extend(step.view().lease(job)?.as_ref().map(accepted));
            }
        }
        for some in open.chunks(LEASES_MAX) {
            self.accept_awards(step, origin, some.to_vec())?;
        }
        Ok(())
    }

    /// Counts a lease from `since`, when this node sent what was granted.
    pub(crate) fn hold_lease(&mut self, lease: &Lease, (effects, slots): (Effects, Option<BidId>), since: MonoMillis) {
        let held = Held { origin: lease.origin, key: lease.key(), effects, lease: lease.lease_ms, slots };
        self.held.insert(lease.job, held);
        self.timers.set(Timer::LeaseEnds(lease.job), self.stop_at(&held, since));
    }

    /// Renews every lease that this node holds from an origin.
    pub(crate) fn heartbeat(&mut self, step: &Step<'_>, origin: NodeId) {
        let mine = self.held.values().filter(|held| held.origin == origin);
        let shortest = mine.clone().map(|held| held.lease).min().or_else(|| self.hosted_lease(origin));
        let leases: Vec<LeaseKey> = mine.map(|held| held.key).take(LEASES_MAX).collect();
        let Some(lease) = shortest else {
            self.timers.clear(Timer::Heartbeat(origin));
            return;
        };
        let pause = DurationMillis(lease.scale(1, 4).0.max(50));
        self.timers.set(Timer::Heartbeat(origin), step.now.mono.plus(pause));
        if let Some(peer) = self.peers.get_mut(&origin).filter(|peer| peer.is_connected) {
            let number = peer.heartbeats.send(step.now.mono);
            self.note(origin, Kind::Heartbeat, &Heartbeat { to: origin, number, leases });
        }
    }

    pub(crate) fn on_grant(&mut self, step: &mut Step<'_>, from: NodeId, grant: &Grant) -> Result<(), StoreError> {
        let answered = self.peers.get_mut(&from).and_then(|peer| peer.heartbeats.answered(grant.number));
        let Some(sent) = answered.filter(|_| grant.to == self.me) else {
            self.count("refused_grant");
            return Ok(());
        };
        let jobs: Vec<(JobId, Held)> = self.held.iter().map(|(job, held)| (*job, *held)).collect();
        for (job, mut held) in jobs.into_iter().filter(|(_, held)| held.origin == from) {
            if let Some((_, lease)) = grant.granted.iter().find(|(key, _)| *key == held.key) {
                held.lease = *lease;
                self.held.insert(job, held);
                self.timers.set(Timer::LeaseEnds(job), self.stop_at(&held, sent));
            } else if grant.revoked.contains(&held.key) {
                self.stop_lease(step, job, StopReason::LeaseEnded)?;
            }
        }
        Ok(())
    }

    /// When this node stops work whose lease counts from `since`. Work that may run twice goes on for two more leases:
    /// if the partition heals, its result is not wasted.
    fn stop_at(&self, held: &Held, since: MonoMillis) -> MonoMillis {
        match held.effects {
            Effects::Once if self.config.plays(Mutant::LeaseOffByOne) => since.plus(held.lease.scale(2, 1)),
            Effects::Once => {
                let early = STOP_EARLY.min(held.lease.scale(1, 4));
                since.plus(DurationMillis(held.lease.0.saturating_sub(early.0)))
            }
            Effects::Pure | Effects::Idempotent => since.plus(held.lease.scale(3, 1)),
        }
    }

    pub(crate) fn on_lease_end(&mut self, step: &mut Step<'_>, job: JobId) -> Result<(), StoreError> {
        self.count("lease_ended");
        self.stop_lease(step, job, StopReason::LeaseEnded)
    }

    fn stop_lease(&mut self, step: &mut Step<'_>, id: JobId, reason: StopReason) -> Result<(), StoreError> {
        let Some(job) = step.view().job(id)?.filter(|job| job.state == JobState::Running) else { return Ok(()) };
        let run = RunId { job: id, epoch: job.epoch };
        match self.running.get(&run) {
            Some(running) if running.is_ordered => {
                self.outputs.push(Output::Stop { run, reason });
                Ok(())
            }
            Some(_) => self.give_back(step, job, ReleaseCause::NoInput, "the lease ended before the input was here"),
            None => Ok(()),
        }
    }

    pub(crate) fn on_cancel(&mut self, step: &mut Step<'_>, from: NodeId, cancel: &Cancel) -> Result<(), StoreError> {
        let key = LeaseKey { ticket: cancel.ticket, epoch: cancel.epoch };
        if cancel.to != self.me {
            self.count("refused_cancel");
            return Ok(());
        }
        for lease in step.view().leases_up_to(from, key)? {
            let Some(job) = step.view().job(lease.job)?.filter(|job| job.state == JobState::Running) else { continue };
            step.txn.set_cancel_reason(job.number, Some(("its origin cancelled it", FinishReason::User)))?;
            let run = RunId { job: job.id, epoch: job.epoch };
            if let Some(running) = self.running.get_mut(&run) {
                running.job.cancel_reason = Some("its origin cancelled it".to_owned());
            }
            self.stop_run(step, run, Force::Gentle)?;
        }
        Ok(())
    }

    pub(crate) fn on_settle(
        &mut self,
        step: &Step<'_>,
        message: &Incoming<'_>,
        settle: &Settle,
    ) -> Result<(), StoreError> {
        if settle.to != self.me || !self.keep_countersignature(step, message, settle)? {
            self.count("refused_settle");
            return Ok(());
        }
        let key = LeaseKey { ticket: settle.ticket, epoch: settle.epoch };
        match step.view().lease_of(message.envelope.signer(), key)? {
            Some(lease) if lease.phase == LeasePhase::Reported => {
                step.txn.set_lease_phase(lease.job, LeasePhase::Settled, Some(settle.verdict))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends an awarded attempt and reports it to its origin.
    pub(crate) fn conclude_lease(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        run: RunId,
        end: &Conclusion<'_>,
        inline: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        match end.outcome {
            Outcome::Released { .. } => self.release_lease(step, job, run, end, ReleaseCause::Draining),
            Outcome::Ok
            | Outcome::Error { .. }
            | Outcome::Permanent { .. }
            | Outcome::Timeout
            | Outcome::Cancelled
            | Outcome::SelfCancelled { .. }
            | Outcome::Snoozed { .. }
            | Outcome::Lost { .. } => self.report(step, job, run, end, inline),
        }
    }

    /// Ends an awarded attempt without a receipt.
    pub(crate) fn release_lease(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        run: RunId,
        end: &Conclusion<'_>,
        cause: ReleaseCause,
    ) -> Result<(), StoreError> {
        if let Some(lease) = step.view().lease(job.id)?.filter(|lease| lease.phase == LeasePhase::Held) {
            self.post_release(step, &lease, cause, end.outcome.message().unwrap_or("given back"))?;
        }
        self.end_awarded(step, job, run, end)
    }

    fn report(
        &mut self,
        step: &mut Step<'_>,
        job: Job,
        run: RunId,
        end: &Conclusion<'_>,
        inline: &[Vec<u8>],
    ) -> Result<(), StoreError> {
        let attempt = step.view().attempt(run)?;
        if let Some(lease) = step.view().lease(job.id)?.filter(|lease| lease.phase == LeasePhase::Held) {
            let (number, previous) = Self::next_link(step, lease.origin)?;
            let started_at = attempt.and_then(|attempt| attempt.started_at);
            let receipt = Receipt {
                award: lease.award,
                ticket: lease.ticket,
                epoch: lease.epoch,
                to: lease.origin,
                number,
                previous,
                spec: lease.spec_hash,
                outcome: end.outcome.clone(),
                exit: end.exit,
                outputs: end.written,
                usage: end.usage,
                model: end.model.cloned(),
                isolation: end.isolation.unwrap_or(Isolation::None),
                started_at: started_at.or(end.started_at).unwrap_or(job.created_at),
                finished_at: step.wall(),
            };
            step.txn.set_lease_phase(lease.job, LeasePhase::Reported, None)?;
            step.txn.set_lease_receipt(lease.job, number)?;
            let (envelope, id) = self.seal_with_id(Kind::Receipt, &receipt);
            Self::give_link(step, lease.origin, (number, id), &envelope)?;
            // What does not fit beside the receipt is fetched by its hash.
            let small = inline.iter().filter(|bytes| bytes.len() <= ATTACHMENT_BYTES_MAX).take(ATTACHMENTS_MAX);
            let attachments: Vec<ByteBuf> = small.cloned().map(ByteBuf::from).collect();
            self.post_sealed(step, lease.origin, &envelope, &attachments)?;
        }
        self.end_awarded(step, job, run, end)
    }

    /// Files the end of an awarded job on this node. Whether there is another attempt is for the origin to say.
    fn end_awarded(
        &mut self,
        step: &mut Step<'_>,
        mut job: Job,
        run: RunId,
        end: &Conclusion<'_>,
    ) -> Result<(), StoreError> {
        self.held.remove(&job.id);
        self.timers.clear(Timer::LeaseEnds(job.id));
        self.timers.clear(Timer::RunTimeout(run));
        self.drop_fetches_of(run);
        step.txn.finish_attempt(run, &end.filed(), step.wall())?;
        self.observe(step, &job, end)?;
        let (cause, finish) = match end.outcome {
            Outcome::Ok => (Cause::Succeeded, FinishReason::Ok),
            Outcome::Cancelled => (Cause::Cancelled, FinishReason::User),
            Outcome::SelfCancelled { .. } | Outcome::Snoozed { .. } => (Cause::Cancelled, FinishReason::Itself),
            Outcome::Error { .. } => (Cause::Exhausted, FinishReason::Exhausted),
            Outcome::Timeout => (Cause::Exhausted, FinishReason::Timeout),
            Outcome::Permanent { .. } => (Cause::Permanent, FinishReason::Permanent),
            Outcome::Released { .. } | Outcome::Lost { .. } => (Cause::Abandoned, FinishReason::Lost),
        };
        let note = end.outcome.message().map(str::to_owned);
        let shift = Shift::new(&job, cause).finish(finish).on(self.me).because(note.as_deref());
        self.shift(step, &mut job, &shift.after(end.ran(step.wall())))?;
        Ok(())
    }
}

/// What the origin is told of a lease that was taken on.
fn accepted(lease: &Lease) -> Accepted {
    Accepted { key: lease.key(), award: lease.award }
}

/// The spec of an award and its hash, if it is the one that was offered.
fn read_offered(hold: &Hold, award: &Award) -> Result<(JobSpec, Hash), &'static str> {
    let (spec, hash) = read_payload(&hold.secret, award, Some(hold.commitment))?;
    if spec.resources == hold.class.resources { Ok((spec, hash)) } else { Err(OUT_OF_BOUNDS) }
}

/// A job as it is taken on for another node.
fn awarded_job(step: &mut Step<'_>, number: JobNumber, origin: NodeId, spec: JobSpec) -> Job {
    let now = step.wall();
    Job {
        id: JobId::new(now, &step.random()),
        number,
        state: JobState::Available,
        state_since: now,
        queue: spec.queue.clone(),
        priority: spec.priority,
        epoch: Epoch::default(),
        failures: 0,
        crashes: 0,
        snoozes: 0,
        waits: 0,
        run_at: None,
        expires_at: None,
        deadline: None,
        held: None,
        plan: Plan::default(),
        fire: None,
        cancel_reason: None,
        finish_reason: None,
        origin: Some(origin),
        created_at: now,
        finished_at: None,
        spec: Arc::new(spec),
    }
}
