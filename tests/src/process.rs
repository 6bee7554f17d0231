//! Processes by number: signals, waiting for the end of one that is not our child, and finding those of a test.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process of another parent, told from a later one of the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pid {
    number: rustix::process::Pid,
    /// In clock ticks since the system started; none if it was gone already.
    started: Option<u64>,
}

impl Pid {
    /// The process with this number.
    ///
    /// # Panics
    /// If the number can't be one.
    #[must_use]
    pub fn new(number: u64) -> Self {
        let raw = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
        Self { number: raw.expect("a process number"), started: stat(number).map(|stat| stat.started) }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.number.as_raw_nonzero().get().unsigned_abs().into()
    }

    /// Holds on to it; none if it is gone, though its number may have been given to another.
    fn hold(self) -> Option<OwnedFd> {
        let handle = pidfd_open(self.number, PidfdFlags::empty()).ok()?;
        (stat(self.number()).map(|stat| stat.started) == self.started).then_some(handle)
    }

    fn signal(self, signal: Signal) {
        if let Some(handle) = self.hold() {
            // Failing means that it is gone.
            let _ = pidfd_send_signal(handle, signal);
        }
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
        let handle = self.hold().expect("a process");
        pidfd_send_signal(handle, Signal::HUP).expect("a process");
    }

    /// Asks it to stop, and leaves it to it when.
    pub fn ask_to_stop(self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it is gone.
    ///
    /// # Panics
    /// If it is still there after a minute.
    pub fn wait_gone(self) {
        if let Some(handle) = self.hold() {
            self.wait(&handle);
        }
    }

    /// Whether it runs: a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        let is_it = |stat: &Stat| Some(stat.started) == self.started && stat.state != 'Z' && stat.state != 'X';
        stat(self.number()).as_ref().is_some_and(is_it)
    }

    /// Freezes it.
    pub fn freeze(self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(self) {
        self.signal(Signal::CONT);
    }

    fn signal_and_wait(self, signal: Signal) {
        let Some(handle) = self.hold() else { return };
        let _ = pidfd_send_signal(&handle, signal);
        self.wait(&handle);
    }

    fn wait(self, handle: &OwnedFd) {
        let mut watched = [PollFd::new(handle, PollFlags::IN)];
        let deadline = Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = poll(&mut watched, Some(&deadline)).expect("polling a process");
        assert_eq!(ended, 1, "process {:?} is still there after 60 s", self.number);
    }
}

/// What the system says of a process.
struct Stat {
    state: char,
    parent: u64,
    started: u64,
}

fn stat(number: u64) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name before it may hold anything, even parentheses.
    let mut words = text.rsplit_once(") ")?.1.split(' ');
    let (state, parent) = (words.next()?.chars().next()?, words.next()?.parse().ok()?);
    // Field 22 of proc(5); the parent is field 4.
    Some(Stat { state, parent, started: words.nth(17)?.parse().ok()? })
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

/// The living processes with an argument that contains this.
#[must_use]
pub fn with_argument(part: &str) -> Vec<Pid> {
    let has_it = |number: &u64| {
        let line = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(part)
    };
    numbers().filter(has_it).map(Pid::new).filter(|pid| pid.is_alive()).collect()
}
