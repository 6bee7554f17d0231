//! Control groups: the kernel's own count of a run's processes and memory.
//!
//! Each slot's thread sits in a group of its own of the `pids` hierarchy (version 1, which places threads). What it
//! spawns is born there, so every run is counted and bounded from its first moment at no price at all, and the group's
//! list of members names even those that cleared their environment and hid in a session of their own. A run with a
//! memory limit gets a group of its own besides; that costs about 0.2 ms.
//!
//! The hard case is memory in version 1 and 2. In version 1 the thread steps into the run's group, spawns, and steps
//! out again by a way that it opened before: the process is born inside, and a run without memory holds nobody back.
//! Version 2 places whole processes only, so the main process is moved in right after its birth, and what it had by
//! then stays where it was charged. For that the daemon must own a subtree, and make room in it by moving itself into a
//! leaf.
//!
//! Groups are named `jobmesh-PID-…` by the daemon's number; those of daemons that are gone are removed at the start,
//! as far as nothing runs in them. Formats: cgroups(7), the kernel's `cgroup-v1/` and `cgroup-v2.rst`.

mod place;
mod run;
mod slot;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::event::ProcessId;
use crate::process::cgroup::place::Controller;

pub(super) use run::{RunGroup, Whereabouts};
pub(super) use slot::SlotGroup;

/// What all our groups' names begin with.
const PREFIX: &str = "jobmesh-";

/// The largest limit on processes that the kernel takes for a number (`PID_MAX_LIMIT` on 64 bits).
const PROCESSES_MAX: u64 = 4 * 1024 * 1024;

/// Who sees to it that a limit is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforced {
    /// The kernel, at every moment.
    Kernel,
    /// We, who look ten times a second.
    Watch,
    /// Nobody can, on this machine.
    No,
}

/// How the limits of runs are kept on this machine. That of logs is always watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// The limit on memory.
    pub memory: Enforced,
    /// The limit on processes.
    pub processes: Enforced,
}

/// Where this process may make groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Grounds {
    /// The daemon's own group in the version 1 hierarchy that counts processes.
    pids: Option<PathBuf>,
    memory: Option<MemoryGround>,
}

#[derive(Clone, Debug)]
enum MemoryGround {
    /// The daemon's own group of version 1.
    V1(PathBuf),
    /// A group of version 2 that hands its controllers down.
    V2(PathBuf),
}

impl Grounds {
    /// Finds out by making and removing a group of each kind.
    pub(super) fn probe() -> Self {
        let v1 = |controller| place::own_v1(controller).filter(|base| try_out(base));
        let memory = v1(Controller::Memory).map(MemoryGround::V1);
        let memory = memory.or_else(|| place::own_v2().and_then(|base| open_up(&base)).map(MemoryGround::V2));
        let grounds = Self { pids: v1(Controller::Pids), memory };
        for base in grounds.bases() {
            remove_stale(base);
        }
        grounds
    }

    fn bases(&self) -> impl Iterator<Item = &Path> {
        let memory = self.memory.as_ref().map(|(MemoryGround::V1(base) | MemoryGround::V2(base))| base.as_path());
        self.pids.as_deref().into_iter().chain(memory)
    }

    /// Whether the kernel can be told of a limit.
    pub(super) const fn memory(&self) -> Enforced {
        if self.memory.is_some() { Enforced::Kernel } else { Enforced::No }
    }

    /// Whether the kernel counts the processes of every run.
    pub(super) const fn processes(&self) -> Option<Enforced> {
        if self.pids.is_some() { Some(Enforced::Kernel) } else { None }
    }
}

/// A group as the search for a run's processes sees it.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    directory: PathBuf,
}

impl Fence {
    /// The groups of ours that a process is in, by its own account.
    pub(super) fn around(process: ProcessId) -> Vec<Self> {
        let groups = place::groups_of(process.pid).into_iter();
        let ours = groups.filter(|path| path.file_name().is_some_and(|name| is_ours(&name.to_string_lossy())));
        ours.map(|directory| Self { directory }).collect()
    }

    /// The living processes in it, this one left out.
    pub(super) fn members(&self) -> Vec<u32> {
        let list = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != std::process::id()).collect()
    }

    /// Lets nothing more be born in it, if it counts processes.
    pub(super) fn close(&self) {
        // Opened for writing only: nothing must be made where there is no such file.
        let _ = write(&self.directory.join("pids.max"), "0");
    }

    /// Removes it, if nothing lives in it.
    pub(super) fn remove(&self) {
        remove(&self.directory);
    }

    /// The group of memory among those, for the account of a run that an earlier daemon began.
    pub(super) fn memory(&self) -> Option<RunGroup> {
        RunGroup::reopen(&self.directory)
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A name for a group that nobody else has.
fn name(rest: &str) -> String {
    format!("{PREFIX}{}-{rest}", std::process::id())
}

/// Writes to a file of a group, which must exist.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::options().write(true).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

/// The text for a limit of so many processes.
fn processes(max: u64) -> String {
    if max <= PROCESSES_MAX { max.to_string() } else { "max".to_owned() }
}

/// Reads one number from a file of a group.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Reads the number behind `key` in a file of `key number` lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn remove(directory: &Path) {
    // Empty or not, it is gone or somebody still lives in it: then a later daemon removes it.
    if let Err(error) = fs::remove_dir(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(group = %directory.display(), error = %error, "a control group stays for now");
    }
}

/// The number of the calling thread.
fn thread_number() -> Option<String> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}

fn try_out(base: &Path) -> bool {
    let probe = base.join(name(&format!("probe-{}", thread_number().unwrap_or_default())));
    fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
}

/// Makes a version 2 group hand its controllers down, for which no process may be in it: this one moves into a leaf. None
/// if it has no such controllers, or isn't ours to change.
fn open_up(base: &Path) -> Option<PathBuf> {
    let has = |file: &str| {
        let text = fs::read_to_string(base.join(file)).unwrap_or_default();
        ["memory", "pids"].into_iter().all(|name| text.split_ascii_whitespace().any(|word| word == name))
    };
    // Where an earlier start moved us, the group above is the one that hands down.
    if base.file_name().is_some_and(|leaf| leaf == place::LEAF) {
        return base.parent().filter(|above| try_out(above)).map(Path::to_owned);
    }
    if !has("cgroup.controllers") {
        return None;
    }
    if !has("cgroup.subtree_control") {
        let leaf = base.join(place::LEAF);
        let pid = std::process::id().to_string();
        let made = fs::create_dir(&leaf);
        if made.is_err() && !leaf.is_dir() {
            return None;
        }
        let moved = write(&leaf.join("cgroup.procs"), &pid);
        if moved.is_err() || write(&base.join("cgroup.subtree_control"), "+memory +pids").is_err() {
            // Somebody else lives here: go back to them.
            let _ = write(&base.join("cgroup.procs"), &pid);
            remove(&leaf);
            return None;
        }
    }
    try_out(base).then(|| base.to_owned())
}

/// Removes what daemons left that are gone.
fn remove_stale(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_behind_a_key_is_found() {
        let text = "low 0\noom 3\noom_kill 2\n";
        assert_eq!((keyed(text, "oom_kill"), keyed(text, "oom"), keyed(text, "max")), (Some(2), Some(3), None));
    }

    #[test]
    fn only_names_of_ours_are_ours() {
        assert!(is_ours(&name("slot-1")) && !is_ours("user.slice"));
    }
}
