//! Touching one process, and never another that got its number.

use std::os::fd::OwnedFd;
use std::time::Duration;

use jobmesh_protocol::outcome::Exit;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::event::ProcessId;
use crate::process::tree::scan;

/// How often we look where the system can't tell us: every 20 ms.
pub(super) const SLICE: Duration = Duration::from_millis(20);

/// The system's error for a process that is gone.
pub(super) const NO_SUCH_PROCESS: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// The number as the system calls take it.
pub(super) fn number(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// Whether a child of ours has ended. Leaves its status to be taken.
pub(super) fn has_ended(pid: u32) -> bool {
    let Some(pid) = number(pid) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => status.is_some(),
        // Not, or no longer, a child of ours: there is nothing to wait for.
        Err(error) => error == rustix::io::Errno::CHILD,
    }
}

/// Whether this very process runs code.
pub(super) fn is_alive(process: ProcessId) -> bool {
    scan::stat(process.pid).is_some_and(|stat| stat.alive && stat.started == process.started)
}

/// Takes the status of a dead child of ours; none if it is none.
pub(super) fn take_exit(pid: u32) -> Option<Exit> {
    let status = waitid(WaitId::Pid(number(pid)?), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok()??;
    Some(Exit { code: status.exit_status(), signal: status.terminating_signal() })
}

/// Takes the status of a dead child that nobody else waits for.
pub(super) fn reap(pid: u32) {
    if let Some(pid) = number(pid) {
        // Failing means that somebody was faster, which is as good.
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

/// Sends a signal to this very process. Does nothing if it is gone.
pub(super) fn signal(process: ProcessId, signal: Signal) {
    #[cfg(target_os = "linux")]
    if let Some(handle) = open(process) {
        // It may end between the two calls; then there is nothing left to tell it.
        let _ = rustix::process::pidfd_send_signal(&handle, signal);
        return;
    }
    // An old kernel without handles on processes: the start time is checked as late as possible.
    if let Some(pid) = number(process.pid)
        && scan::stat(process.pid).is_some_and(|stat| stat.started == process.started)
    {
        let _ = kill_process(pid, signal);
    }
}

/// Waits until this process has ended, at most so long. May return earlier; the caller looks again.
pub(super) fn wait_gone(process: ProcessId, longest: Duration) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if let Some(handle) = open(process) {
        let _ = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Timespec::try_from(longest).ok().as_ref());
    } else if is_alive(process) {
        std::thread::sleep(longest.min(SLICE));
    }
}

/// A descriptor of a child of ours that was not reaped, so that its number can only mean that one.
#[cfg(target_os = "linux")]
pub(super) fn open_child(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(number(pid)?, rustix::process::PidfdFlags::empty()).ok()
}

/// There are no descriptors of processes here.
#[cfg(not(target_os = "linux"))]
pub(super) fn open_child(_pid: u32) -> Option<OwnedFd> {
    None
}

/// A descriptor of this very process, readable once it has ended.
#[cfg(target_os = "linux")]
pub(super) fn open(process: ProcessId) -> Option<OwnedFd> {
    let handle = rustix::process::pidfd_open(number(process.pid)?, rustix::process::PidfdFlags::empty()).ok()?;
    // The descriptor holds on to whoever has the number now. If that one has the right start time, so has it later.
    let same = scan::stat(process.pid).is_some_and(|stat| stat.started == process.started);
    same.then_some(handle)
}

/// There are no descriptors of processes here.
#[cfg(not(target_os = "linux"))]
pub(super) fn open(_process: ProcessId) -> Option<OwnedFd> {
    None
}
