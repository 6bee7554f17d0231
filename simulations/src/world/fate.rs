//! What strikes whole nodes and links: each fault of the plan as it begins and ends, and what crashes lead to.

use std::collections::BTreeSet;

use jobmesh_engine::Input;
use jobmesh_protocol::{DurationMillis, JobId};

use super::{Event, Phase, World};
use crate::fault::{Fault, FaultKind, LinkFault, NodeFault, Trap, What, When};
use crate::invariants::Violation;
use crate::network::{Pair, Seat};
use crate::node::{Came, Condition, Life};

/// How long one end of a connection goes on believing in it when nothing comes back: two pings and their limit.
const HALF_OPEN_FOR: DurationMillis = DurationMillis::from_secs(15);

impl World {
    /// A fault of the plan begins.
    pub(super) fn begin_fault(&mut self, index: usize) -> Result<(), Violation> {
        let Some(fault) = self.plan.faults.get(index).cloned() else { return Ok(()) };
        if self.phase != Phase::Faulty {
            return Ok(());
        }
        match fault.what.clone() {
            What::Frames(_) | What::Runs(_) | What::Forger => {
                if fault.what == What::Forger {
                    self.cause(DurationMillis(3_000), Event::ForgerActs);
                }
                self.cause(fault.length, Event::FaultEnds(index));
                self.faults.begin(fault);
                Ok(())
            }
            What::Links(what) => self.strike_links(index, fault.length, what),
            What::Node { seat, fault: what } => self.strike_node(index, &fault, Seat(seat), what),
        }
    }

    fn strike_links(&mut self, index: usize, length: DurationMillis, what: LinkFault) -> Result<(), Violation> {
        match what {
            LinkFault::Cut { shape, ways } => {
                self.note(format_args!("a cut of {} ways begins: {}", ways.len(), shape.kind().word()));
                self.faults.note(shape.kind());
                self.network.block(&ways);
                let pairs: BTreeSet<Pair> = ways.iter().map(|(from, to)| Pair::of(Seat(*from), Seat(*to))).collect();
                self.doubt(pairs.into_iter().collect());
                self.cause(length, Event::FaultEnds(index));
            }
            LinkFault::Split { seats } => {
                self.note(format_args!("{} nodes are cut off", seats.len()));
                self.faults.note(if seats.len() == 1 { FaultKind::Isolation } else { FaultKind::Partition });
                let cut = self.network.split(index, seats.into_iter().map(Seat).collect());
                self.doubt(cut);
                self.cause(length, Event::FaultEnds(index));
            }
            LinkFault::Swizzle { clogs } => {
                self.faults.note(FaultKind::Swizzle);
                for clog in clogs {
                    let (from, length) = (DurationMillis(clog.from_ms), DurationMillis(clog.length_ms));
                    self.cause(from, Event::Clog(Seat(clog.seat)));
                    self.cause(from.plus(length), Event::Unclog(Seat(clog.seat)));
                }
            }
            LinkFault::HalfOpen { near, far } => {
                let (near, far) = (Seat(near), Seat(far));
                let pair = Pair::of(near, far);
                if self.network.close(pair) {
                    self.note(format_args!("{near} takes its session with {far} for closed"));
                    self.faults.note(FaultKind::HalfOpen);
                    self.network.leave_half_open(pair, far);
                    self.cause(HALF_OPEN_FOR, Event::HalfOpenEnds(pair));
                    if let Some(id) = self.nodes.get(far.0).map(|node| node.id) {
                        self.feed(near, Input::Disconnected(id))?;
                    }
                    if self.network.is_home(pair) {
                        self.redial(pair, 500, 15_000);
                    }
                }
            }
            LinkFault::Disconnect { one, other } => {
                let (one, other) = (Seat(one), Seat(other));
                let pair = Pair::of(one, other);
                let found = self.network.session(pair).map(|_| pair);
                // Whoever has no session with the other loses another one.
                if let Some(pair) = found.or_else(|| self.network.sessions_of(one).first().copied()) {
                    self.faults.note(FaultKind::Disconnect);
                    return self.hang_up(pair);
                }
            }
        }
        Ok(())
    }

