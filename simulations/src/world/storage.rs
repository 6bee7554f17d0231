//! What strikes the disks, and how a daemon goes on whose database has failed.

use jobmesh_engine::Input;
use jobmesh_protocol::DurationMillis;

use super::{Event, World, drivers};
use crate::disk::Strike;
use crate::fault::{DiskStrike, FaultKind};
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::{Came, Condition, Life, Trouble};

/// How long a daemon waits before it tries again with a database that failed.
const REPAIR_AFTER: DurationMillis = DurationMillis::from_secs(1);

impl World {
    /// A disk is struck. It may strike at any operation from now on, also while a daemon starts.
    pub(super) fn strike_disk(&mut self, seat: Seat, strike: DiskStrike) {
        let Some(node) = self.nodes.get_mut(seat.0) else { return };
        match strike {
            DiskStrike::PowerCut { operations, loss } => node.files.arm(operations, Strike::Cut(loss)),
            DiskStrike::Kill { operations } => node.files.arm(operations, Strike::Kill),
            DiskStrike::Io { operations, times } => node.files.arm(operations, Strike::Io(times)),
            DiskStrike::Sync => node.files.fail_next_sync(),
            DiskStrike::Full { free_bytes } => node.files.limit(Some(free_bytes)),
        }
    }

    pub(super) fn make_room(&mut self, seat: Seat) {
        if let Some(node) = self.nodes.get_mut(seat.0) {
            node.files.limit(None);
        }
    }

    /// Writes down what struck a disk.
    pub(super) fn note_struck(&mut self, seat: Seat) {
        let struck = self.nodes.get(seat.0).map(|node| node.files.take_struck()).unwrap_or_default();
        for fault in struck {
            self.faults.note(FaultKind::Disk(fault));
            self.note(format_args!("the disk of {seat} is struck: {}", fault.word()));
        }
    }

    /// The database of a node has failed. The daemon lives on and tries again.
    pub(super) fn fail(&mut self, seat: Seat, trouble: &Trouble, batch: Vec<Input>) -> Result<(), Violation> {
        self.note(format_args!("{seat} has trouble: {trouble}"));
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        node.fail(trouble, batch.into_iter().filter(drivers::is_kept));
        node.wakes = None;
        if node.gives_up() || matches!(trouble, Trouble::Open(_) | Trouble::Log) {
            self.note(format_args!("{seat} gives up"));
            return self.crash(seat);
        }
        let life = node.life;
        self.cause(REPAIR_AFTER, Event::Repair(seat, life));
        Ok(())
    }

    pub(super) fn repair(&mut self, seat: Seat, life: Life) -> Result<(), Violation> {
        let now = self.now;
        let failing = |node: &&mut crate::node::Node| node.life == life && node.condition == Condition::Failing;
        let Some(node) = self.nodes.get_mut(seat.0).filter(failing) else { return Ok(()) };
        let came = match node.repair(now) {
            Ok(came) => came,
            Err(_) if node.is_damaged => Came::Died,
            Err(violation) => return Err(violation),
        };
        self.note_struck(seat);
        match came {
            Came::Done(outputs) => {
                let kept = self.nodes.get_mut(seat.0).map(|node| std::mem::take(&mut node.backlog));
                self.rebuilt(seat, outputs, kept.unwrap_or_default())
            }
            Came::Died => self.crash(seat),
            Came::Failed(trouble) => self.fail(seat, &trouble, Vec::new()),
        }
    }
}
