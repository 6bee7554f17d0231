//! The network: sessions between pairs, and what becomes of a frame on its way.
//!
//! A session has a number. A frame belongs to the session it was sent on and is gone with it, as bytes in a closed
//! connection are; so nothing arrives from before a disconnect but what the forger or a replay kept.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::{DurationMillis, MonoMillis};

use crate::fault::FaultKind;
use crate::faults::{Fate, Faults};
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
}

/// One life of a connection. Later ones have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Session(u64);

/// A frame that waits for the end of a clog.
#[derive(Clone, Debug)]
pub(crate) struct Stuck {
    pub(crate) from: Seat,
    pub(crate) to: Seat,
    pub(crate) session: Session,
    pub(crate) bytes: Vec<u8>,
}

/// What becomes of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trip {
    /// When it arrives: never, once, or more often.
    pub(crate) arrivals: Vec<MonoMillis>,
    /// When the connection breaks under it.
    pub(crate) breaks: Option<MonoMillis>,
    /// When it arrives on whatever connection there is.
    pub(crate) replay: Option<MonoMillis>,
    /// It waits for the end of a clog.
    pub(crate) is_stuck: bool,
}

/// Every session and every cut.
#[derive(Debug)]
pub(crate) struct Network {
    seed: u64,
    links: BTreeMap<(Seat, Seat), Stream>,
    drivers: BTreeMap<Seat, Stream>,
    sessions: BTreeMap<Pair, Session>,
    neighbours: BTreeMap<Seat, BTreeSet<Seat>>,
    /// Connections that only this end takes for open.
    half_open: BTreeMap<Pair, Seat>,
    opened: u64,
    blocked: BTreeMap<(Seat, Seat), u32>,
    /// Groups that are cut off from everybody else, by the place of the fault that did it.
    splits: BTreeMap<usize, BTreeSet<Seat>>,
    clogged: BTreeMap<Seat, u32>,
    stuck: Vec<Stuck>,
    last_arrival: BTreeMap<(Seat, Seat), MonoMillis>,
    homes: BTreeSet<Pair>,
    met: BTreeSet<Pair>,
}

impl Network {
    /// A network without sessions.
    pub(crate) fn new(seed: u64, homes: BTreeSet<Pair>) -> Self {
        Self {
            seed,
            links: BTreeMap::new(),
            drivers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            half_open: BTreeMap::new(),
            opened: 0,
            blocked: BTreeMap::new(),
            splits: BTreeMap::new(),
            clogged: BTreeMap::new(),
            stuck: Vec::new(),
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
        self.neighbours.get(&seat).into_iter().flatten().copied().collect()
    }

    /// The sessions of one node.
    pub(crate) fn sessions_of(&self, seat: Seat) -> Vec<Pair> {
        self.neighbours(seat).into_iter().map(|other| Pair::of(seat, other)).collect()
    }

    /// Opens a session. False if there is one or the way is blocked.
    pub(crate) fn open(&mut self, pair: Pair) -> bool {
        if self.sessions.contains_key(&pair) || self.is_cut(pair) {
            return false;
        }
        self.opened += 1;
        self.met.insert(pair);
        self.sessions.insert(pair, Session(self.opened));
        self.neighbours.entry(pair.0).or_default().insert(pair.1);
        self.neighbours.entry(pair.1).or_default().insert(pair.0);
        true
    }

    /// Closes a session. False if there is none.
    pub(crate) fn close(&mut self, pair: Pair) -> bool {
        for (seat, other) in [(pair.0, pair.1), (pair.1, pair.0)] {
            if let Some(neighbours) = self.neighbours.get_mut(&seat) {
                neighbours.remove(&other);
            }
        }
        self.sessions.remove(&pair).is_some()
    }

    /// From now on only `far` takes the closed connection for open.
    pub(crate) fn leave_half_open(&mut self, pair: Pair, far: Seat) {
        self.half_open.insert(pair, far);
    }

    /// The end that still took a connection for open, which it no longer does.
    pub(crate) fn end_half_open(&mut self, pair: Pair) -> Option<Seat> {
        self.half_open.remove(&pair)
    }

    /// Whether frames can't go both ways.
    pub(crate) fn is_cut(&self, pair: Pair) -> bool {
        self.is_blocked(pair.0, pair.1)
            || self.is_blocked(pair.1, pair.0)
            || self.clogged.contains_key(&pair.0)
            || self.clogged.contains_key(&pair.1)
    }

    /// Whether frames can't go this way.
    fn is_blocked(&self, from: Seat, to: Seat) -> bool {
        let divides = |inside: &BTreeSet<Seat>| inside.contains(&from) != inside.contains(&to);
        self.blocked.contains_key(&(from, to)) || self.splits.values().any(divides)
    }

    /// Cuts a group off from everybody else. Returns the sessions that it cuts.
    pub(crate) fn split(&mut self, number: usize, inside: BTreeSet<Seat>) -> Vec<Pair> {
        let leads_out = |pair: &&Pair| inside.contains(&pair.0) != inside.contains(&pair.1);
        let cut = self.sessions.keys().filter(leads_out).copied().collect();
        self.splits.insert(number, inside);
        cut
    }

    pub(crate) fn join(&mut self, number: usize) {
        self.splits.remove(&number);
    }

    pub(crate) fn block(&mut self, ways: &[(usize, usize)]) {
        for (from, to) in ways {
            *self.blocked.entry((Seat(*from), Seat(*to))).or_default() += 1;
        }
    }

    /// Ends a cut. Where two cuts overlap, the last that ends opens the way.
    pub(crate) fn unblock(&mut self, ways: &[(usize, usize)]) {
        for (from, to) in ways {
            lessen(&mut self.blocked, (Seat(*from), Seat(*to)));
        }
    }

    pub(crate) fn clog(&mut self, seat: Seat) {
        *self.clogged.entry(seat).or_default() += 1;
    }

    /// Ends a clog and returns the frames that go on.
    pub(crate) fn unclog(&mut self, seat: Seat) -> Vec<Stuck> {
        lessen(&mut self.clogged, seat);
        let clogged = &self.clogged;
        let is_stuck = |stuck: &Stuck| clogged.contains_key(&stuck.from) || clogged.contains_key(&stuck.to);
        let (still, free) = std::mem::take(&mut self.stuck).into_iter().partition(is_stuck);
        self.stuck = still;
        free
    }

    /// Keeps a frame for the end of a clog.
    pub(crate) fn hold(&mut self, stuck: Stuck) {
        self.stuck.push(stuck);
    }

    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
        self.splits.clear();
        self.clogged.clear();
        self.stuck.clear();
    }

