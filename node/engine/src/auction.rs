//! The origin's auction: whom to ask, what they answer, who gets the award.
//!
//! Gossip and records say who *can*; only a bid says who can *now*. So a few capable members are asked directly
//! and each answers with a firm, self-expiring bid or with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jobmesh_keys::SealKey;
use jobmesh_protocol::capability::provider_key;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::JobSpec;
use jobmesh_protocol::place::Place;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::ticket::{Award, Bid, Offer, Payload, Refusal, RefusalReason, SlotTerms, Terms, commitment};
use jobmesh_protocol::{
    AttemptState, BidId, DurationMillis, JobId, JobState, MonoMillis, NodeId, OfferId, Requirement, RunId, cbor,
};
use jobmesh_store::{Job, NewAttempt, StoreError};

use crate::engine::Engine;
use crate::isolation;
use crate::matching::Needs;
use crate::mutant::Mutant;
use crate::output::Output;
use crate::slots::Class;
use crate::start::AUCTIONS_MAX;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;

/// Up to this many capable members all are asked; above it, [`ASKED`]. Five live bids out of many come within a
/// second of the shortest wait, and more messages buy little.
const ASK_ALL_UP_TO: usize = 8;
/// How many are asked in a larger mesh: half by learned score, half at random.
const ASKED: usize = 5;
/// First wait after an auction without a bid: if those that were asked were silent, others are asked within the second
/// that a frozen peer may cost a job. Source: `tests/soak/frozen.rs`, where one second made it 1.4 s.
const PATIENCE_FIRST: DurationMillis = DurationMillis(250);
/// Longest such wait.
const PATIENCE_MAX: DurationMillis = DurationMillis::from_secs(30);
/// How long a member that would not have a job, or gave it back, is not asked for it again; twice as long each time.
pub(crate) const EXCLUDED_FOR: DurationMillis = DurationMillis::from_secs(20);
/// Longest such time.
const EXCLUDED_MAX: DurationMillis = DurationMillis::from_secs(600);
/// The longest that a member may ask for before it is asked again.
const RETRY_AFTER_MAX: DurationMillis = DurationMillis::from_secs(60);
/// What `explain` says of a member that said nothing.
const SILENT: &str = "did not answer in time";
/// After an auction without a bid this many times as many are asked.
const WIDER: usize = 3;
/// After so many auctions without a bid those are dialled that are known and not connected, and Kademlia is asked.
const FRUITLESS_TO_DIAL: u32 = 2;
/// After so many everyone is asked by gossip.
const FRUITLESS_TO_SEEK: u32 = 3;
/// An epoch that a member knows already is left out this often for one job; then that member is not believed.
const KNOWN_MAX: u32 = 16;
/// A member that did not answer a dial is not dialled again before this.
const DIAL_EVERY: DurationMillis = DurationMillis::from_secs(10);
/// Most members that are dialled for one job at a time.
const DIALS_MAX: usize = 16;
/// Most tags of one job that are looked for at once.
const FINDS_MAX: usize = 4;

/// A job that is out for bids.
#[derive(Clone, Debug)]
pub(crate) struct Auction {
    salt: Hash,
    class: Class,
    asked: BTreeMap<NodeId, OfferId>,
    waiting: BTreeSet<NodeId>,
    bids: Vec<ReceivedBid>,
    /// A member knows the epoch that was offered from before.
    is_stale: bool,
}

#[derive(Clone, Debug)]
struct ReceivedBid {
    from: NodeId,
    id: BidId,
    bid: Bid,
    at: MonoMillis,
}

/// What an award rests on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Giving {
    /// To whom.
    pub(crate) node: NodeId,
    /// The bid that won, or that opened the slot lease.
    pub(crate) bid: BidId,
    /// The key of that bid.
    pub(crate) key: SealKey,
    /// The key of the commitment, if there was an offer.
    pub(crate) salt: Option<Hash>,
    /// The heartbeat from which the lease counts; 0 is the bid.
    pub(crate) beat: u64,
    pub(crate) slots: SlotTerms,
    /// When that bid or heartbeat came.
    pub(crate) since: MonoMillis,
}

