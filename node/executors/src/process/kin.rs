//! Whether a run left anything at all: a look at two lists of children instead of at all of `/proc`.
//!
//! The kernel keeps the children of each thread in the order of their birth (`/proc/PID/task/TID/children`, proc(5)). A
//! process is put on the list of the thread that forked it, an adopted orphan on that of the first thread of its new
//! parent. When the main process of a run is a zombie, its own children were adopted already: both happen under one
//! lock. So if this thread has that one child and the first thread has none, nothing else of the run exists, however
//! well it hid: every process has a parent, and the parents of a run's processes end at us.
//!
//! proc(5) warns that the lists may miss a child while others come and go. The first entry is exact, and so is one
//! behind a zombie that only we can reap; no more is asked for here.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::process::reaper;

/// The lists of children that the runs of one thread can show up in.
#[derive(Debug)]
pub(super) struct Kin {
    /// Children of this thread.
    own: File,
    /// Children of the process's first thread: the adopted ones.
    adopted: File,
}

impl Kin {
    /// The lists for the calling thread; none if orphans don't come to us or the kernel keeps no lists.
    pub(super) fn of_this_thread() -> Option<Self> {
        if !reaper::adopting() {
            return None;
        }
        let own = File::open("/proc/thread-self/children").ok()?;
        let adopted = File::open(format!("/proc/self/task/{}/children", std::process::id())).ok()?;
        Some(Self { own, adopted })
    }

    /// Whether `leader`, a zombie child of this thread, is all that is left of its run. If not, there may be something.
    pub(super) fn is_only(&self, leader: u32) -> bool {
        // Longer than one number: a second would show.
        let mut bytes = [0_u8; 32];
        if self.adopted.read_at(&mut bytes, 0).is_ok_and(|count| count == 0)
            && let Ok(count) = self.own.read_at(&mut bytes, 0)
        {
            let text = bytes.get(..count).unwrap_or_default();
            return std::str::from_utf8(text).is_ok_and(|text| text.trim_ascii() == leader.to_string());
        }
        false
    }
}
