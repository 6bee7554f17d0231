//! How a process ended that is not our child: `PIDFD_GET_INFO` with `PIDFD_INFO_EXIT`, Linux 6.15 and later.
//!
//! The kernel keeps a process's wait status with its descriptor, and gives it out once the real parent has reaped it.
//! Source: `include/uapi/linux/pidfd.h`. Older kernels answer with an error, which means that nobody knows.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};

use jobmesh_protocol::outcome::Exit;
use rustix::io::Errno;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

use crate::process::handle;

/// Asks for the exit status, and says in the answer that it is there.
const WANTS_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`. The kernel takes the size of the structure from the number.
const GET_INFO: Opcode = opcode::read_write::<Info>(0xff, 11);

/// The first version of `struct pidfd_info`, 64 bytes. Later ones only grew at the end.
#[repr(C)]
#[derive(Debug, Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// Process, thread group, parent, and eight user and group numbers.
    numbers: [u32; 11],
    exit_code: i32,
}

const _: () = assert!(size_of::<Info>() == 64, "the kernel refuses another size");

/// What the kernel says about the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Exit(Exit),
    /// Its parent has not reaped it.
    NotYet,
    /// It can't say.
    Never,
}

/// How the process of `handle` ended.
pub(super) fn exit(handle: &OwnedFd) -> Told {
    match ask(handle) {
        Ok(info) if info.mask & WANTS_EXIT != 0 => {
            let status = ExitStatus::from_raw(info.exit_code);
            Told::Exit(Exit { code: status.code(), signal: status.signal() })
        }
        // The second is the moment in which it is being reaped.
        Ok(_) | Err(Errno::SRCH) => Told::NotYet,
        Err(_) => Told::Never,
    }
}

/// Whether the kernel tells how a process ended that is not our child: by starting one and letting it end. None if that
/// could not be tried.
#[must_use]
pub fn tells_exits() -> Option<bool> {
    let mut child = Command::new("true").stdin(Stdio::null()).spawn().ok()?;
    let handle = handle::open_child(child.id());
    child.wait().ok()?;
    Some(handle.is_some_and(|handle| matches!(exit(&handle), Told::Exit(_))))
}

fn ask(handle: &OwnedFd) -> Result<Info, Errno> {
    let mut info = Info { mask: WANTS_EXIT, ..Info::default() };
    #[expect(unsafe_code, reason = "neither std nor rustix has this request")]
    // SAFETY: `GET_INFO` is the number of the request that reads and writes a `struct pidfd_info` of 64 bytes, which
    // `Info` is: same fields, same order, `repr(C)`, any bits valid. The kernel writes no more than the size in the number.
    let asked = unsafe { ioctl(handle, Updater::<GET_INFO, Info>::new(&mut info)) };
    asked.map(|()| info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_of_a_process_is_told_or_unknown_but_never_wrong() {
        for (script, code, signal) in [("exit 7", Some(7), None), ("kill -9 $$", None, Some(9))] {
            let Ok(mut child) = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).spawn() else { return };
            let Some(handle) = handle::open_child(child.id()) else { return };
            assert!(child.wait().is_ok());
            let told = exit(&handle);
            assert!([Told::Exit(Exit { code, signal }), Told::NotYet, Told::Never].contains(&told), "{told:?}");
        }
    }
}