/// What earlier auctions of a job taught.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patience {
    tries: u32,
    pub(crate) until: MonoMillis,
    /// How many auctions came to nothing.
    fruitless: u32,
    /// How many offered an epoch that was known.
    stale: u32,
    /// Not searched for by gossip before this.
    pub(crate) seek_after: MonoMillis,
    excluded: BTreeMap<NodeId, Excluded>,
    pub(crate) answers: BTreeMap<NodeId, String>,
}

/// A member that is not asked for a job.
#[derive(Clone, Copy, Debug, Default)]
struct Excluded {
    until: MonoMillis,
    times: u32,
}

impl Engine {
    /// Offers an available job to the members that could run it.
    pub(crate) fn open_auction(&mut self, step: &mut Step<'_>, mut job: Job) -> Result<(), StoreError> {
        let spec = self.outgoing_spec(step, &job)?;
        let class = Class::of(&job.spec);
        let (candidates, full_until) = self.candidates(step, &job, &class);
        if spec.check().is_err() {
            // A long item in many places makes a spec that no peer takes.
            self.count("too_large_to_offer");
            self.be_patient(step, job.id);
            return Ok(());
        }
        if candidates.is_empty() {
            match full_until {
                // A slot that gets free is used at once; until then whoever has none left is not asked all the time.
                Some(until) => self.timers.set_earlier(Timer::Reoffer(job.id), until),
                None => self.be_patient_for_excluded(step, job.id),
            }
            return Ok(());
        }
        let note = format!("asked {} of the members that could run it", candidates.len());
        let shift = Shift::new(&job, Cause::Offered).because(Some(&note));
        if !self.shift(step, &mut job, &shift)? {
            return Ok(());
        }
        let salt = Hash::from_bytes(step.random());
        let commitment = commitment(&salt, &cbor::encode(spec.as_ref()));
        let (asked, silent, bids) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        let mut auction = Auction { salt, class, asked, waiting: silent, bids, is_stale: false };
        let waiting = self.waiting_beside(&job);
        for to in candidates {
            let (envelope, offer) = self.offer(&job, to, (commitment, waiting));
            self.send_note(to, envelope);
            auction.asked.insert(to, offer);
            auction.waiting.insert(to);
        }
        self.timers.set(Timer::AuctionCloses(job.id), step.now.mono.plus(self.config.timing.bid_window));
        self.auctions.insert(job.id, auction);
        Ok(())
    }

    /// The spec of a job as a peer gets it: that of a task of an array has its index and item in place, since nobody
    /// else has those.
    fn outgoing_spec(&self, step: &Step<'_>, job: &Job) -> Result<Arc<JobSpec>, StoreError> {
        let group = job.number.group();
        let is_of_array = self.groups.get(&group).is_some_and(|group| group.row.is_array);
        let (Some(index), true) = (job.number.index(), is_of_array) else { return Ok(Arc::clone(&job.spec)) };
        let place = Place { group, index, item: step.view().item(job.number)? };
        let mut task = place.fill_task(job.spec.task.clone());
        if let Some(environment) = task.environment_mut() {
            environment.extend(place.variables());
        }
        Ok(Arc::new(JobSpec { task, ..JobSpec::clone(&job.spec) }))
    }

    fn offer(&self, job: &Job, to: NodeId, (commitment, waiting): (Hash, u32)) -> (Vec<u8>, OfferId) {
        let input = job.spec.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        self.seal_with_id(
            Kind::Offer,
            &Offer {
                ticket: job.id.into(),
                epoch: job.epoch.next(),
                to,
                requirements: needs(&job.spec),
                resources: job.spec.resources.clone(),
                effects: job.spec.effects,
                input_bytes: input.checked_next_power_of_two().unwrap_or(u64::MAX),
                commitment,
                bid_window_ms: self.config.timing.bid_window,
                waiting,
            },
        )
    }

