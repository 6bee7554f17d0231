//! Entering namespaces: the one call for which there is no safe function.

use std::fs;
use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

/// The user inside whose number outside is root's. Programs behave better if they don't believe to be root.
const USER: u32 = 1000;

/// What the inner process needs until the root is built: to mount, and to give up rights for good.
const NEEDED: [CapabilitySet; 2] = [CapabilitySet::SYS_ADMIN, CapabilitySet::SETPCAP];

/// Enters the namespaces given, and others that a sandbox always has, except that of mounts. Children are born in a
/// namespace of processes of their own; this process stays where it is.
///
/// To be called by a process of one thread.
pub(super) fn enter(network: bool) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut flags = UnshareFlags::NEWUSER | UnshareFlags::NEWPID | UnshareFlags::NEWIPC;
    flags |= UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    if !network {
        flags |= UnshareFlags::NEWNET;
    }
    unshare(flags)?;
    // Without this the kernel lets nobody but root map groups.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{} {user} 1", inside(user)))?;
    fs::write("/proc/self/gid_map", format!("{} {group} 1", inside(group)))?;
    keep_over_exec()
}

/// Enters a namespace of mounts.
pub(super) fn enter_mounts() -> io::Result<()> {
    unshare(UnshareFlags::NEWNS)
}

/// The number inside of a user or group that has this one outside.
const fn inside(number: u32) -> u32 {
    if number == 0 { USER } else { number }
}

/// Sees to it that the next program has the capabilities that are needed: it is not root by number.
fn keep_over_exec() -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = NEEDED.into_iter().fold(CapabilitySet::empty(), |all, one| all | one);
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable: kept, ..now })?;
    for one in NEEDED {
        rustix::thread::configure_capability_in_ambient_set(one, true)?;
    }
    Ok(())
}

fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared");
    #[expect(unsafe_code, reason = "unsafe for tables of descriptors alone, which stay as they are")]
    // SAFETY: only `FILES` could take descriptors from under another thread, and it is never among the flags.
    unsafe {
        rustix::thread::unshare_unsafe(flags)?;
    }
    Ok(())
}