    fn strike_node(&mut self, index: usize, fault: &Fault, seat: Seat, what: NodeFault) -> Result<(), Violation> {
        if self.condition(seat) == Condition::Absent {
            return Ok(());
        }
        self.cause(fault.length, Event::FaultEnds(index));
        match what {
            NodeFault::Clog => {
                self.faults.note(FaultKind::Clog);
                self.clog(seat);
                Ok(())
            }
            NodeFault::Crash { leaves_orphans } => {
                if self.condition(seat) == Condition::Down {
                    return Ok(());
                }
                self.faults.note(if leaves_orphans { FaultKind::Orphans } else { FaultKind::Crash });
                self.crash_for(seat, fault.length, leaves_orphans)
            }
            NodeFault::Trap { place, when } => {
                if let Some(node) = self.nodes.get_mut(seat.0) {
                    node.traps.push((place, when));
                }
                Ok(())
            }
            NodeFault::Pause => self.pause(seat, FaultKind::Pause, index),
            NodeFault::Sleep => self.pause(seat, FaultKind::Sleep, index),
            NodeFault::Jump { by_ms } => self.set_clock(seat, by_ms),
            NodeFault::Disk(strike) => {
                self.strike_disk(seat, strike);
                Ok(())
            }
            NodeFault::Wipe => {
                self.faults.note(FaultKind::Wipe);
                self.wipe(seat, fault.length)
            }
            NodeFault::LyingSync { .. } | NodeFault::BitRot { .. } | NodeFault::OldBackup => {
                self.damage(index, seat, what)
            }
            NodeFault::Clone { turn_ms } => {
                self.copy(index, seat, DurationMillis(turn_ms));
                Ok(())
            }
        }
    }

    /// A fault of the plan ends.
    pub(super) fn end_fault(&mut self, index: usize) -> Result<(), Violation> {
        let Some(fault) = self.plan.faults.get(index).cloned() else { return Ok(()) };
        self.faults.end(fault.number);
        if self.phase != Phase::Faulty {
            return Ok(());
        }
        match fault.what {
            What::Links(LinkFault::Cut { ways, .. }) => {
                self.note(format_args!("a cut ends"));
                self.network.unblock(&ways);
                Ok(())
            }
            What::Links(LinkFault::Split { .. }) => {
                self.note(format_args!("those that were cut off are not any more"));
                self.network.join(index);
                Ok(())
            }
            What::Node { seat, fault } => self.end_of_node(index, Seat(seat), fault),
            What::Frames(_) | What::Runs(_) | What::Forger | What::Links(_) => Ok(()),
        }
    }

    fn end_of_node(&mut self, index: usize, seat: Seat, what: NodeFault) -> Result<(), Violation> {
        match what {
            NodeFault::Clog => {
                self.unclog(seat);
                Ok(())
            }
            NodeFault::Jump { by_ms } => self.set_clock(seat, -by_ms),
            NodeFault::Disk(_) => {
                self.make_room(seat);
                Ok(())
            }
            NodeFault::LyingSync { .. } | NodeFault::BitRot { .. } | NodeFault::OldBackup => {
                self.mend(index, seat, what)
            }
            NodeFault::Clone { .. } => {
                self.backups.remove(&index);
                Ok(())
            }
            // The daemon starts again or goes on by an event of its own.
            NodeFault::Crash { .. }
            | NodeFault::Trap { .. }
            | NodeFault::Pause
            | NodeFault::Sleep
            | NodeFault::Wipe => Ok(()),
        }
    }

    pub(super) fn clog(&mut self, seat: Seat) {
        if self.phase != Phase::Faulty {
            return;
        }
        self.note(format_args!("nothing reaches {seat} or leaves it"));
        self.network.clog(seat);
        let pairs = self.network.sessions_of(seat);
        self.doubt(pairs);
    }

    pub(super) fn unclog(&mut self, seat: Seat) {
        if self.phase != Phase::Faulty {
            return;
        }
        self.note(format_args!("what was on its way to or from {seat} goes on"));
        let now = self.now;
        for stuck in self.network.unclog(seat) {
            let crate::network::Stuck { from, to, session, bytes } = stuck;
            self.queue_at(now.plus(DurationMillis(1)), Event::Frame { from, to, session, bytes });
        }
    }

