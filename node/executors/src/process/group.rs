//! Ending a run where there is no `/proc`: by its process group alone.
//!
//! A group with only a zombie in it looks like one that lives, so after the main process has ended we can't wait for
//! the rest to obey TERM; they are killed at once.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process_group};

use crate::process::tree::{KILL_PATIENCE, Left};
use crate::process::{deadline, handle};

/// Ends the group of the child `pid` and waits for that one.
pub(super) fn end(pid: u32, grace: Duration) -> Left {
    tell(pid, Signal::TERM);
    tell(pid, Signal::CONT);
    if wait(pid, deadline(grace)) == Left::Some {
        tracing::debug!(pid, "grace is over");
    }
    tell(pid, Signal::KILL);
    wait(pid, deadline(KILL_PATIENCE))
}

fn tell(pid: u32, signal: Signal) {
    if let Some(group) = handle::number(pid) {
        // Failing means that the group is empty.
        let _ = kill_process_group(group, signal);
    }
}

fn wait(pid: u32, until: Instant) -> Left {
    while !handle::has_ended(pid) {
        if Instant::now() >= until {
            return Left::Some;
        }
        std::thread::sleep(handle::SLICE);
    }
    Left::Nothing
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed test may panic")]

    use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_group_that_ignores_term_is_killed() {
        let mut child = Command::new("sh").args(["-c", "trap '' TERM; sleep 600"]).process_group(0).spawn().unwrap();
        assert_eq!(end(child.id(), Duration::ZERO), Left::Nothing);
        assert!(child.wait().unwrap().signal().is_some());
    }
}
