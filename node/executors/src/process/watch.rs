//! Waiting for the end of a run's main process and for a word from outside, at once.

use std::io::PipeReader;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::event::ProcessId;
use crate::process::handle;

/// What a wait saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The process has ended. If it is our child, it is still a zombie.
    Ended,
    /// The wake-up pipe is readable.
    Woken,
    /// Neither, for a while.
    Nothing,
}

/// The main process of a run, watched.
#[derive(Debug)]
pub(super) struct Watch {
    process: ProcessId,
    is_child: bool,
    /// Readable once the process has ended; none where the system has no such thing.
    ended: Option<OwnedFd>,
}

impl Watch {
    /// Watches a child of ours that was not reaped.
    pub(super) fn child(process: ProcessId) -> Self {
        Self { process, is_child: true, ended: handle::open_child(process.pid) }
    }

    /// Watches a process that somebody else may reap.
    pub(super) fn adopted(process: ProcessId) -> Self {
        Self { process, is_child: false, ended: handle::open(process) }
    }

    /// Whom it watches.
    pub(super) const fn process(&self) -> ProcessId {
        self.process
    }

    /// The descriptor of the process, where there is one.
    pub(super) const fn handle(&self) -> Option<&OwnedFd> {
        self.ended.as_ref()
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        match &self.ended {
            Some(ended) => wait(&mut [PollFd::new(ended, PollFlags::IN)], Duration::ZERO),
            None if self.is_child => handle::has_ended(self.process.pid),
            None => !handle::is_alive(self.process),
        }
    }

    /// Waits for the end, a byte in `wake`, or so long.
    pub(super) fn wait(&self, wake: &PipeReader, longest: Duration) -> Seen {
        match &self.ended {
            Some(ended) => Self::wait_for_handle(ended, wake, longest),
            None => self.wait_by_looking(wake, longest),
        }
    }

    fn wait_for_handle(ended: &OwnedFd, wake: &PipeReader, longest: Duration) -> Seen {
        let mut fds = [PollFd::new(ended, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        if !wait(&mut fds, longest) {
            return Seen::Nothing;
        }
        let [ended, wake] = fds.map(|fd| !fd.revents().is_empty());
        match (ended, wake) {
            (true, _) => Seen::Ended,
            (false, true) => Seen::Woken,
            (false, false) => Seen::Nothing,
        }
    }

    fn wait_by_looking(&self, wake: &PipeReader, longest: Duration) -> Seen {
        if self.has_ended() {
            return Seen::Ended;
        }
        let mut fds = [PollFd::new(wake, PollFlags::IN)];
        let woken = wait(&mut fds, longest.min(handle::SLICE));
        match (self.has_ended(), woken) {
            (true, _) => Seen::Ended,
            (false, true) => Seen::Woken,
            (false, false) => Seen::Nothing,
        }
    }
}

/// Whether anything happened in time.
fn wait(fds: &mut [PollFd<'_>], longest: Duration) -> bool {
    match poll(fds, Timespec::try_from(longest).ok().as_ref()) {
        Ok(count) => count > 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(_) => {
            // No memory for it right now: the caller comes back, and we must not spin.
            std::thread::sleep(handle::SLICE);
            false
        }
    }
}