    /// The connected members to ask. The search goes further out the more auctions came to nothing: to more of the
    /// connected ones, to those that are known and to Kademlia, at last to everyone by gossip. Those whose slots are all
    /// taken are left out; if there are any, also says until when. Whoever may not have a secret of the job is not asked.
    fn candidates(&mut self, step: &mut Step<'_>, job: &Job, class: &Class) -> (Vec<NodeId>, Option<MonoMillis>) {
        if self.kept_secret(&job.spec).is_some() {
            return (Vec::new(), None);
        }
        let mut capable = self.matches.capable(&self.peers, &Needs::of(&job.spec));
        capable.retain(|node| self.is_entrusted(*node, &job.spec));
        let (connected, away): (Vec<_>, Vec<_>) = capable.into_iter().partition(|node| self.is_connected(*node));
        let fruitless = self.patience.get(&job.id).map_or(0, |patience| patience.fruitless);
        let is_alone = connected.is_empty();
        let mut able: Vec<NodeId> =
            connected.into_iter().filter(|node| !self.is_excluded(step, job.id, *node)).collect();
        if is_alone || fruitless >= FRUITLESS_TO_DIAL {
            self.dial_some(step, away);
            self.look_for(job);
        }
        if fruitless >= FRUITLESS_TO_SEEK {
            self.seek(step, job);
        }
        let full_until = self.leave_out_full(step, class, &mut able);
        let most = if fruitless == 0 { ASKED } else { ASKED * WIDER };
        (self.choose(step, job, able, most), full_until)
    }

    /// Whether a member is not asked for a job now.
    pub(crate) fn is_excluded(&self, step: &Step<'_>, job: JobId, node: NodeId) -> bool {
        let excluded = self.patience.get(&job).and_then(|patience| patience.excluded.get(&node));
        excluded.is_some_and(|excluded| excluded.until > step.now.mono)
    }

    /// Whether another job of a class may be auctioned now. Each award opens slots for more of the class, so there are as
    /// many auctions as there are slot leases, and one.
    pub(crate) fn may_auction(&self, class: &Class) -> bool {
        let open = self.auctions.values().filter(|auction| auction.class == *class).count();
        self.auctions.len() < AUCTIONS_MAX && open <= self.slot_leases_of(class)
    }

    fn choose(&self, step: &mut Step<'_>, job: &Job, mut capable: Vec<NodeId>, most: usize) -> Vec<NodeId> {
        if capable.len() <= most.max(ASK_ALL_UP_TO) {
            return capable;
        }
        let standing = self.standing(job);
        capable.sort_by_cached_key(|node| std::cmp::Reverse(standing.score(*node)));
        let mut asked: Vec<NodeId> = capable.drain(..most.div_ceil(2)).collect();
        while asked.len() < most && !capable.is_empty() {
            let count = capable.len() as u64;
            let at = usize::try_from(step.rng.next_u64() % count).unwrap_or(0);
            asked.push(capable.swap_remove(at));
        }
        asked
    }

    /// Dials a few of those that are known and were not dialled just now; the others have their turn the next time.
    fn dial_some(&mut self, step: &Step<'_>, away: Vec<NodeId>) {
        let peers = &self.peers;
        let is_due = |node: &NodeId| peers.get(node).is_some_and(|peer| peer.dial_after <= step.now.mono);
        for node in away.into_iter().filter(is_due).take(DIALS_MAX).collect::<Vec<_>>() {
            self.dial(step, node);
        }
    }

    pub(crate) fn dial(&mut self, step: &Step<'_>, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else { return };
        if peer.dial_after <= step.now.mono {
            peer.dial_after = step.now.mono.plus(DIAL_EVERY);
            self.outputs.push(Output::Dial { node, addresses: peer.addresses.clone() });
        }
    }

    /// Asks Kademlia for whoever has the tags that a job needs.
    fn look_for(&mut self, job: &Job) {
        let tags = job.spec.requirements.iter().filter_map(|requirement| match requirement {
            Requirement::Has(tag) => Some(tag),
            Requirement::Attribute { .. } => None,
        });
        for tag in tags.take(FINDS_MAX) {
            self.outputs.push(Output::Find(provider_key(&self.mesh, tag)));
        }
    }