    /// What becomes of a frame that is sent now.
    pub(crate) fn trip(&mut self, faults: &mut Faults, now: MonoMillis, from: Seat, to: Seat) -> Trip {
        let usual = self.travel(from, to);
        let fate = faults.fate(from, to);
        let replay = fate.replay.map(|after| now.plus(after));
        if self.is_blocked(from, to) {
            return Trip::default();
        }
        if self.clogged.contains_key(&from) || self.clogged.contains_key(&to) {
            return Trip { is_stuck: true, ..Trip::default() };
        }
        if fate.breaks {
            return Trip { breaks: Some(now.plus(usual)), ..Trip::default() };
        }
        if fate.is_lost {
            return Trip { replay, ..Trip::default() };
        }
        let at = self.arrival(faults, fate, now.plus(usual).plus(fate.delay), (from, to));
        let mut arrivals = vec![at];
        arrivals.extend(fate.copy.map(|after| at.plus(after)));
        Trip { arrivals, replay, ..Trip::default() }
    }

    /// When a frame arrives: after those that were sent before it, unless it overtakes them.
    fn arrival(&mut self, faults: &mut Faults, fate: Fate, at: MonoMillis, link: (Seat, Seat)) -> MonoMillis {
        let last = self.last_arrival.entry(link).or_default();
        let overtakes = at < *last && fate.may_overtake;
        if overtakes {
            faults.note(FaultKind::Reorder);
            return at;
        }
        *last = at.max(*last);
        *last
    }

    /// How long one trip takes with nothing in the way.
    fn travel(&mut self, from: Seat, to: Seat) -> DurationMillis {
        let seed = self.seed;
        let link = self.links.entry((from, to)).or_insert_with(|| Stream::new(seed, &format!("link {from} {to}")));
        DurationMillis(link.between(1, 20))
    }

    /// A length of time for something that a node's drivers do and that is no frame: a lookup, a redial.
    pub(crate) fn wait(&mut self, seat: Seat, low: u64, high: u64) -> DurationMillis {
        let seed = self.seed;
        let driver = self.drivers.entry(seat).or_insert_with(|| Stream::new(seed, &format!("drivers of {seat}")));
        DurationMillis(driver.between(low, high))
    }
}

fn lessen<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}
