//! The jobs that could start now, in the order in which they should.
//!
//! Jobs that admission can't tell apart are one *lot*: same queue, priority, keys, resources, scope. If the first of a
//! lot may not start, none of it may, so that a look at a million waiting jobs costs as much as a look at their lots.
//!
//! Higher priority goes first. Among jobs of one priority, the keys of a queue take turns: whoever was served longest
//! ago is next, and within a key the oldest job. A key that appears joins at the end of the turn, so that nobody
//! gets ahead by a new name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use jobmesh_protocol::job::{Concurrency, Rate, Scope};
use jobmesh_protocol::resource::Requests;
use jobmesh_protocol::{JobNumber, Requirement, UnixMillis};

/// Everything by which admission tells waiting jobs apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Profile {
    pub(crate) queue: String,
    pub(crate) priority: i32,
    pub(crate) key: Option<Concurrency>,
    pub(crate) rates: Vec<Rate>,
    pub(crate) resources: Requests,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) executor: &'static str,
    pub(crate) scope: Scope,
    /// Whether this node could run it when idle.
    pub(crate) is_here: bool,
    /// Whether it must not run twice.
    pub(crate) is_once: bool,
    /// Whether it may go only to peers that let it use the network.
    pub(crate) wants_network: bool,
    /// The group, if that limits how many of its tasks run at once.
    pub(crate) group: Option<JobNumber>,
    /// The names of its secrets, which not every peer may have.
    pub(crate) secrets: BTreeSet<String>,
}

/// Names a lot while it exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LotId(u64);

/// Waiting jobs that are alike.
#[derive(Debug)]
struct Lot {
    profile: Arc<Profile>,
    members: BTreeSet<JobNumber>,
    rank: Rank,
    /// What held it back at the last look, and since when.
    reasons: Vec<(&'static str, UnixMillis)>,
}

/// A lot's rank in its queue and among those of all queues: priority, turn, first job.
pub(crate) type Rank = (Reverse<i32>, u64, JobNumber, LotId);

/// Those of a queue that share a concurrency key, or have none.
type Party = (String, Option<String>);

/// The waiting jobs.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    lots: BTreeMap<LotId, Lot>,
    by_profile: BTreeMap<Arc<Profile>, LotId>,
    queues: BTreeMap<String, BTreeSet<Rank>>,
    parties: BTreeMap<Party, (u64, BTreeSet<LotId>)>,
    /// What holds whole queues back, and since when.
    held_queues: BTreeMap<String, Vec<(&'static str, UnixMillis)>>,
    turn: u64,
    next: u64,
    count: usize,
}

impl Ready {
    /// Adds a job, or a group that makes its tasks when they are claimed.
    pub(crate) fn insert(&mut self, profile: Profile, job: JobNumber) {
        let id = match self.by_profile.get(&profile) {
            Some(id) => *id,
            None => self.open(profile, job),
        };
        let Some(lot) = self.lots.get_mut(&id) else { return };
        self.count += usize::from(lot.members.insert(job));
        self.settle(id);
    }

    /// Takes a job out.
    pub(crate) fn remove(&mut self, profile: &Profile, job: JobNumber) {
        let Some(id) = self.by_profile.get(profile).copied() else { return };
        let Some(lot) = self.lots.get_mut(&id) else { return };
        self.count -= usize::from(lot.members.remove(&job));
        if lot.members.is_empty() { self.close(id) } else { self.settle(id) }
    }

    fn open(&mut self, profile: Profile, first: JobNumber) -> LotId {
        let id = LotId(self.next);
        self.next += 1;
        let profile = Arc::new(profile);
        let party = party(&profile);
        let turn = self.turn;
        let (turn, lots) = self.parties.entry(party).or_insert((turn, BTreeSet::new()));
        lots.insert(id);
        let rank = (Reverse(profile.priority), *turn, first, id);
        self.queues.entry(profile.queue.clone()).or_default().insert(rank);
        self.by_profile.insert(Arc::clone(&profile), id);
        self.lots.insert(id, Lot { profile, members: BTreeSet::new(), rank, reasons: Vec::new() });
        id
    }

