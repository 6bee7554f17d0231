//! What a slot's thread keeps from one run to the next.

use crate::event::Ended;
use crate::order::Order;
use crate::process::cgroup::{Fence, RunGroup, SlotGroup, Whereabouts};
use crate::process::host::Host;
use crate::process::kin::Kin;
use crate::process::program::Programs;
use crate::process::spare::{Contents, Spare};

/// The thread's own things. Made on that thread, and used and dropped on no other.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The children of this thread and the adopted ones; none where that can't be told.
    pub(super) kin: Option<Kin>,
    pub(super) programs: Programs,
    pub(super) spare: Spare,
    /// The control group that the thread sits in; none where it can't have one.
    pub(super) group: Option<SlotGroup>,
    /// Whether the thread is where it belongs.
    pub(super) whereabouts: Whereabouts,
}

impl Seat {
    /// To be called on the thread that will use it.
    pub(crate) fn take(host: &Host) -> Self {
        Self {
            kin: Kin::of_this_thread(),
            programs: Programs::default(),
            spare: Spare::new(host.spares()),
            group: SlotGroup::enter(host.grounds()),
            whereabouts: Whereabouts::default(),
        }
    }

    /// Whether what starts here has its own limits only, and not what another run left of its memory.
    pub(crate) fn is_free(&mut self) -> bool {
        self.whereabouts.leave()
    }

    /// The groups around a run in this seat.
    pub(super) fn fences(&self, run: Option<&RunGroup>) -> Vec<Fence> {
        self.group.iter().map(SlotGroup::fence).chain(run.map(RunGroup::fence)).collect()
    }

    /// Who counts processes for a run that is about to be watched, and what was counted before.
    pub(super) fn count(&self) -> Option<(&SlotGroup, u64)> {
        self.group.as_ref().map(|group| (group, group.hits_before()))
    }

    /// Makes room for the next run. `is_quiet` if this one ended by itself, within its limits, and left no process.
    pub(super) fn stand_up(&mut self, order: &Order, ended: &Ended, left: Contents, is_quiet: bool) {
        if ended.outputs.blobs().next().is_none() {
            self.spare.take_back(&order.directory, left, is_quiet);
        }
        if let Some(group) = &mut self.group {
            group.end_run(is_quiet);
        }
    }
}
