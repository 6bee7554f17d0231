//! Scripted strikes: the plan says at which event of a small world something goes wrong, counted from the first thing
//! that a person asks. So every place in a story can be struck in turn, which the module `scope` does.

use jobmesh_protocol::DurationMillis;

use super::{Event, Phase, World};
use crate::fault::{Trap, When};
use crate::invariants::Violation;
use crate::network::{Pair, Seat};
use crate::node::Condition;
use crate::scope::Injection;

/// How long a daemon that a script kills stays dead.
const DEAD_FOR: DurationMillis = DurationMillis::from_secs(2);

impl World {
    /// Whether an event is one that a script counts, and if so at which node it happens and whether it is a frame.
    fn subject(&self, event: &Event) -> Option<(Seat, Option<Pair>)> {
        let is_up = |seat: &Seat| self.condition(*seat) == Condition::Up;
        let found = match event {
            Event::Frame { from, to, session, .. } => {
                let pair = Pair::of(*from, *to);
                (self.network.session(pair) == Some(*session)).then_some((*to, Some(pair)))
            }
            Event::Wake(seat) => {
                let is_due = self.nodes.get(seat.0).is_some_and(|node| node.wakes == Some(self.now));
                is_due.then_some((*seat, None))
            }
            Event::RunStarts { seat, life, .. }
            | Event::RunEnds { seat, life, .. }
            | Event::Copied { seat, life, .. } => self.lives(*seat, *life).then_some((*seat, None)),
            Event::Operate(operation) => {
                let home = self.plan.works.get(&operation.job).map(|work| Seat(work.home));
                home.map(|home| (home, None))
            }
            Event::Gossip { .. }
            | Event::Regossip(..)
            | Event::Dial(_)
            | Event::Redial(_)
            | Event::Ping(_)
            | Event::Found { .. }
            | Event::BreakOff(..)
            | Event::Replay { .. }
            | Event::HalfOpenEnds(_)
            | Event::Forged { .. }
            | Event::ForgerMeets(..)
            | Event::ForgerActs
            | Event::TraitorMeets(..)
            | Event::TraitorActs(_)
            | Event::Betrays { .. }
            | Event::RunAdopted { .. }
            | Event::RunGone { .. }
            | Event::EndsAgain { .. }
            | Event::FaultBegins(_)
            | Event::FaultEnds(_)
            | Event::Clog(_)
            | Event::Unclog(_)
            | Event::SetUpAnew(_)
            | Event::TakeTurn(_)
            | Event::Repair(..)
            | Event::Restart(_)
            | Event::Resume(..)
            | Event::Heal
            | Event::Reunite
            | Event::Inspect
            | Event::LookAtPatience => None,
        };
        found.filter(|(seat, _)| is_up(seat))
    }

    /// Has the script of the plan strike at an event. Returns the event if it still happens.
    pub(super) fn scripted(&mut self, event: Event) -> Result<Option<Event>, Violation> {
        let Some(script) = &self.plan.script else { return Ok(Some(event)) };
        let has_begun = !self.relevant.is_empty() || matches!(event, Event::Operate(_));
        if !has_begun || self.phase != Phase::Faulty {
            return Ok(Some(event));
        }
        let Some((seat, pair)) = self.subject(&event) else { return Ok(Some(event)) };
        let place = self.relevant.len();
        self.relevant.push(pair.is_some());
        let Some(injection) = script.iter().find(|strike| strike.event == place).map(|strike| strike.injection) else {
            return Ok(Some(event));
        };
        self.note(format_args!("the script strikes {seat} at event {place}: {injection:?}"));
        self.inject(injection, event, seat, pair)
    }

    fn inject(
        &mut self,
        injection: Injection,
        event: Event,
        seat: Seat,
        pair: Option<Pair>,
    ) -> Result<Option<Event>, Violation> {
        let trap = match injection {
            Injection::BeforeCommit => Trap::BeforeCommit,
            Injection::BeforeRelease => Trap::BeforeRelease,
            Injection::UnknownCommit => Trap::ErrorAfterCommit,
            Injection::Kill => {
                self.crash_for(seat, DEAD_FOR, false)?;
                return Ok(None);
            }
            Injection::Drop => return Ok(None),
            Injection::Double => {
                if let Event::Frame { from, to, session, bytes } = &event {
                    let again = Event::Frame { from: *from, to: *to, session: *session, bytes: bytes.clone() };
                    self.cause(DurationMillis(1), again);
                }
                return Ok(Some(event));
            }
            Injection::Defer => {
                let next = self.queue.first_key_value().map(|((at, _), _)| *at);
                self.queue_at(next.unwrap_or(self.now), event);
                return Ok(None);
            }
            Injection::Disconnect => {
                return pair.map_or(Ok(()), |pair| self.hang_up(pair)).map(|()| None);
            }
        };
        if let Some(node) = self.nodes.get_mut(seat.0) {
            node.traps.push((trap, When::Steps(0)));
        }
        Ok(Some(event))
    }
}
