//! Sessions that come and go, and what travels on them.

use jobmesh_engine::Input;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::ticket::Terms;
use jobmesh_protocol::{DurationMillis, MonoMillis, RunId};

use super::{Event, World};
use crate::fault::FaultKind;
use crate::invariants::Violation;
use crate::network::{Pair, Seat, Session, Stuck};
use crate::node::{Condition, Life};

/// How long two nodes wait for a sign of life: a ping every 5 s that may take 5 s.
const PING_LIMIT: DurationMillis = DurationMillis::from_secs(10);
/// How often a digest is said again, as it is whenever somebody new appears.
const REGOSSIP_EVERY: DurationMillis = DurationMillis::from_secs(60);
/// In a large world it is said once in as many times this as there are nodes.
const REGOSSIP_PER_NODE: DurationMillis = DurationMillis(630);

impl World {
    /// What a node hears when its session with `other` comes up.
    pub(super) fn connected(&self, other: Seat) -> Input {
        let node = self.nodes.get(other.0).map_or(jobmesh_protocol::NodeId::from_bytes([0; 32]), |node| node.id);
        Input::Connected {
            node,
            name: format!("node-{}", other.0),
            addresses: vec![format!("/memory/{}", other.0 + 1)],
        }
    }

    /// Tries to open a session once.
    pub(super) fn dial(&mut self, pair: Pair) -> Result<(), Violation> {
        let are_up = [pair.0, pair.1].into_iter().all(|seat| self.condition(seat) == Condition::Up);
        if !are_up || !self.network.open(pair) {
            return Ok(());
        }
        self.note(format_args!("{} and {} connect", pair.0, pair.1));
        // Who still believed in an old connection hears of its end, or just of the new one.
        if let Some(far) = self.network.end_half_open(pair)
            && self.network.wait(far, 0, 1).0 == 0
        {
            self.tell_disconnected(far, pair)?;
        }
        for (seat, other) in [(pair.0, pair.1), (pair.1, pair.0)] {
            let input = self.connected(other);
            // The first of the two may have crashed while it took its turn.
            if self.network.session(pair).is_some() {
                self.feed(seat, input)?;
            }
        }
        Ok(())
    }

    /// Has two nodes that belong together try until they have a session.
    pub(super) fn redial(&mut self, pair: Pair, low: u64, high: u64) {
        if self.redialing.insert(pair) {
            let after = self.network.wait(pair.0, low, high);
            self.cause(after, Event::Redial(pair));
        }
    }

    pub(super) fn dial_again(&mut self, pair: Pair) -> Result<(), Violation> {
        self.redialing.remove(&pair);
        self.dial(pair)?;
        let is_possible = [pair.0, pair.1].into_iter().all(|seat| self.condition(seat) != Condition::Absent);
        if self.network.session(pair).is_none() && is_possible {
            self.redial(pair, 2_000, 15_000);
        }
        Ok(())
    }

    /// Closes a session, if there is one; both ends hear of it.
    pub(super) fn hang_up(&mut self, pair: Pair) -> Result<(), Violation> {
        if !self.network.close(pair) {
            return Ok(());
        }
        self.note(format_args!("{} and {} disconnect", pair.0, pair.1));
        for seat in [pair.0, pair.1] {
            self.tell_disconnected(seat, pair)?;
        }
        if self.network.is_home(pair) {
            self.redial(pair, 500, 15_000);
        }
        Ok(())
    }

    fn tell_disconnected(&mut self, seat: Seat, pair: Pair) -> Result<(), Violation> {
        let other = if pair.0 == seat { pair.1 } else { pair.0 };
        match self.nodes.get(other.0).map(|node| node.id) {
            Some(id) => self.feed(seat, Input::Disconnected(id)),
            None => Ok(()),
        }
    }