    fn close(&mut self, id: LotId) {
        let Some(lot) = self.lots.remove(&id) else { return };
        self.by_profile.remove(&lot.profile);
        if let Some(places) = self.queues.get_mut(&lot.profile.queue) {
            places.remove(&lot.rank);
            if places.is_empty() {
                self.queues.remove(&lot.profile.queue);
                self.held_queues.remove(&lot.profile.queue);
            }
        }
        let party = party(&lot.profile);
        if let Some((_, lots)) = self.parties.get_mut(&party) {
            lots.remove(&id);
            if lots.is_empty() {
                self.parties.remove(&party);
            }
        }
    }

    /// Puts a lot where its first member and its party's turn say.
    fn settle(&mut self, id: LotId) {
        let Some(lot) = self.lots.get_mut(&id) else { return };
        let Some(first) = lot.members.first().copied() else { return };
        let turn = lot.rank.1;
        let rank = (Reverse(lot.profile.priority), turn, first, id);
        if rank != lot.rank
            && let Some(places) = self.queues.get_mut(&lot.profile.queue)
        {
            places.remove(&lot.rank);
            places.insert(rank);
            lot.rank = rank;
        }
    }

    /// One of the lot was served: its party goes to the end of the turn.
    pub(crate) fn serve(&mut self, id: LotId) {
        let Some(party) = self.lots.get(&id).map(|lot| party(&lot.profile)) else { return };
        if self.is_alone(&party) {
            // With nobody to take turns with, none of its lots changes its place, however many they are.
            return;
        }
        self.turn += 1;
        let Some((turn, lots)) = self.parties.get_mut(&party) else { return };
        *turn = self.turn;
        for id in lots.clone() {
            let Some(lot) = self.lots.get_mut(&id) else { continue };
            let rank = (lot.rank.0, self.turn, lot.rank.2, id);
            if let Some(places) = self.queues.get_mut(&lot.profile.queue) {
                places.remove(&lot.rank);
                places.insert(rank);
            }
            lot.rank = rank;
        }
    }

    /// Whether nobody else waits in the queue of a party.
    fn is_alone(&self, party: &Party) -> bool {
        let first = (party.0.clone(), None);
        let others = self.parties.range(first..).take_while(|((queue, _), _)| *queue == party.0);
        others.take(2).count() < 2
    }

    /// The queues with something in them.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &String> {
        self.queues.keys()
    }

    /// Whether anything waits in a queue.
    pub(crate) fn has_queue(&self, queue: &str) -> bool {
        self.queues.contains_key(queue)
    }

    /// The lots of a queue in order, from the first after a place.
    pub(crate) fn lots_after(&self, queue: &str, after: Option<Rank>) -> impl Iterator<Item = Rank> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.queues.get(queue).into_iter().flat_map(move |places| places.range((from, Bound::Unbounded)).copied())
    }

    /// What the jobs of a lot have in common.
    pub(crate) fn profile(&self, lot: LotId) -> Option<Arc<Profile>> {
        self.lots.get(&lot).map(|lot| Arc::clone(&lot.profile))
    }

    /// The lot of jobs like this.
    pub(crate) fn lot_of(&self, profile: &Profile) -> Option<LotId> {
        self.by_profile.get(profile).copied()
    }

    /// The first jobs of a lot.
    pub(crate) fn members(&self, lot: LotId) -> impl Iterator<Item = JobNumber> + '_ {
        self.lots.get(&lot).into_iter().flat_map(|lot| lot.members.iter().copied())
    }

    /// The first task of an array that waits in its lot for itself: made out of turn, or given back.
    pub(crate) fn first_task(&self, lot: LotId, array: JobNumber) -> Option<JobNumber> {
        let from = (Bound::Excluded(array), Bound::Unbounded);
        let next = self.lots.get(&lot)?.members.range(from).next().copied();
        next.filter(|next| next.group() == array)
    }

    /// How many jobs of its lot come before this one.
    pub(crate) fn ahead_of(&self, lot: LotId, job: JobNumber, limit: usize) -> usize {
        self.lots.get(&lot).map_or(0, |lot| lot.members.range(..job).take(limit).count())
    }

    /// Writes down what holds a lot back, keeping since when each reason has held.
    pub(crate) fn note(&mut self, lot: LotId, kinds: impl Iterator<Item = &'static str>, now: UnixMillis) {
        if let Some(lot) = self.lots.get_mut(&lot) {
            keep_since(&mut lot.reasons, kinds, now);
        }
    }

    /// Writes down what holds a whole queue back, if anything does.
    pub(crate) fn note_queue(&mut self, queue: &str, kinds: impl Iterator<Item = &'static str>, now: UnixMillis) {
        let mut reasons = self.held_queues.remove(queue).unwrap_or_default();
        keep_since(&mut reasons, kinds, now);
        if !reasons.is_empty() {
            self.held_queues.insert(queue.to_owned(), reasons);
        }
    }

    /// Since when a reason holds a lot back, if it was seen to.
    pub(crate) fn since(&self, lot: LotId, kind: &str) -> Option<UnixMillis> {
        let lot = self.lots.get(&lot)?;
        let queue = self.held_queues.get(&lot.profile.queue);
        let mut reasons = lot.reasons.iter().chain(queue.into_iter().flatten());
        reasons.find(|(known, _)| *known == kind).map(|(_, at)| *at)
    }

    /// Asks anew of each lot whether this node could run such jobs when idle. None is merged with another, since what
    /// the answer hangs on tells them apart as it is.
    pub(crate) fn ask_anew(&mut self, is_here: impl Fn(&Profile) -> bool) {
        for (id, lot) in &mut self.lots {
            let answer = is_here(&lot.profile);
            if answer != lot.profile.is_here {
                self.by_profile.remove(&lot.profile);
                let profile = Arc::new(Profile { is_here: answer, ..Profile::clone(&lot.profile) });
                self.by_profile.insert(Arc::clone(&profile), *id);
                lot.profile = profile;
            }
        }
    }

    /// How many jobs and groups wait.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }
}