    fn set_clock(&mut self, seat: Seat, by_ms: i64) -> Result<(), Violation> {
        self.faults.note(FaultKind::Jump);
        self.note(format_args!("the wall clock of {seat} is set by {by_ms} ms"));
        if let Some(node) = self.nodes.get_mut(seat.0) {
            node.jumped_ms += by_ms;
        }
        // The runtime notices a clock that was set by a timer of its own.
        self.feed(seat, Input::Tick)
    }

    /// Kills a daemon with all its processes; it starts again after a while.
    pub(super) fn crash(&mut self, seat: Seat) -> Result<(), Violation> {
        let is_long = self.network.wait(seat, 0, 999).0 < 300;
        let after = self.network.wait(seat, 100, if is_long { 130_000 } else { 15_000 });
        self.crash_for(seat, after, false)
    }

    /// Kills a daemon for so long. Its processes may live on.
    pub(super) fn crash_for(
        &mut self,
        seat: Seat,
        length: DurationMillis,
        leaves_orphans: bool,
    ) -> Result<(), Violation> {
        self.note(format_args!("{seat} crashes"));
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let processes = std::mem::take(&mut node.processes);
        node.kill();
        self.doubt_drive(seat);
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        if leaves_orphans {
            node.orphans.extend(processes);
        } else {
            for process in processes.into_values() {
                self.oracle.ledger.end(process.contract, None);
            }
        }
        self.asked.retain(|_, (asked, _)| *asked != seat);
        self.cause(length, Event::Restart(seat));
        for pair in self.network.sessions_of(seat) {
            self.hang_up(pair)?;
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.now;
        if self.condition(seat) != Condition::Down {
            return Ok(());
        }
        let damaged = self.is_damaged(seat).then(|| self.start_damaged(seat));
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let came = match damaged {
            Some(came) => came,
            None => node.start(now)?,
        };
        let life = node.life;
        self.patience.begin(seat, now);
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let is_struck = take_start_trap(&mut node.traps);
        self.note(format_args!("{seat} starts"));
        self.note_struck(seat);
        let outputs = match came {
            Came::Done(outputs) => outputs,
            Came::Died => return self.crash(seat),
            Came::Failed(trouble) => {
                self.note(format_args!("{seat} can't use its database: {trouble}"));
                return self.crash(seat);
            }
        };
        self.check_node(seat)?;
        if is_struck && self.phase == Phase::Faulty {
            self.faults.note(FaultKind::CrashBeforeRelease);
            return self.crash(seat);
        }
        let changed: BTreeSet<JobId> = self.perform(seat, outputs)?;
        self.check_jobs(seat, &changed)?;
        self.schedule_wake(seat);
        if self.forger.is_some() {
            self.cause(DurationMillis(200), Event::ForgerMeets(seat, life));
        }
        Ok(())
    }

    fn pause(&mut self, seat: Seat, kind: FaultKind, index: usize) -> Result<(), Violation> {
        let length = self.plan.faults.get(index).map_or(DurationMillis(0), |fault| fault.length);
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.condition == Condition::Up) else {
            return Ok(());
        };
        node.condition = Condition::Paused;
        node.is_asleep = kind == FaultKind::Sleep;
        let life = node.life;
        self.faults.note(kind);
        self.note(format_args!("{seat} stands still: {}", kind.word()));
        self.cause(length, Event::Resume(seat, life));
        let pairs = self.network.sessions_of(seat);
        self.doubt(pairs);
        Ok(())
    }

    /// A paused daemon goes on: it looks at the clock and then at everything that has waited, in one batch.
    pub(super) fn resume(&mut self, seat: Seat, life: Life) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        if node.life != life || node.condition != Condition::Paused {
            return Ok(());
        }
        node.condition = Condition::Up;
        node.is_asleep = false;
        node.wakes = None;
        self.patience.begin(seat, self.now);
        let mut batch = vec![Input::Tick];
        batch.append(&mut node.backlog);
        self.note(format_args!("{seat} goes on"));
        self.step(seat, batch)
    }
}

/// Takes a trap that waits for a start, if there is one.
fn take_start_trap(traps: &mut Vec<(Trap, When)>) -> bool {
    let before = traps.len();
    traps.retain(|(_, when)| *when != When::Start);
    traps.len() < before
}
