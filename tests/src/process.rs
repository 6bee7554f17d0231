//! Processes by number: signals, and waiting for the end of one that is not our child.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

/// A process of another parent.
#[derive(Clone, Copy, Debug)]
pub struct Pid(rustix::process::Pid);

impl Pid {
    /// The process with this number.
    ///
    /// # Panics
    /// If the number can't be one.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let number = i32::try_from(number).expect("a process number");
        Self(rustix::process::Pid::from_raw(number).expect("a process number above 0"))
    }

    /// Kills it and waits until it is gone.
    pub fn kill(self) {
        self.signal_and_wait(Signal::KILL);
    }

    /// Asks it to stop and waits until it is gone.
    pub fn terminate(self) {
        self.signal_and_wait(Signal::TERM);
    }

    /// Freezes it.
    pub fn freeze(self) {
        let _ = kill_process(self.0, Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(self) {
        let _ = kill_process(self.0, Signal::CONT);
    }

    fn signal_and_wait(self, signal: Signal) {
        let Ok(descriptor) = pidfd_open(self.0, PidfdFlags::empty()) else { return };
        let _ = kill_process(self.0, signal);
        let mut watched = [PollFd::new(&descriptor, PollFlags::IN)];
        let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = poll(&mut watched, Some(&deadline)).expect("polling a process");
        assert_eq!(ended, 1, "process {:?} is still there after 60 s", self.0);
    }
}