    fn be_patient(&mut self, step: &Step<'_>, job: JobId) {
        let patience = self.patience.entry(job).or_default();
        let wait = DurationMillis(PATIENCE_FIRST.0 << patience.tries.min(10)).min(PATIENCE_MAX);
        patience.tries = if self.config.plays(Mutant::NoBackoff) { 0 } else { patience.tries.saturating_add(1) };
        patience.fruitless = patience.fruitless.saturating_add(1);
        patience.until = step.now.mono.plus(wait);
        self.timers.set(Timer::Reoffer(job), patience.until);
    }

    /// The same if nobody could be asked: no longer than until the first of those may be asked again that were left out.
    fn be_patient_for_excluded(&mut self, step: &Step<'_>, job: JobId) {
        self.be_patient(step, job);
        let now = step.now.mono;
        let Some(patience) = self.patience.get_mut(&job) else { return };
        let ends = patience.excluded.values().map(|excluded| excluded.until).filter(|until| *until > now);
        if let Some(first) = ends.min().filter(|first| *first < patience.until) {
            patience.until = first;
            self.timers.set(Timer::Reoffer(job), first);
        }
    }

    /// Something about the members changed: every waiting job may try again at once.
    pub(crate) fn forget_patience(&mut self) {
        for patience in self.patience.values_mut() {
            patience.tries = 0;
            patience.until = MonoMillis(0);
        }
        self.stirred = true;
    }

    /// Doesn't ask a member again for a job that it gave back, for longer every time.
    pub(crate) fn exclude(&mut self, step: &Step<'_>, job: JobId, node: NodeId, why: &str) {
        self.exclude_for(step, (job, node), EXCLUDED_FOR, why);
    }

    /// The same, beginning with this long.
    pub(crate) fn exclude_for(
        &mut self,
        step: &Step<'_>,
        (job, node): (JobId, NodeId),
        first: DurationMillis,
        why: &str,
    ) {
        let until = step.now.mono.plus(self.leave_out(step, (job, node), (first, DurationMillis(0))));
        let patience = self.patience.entry(job).or_default();
        patience.answers.insert(node, why.to_owned());
        // It may have gone under a slot lease while it waited for another auction, whose time may be later.
        patience.until = patience.until.min(until);
        self.timers.set_earlier(Timer::Reoffer(job), until);
    }

    /// Leaves a member out for longer every time, and for at least as long as it asked for. Returns how long.
    fn leave_out(
        &mut self,
        step: &Step<'_>,
        (job, node): (JobId, NodeId),
        (first, least): (DurationMillis, DurationMillis),
    ) -> DurationMillis {
        let patience = self.patience.entry(job).or_default();
        let excluded = patience.excluded.entry(node).or_default();
        let wait = DurationMillis(first.0 << excluded.times.min(10)).min(EXCLUDED_MAX).max(least);
        excluded.times = excluded.times.saturating_add(1);
        excluded.until = step.now.mono.plus(wait);
        wait
    }

    pub(crate) fn on_bid(&mut self, step: &mut Step<'_>, from: NodeId, id: BidId, bid: Bid) -> Result<(), StoreError> {
        let me = self.me;
        let offered = self.auctions.iter_mut().find(|(_, auction)| {
            bid.to == me && auction.asked.get(&from) == Some(&bid.offer) && auction.waiting.contains(&from)
        });
        let Some((job, auction)) = offered.map(|(job, auction)| (*job, auction)) else {
            self.count("refused_bid");
            return Ok(());
        };
        auction.waiting.remove(&from);
        if bid.key.check().is_ok() {
            auction.bids.push(ReceivedBid { from, id, bid, at: step.now.mono });
        } else {
            // What is sealed to such a key is sealed to nobody.
            self.count("refused_bid_key");
            self.exclude(step, job, from, "bid with a key that nothing can be sealed to");
        }
        self.close_if_complete(step, job)
    }

