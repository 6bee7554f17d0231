//! The group of one run with a memory limit.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
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

/// The calling thread, inside a run's group.
///
/// What it opens there is charged to the run, which may have nothing left. So the way out is opened before it steps in.
#[derive(Debug)]
struct Inside {
    way_out: File,
    thread: String,
}

impl Inside {
    /// Takes the thread back to where it came from.
    fn leave(&self) -> io::Result<()> {
        self.way_out.write_all_at(self.thread.as_bytes(), 0)
    }
}

/// Where a slot's thread is: in the group of a run that is being started, or outside of all of them.
///
/// It outlives the start, so that a thread that could not leave, or panicked inside, is known to be there still.
#[derive(Debug, Default)]
pub(crate) struct Whereabouts {
    inside: Option<Inside>,
}

impl Whereabouts {
    /// Steps into a run's group, so that what the thread spawns is born there, where threads can do that.
    pub(crate) fn enter(&mut self, group: &RunGroup) -> io::Result<()> {
        self.inside = group.step_in()?;
        Ok(())
    }

    /// Leaves the group that the thread is in. Returns whether it is outside now.
    pub(crate) fn leave(&mut self) -> bool {
        if let Some(Err(error)) = self.inside.as_ref().map(Inside::leave) {
            tracing::error!(error = %error, "failed to leave a run's control group");
            return false;
        }
        self.inside = None;
        true
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

    /// Takes the calling thread in; none where only whole processes can be.
    fn step_in(&self) -> io::Result<Option<Inside>> {
        match (self.version, self.directory.parent(), cgroup::thread_number()) {
            (Version::One, Some(base), Some(thread)) => {
                let way_out = File::options().write(true).open(base.join("tasks"))?;
                write(&self.directory.join("tasks"), &thread)?;
                Ok(Some(Inside { way_out, thread }))
            }
            (Version::One | Version::Two, _, _) => Ok(None),
        }
    }

    /// Moves a process that was born outside, and what it started meanwhile. Nothing to do where
    /// [`Whereabouts::enter`] did it.
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    #![expect(clippy::print_stdout, reason = "a machine without such groups is told so")]

    use jobmesh_protocol::{Epoch, JobId};

    use super::*;
    use crate::process::cgroup::place::{self, Controller};

    /// The way out was opened inside, which takes memory of the run: a run that had none kept the thread, and every later
    /// run of that slot had nothing but its limit.
    #[test]
    fn a_thread_leaves_a_run_that_has_no_memory_left() {
        let memory = place::own_v1(Controller::Memory).map(MemoryGround::V1);
        let run = RunId { job: JobId::from_bytes([1; 16]), epoch: Epoch(1) };
        let limits = Limits { memory_bytes: Some(1), ..Limits::default() };
        let made = RunGroup::make(&Grounds { pids: None, memory }, run, &limits);
        let Ok(Some(group)) = made else {
            println!("SKIPPED: no group of version 1 for memory can be made here: {made:?}");
            return;
        };
        let mut whereabouts = Whereabouts::default();
        whereabouts.enter(&group).unwrap();
        assert!(whereabouts.inside.is_some() && whereabouts.leave());
        assert_eq!(fs::read_to_string(group.directory.join("tasks")).unwrap(), "");
    }

    #[test]
    fn a_thread_that_can_not_leave_is_inside_until_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let tasks = folder.path().join("tasks");
        fs::write(&tasks, "").unwrap();
        let inside =
            |way: &mut fs::OpenOptions| Some(Inside { way_out: way.open(&tasks).unwrap(), thread: "7".to_owned() });
        let mut whereabouts = Whereabouts { inside: inside(File::options().read(true)) };
        assert!(!whereabouts.leave() && !whereabouts.leave());
        whereabouts.inside = inside(File::options().write(true));
        assert!(whereabouts.leave() && whereabouts.inside.is_none());
        assert_eq!(fs::read_to_string(&tasks).unwrap(), "7");
    }
}
