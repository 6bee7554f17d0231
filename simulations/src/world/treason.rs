//! A traitor among the nodes: when it speaks, to whom, and what it overhears.

use jobmesh_engine::Input;
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{DurationMillis, NodeId};

use super::{Event, Phase, World};
use crate::fault::Treason;
use crate::forger::Overheard;
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::{Condition, EPOCH, Life};
use crate::traitor::{Betrayal, Traitor};

impl World {
    /// Every member of the traitor connects to a daemon that has just started.
    pub(super) fn meet_traitor(&mut self, seat: Seat, life: Life) -> Result<(), Violation> {
        if !self.lives(seat, life) || self.phase != Phase::Faulty {
            return Ok(());
        }
        let (others, now) = (self.nodes.iter().map(|node| node.id).collect(), EPOCH.plus(DurationMillis(self.now.0)));
        let is_defector = self.faults.has_traitor(Treason::Defect);
        let Some(traitor) = &mut self.traitor else { return Ok(()) };
        traitor.meet(others);
        let members = traitor.members();
        let boast = is_defector.then(|| traitor.boast(now));
        for node in members.iter().copied() {
            self.feed(seat, Input::Connected { node, name: "traitor".to_owned(), addresses: Vec::new() })?;
        }
        if let Some((boast, first)) = boast.zip(members.first().copied()) {
            self.feed(seat, Input::Frame { from: first, bytes: boast })?;
        }
        Ok(())
    }

    /// Nobody betrays anybody in a world that heals.
    pub(super) fn traitor_leaves(&mut self) -> Result<(), Violation> {
        for node in self.traitor.as_ref().map(Traitor::members).unwrap_or_default() {
            for seat in self.all_seats() {
                if self.condition(seat) != Condition::Down {
                    self.feed(seat, Input::Disconnected(node))?;
                }
            }
        }
        Ok(())
    }

    /// What of a treason goes on by itself.
    pub(super) fn traitor_acts(&mut self, treason: Treason) -> Result<(), Violation> {
        let count = self.nodes.len();
        if !self.faults.has_traitor(treason) {
            return Ok(());
        }
        let (now, day) = (EPOCH.plus(DurationMillis(self.now.0)), EPOCH.plus(DurationMillis(self.now.0)).day());
        let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
        let Some(traitor) = &mut self.traitor else { return Ok(()) };
        traitor.meet(ids.clone());
        let stream = traitor.stream(treason);
        let (seat, soon, late) =
            (Seat(stream.index(count)), stream.between(200, 4_000), stream.between(60_000, 240_000));
        let (Some(to), Some(first)) = (ids.get(seat.0).copied(), traitor.members().first().copied()) else {
            return Ok(());
        };
        let mut said: Vec<(Seat, NodeId, Betrayal)> = Vec::new();
        let mut again = late;
        match treason {
            // These wait for awards.
            Treason::Usurp | Treason::Transplant => return Ok(()),
            Treason::Flood => {
                said.extend(traitor.flood(to).into_iter().map(|frame| (seat, first, Betrayal::Frame(frame))));
            }
            Treason::Slander => {
                let all = traitor.slander(day);
                for seat in (0..count).map(Seat) {
                    said.extend(all.iter().map(|(by, frame)| (seat, *by, Betrayal::Frame(frame.clone()))));
                }
            }
            Treason::Babble => {
                said.push((seat, first, traitor.babble(to, now)));
                again = soon;
            }
            Treason::Defect => {
                let boast = traitor.boast(now);
                said.extend((0..count).map(|seat| (Seat(seat), first, Betrayal::Frame(boast.clone()))));
            }
        }
        self.faults.note(treason.kind());
        self.cause(DurationMillis(again), Event::TraitorActs(treason));
        said.into_iter().try_for_each(|(seat, by, what)| self.betrayed(seat, by, what))
    }

    /// What one of the members sends arrives.
    pub(super) fn betrayed(&mut self, to: Seat, by: NodeId, what: Betrayal) -> Result<(), Violation> {
        if self.phase != Phase::Faulty {
            return Ok(());
        }
        self.feed(
            to,
            match what {
                Betrayal::Frame(bytes) => Input::Frame { from: by, bytes },
                Betrayal::Gossip(bytes) => Input::Gossip { via: by, bytes },
            },
        )
    }

    /// Shows the traitor an award that was sent to somebody else.
    pub(super) fn betray_award(&mut self, origin: (Seat, NodeId), to: Seat, award: &Overheard, spec: Hash) {
        let Some(traitor) = &mut self.traitor else { return };
        let Some(by) = traitor.members().first().copied() else { return };
        let mut said = Vec::new();
        if self.faults.has_traitor(Treason::Usurp) {
            said.push((Treason::Usurp, traitor.usurp(origin.1, award, spec)));
        }
        if let Some(awardee) = self.nodes.get(to.0).filter(|_| self.faults.has_traitor(Treason::Transplant)) {
            said.push((Treason::Transplant, traitor.transplant(&awardee.identity(), origin.1, award, spec)));
        }
        for (treason, frame) in said {
            let after = self.traitor.as_mut().map_or(1, |traitor| traitor.stream(treason).between(1, 3_000));
            self.faults.note(treason.kind());
            self.cause(DurationMillis(after), Event::Betrays { to: origin.0, by, what: Betrayal::Frame(frame) });
        }
    }

    /// A node sends something to one of the members.
    pub(super) fn traitor_hears(&mut self, from: Seat, to: NodeId, frame: &[u8]) {
        let is_defector = self.faults.has_traitor(Treason::Defect);
        let Some(origin) = self.nodes.get(from.0).map(|node| node.id) else { return };
        let Some(traitor) = self.traitor.as_mut().filter(|traitor| traitor.members().contains(&to)) else { return };
        let is_first = traitor.members().first() == Some(&to);
        let answers = traitor.answer(origin, frame, is_defector && is_first);
        for job in crate::traitor::claimed(origin, frame).into_iter().filter(|_| is_defector) {
            self.oracle.claim(job);
        }
        for (place, answer) in (1..).zip(answers) {
            let what = Betrayal::Frame(answer);
            self.cause(DurationMillis(20 + place), Event::Betrays { to: from, by: to, what });
        }
    }
}
