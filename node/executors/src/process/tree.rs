//! Ending every process of a run.

mod find;
pub(super) mod scan;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jobmesh_protocol::RunId;
use rustix::process::Signal;

use crate::event::ProcessId;
use crate::process::tree::find::Finder;
use crate::process::{OrphanEnd, deadline, group, handle};

/// How long after KILL we wait for the end. Only a process inside the kernel takes longer, and nothing helps there.
pub(super) const KILL_PATIENCE: Duration = Duration::from_secs(5);

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

/// Ends the tree of one of our runs: TERM, the grace, KILL. Its main process must not have been reaped.
pub(super) fn end(target: Target, grace: Duration) -> Left {
    if !scan::available() {
        return target.root.map_or(Left::Nothing, |root| group::end(root.pid, grace));
    }
    let mut finder = Finder::among_ours(target);
    match terminate(&mut finder, deadline(grace)) {
        Left::Nothing => Left::Nothing,
        Left::Some => kill(&mut finder, deadline(KILL_PATIENCE)),
    }
}

/// Kills what is alive of a run that may not be a child of ours any more.
pub(super) fn end_orphan(target: Target) -> OrphanEnd {
    let mut finder = Finder::everywhere(target);
    if finder.find().is_empty() {
        return OrphanEnd::NotFound;
    }
    match kill(&mut finder, deadline(KILL_PATIENCE)) {
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
fn terminate(finder: &mut Finder, until: Instant) -> Left {
    let mut told = false;
    loop {
        let members = finder.find();
        let Some(first) = members.first() else { return Left::Nothing };
        if !told {
            for member in &members {
                handle::signal(*member, Signal::TERM);
                // A stopped process would notice only when it goes on.
                handle::signal(*member, Signal::CONT);
            }
            told = true;
        }
        let rest = until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Left::Some;
        }
        // All have to end, so waiting for any one of them is right.
        handle::wait_gone(*first, rest);
    }
}

/// Kills all, and those that they started meanwhile, until there is none or the time is over.
fn kill(finder: &mut Finder, until: Instant) -> Left {
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
fn freeze(finder: &mut Finder, until: Instant) -> BTreeSet<ProcessId> {
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
