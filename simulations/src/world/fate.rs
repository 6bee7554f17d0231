//! What strikes whole nodes and links: crashes, restarts, pauses, partitions, broken sessions.

use std::collections::BTreeSet;

use jobmesh_engine::Input;
use jobmesh_protocol::{DurationMillis, JobId};

use super::{Event, World};
use crate::faults::FaultKind;
use crate::invariants::Violation;
use crate::network::{Pair, Seat};
use crate::node::{Came, Condition, Life};

impl World {
    /// The next scheduled fault.
    pub(super) fn strike(&mut self) -> Result<(), Violation> {
        let Some(kind) = self.faults.next() else { return Ok(()) };
        let pause = self.faults.pause();
        self.cause(pause, Event::Strike);
        let seat = self.faults.seat(self.nodes.len());
        match kind {
            FaultKind::Partition => {
                let (cut, length) = (self.faults.cut(self.nodes.len()), self.faults.length());
                self.note(format_args!("a partition of {} ways begins", cut.len()));
                self.faults.note(kind);
                self.network.block(&cut);
                let pairs: BTreeSet<Pair> = cut.iter().map(|(from, to)| Pair::of(*from, *to)).collect();
                self.doubt(pairs.into_iter().collect());
                self.cause(length, Event::Rejoin(cut));
                Ok(())
            }
            FaultKind::Disconnect => {
                self.faults.note(kind);
                let mine = self.network.sessions().into_iter().find(|pair| pair.has(seat));
                mine.map_or(Ok(()), |pair| self.hang_up(pair))
            }
            FaultKind::Crash => {
                if self.condition(seat) == Condition::Down {
                    return Ok(());
                }
                self.faults.note(kind);
                self.crash(seat)
            }
            FaultKind::CrashBeforeCommit | FaultKind::CrashBeforeRelease | FaultKind::CommitError => {
                let trap = self.faults.trap(kind);
                if let Some(node) = self.nodes.get_mut(seat.0) {
                    node.trap = Some(trap);
                }
                Ok(())
            }
            FaultKind::Pause => self.pause(seat),
            FaultKind::Delay
            | FaultKind::Loss
            | FaultKind::Duplicate
            | FaultKind::Reorder
            | FaultKind::Skew
            | FaultKind::Executor
            | FaultKind::Forger
            | FaultKind::Disk(_) => Ok(()),
        }
    }

    /// Kills a daemon with all its processes; it starts again after a while.
    pub(super) fn crash(&mut self, seat: Seat) -> Result<(), Violation> {
        self.note(format_args!("{seat} crashes"));
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        for process in node.processes.values() {
            self.oracle.ledger.end(process.contract, None);
        }
        node.kill();
        self.asked.retain(|_, (asked, _)| *asked != seat);
        let after = self.faults.length();
        self.cause(after, Event::Restart(seat));
        let pairs: Vec<Pair> = self.network.sessions().into_iter().filter(|pair| pair.has(seat)).collect();
        for pair in pairs {
            self.hang_up(pair)?;
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, seat: Seat) -> Result<(), Violation> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.condition == Condition::Down) else {
            return Ok(());
        };
        let came = node.start(now)?;
        let life = node.life;
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
        if self.faults.strikes(FaultKind::CrashBeforeRelease, 60) {
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

    fn pause(&mut self, seat: Seat) -> Result<(), Violation> {
        let length = self.faults.length();
        let Some(node) = self.nodes.get_mut(seat.0).filter(|node| node.condition == Condition::Up) else {
            return Ok(());
        };
        node.condition = Condition::Paused;
        let life = node.life;
        self.faults.note(FaultKind::Pause);
        self.note(format_args!("{seat} stands still"));
        self.cause(length, Event::Resume(seat, life));
        let pairs = self.network.sessions().into_iter().filter(|pair| pair.has(seat)).collect();
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
        node.wakes = None;
        let mut batch = vec![Input::Tick];
        batch.append(&mut node.backlog);
        self.note(format_args!("{seat} goes on"));
        self.step(seat, batch)
    }
}