/// Replaces reasons, keeping since when those have held that were known.
fn keep_since(
    reasons: &mut Vec<(&'static str, UnixMillis)>,
    kinds: impl Iterator<Item = &'static str>,
    now: UnixMillis,
) {
    let before = std::mem::take(reasons);
    let since = |kind| before.iter().find(|(known, _)| *known == kind).map_or(now, |(_, at)| *at);
    *reasons = kinds.map(|kind| (kind, since(kind))).collect();
}

fn party(profile: &Profile) -> Party {
    (profile.queue.clone(), profile.key.as_ref().map(|key| key.key.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(queue: &str, priority: i32, key: Option<&str>) -> Profile {
        Profile {
            queue: queue.to_owned(),
            priority,
            key: key.map(|key| Concurrency { key: key.to_owned(), limit: 9 }),
            rates: Vec::new(),
            resources: Requests::default(),
            requirements: Vec::new(),
            executor: "process",
            scope: Scope::Local,
            is_here: true,
            is_once: false,
            wants_network: false,
            group: None,
            secrets: BTreeSet::new(),
        }
    }

    /// Serves everything in order and says in which.
    fn serve_all(ready: &mut Ready, queue: &str) -> Vec<u32> {
        let mut served = Vec::new();
        loop {
            let Some(lot) = ready.lots_after(queue, None).next().map(|place| place.3) else { break };
            let (Some(profile), Some(job)) = (ready.profile(lot), ready.members(lot).next()) else { break };
            ready.serve(lot);
            ready.remove(&profile, job);
            served.push(job.number());
        }
        served
    }

    #[test]
    fn higher_priority_first_then_older() {
        let mut ready = Ready::default();
        for (number, priority) in [(1, 0), (2, 5), (3, -5), (4, 5)] {
            ready.insert(profile("q", priority, None), JobNumber::new(number));
        }
        assert_eq!(serve_all(&mut ready, "q"), [2, 4, 1, 3]);
        assert_eq!(ready.len(), 0);
        assert_eq!(ready.queues().count(), 0);
    }

    #[test]
    fn keys_take_turns_whoever_came_first() {
        let mut ready = Ready::default();
        for number in 1..=4 {
            ready.insert(profile("q", 0, Some("a")), JobNumber::new(number));
        }
        ready.insert(profile("q", 0, Some("b")), JobNumber::new(5));
        ready.insert(profile("q", 0, Some("b")), JobNumber::new(6));
        ready.insert(profile("q", 0, None), JobNumber::new(7));
        assert_eq!(serve_all(&mut ready, "q"), [1, 5, 7, 2, 6, 3, 4]);
    }

    #[test]
    fn what_is_taken_out_is_gone_and_the_rest_keeps_its_place() {
        let mut ready = Ready::default();
        for number in 1..=3 {
            ready.insert(profile("q", 0, None), JobNumber::new(number));
        }
        ready.remove(&profile("q", 0, None), JobNumber::new(1));
        ready.remove(&profile("q", 0, None), JobNumber::new(9));
        assert_eq!(serve_all(&mut ready, "q"), [2, 3]);
    }
}