    /// One end of a closed connection gives it up at last.
    pub(super) fn half_open_ends(&mut self, pair: Pair) -> Result<(), Violation> {
        match self.network.end_half_open(pair) {
            Some(far) => self.tell_disconnected(far, pair),
            None => Ok(()),
        }
    }

    /// The bytes of a connection break off.
    pub(super) fn break_off(&mut self, pair: Pair, session: Session) -> Result<(), Violation> {
        if self.network.session(pair) == Some(session) { self.hang_up(pair) } else { Ok(()) }
    }

    /// A frame of long ago arrives once more.
    pub(super) fn replay(&mut self, from: Seat, to: Seat, bytes: Vec<u8>) -> Result<(), Violation> {
        match self.network.session(Pair::of(from, to)) {
            Some(session) => self.arrive(from, to, session, bytes),
            None => Ok(()),
        }
    }

    /// Has every session of these nodes looked at once a ping would have failed.
    pub(super) fn doubt(&mut self, pairs: Vec<Pair>) {
        for pair in pairs {
            self.cause(PING_LIMIT, Event::Ping(pair));
        }
    }

    pub(super) fn ping(&mut self, pair: Pair) -> Result<(), Violation> {
        let are_up = [pair.0, pair.1].into_iter().all(|seat| self.condition(seat) == Condition::Up);
        if are_up && !self.network.is_cut(pair) { Ok(()) } else { self.hang_up(pair) }
    }

    /// Puts a frame on its way, if there is a session to carry it.
    pub(super) fn send(&mut self, from: Seat, to: Seat, bytes: &[u8]) {
        #[cfg(test)]
        self.tap.sent(from, to, bytes);
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        self.traffic.add(bytes);
        self.trace.bytes(bytes);
        let Some(session) = self.network.session(Pair::of(from, to)) else { return };
        let trip = self.network.trip(&mut self.faults, self.now, from, to);
        if trip.is_stuck {
            self.network.hold(Stuck { from, to, session, bytes: bytes.to_vec() });
        }
        for at in trip.arrivals {
            self.queue_at(at, Event::Frame { from, to, session, bytes: bytes.to_vec() });
        }
        if let Some(at) = trip.breaks {
            self.queue_at(at, Event::BreakOff(Pair::of(from, to), session));
        }
        if let Some(at) = trip.replay {
            self.queue_at(at, Event::Replay { from, to, bytes: bytes.to_vec() });
        }
        self.overhear(from, to, bytes);
    }

    pub(super) fn arrive(&mut self, from: Seat, to: Seat, session: Session, bytes: Vec<u8>) -> Result<(), Violation> {
        let is_alive = self.network.session(Pair::of(from, to)) == Some(session);
        let Some(id) = self.nodes.get(from.0).map(|node| node.id).filter(|_| is_alive) else { return Ok(()) };
        self.feed(to, Input::Frame { from: id, bytes })
    }

    /// Spreads a digest from neighbour to neighbour; each link may lose it.
    pub(super) fn spread(&mut self, from: Seat, bytes: &[u8]) {
        let mut told = vec![false; self.nodes.len()];
        if let Some(told) = told.get_mut(from.0) {
            *told = true;
        }
        let mut tellers: std::collections::VecDeque<(Seat, MonoMillis, u32)> = [(from, self.now, 0)].into();
        while let Some((via, since, hops)) = tellers.pop_front() {
            if self.plan.gossip_hops.is_some_and(|most| hops >= most) {
                continue;
            }
            for to in self.network.neighbours(via) {
                if told.get(to.0).copied().unwrap_or(true) {
                    continue;
                }
                if let Some(at) = self.network.trip(&mut self.faults, since, via, to).arrivals.first().copied() {
                    if let Some(told) = told.get_mut(to.0) {
                        *told = true;
                    }
                    tellers.push_back((to, at, hops + 1));
                    self.queue_at(at, Event::Gossip { via, to, bytes: bytes.to_vec() });
                }
            }
        }
    }

