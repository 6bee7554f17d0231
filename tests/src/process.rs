//! Processes by number: signals, waiting for the end of one that is not our child, and finding those of a test.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, kill_process, pidfd_open};

/// A process of another parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0.as_raw_nonzero().get().unsigned_abs().into()
    }

    /// Kills it and waits until it is gone.
    pub fn kill(self) {
        self.signal_and_wait(Signal::KILL);
    }

    /// Asks it to stop and waits until it is gone.
    pub fn terminate(self) {
        self.signal_and_wait(Signal::TERM);
    }

    /// Tells it to read its configuration again.
    ///
    /// # Panics
    /// If it is gone.
    pub fn hang_up(self) {
        kill_process(self.0, Signal::HUP).expect("a process");
    }

    /// Asks it to stop, and leaves it to it when.
    pub fn ask_to_stop(self) {
        let _ = kill_process(self.0, Signal::TERM);
    }

    /// Waits until it is gone.
    ///
    /// # Panics
    /// If it is still there after a minute.
    pub fn wait_gone(self) {
        if let Ok(descriptor) = pidfd_open(self.0, PidfdFlags::empty()) {
            self.wait(&descriptor);
        }
    }

    /// Whether it runs: a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        stat(self.number()).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
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
        self.wait(&descriptor);
    }

    fn wait(self, descriptor: &OwnedFd) {
        let mut watched = [PollFd::new(descriptor, PollFlags::IN)];
        let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = poll(&mut watched, Some(&deadline)).expect("polling a process");
        assert_eq!(ended, 1, "process {:?} is still there after 60 s", self.0);
    }
}

/// What the system says of a process.
struct Stat {
    state: char,
    parent: u64,
}

fn stat(number: u64) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name before it may hold anything, even parentheses.
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    Some(Stat { state: words.next()?.chars().next()?, parent: words.next()?.parse().ok()? })
}

fn numbers() -> impl Iterator<Item = u64> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The children of a process: those that run, or the zombies.
#[must_use]
pub fn children(parent: Pid, are_zombies: bool) -> Vec<Pid> {
    let is_one = |number: &u64| {
        stat(*number).is_some_and(|stat| stat.parent == parent.number() && (stat.state == 'Z') == are_zombies)
    };
    numbers().filter(is_one).map(Pid::new).collect()
}

/// The living processes that were started with this variable in their environment.
#[must_use]
pub fn with_variable(key: &str, value: &str) -> Vec<Pid> {
    let wanted = format!("{key}={value}").into_bytes();
    let has_it = |number: &u64| {
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted)
    };
    numbers().filter(has_it).map(Pid::new).collect()
}