    pub(crate) fn on_refusal(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        refusal: &Refusal,
    ) -> Result<(), StoreError> {
        let job: JobId = refusal.ticket.into();
        let offered = self.auctions.get_mut(&job).filter(|auction| {
            refusal.to == self.me && auction.asked.get(&from) == Some(&refusal.offer) && auction.waiting.contains(&from)
        });
        let Some(auction) = offered else {
            self.count("refused_refusal");
            return Ok(());
        };
        auction.waiting.remove(&from);
        let patience = self.patience.entry(job).or_default();
        // Why it could not have the input, it said when it gave the job back.
        let is_told = patience.answers.get(&from).is_some_and(|said| said != SILENT);
        if refusal.reason != RefusalReason::NoInput || !is_told {
            patience.answers.insert(from, refusal.reason.words().into_owned());
        }
        let wait = refusal.retry_after_ms.min(RETRY_AFTER_MAX);
        match refusal.reason {
            RefusalReason::Busy | RefusalReason::Quota => {
                patience.excluded.entry(from).or_default().until = step.now.mono.plus(wait);
            }
            RefusalReason::Known if patience.stale < KNOWN_MAX => {
                patience.stale += 1;
                auction.is_stale = true;
            }
            RefusalReason::Known
            | RefusalReason::Incapable
            | RefusalReason::Draining
            | RefusalReason::Policy
            | RefusalReason::Isolation(_)
            | RefusalReason::Room(_)
            | RefusalReason::NoInput => {
                self.leave_out(step, (job, from), (EXCLUDED_FOR, wait));
            }
        }
        self.close_if_complete(step, job)
    }

    fn close_if_complete(&mut self, step: &mut Step<'_>, job: JobId) -> Result<(), StoreError> {
        match self.auctions.get(&job) {
            Some(auction) if auction.waiting.is_empty() => self.close_auction(step, job),
            Some(_) | None => Ok(()),
        }
    }

    /// Takes a job back that is out for bids, since what was offered is not so any more. One that was awarded stays.
    pub(crate) fn withdraw_offer(&mut self, step: &Step<'_>, job: &mut Job, why: &str) -> Result<(), StoreError> {
        if self.auctions.remove(&job.id).is_none() {
            return Ok(());
        }
        self.timers.clear(Timer::AuctionCloses(job.id));
        let shift = Shift::new(job, Cause::Unclaimed).because(Some(why));
        self.shift(step, job, &shift)?;
        Ok(())
    }

    /// Awards the best bid, or puts the job back.
    pub(crate) fn close_auction(&mut self, step: &mut Step<'_>, id: JobId) -> Result<(), StoreError> {
        self.timers.clear(Timer::AuctionCloses(id));
        self.stirred = true;
        let Some(mut auction) = self.auctions.remove(&id) else { return Ok(()) };
        let Some(job) = step.view().job(id)?.filter(|job| job.state == JobState::Offered) else { return Ok(()) };
        for silent in &auction.waiting {
            let patience = self.patience.entry(id).or_default();
            patience.answers.insert(*silent, SILENT.to_owned());
        }
        if auction.is_stale {
            return self.pass_epoch(step, job);
        }
        let bids = std::mem::take(&mut auction.bids);
        // Who may have its secrets may have changed since it was offered.
        let bids = bids.into_iter().filter(|received| self.is_entrusted(received.from, &job.spec));
        let best = bids.max_by_key(|received| {
            let place = self.config.place_in_map(received.from);
            (place, self.score(&job, received.from) / 50, received.bid.free_slots, std::cmp::Reverse(received.at))
        });
        let is_early = self.queues.next_start(&self.profile(&job), step.wall()).is_some();
        match best {
            // Others of its rate were awarded or started since it was offered.
            Some(_) if is_early => self.unclaim(step, job, "its rate allows no further start now"),
            Some(best) => self.award(step, job, auction.salt, &best),
            None => {
                self.be_patient(step, id);
                self.unclaim(step, job, "nobody took it")
            }
        }
    }

