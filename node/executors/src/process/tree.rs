//! Ending every process of a run.

mod find;
pub(super) mod scan;
mod swept;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jobmesh_protocol::RunId;
use rustix::process::{Signal, kill_process_group};

use crate::event::ProcessId;
use crate::process::cgroup::Fence;
use crate::process::tree::find::Finder;
use crate::process::tree::scan::{Environment, Table};
use crate::process::urgent::Urgent;
use crate::process::{OrphanEnd, deadline, group, handle};

pub(super) use swept::Swept;

/// How long after KILL we wait for the end. Only a process inside the kernel takes longer, and nothing helps there.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two looks whether the grace was cut short. Only while something is being ended.
const CUT_LOOK: Duration = Duration::from_millis(100);

/// How long processes get to end by themselves.
#[derive(Clone, Copy)]
pub(super) struct Grace<'a> {
    /// The time after TERM; none is KILL at once.
    pub(super) time: Option<Duration>,
    /// Whether somebody does not want to wait for it any more.
    pub(super) is_cut: &'a dyn Fn() -> bool,
}

/// Whose processes are meant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The main process, if its number can only mean that one.
    pub(super) root: Option<ProcessId>,
    pub(super) run: RunId,
    /// A moment just before the main process came to life, if we were there.
    pub(super) root_started: Option<Instant>,
}

/// What is left of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Some,
}

/// Ends the tree of one of our runs: TERM, the grace, KILL; without a grace, KILL at once. Its main process must not have
/// been reaped.
pub(super) fn end(target: Target, fences: &[Fence], grace: Grace<'_>) -> Swept {
    if !scan::available() {
        let end = |root: ProcessId| group::end(root.pid, grace.time.unwrap_or_default());
        return Swept::of(target.root.map_or(Left::Nothing, end));
    }
    end_found(&mut Finder::among_ours(target, fences), fences, grace)
}

/// Ends the tree of a run that an earlier daemon started, in the same way. Its main process may be anybody's child.
pub(super) fn end_adopted(target: Target, fences: &[Fence], grace: Grace<'_>) -> Swept {
    end_found(&mut Finder::everywhere(target, fences), fences, grace)
}

fn end_found(finder: &mut Finder<'_>, fences: &[Fence], grace: Grace<'_>) -> Swept {
    let mut swept = Swept::of(Left::Nothing);
    let left = grace.time.map_or(Left::Some, |time| terminate(finder, deadline(time), grace.is_cut, &mut swept));
    if left == Left::Some {
        swept.left = kill(finder, fences, deadline(KILL_PATIENCE));
    }
    swept
}

/// The processes of one of our runs, as of a moment ago.
pub(super) fn members(target: Target, fences: &[Fence]) -> BTreeSet<u32> {
    Finder::among_ours(target, fences).among(&Table::recent())
}

/// Tells the process group of a run's main process with one call, however many are in it: what takes microseconds for
/// each, one by one, gives a fork bomb time to grow.
pub(super) fn signal_group(target: Target, signal: Signal) {
    if let Some(root) = target.root
        && is_orphan(root)
        && let Some(group) = handle::number(root.pid)
    {
        // Failing means that the group is empty.
        let _ = kill_process_group(group, signal);
    }
}

/// The leaders of process groups that carry the marker of a run.
pub(super) fn find_marked(run: RunId) -> Vec<ProcessId> {
    let marker = scan::marker(run);
    let mut looks = 0;
    loop {
        let table = Table::read();
        let mut marked = Vec::new();
        let mut unclear = false;
        for stat in table.iter().filter(|stat| stat.alive && !stat.kernel && stat.group == stat.pid) {
            match scan::environment(stat.pid, &marker) {
                Environment::Marked => marked.push(ProcessId { pid: stat.pid, started: stat.started }),
                Environment::Empty => unclear = true,
                Environment::Strange => {}
            }
        }
        looks += 1;
        if !marked.is_empty() || !unclear || looks == find::LOOKS_MAX {
            return marked;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills what is alive of a run that may not be a child of ours any more.
pub(super) fn end_orphan(target: Target) -> OrphanEnd {
    let fences = target.root.map(Fence::around).unwrap_or_default();
    let mut finder = Finder::everywhere(target, &fences);
    if finder.find().is_empty() {
        return OrphanEnd::NotFound;
    }
    match kill(&mut finder, &fences, deadline(KILL_PATIENCE)) {
        Left::Nothing => OrphanEnd::Ended,
        Left::Some => OrphanEnd::Remains,
    }
}

/// Whether `process` is still the one that was spawned then: same start time, leader of its group as we made it, and
/// not ourselves. It may be dead and not reaped; its group still counts.
pub(super) fn is_orphan(process: ProcessId) -> bool {
    process.started != 0
        && process.pid != std::process::id()
        && scan::stat(process.pid).is_some_and(|stat| stat.started == process.started && stat.group == process.pid)
}

/// Sends TERM to all and waits for them. What they start while they end, to tidy up, gets its time too.
fn terminate(finder: &mut Finder<'_>, until: Instant, is_cut: &dyn Fn() -> bool, swept: &mut Swept) -> Left {
    let mut told = false;
    loop {
        let members = finder.find();
        let Some(first) = members.first() else { return Left::Nothing };
        if !told {
            swept.found(&members);
            for member in &members {
                handle::signal(*member, Signal::TERM);
                // A stopped process would notice only when it goes on.
                handle::signal(*member, Signal::CONT);
            }
            told = true;
        }
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            swept.ignored_term(&members);
            return Left::Some;
        }
        if is_cut() {
            return Left::Some;
        }
        // All have to end, so waiting for any one of them is right.
        handle::wait_gone(*first, rest.min(CUT_LOOK));
    }
}

/// Kills all, and those that they started meanwhile, until there is none or the time is over.
fn kill(finder: &mut Finder<'_>, fences: &[Fence], until: Instant) -> Left {
    let _urgent = Urgent::new();
    signal_group(finder.target(), Signal::STOP);
    for fence in fences {
        fence.close();
    }
    loop {
        let frozen = freeze(finder, until);
        for member in &frozen {
            handle::signal(*member, Signal::KILL);
        }
        for member in &frozen {
            handle::wait_gone(*member, until.saturating_duration_since(Instant::now()));
        }
        if finder.find().is_empty() {
            return Left::Nothing;
        }
        if Instant::now() >= until {
            return Left::Some;
        }
    }
}

/// Stops all, and those that they started meanwhile, until no new one turns up: then none of them can fork.
fn freeze(finder: &mut Finder<'_>, until: Instant) -> BTreeSet<ProcessId> {
    let mut frozen = BTreeSet::new();
    loop {
        let fresh: Vec<ProcessId> = finder.find().into_iter().filter(|member| !frozen.contains(member)).collect();
        if fresh.is_empty() {
            return frozen;
        }
        for member in fresh {
            handle::signal(member, Signal::STOP);
            frozen.insert(member);
        }
        if Instant::now() >= until {
            return frozen;
        }
    }
}
