//! The network: sessions between pairs, and what becomes of a frame on its way.
//!
//! A session has a number. A frame belongs to the session it was sent on and is gone with it, as bytes in a closed
//! connection are; so nothing arrives from before a disconnect but what the forger kept.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::{DurationMillis, MonoMillis};

use crate::faults::{FaultKind, Faults};
use crate::random::Stream;

/// A node's place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seat(pub(crate) usize);

impl std::fmt::Display for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Two different nodes, the lower one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair(pub(crate) Seat, pub(crate) Seat);

impl Pair {
    pub(crate) fn of(one: Seat, other: Seat) -> Self {
        if one <= other { Self(one, other) } else { Self(other, one) }
    }

    pub(crate) fn has(self, seat: Seat) -> bool {
        self.0 == seat || self.1 == seat
    }
}

/// One life of a connection. Later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Session(u64);

/// How often each frame fault strikes, of a thousand.
#[derive(Clone, Copy, Debug)]
struct Rates {
    delay: u64,
    loss: u64,
    duplicate: u64,
    reorder: u64,
}

/// Every session and every cut.
#[derive(Debug)]
pub(crate) struct Network {
    stream: Stream,
    rates: Rates,
    sessions: BTreeMap<Pair, Session>,
    opened: u64,
    blocked: BTreeSet<(Seat, Seat)>,
    last_arrival: BTreeMap<(Seat, Seat), MonoMillis>,
    homes: BTreeSet<Pair>,
    met: BTreeSet<Pair>,
}

impl Network {
    /// A network without sessions. Half of all seeds know every pair at home, the other half only a random tree.
    pub(crate) fn draw(seed: u64, nodes: usize) -> Self {
        let mut stream = Stream::new(seed, "network");
        let is_whole = stream.chance(500);
        let mut homes = BTreeSet::new();
        for seat in 1..nodes {
            let parent = stream.index(seat);
            let near = 0..seat;
            homes.extend(
                near.filter(|other| is_whole || *other == parent).map(|other| Pair::of(Seat(other), Seat(seat))),
            );
        }
        let rates = Rates {
            delay: stream.between(20, 300),
            loss: stream.between(5, 200),
            duplicate: stream.between(5, 100),
            reorder: stream.between(5, 200),
        };
        Self {
            stream,
            rates,
            sessions: BTreeMap::new(),
            opened: 0,
            blocked: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            met: homes.clone(),
            homes,
        }
    }

    /// The pairs that find each other without being told.
    pub(crate) fn homes(&self) -> Vec<Pair> {
        self.homes.iter().copied().collect()
    }

    /// The pairs at home and all that ever had a session.
    pub(crate) fn met(&self) -> Vec<Pair> {
        self.met.iter().copied().collect()
    }

    pub(crate) fn is_home(&self, pair: Pair) -> bool {
        self.homes.contains(&pair)
    }

    pub(crate) fn session(&self, pair: Pair) -> Option<Session> {
        self.sessions.get(&pair).copied()
    }

    pub(crate) fn sessions(&self) -> Vec<Pair> {
        self.sessions.keys().copied().collect()
    }

    /// The nodes that this one has a session with.
    pub(crate) fn neighbours(&self, seat: Seat) -> Vec<Seat> {
        let mine = self.sessions.keys().filter(|pair| pair.has(seat));
        mine.map(|pair| if pair.0 == seat { pair.1 } else { pair.0 }).collect()
    }

    /// Opens a session. False if there is one or the way is blocked.
    pub(crate) fn open(&mut self, pair: Pair) -> bool {
        if self.sessions.contains_key(&pair) || self.is_cut(pair) {
            return false;
        }
        self.opened += 1;
        self.met.insert(pair);
        self.sessions.insert(pair, Session(self.opened));
        true
    }

    /// Closes a session. False if there is none.
    pub(crate) fn close(&mut self, pair: Pair) -> bool {
        self.sessions.remove(&pair).is_some()
    }

    pub(crate) fn is_cut(&self, pair: Pair) -> bool {
        self.blocked.contains(&(pair.0, pair.1)) || self.blocked.contains(&(pair.1, pair.0))
    }

    pub(crate) fn block(&mut self, cut: &BTreeSet<(Seat, Seat)>) {
        self.blocked.extend(cut.iter().copied());
    }

    /// Ends a cut. Where two cuts overlap, the first that ends opens the way.
    pub(crate) fn unblock(&mut self, cut: &BTreeSet<(Seat, Seat)>) {
        self.blocked.retain(|way| !cut.contains(way));
    }

    pub(crate) fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    /// When a frame that is sent now arrives: never, once, or more often.
    pub(crate) fn arrivals(&mut self, faults: &mut Faults, now: MonoMillis, from: Seat, to: Seat) -> Vec<MonoMillis> {
        if self.blocked.contains(&(from, to)) {
            faults.note(FaultKind::Partition);
            return Vec::new();
        }
        if self.strikes(faults, FaultKind::Loss, self.rates.loss) {
            return Vec::new();
        }
        let mut at = now.plus(self.travel(faults));
        let last = self.last_arrival.entry((from, to)).or_default();
        if at < *last && !(faults.has(FaultKind::Reorder) && self.stream.chance(self.rates.reorder)) {
            at = *last;
        } else if at < *last {
            faults.note(FaultKind::Reorder);
        }
        *last = (*last).max(at);
        let mut arrivals = vec![at];
        if self.strikes(faults, FaultKind::Duplicate, self.rates.duplicate) {
            let later = if self.stream.chance(100) { 60_000 } else { 300 };
            arrivals.push(at.plus(DurationMillis(self.stream.between(1, later))));
        }
        arrivals
    }

    /// How long one trip takes.
    pub(crate) fn travel(&mut self, faults: &mut Faults) -> DurationMillis {
        let usual = self.stream.between(1, 20);
        if !self.strikes(faults, FaultKind::Delay, self.rates.delay) {
            return DurationMillis(usual);
        }
        let longest = if self.stream.chance(50) { 20_000 } else { 1_500 };
        DurationMillis(self.stream.between(usual, longest))
    }

    /// A length of time for something that is no frame: a lookup, a redial.
    pub(crate) fn wait(&mut self, low: u64, high: u64) -> DurationMillis {
        DurationMillis(self.stream.between(low, high))
    }

    fn strikes(&mut self, faults: &mut Faults, kind: FaultKind, per_mille: u64) -> bool {
        let does = faults.has(kind) && self.stream.chance(per_mille);
        if does {
            faults.note(kind);
        }
        does
    }
}