    /// Leaves out an epoch that a member knows from before: this database is older than its own words.
    fn pass_epoch(&mut self, step: &Step<'_>, mut job: Job) -> Result<(), StoreError> {
        self.count("retired_epoch");
        self.be_patient(step, job.id);
        let mut shift = Shift::new(&job, Cause::Unclaimed).because(Some("a peer knows its next epoch from before"));
        shift.epoch = job.epoch.next();
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    /// Puts a job back that was out for bids.
    fn unclaim(&mut self, step: &Step<'_>, mut job: Job, why: &str) -> Result<(), StoreError> {
        let shift = Shift::new(&job, Cause::Unclaimed).because(Some(why));
        self.shift(step, &mut job, &shift)?;
        Ok(())
    }

    fn award(&mut self, step: &mut Step<'_>, job: Job, salt: Hash, best: &ReceivedBid) -> Result<(), StoreError> {
        let slots = self.slot_terms(&job, &best.bid);
        let (node, bid, key, since) = (best.from, best.id, best.bid.key, best.at);
        let giving = Giving { node, bid, key, salt: Some(salt), beat: 0, slots, since };
        if !self.give(step, job.clone(), &giving)? {
            self.be_patient(step, job.id);
            return self.unclaim(step, job, "no bid could be awarded");
        }
        if slots == SlotTerms::Open {
            self.open_slot_lease(&job, (&giving, &best.bid));
        }
        Ok(())
    }

    /// Writes an award down and lets it leave. Returns whether it could be.
    pub(crate) fn give(&mut self, step: &mut Step<'_>, mut job: Job, giving: &Giving) -> Result<bool, StoreError> {
        let Giving { node, bid, key, salt, beat, slots, since } = *giving;
        if !self.is_entrusted(node, &job.spec) {
            self.count("withheld_secret");
            return Ok(false);
        }
        let run = RunId { job: job.id, epoch: job.epoch.next() };
        let spec = cbor::encode(self.outgoing_spec(step, &job)?.as_ref());
        let spec_hash = Hash::of(&spec);
        let lease_ms = self.config.timing.lease;
        let terms = Terms { bid, ticket: job.id.into(), epoch: run.epoch, to: node, lease_ms, beat, slots };
        let Ok(award) = Award::seal(terms, &Payload { salt, spec }, &key, &step.random()) else { return Ok(false) };
        let (envelope, award) = self.seal_with_id(Kind::Award, &award);
        // The fence is written in the transaction that queues the award, so it is durable before the award leaves.
        let note = match slots {
            SlotTerms::Under => "under a slot lease".to_owned(),
            SlotTerms::None | SlotTerms::Open => format!("awarded to {}", self.name_of(node)),
        };
        let mut shift = Shift::new(&job, Cause::Awarded).on(node).because(Some(&note));
        shift.epoch = run.epoch;
        if !self.shift(step, &mut job, &shift)? {
            return Ok(false);
        }
        let profile = self.profile(&job);
        self.queues.start(&profile, step.wall());
        let (state, award) = (AttemptState::Awarded, Some((award, spec_hash)));
        let (boot, allocation, at) = (None, None, step.wall());
        step.txn.insert_attempt(&NewAttempt { run, state, node, boot, award, allocation, at })?;
        self.post_sealed(step, node, &envelope, &[])?;
        let lease = (slots != SlotTerms::None).then_some(bid);
        self.watch_award(&job, node, (since, lease));
        Ok(true)
    }

    /// A node's name for people.
    pub(crate) fn name_of(&self, node: NodeId) -> String {
        if node == self.me {
            return self.config.name.clone();
        }
        let name = self.peers.get(&node).map(|peer| peer.name.clone());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| node.short())
    }
}

/// What a peer must have to run a job, its executor included.
pub(crate) fn needs(spec: &JobSpec) -> Vec<Requirement> {
    let executor = format!("executor:{}", spec.task.executor());
    let tag = executor.parse().ok().map(Requirement::Has);
    let walls = isolation::demand(spec).into_iter().chain(isolation::network_demand(spec));
    spec.requirements.iter().cloned().chain(tag).chain(walls).collect()
}
