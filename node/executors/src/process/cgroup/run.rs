//! The group of one run with a memory limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jobmesh_protocol::RunId;

use crate::order::Limits;
use crate::process::cgroup::{self, Fence, Grounds, MemoryGround, keyed, number, write};
use crate::process::exit::OutOfMemory;
use crate::process::handle;

/// Most rounds in which what a process started is looked for while it is moved. Each finds what the last one missed; a
/// process that starts others faster than that is stopped by its limit on processes.
const ROUNDS_MAX: u32 = 8;

/// A group whose memory is limited.
#[derive(Debug)]
pub(crate) struct RunGroup {
    directory: PathBuf,
    version: Version,
    /// Whether it was made by us, and is removed with this value.
    is_made_here: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    const fn limit_file(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }

    const fn peak_file(self) -> &'static str {
        match self {
            Self::One => "memory.max_usage_in_bytes",
            Self::Two => "memory.peak",
        }
    }

    const fn events_file(self) -> &'static str {
        match self {
            Self::One => "memory.oom_control",
            Self::Two => "memory.events",
        }
    }
}

/// The calling thread, inside a run's group. Leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Inside {
    base: PathBuf,
    thread: String,
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = write(&self.base.join("tasks"), &self.thread) {
            tracing::error!(error = %error, "failed to leave a run's control group");
        }
    }
}

impl RunGroup {
    /// Makes the group of a run; none if it has no limit or there is no ground for a group.
    pub(crate) fn make(grounds: &Grounds, run: RunId, limits: &Limits) -> io::Result<Option<Self>> {
        let (Some(ground), Some(memory)) = (&grounds.memory, limits.memory_bytes) else { return Ok(None) };
        let (base, version) = match ground {
            MemoryGround::V1(base) => (base, Version::One),
            MemoryGround::V2(base) => (base, Version::Two),
        };
        let directory = base.join(cgroup::name(&format!("run-{run}")));
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // From here on an error removes it.
        let group = Self { directory, version, is_made_here: true };
        group.set_limits(memory, limits.processes_max)?;
        Ok(Some(group))
    }

    /// The group of that directory, if it is one that limits memory.
    pub(crate) fn reopen(directory: &Path) -> Option<Self> {
        let has = |version: &Version| directory.join(version.limit_file()).exists();
        let version = [Version::One, Version::Two].into_iter().find(has)?;
        Some(Self { directory: directory.to_owned(), version, is_made_here: false })
    }

    fn set_limits(&self, memory: u64, processes_max: u32) -> io::Result<()> {
        let file = |name: &str| self.directory.join(name);
        let memory = memory.to_string();
        write(&file(self.version.limit_file()), &memory)?;
        match self.version {
            // Not there without swap accounting; then there is nothing to limit either.
            Version::One => drop(write(&file("memory.memsw.limit_in_bytes"), &memory)),
            Version::Two => {
                let _ = write(&file("memory.swap.max"), "0");
                // A run that lost one process at random is no longer what it was meant to be.
                let _ = write(&file("memory.oom.group"), "1");
                write(&file("pids.max"), &cgroup::processes(u64::from(processes_max.max(1))))?;
            }
        }
        Ok(())
    }

    /// Steps in, so that what the thread spawns is born inside, where threads can do that.
    pub(crate) fn step_in(&self) -> io::Result<Option<Inside>> {
        match (self.version, self.directory.parent(), cgroup::thread_number()) {
            (Version::One, Some(base), Some(thread)) => {
                write(&self.directory.join("tasks"), &thread)?;
                Ok(Some(Inside { base: base.to_owned(), thread }))
            }
            (Version::One | Version::Two, _, _) => Ok(None),
        }
    }

    /// Moves a process that was born outside, and what it started meanwhile. Nothing to do where [`Self::step_in`] did it.
    pub(crate) fn take_in(&self, pid: u32) -> io::Result<()> {
        if self.version == Version::One {
            return Ok(());
        }
        let mut moved = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let fresh: Vec<u32> = family(pid).into_iter().filter(|member| !moved.contains(member)).collect();
            if fresh.is_empty() {
                break;
            }
            for member in fresh {
                match write(&self.directory.join("cgroup.procs"), &member.to_string()) {
                    // It has ended already.
                    Err(error) if error.raw_os_error() == Some(handle::NO_SUCH_PROCESS) => {}
                    done => done?,
                }
                moved.push(member);
            }
        }
        Ok(())
    }

    /// Most memory that was in use at a time, in bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        number(&self.directory.join(self.version.peak_file()))
    }

    /// Whether the kernel killed something in it for want of memory.
    pub(crate) fn out_of_memory(&self) -> Option<OutOfMemory> {
        let text = fs::read_to_string(self.directory.join(self.version.events_file())).ok()?;
        if keyed(&text, "oom_kill")? == 0 {
            return None;
        }
        let limit = number(&self.directory.join(self.version.limit_file()))?;
        Some(OutOfMemory { limit, peak: self.peak() })
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { directory: self.directory.clone() }
    }
}

impl Drop for RunGroup {
    fn drop(&mut self) {
        if self.is_made_here {
            cgroup::remove(&self.directory);
        }
    }
}

/// A process and all that descends from it by the kernel's lists of children.
fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next) {
        let list = fs::read_to_string(format!("/proc/{member}/task/{member}/children")).unwrap_or_default();
        family.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    family
}
