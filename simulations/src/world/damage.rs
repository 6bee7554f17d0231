//! Machines that lose what they knew: wiped, on a drive that breaks its word, or set back to an old copy.
//!
//! No promise of such a node can hold for what it lost, so the oracle forgets that; and while its files are wrong, what
//! it says is held against nothing. Every promise of every other node must hold all the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use jobmesh_engine::Input;
use jobmesh_protocol::DurationMillis;

use super::{Event, World};
use crate::disk::DiskFault;
use crate::fault::{FaultKind, NodeFault, Trap, What};
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::{Came, Condition, StepEnd};

/// How long the owner of a damaged machine takes to set it up anew.
const NOTICED_AFTER: DurationMillis = DurationMillis::from_secs(60);

impl World {
    /// A machine is lost; another one takes its place and its key.
    pub(super) fn wipe(&mut self, seat: Seat, length: DurationMillis) -> Result<(), Violation> {
        self.note(format_args!("{seat} is lost with all that it knew"));
        self.crash_for(seat, length, false)?;
        let orphans: Vec<_> =
            self.nodes.get(seat.0).map(|node| node.orphans.values().copied().collect()).unwrap_or_default();
        for orphan in orphans {
            self.oracle.ledger.end(orphan.contract, None);
        }
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        node.wipe();
        let id = node.id;
        self.oracle.forget(seat, id);
        Ok(())
    }

    /// A drive begins to break its word.
    pub(super) fn damage(&mut self, index: usize, seat: Seat, what: NodeFault) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        if matches!(what, NodeFault::LyingSync { .. }) {
            node.files.lie();
        } else if what == NodeFault::OldBackup {
            self.backups.insert(index, node.files.backup());
        } else if let NodeFault::BitRot { in_log } = what {
            self.set_damaged(seat);
            self.crash_for(seat, DurationMillis(1_000), false)?;
            if let Some(node) = self.nodes.get_mut(seat.0) {
                if in_log { node.files.rot_log() } else { node.files.rot_database() }
            }
            self.note_struck(seat);
        }
        Ok(())
    }

    /// The fault of a drive has run its course.
    pub(super) fn mend(&mut self, index: usize, seat: Seat, what: NodeFault) -> Result<(), Violation> {
        if let NodeFault::LyingSync { loss } = what {
            let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
            node.files.cut(loss);
            node.files.lie_no_more();
            self.set_damaged(seat);
            self.note_struck(seat);
            self.cause(NOTICED_AFTER, Event::SetUpAnew(seat));
            return self.crash_for(seat, DurationMillis(1_000), false);
        }
        if matches!(what, NodeFault::BitRot { .. }) {
            return self.set_up_anew(seat);
        }
        let Some(backup) = self.backups.remove(&index) else { return Ok(()) };
        self.note(format_args!("the files of {seat} are put back to an earlier time"));
        self.crash_for(seat, DurationMillis(1_000), false)?;
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        node.files.restore(backup);
        let id = node.id;
        self.note_struck(seat);
        self.oracle.forget(seat, id);
        self.oracle.expect_old_epochs(seat);
        Ok(())
    }

    /// A machine is copied, and its key with it.
    pub(super) fn copy(&mut self, index: usize, seat: Seat, turn: DurationMillis) {
        let Some(node) = self.nodes.get(seat.0) else { return };
        self.backups.insert(index, node.files.backup());
        self.cause(turn, Event::TakeTurn(index));
    }

    /// The one of two databases under one key that stood by speaks, and the other stands by.
    pub(super) fn take_turn(&mut self, index: usize) -> Result<(), Violation> {
        let Some(fault) = self.plan.faults.get(index) else { return Ok(()) };
        let What::Node { seat, fault: NodeFault::Clone { turn_ms } } = fault.what else { return Ok(()) };
        let (seat, turn) = (Seat(seat), DurationMillis(turn_ms));
        let Some(standing_by) = self.backups.remove(&index) else { return Ok(()) };
        self.note(format_args!("the other {seat} has its turn"));
        self.faults.note(FaultKind::Clone);
        self.crash_for(seat, DurationMillis(1_000), false)?;
        let Some(node) = self.nodes.get_mut(seat.0) else { return Ok(()) };
        let spoke = node.files.backup();
        node.files.install(standing_by);
        let id = node.id;
        self.oracle.forget(seat, id);
        self.oracle.expect_old_epochs(seat);
        self.backups.insert(index, spoke);
        self.cause(turn, Event::TakeTurn(index));
        Ok(())
    }

    /// A power cut shows that a drive has not kept its word, whatever else the cut was for.
    pub(super) fn doubt_drive(&mut self, seat: Seat) {
        let has_lied = |node: &crate::node::Node| node.files.lies() && node.files.had_power_cut() && !node.is_damaged;
        if self.nodes.get(seat.0).is_some_and(has_lied) {
            self.set_damaged(seat);
            self.cause(NOTICED_AFTER, Event::SetUpAnew(seat));
        }
    }

    fn set_damaged(&mut self, seat: Seat) {
        let Some(node) = self.nodes.get_mut(seat.0) else { return };
        node.is_damaged = true;
        let id = node.id;
        self.oracle.forget(seat, id);
        self.oracle.expect_old_epochs(seat);
    }

    /// The owner of a damaged machine sets it up anew.
    pub(super) fn set_up_anew(&mut self, seat: Seat) -> Result<(), Violation> {
        if !self.is_damaged(seat) {
            return Ok(());
        }
        self.wipe(seat, DurationMillis(1_000))
    }

    pub(super) fn is_damaged(&self, seat: Seat) -> bool {
        self.nodes.get(seat.0).is_some_and(|node| node.is_damaged)
    }

    /// A step of a node whose files are wrong: whatever it breaks, it breaks for itself.
    pub(super) fn step_damaged(&mut self, seat: Seat, batch: Vec<Input>, trap: Option<Trap>) -> StepEnd {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0) else { return StepEnd::Died(Vec::new()) };
        match catch_unwind(AssertUnwindSafe(|| node.step(now, batch, trap))) {
            Ok(Ok(end)) => end,
            Ok(Err(violation)) => {
                self.note(format_args!("{seat} notices its damage: {violation}"));
                self.faults.note(FaultKind::Disk(DiskFault::BitRot));
                StepEnd::Died(Vec::new())
            }
            Err(_) => {
                self.note(format_args!("{seat} panics over its damage"));
                StepEnd::Died(Vec::new())
            }
        }
    }

    /// Starts a daemon whose files are wrong.
    pub(super) fn start_damaged(&mut self, seat: Seat) -> Came<Vec<jobmesh_engine::Output>> {
        let now = self.now;
        let Some(node) = self.nodes.get_mut(seat.0) else { return Came::Died };
        match catch_unwind(AssertUnwindSafe(|| node.start(now))) {
            Ok(Ok(came)) => came,
            Ok(Err(_)) | Err(_) => Came::Died,
        }
    }

    /// Sets every damaged machine up anew and everyone's clock right.
    pub(super) fn mend_all(&mut self) -> Result<(), Violation> {
        for seat in self.all_seats() {
            if let Some(node) = self.nodes.get_mut(seat.0) {
                node.jumped_ms = 0;
                node.files.lie_no_more();
            }
            if self.condition(seat) != Condition::Absent {
                self.set_up_anew(seat)?;
            }
        }
        self.backups.clear();
        Ok(())
    }
}
