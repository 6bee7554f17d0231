//! Reading `/proc`: who is alive, who is whose child, who carries a marker.
//!
//! Every file here belongs to a process that may end while we read, so each failure means "gone". Formats: proc(5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;

use jobmesh_protocol::RunId;

use crate::process::RUN_VARIABLE;

/// Longest environment that we search, in bytes. Linux allows at most 6 MiB for arguments and environment together
/// (execve(2)).
const ENVIRONMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most numbers that are probed one by one before reading the whole directory is cheaper.
const PROBES_MAX: u32 = 64;

/// The flag of the kernel's own threads (`PF_KTHREAD` of `include/linux/sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What `/proc/PID/stat` says of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct Stat {
    pub(in crate::process) pid: u32,
    pub(in crate::process) parent: u32,
    pub(in crate::process) group: u32,
    /// In clock ticks since the system started.
    pub(in crate::process) started: u64,
    /// Whether it still runs code: not a zombie.
    pub(in crate::process) alive: bool,
    /// Whether it is a thread of the kernel's own.
    pub(in crate::process) kernel: bool,
}

/// Whether there is a `/proc` to read.
pub(in crate::process) fn available() -> bool {
    stat(std::process::id()).is_some()
}

/// Reads about one process; none if there is no such process.
pub(in crate::process) fn stat(pid: u32) -> Option<Stat> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/stat")).ok()?.take(4096).read_to_end(&mut text).ok()?;
    parse(pid, &String::from_utf8_lossy(&text))
}

fn parse(pid: u32, text: &str) -> Option<Stat> {
    // The second field is the program's name, which may hold anything, even parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let state = *fields.first()?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    // A program may end its first thread and live on in the others; the first is then a zombie, the process is not.
    let alive = !matches!(state, "Z" | "X" | "x") || threads > 1;
    let flags: u64 = fields.get(6)?.parse().ok()?;
    Some(Stat {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
        alive,
        kernel: flags & KERNEL_THREAD != 0,
    })
}

/// The processes of the system, or some of them, at about one moment.
pub(in crate::process) struct Table(BTreeMap<u32, Stat>);

impl Table {
    /// Reads all.
    pub(in crate::process) fn read() -> Self {
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self::of(numbers)
    }

    /// Reads those that came after `pid`, and it; none if that isn't cheap or can't be told.
    ///
    /// Goes on until no process was started while it read. Otherwise one could start another and end before its turn,
    /// and both would be missed.
    pub(in crate::process) fn read_from(pid: u32) -> Option<Self> {
        let mut table = Self(BTreeMap::new());
        let mut next = pid;
        loop {
            let newest = newest()?;
            if newest.checked_sub(pid)? > PROBES_MAX {
                return None;
            }
            if newest < next {
                return Some(table);
            }
            table.0.extend(Self::of(next..=newest).0);
            next = newest.checked_add(1)?;
        }
    }

    fn of(numbers: impl Iterator<Item = u32>) -> Self {
        Self(numbers.filter_map(|pid| Some((pid, stat(pid)?))).collect())
    }

    /// All of them, by number.
    pub(in crate::process) fn iter(&self) -> impl Iterator<Item = &Stat> {
        self.0.values()
    }

    /// The children of one process.
    pub(in crate::process) fn children_of(&self, parent: u32) -> impl Iterator<Item = &Stat> {
        self.iter().filter(move |stat| stat.parent == parent)
    }

    /// Adds all descendants of `members` to them, leaving out the process `own` and what is under it.
    pub(in crate::process) fn add_descendants(&self, members: &mut BTreeSet<u32>, own: u32) {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for stat in self.iter().filter(|stat| stat.pid != own) {
            children.entry(stat.parent).or_default().push(stat.pid);
        }
        let mut open: Vec<u32> = members.iter().copied().collect();
        while let Some(pid) = open.pop() {
            for child in children.get(&pid).into_iter().flatten() {
                if members.insert(*child) {
                    open.push(*child);
                }
            }
        }
    }
}

/// The number that was given out last.
fn newest() -> Option<u32> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    load.split_ascii_whitespace().last()?.parse().ok()
}

/// What the environment of a process says about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) enum Environment {
    /// It belongs to the run.
    Marked,
    /// It has none, or the process is just starting a program and has none for a moment.
    Empty,
    /// It belongs to somebody else, or is none of our business.
    Strange,
}

/// The entry that marks the processes of a run.
pub(in crate::process) fn marker(run: RunId) -> Vec<u8> {
    format!("{RUN_VARIABLE}={run}").into_bytes()
}

/// Looks for `marker` in the environment that a process was started with.
pub(in crate::process) fn environment(pid: u32, marker: &[u8]) -> Environment {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(format!("/proc/{pid}/environ")) else { return Environment::Strange };
    if file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut bytes).is_err() {
        return Environment::Strange;
    }
    if bytes.is_empty() {
        return Environment::Empty;
    }
    let marked = bytes.split(|byte| *byte == 0).any(|entry| entry == marker);
    if marked { Environment::Marked } else { Environment::Strange }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "77 (a) b (c)) S 5 6 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";

    #[test]
    fn a_name_with_parentheses_confuses_nobody() {
        let stat = Stat { pid: 77, parent: 5, group: 6, started: 4242, alive: true, kernel: false };
        assert_eq!(parse(77, LINE), Some(stat));
        assert_eq!(parse(77, "77 (cut) S 5"), None);
    }

    #[test]
    fn a_zombie_lives_while_it_has_threads() {
        let zombie = LINE.replace(") S 5", ") Z 5");
        assert_eq!(parse(77, &zombie).map(|stat| stat.alive), Some(false));
        let threads = zombie.replace("20 0 1 0", "20 0 3 0");
        assert_eq!(parse(77, &threads).map(|stat| stat.alive), Some(true));
    }

    #[test]
    fn descendants_are_found_through_generations_but_not_through_ourselves() {
        let stat = |pid, parent| (pid, Stat { pid, parent, group: 0, started: 0, alive: true, kernel: false });
        let table = Table([stat(2, 1), stat(3, 2), stat(4, 3), stat(5, 1), stat(6, 3), stat(7, 6)].into());
        let mut members = BTreeSet::from([2]);
        table.add_descendants(&mut members, 6);
        assert_eq!(members, BTreeSet::from([2, 3, 4]));
    }
}
