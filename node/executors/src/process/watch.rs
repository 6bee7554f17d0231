//! Waiting for the end of a run's main process and for a word from outside, at once.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::event::ProcessId;
use crate::process::handle;

/// How long a wait lasts when nothing happens. Then dead orphans of the run are swept up.
const QUIET: Duration = Duration::from_secs(30);

/// What a wait saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The process has ended. It is still a zombie.
    Ended,
    /// The wake-up pipe is readable.
    Woken,
    /// Neither, for a while.
    Nothing,
}

/// The main process of a run, watched.
pub(super) struct Watch {
    pid: u32,
    /// Readable once the process has ended; none where the system has no such thing.
    ended: Option<OwnedFd>,
}

impl Watch {
    pub(super) fn new(process: ProcessId) -> Self {
        Self { pid: process.pid, ended: handle::open(process) }
    }

    /// Waits for the end, a byte in `wake`, or a while.
    pub(super) fn wait(&self, wake: &PipeReader) -> Seen {
        if handle::has_ended(self.pid) {
            return Seen::Ended;
        }
        let mut fds = vec![PollFd::new(wake, PollFlags::IN)];
        fds.extend(self.ended.as_ref().map(|ended| PollFd::new(ended, PollFlags::IN)));
        let longest = if self.ended.is_some() { QUIET } else { handle::SLICE };
        let polled = poll(&mut fds, Timespec::try_from(longest).ok().as_ref());
        match polled {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // No memory for it right now: the caller comes back, and we must not spin.
            Err(_) => std::thread::sleep(handle::SLICE),
        }
        let woken = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        match (handle::has_ended(self.pid), woken) {
            (true, _) => Seen::Ended,
            (false, true) => Seen::Woken,
            (false, false) => Seen::Nothing,
        }
    }
}
