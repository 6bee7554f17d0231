//! What strikes the disks, and how a daemon goes on whose database has failed.

use jobmesh_engine::Input;
use jobmesh_protocol::DurationMillis;

use super::{Event, World, drivers};
use crate::disk::{DiskFault, Strike};
use crate::faults::FaultKind;
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::{Came, Condition, Life, Trouble};

/// How long a daemon waits before it tries again with a database that failed.
const REPAIR_AFTER: DurationMillis = DurationMillis::from_secs(1);

impl World {
    /// The next fault of a disk. It may strike at any operation from now on, also while a daemon starts.
    pub(super) fn strike_disk(&mut self) {
        let Some((seat, fault)) = self.faults.next_of_disks(self.nodes.len()) else { return };
        let pause = self.faults.disk_pause();
        self.cause(pause, Event::StrikeDisk);
        let Some(node) = self.nodes.get_mut(seat.0) else { return };
        match fault {
            DiskFault::PowerCut => node.files.arm(self.faults.operations(), Strike::Cut(self.faults.loss())),
            DiskFault::Kill => node.files.arm(self.faults.operations(), Strike::Kill),
            DiskFault::Io => node.files.arm(self.faults.operations(), self.faults.io_errors()),
            DiskFault::Sync => node.files.fail_next_sync(),
            DiskFault::Full => {
                let (free, length) = self.faults.shortage();
                node.files.limit(Some(free));
                self.cause(length, Event::DiskHasRoom(seat));
            }
            // Not drawn here: they come with a power cut, or no promise holds under them.
            DiskFault::Lost
            | DiskFault::Torn
            | DiskFault::Reordered
            | DiskFault::LyingSync
            | DiskFault::BitRot
            | DiskFault::OldBackup => {}
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
        let came = node.repair(now)?;
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