    pub(super) fn hear(&mut self, via: Seat, to: Seat, bytes: Vec<u8>) -> Result<(), Violation> {
        let Some(id) = self.nodes.get(via.0).map(|node| node.id) else { return Ok(()) };
        self.feed(to, Input::Gossip { via: id, bytes })
    }

    pub(super) fn publish(&mut self, seat: Seat, bytes: Vec<u8>) {
        self.spread(seat, &bytes);
        let life = self.life(seat);
        let Some(node) = self.nodes.get_mut(seat.0) else { return };
        if node.digest.replace(bytes).is_none() {
            let every = self.regossip_every();
            // Those of many nodes that start together must not speak together.
            let first = if every > REGOSSIP_EVERY { self.network.wait(seat, 1_000, every.0) } else { every };
            self.cause(first, Event::Regossip(seat, life));
        }
    }

    fn regossip_every(&self) -> DurationMillis {
        REGOSSIP_EVERY.max(REGOSSIP_PER_NODE.scale(self.nodes.len() as u64, 1))
    }

    pub(super) fn regossip(&mut self, seat: Seat, life: Life) -> Result<(), Violation> {
        if !self.lives(seat, life) {
            return Ok(());
        }
        if let Some(digest) = self.nodes.get(seat.0).and_then(|node| node.digest.clone()) {
            if self.condition(seat) == Condition::Up {
                self.spread(seat, &digest);
            }
            self.cause(self.regossip_every(), Event::Regossip(seat, life));
        }
        Ok(())
    }

    fn overhear(&mut self, from: Seat, to: Seat, bytes: &[u8]) {
        let Some(id) = self.nodes.get(from.0).map(|node| node.id) else { return };
        if !self.faults.has_forger() {
            return;
        }
        let overheard = self.forger.as_mut().map(|forger| forger.overhear(id, to, bytes));
        for award in overheard.unwrap_or_default() {
            let Some(spec) = self.awarded_spec(from, award.terms) else { continue };
            let Some(forger) = &mut self.forger else { return };
            if let Some((to, bytes)) = forger.forge((from, id), &award, spec) {
                let after = DurationMillis(forger.haste());
                self.cause(after, Event::Forged { to, bytes });
            }
        }
    }

    /// The hash of the spec that an origin has sealed for an awardee.
    fn awarded_spec(&mut self, origin: Seat, terms: Terms) -> Option<Hash> {
        let txn = self.nodes.get_mut(origin.0)?.store().ok()?.begin().ok()?;
        let run = RunId { job: terms.ticket.into(), epoch: terms.epoch };
        txn.view().attempt(run).ok()??.spec_hash
    }

    pub(super) fn forged(&mut self, to: Seat, bytes: Vec<u8>) -> Result<(), Violation> {
        let Some(from) = self.forger.as_ref().map(crate::forger::Forger::node) else { return Ok(()) };
        self.faults.note(FaultKind::Forger);
        self.note(format_args!("the forger sends {} bytes to {to}", bytes.len()));
        self.feed(to, Input::Frame { from, bytes })
    }

    pub(super) fn meet_forger(&mut self, seat: Seat, life: Life) -> Result<(), Violation> {
        let node = self.forger.as_ref().map(crate::forger::Forger::node);
        let Some(node) = node.filter(|_| self.lives(seat, life)) else { return Ok(()) };
        self.feed(seat, Input::Connected { node, name: "forger".to_owned(), addresses: Vec::new() })
    }

    pub(super) fn forger_acts(&mut self) -> Result<(), Violation> {
        let nodes = self.nodes.len();
        if !self.faults.has_forger() {
            return Ok(());
        }
        let Some(forger) = &mut self.forger else { return Ok(()) };
        let ((to, bytes), pause) = (forger.garbage(nodes), DurationMillis(forger.pause()));
        self.cause(pause, Event::ForgerActs);
        self.forged(to, bytes)
    }
}
