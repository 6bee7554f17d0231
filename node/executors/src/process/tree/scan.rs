//! Reading `/proc`: who is alive, who is whose child, who carries a marker.
//!
//! Every file here belongs to a process that may end while we read, so each failure means "gone". Formats: proc(5).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jobmesh_protocol::{DurationMillis, RunId};

use crate::variable::RUN_VARIABLE;

/// Longest environment that we search, in bytes. Linux allows at most 6 MiB for arguments and environment together
/// (execve(2)).
const ENVIRONMENT_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Most numbers that are probed one by one before reading the whole directory is cheaper.
const PROBES_MAX: u32 = 64;

/// The flag of the kernel's own threads (`PF_KTHREAD` of `include/linux/sched.h`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// How many fields after the name we read: up to the start time, field 22.
const FIELDS: usize = 20;

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
    /// Processor time of it and of the children that it waited for, in clock ticks.
    pub(in crate::process) cpu_ticks: u64,
}

/// Whether there is a `/proc` to read.
pub(in crate::process) fn available() -> bool {
    stat(std::process::id()).is_some()
}

/// Length of a clock tick in `/proc/PID/stat`, in milliseconds: `USER_HZ` is 100 on every platform that Rust's standard
/// library runs on.
pub(in crate::process) const TICK_MS: u64 = 10;

/// Clock ticks since the system started, as a process born now would be told; none where that can't be asked.
pub(in crate::process) fn ticks_now() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let [seconds, nanos] = [now.tv_sec, now.tv_nsec].map(u64::try_from);
        Some(seconds.ok()? * (1000 / TICK_MS) + nanos.ok()? / (TICK_MS * 1_000_000))
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// How long ago that was, which a process was told when it was born; nothing where that is unknown.
pub(in crate::process) fn age(started: u64) -> Duration {
    let ticks = ticks_now().filter(|_| started != 0).map_or(0, |now| now.saturating_sub(started));
    Duration::from_millis(ticks.saturating_mul(TICK_MS))
}

/// Reads about one process; none if there is no such process.
pub(in crate::process) fn stat(pid: u32) -> Option<Stat> {
    // Four times the longest line: 52 numbers and a name of 64 bytes.
    let mut bytes = [0_u8; 4096];
    let count = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut bytes).ok()?;
    parse(pid, bytes.get(..count)?)
}

/// The name of a process's program, without what could move a cursor; none if there is no such process.
pub(in crate::process) fn name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect())
}

/// Processor time of a process and of the children that it waited for; none if there is no such process.
pub(in crate::process) fn cpu_ms(pid: u32) -> Option<DurationMillis> {
    Some(DurationMillis(stat(pid)?.cpu_ticks.saturating_mul(TICK_MS)))
}

/// Most memory that a living process had at a time, in bytes.
pub(in crate::process) fn memory_peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// How many processes and threads the whole system has.
pub(in crate::process) fn tasks() -> Option<u64> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    load.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

fn parse(pid: u32, line: &[u8]) -> Option<Stat> {
    // The second field is the program's name, which may hold anything, even parentheses.
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    let mut fields = [""; FIELDS];
    let mut words = rest.split_ascii_whitespace();
    for field in &mut fields {
        *field = words.next()?;
    }
    let [state, parent, group, _, _, _, flags, _, _, _, _, user, system, waited_user, waited_system, rest @ ..] =
        fields;
    let [_, _, threads, _, started] = rest;
    let threads: u32 = threads.parse().ok()?;
    let mut cpu_ticks = 0_u64;
    for ticks in [user, system, waited_user, waited_system] {
        cpu_ticks = cpu_ticks.saturating_add(ticks.parse().ok()?);
    }
    Some(Stat {
        pid,
        parent: parent.parse().ok()?,
        group: group.parse().ok()?,
        started: started.parse().ok()?,
        // A program may end its first thread and live on in the others; the first is then a zombie, the process is not.
        alive: !matches!(state, "Z" | "X" | "x") || threads > 1,
        kernel: flags.parse::<u64>().ok()? & KERNEL_THREAD != 0,
        cpu_ticks,
    })
}

/// How old a table may be for those who only want to count: a look at it is not much older than the look before.
const RECENT: Duration = Duration::from_millis(5);

/// The processes of the system, or some of them, at about one moment.
#[derive(Debug)]
pub(in crate::process) struct Table(BTreeMap<u32, Stat>);

impl Table {
    /// Reads all.
    pub(in crate::process) fn read() -> Self {
        let numbers = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Self::of(numbers)
    }

    /// All, not quite new, so that runs that look at the same time read the system once.
    pub(in crate::process) fn recent() -> Arc<Self> {
        static LAST: Mutex<Option<(Instant, Arc<Table>)>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, table)) = &*last
            && at.elapsed() < RECENT
        {
            return Arc::clone(table);
        }
        let table = Arc::new(Self::read());
        *last = Some((Instant::now(), Arc::clone(&table)));
        table
    }

    /// The one of that number.
    pub(in crate::process) fn of_number(&self, pid: u32) -> Option<&Stat> {
        self.0.get(&pid)
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

    const LINE: &str = "77 (a) b (c)) S 5 6 7 0 -1 4194304 1 0 0 0 10 20 30 40 20 0 1 0 4242 0 0";

    fn parse(line: &str) -> Option<Stat> {
        super::parse(77, line.as_bytes())
    }

    #[test]
    fn a_name_with_parentheses_confuses_nobody() {
        let stat = Stat { pid: 77, parent: 5, group: 6, started: 4242, alive: true, kernel: false, cpu_ticks: 100 };
        assert_eq!(parse(LINE), Some(stat));
        assert_eq!(parse("77 (cut) S 5"), None);
    }

    #[test]
    fn the_clock_is_the_one_that_start_times_are_told_by() {
        let before = ticks_now();
        let started = stat(std::process::id()).map(|stat| stat.started);
        assert!(started <= before && before <= ticks_now());
        let mut child = std::process::Command::new("true").spawn().ok();
        let born = child.as_ref().and_then(|child| stat(child.id())).map(|stat| stat.started);
        assert!(before <= born && born <= ticks_now(), "{before:?} {born:?}");
        assert!(child.as_mut().is_some_and(|child| child.wait().is_ok()));
    }

    #[test]
    fn a_zombie_lives_while_it_has_threads() {
        let zombie = LINE.replace(") S 5", ") Z 5");
        assert_eq!(parse(&zombie).map(|stat| stat.alive), Some(false));
        let threads = zombie.replace("20 0 1 0", "20 0 3 0");
        assert_eq!(parse(&threads).map(|stat| stat.alive), Some(true));
    }

    #[test]
    fn descendants_are_found_through_generations_but_not_through_ourselves() {
        let stat =
            |pid, parent| (pid, Stat { pid, parent, group: 0, started: 0, alive: true, kernel: false, cpu_ticks: 0 });
        let table = Table([stat(2, 1), stat(3, 2), stat(4, 3), stat(5, 1), stat(6, 3), stat(7, 6)].into());
        let mut members = BTreeSet::from([2]);
        table.add_descendants(&mut members, 6);
        assert_eq!(members, BTreeSet::from([2, 3, 4]));
    }
}
