//! The process executor: a command of the operating system, contained.
//!
//! A run is its main process, which we spawn as the leader of a process group, and everything that descends from it.
//! On Linux the daemon is a *subreaper*: a descendant that loses its parent becomes our child instead of init's. So
//! the run's processes are exactly
//!
//! - the tree under the main process, by the parent links in `/proc`,
//! - the members of its process group,
//! - the trees under those adopted children whose environment carries [`RUN_VARIABLE`](crate::RUN_VARIABLE) with the run's
//!   id, and
//! - the members of its slot's control group, where one can be made,
//!
//! and a new session or a double fork hides nobody. The main process stays a zombie until the others are gone, so
//! that its number, and with it the group's, can't come to mean something else. Most runs leave nobody, which two
//! short lists of the kernel's tell in two microseconds; only then `/proc` isn't read.
//!
//! Without control groups, a process that clears its environment, opens a session *and* is orphaned before anybody looks
//! can't be told from a stranger's; keeping even those in is what process namespaces are for.
//!
//! Ending is TERM to all, the grace, then STOP to each as it is found until no new one turns up (a stopped process
//! can't fork), then KILL to all, again until none is left. A main process that ends by itself takes the ones it left
//! in the background with it, the same way. A run that went beyond its limit on processes is stopped and killed at once.
//!
//! A contained run may do all that its owner may, `sudo` included. One that may not is started in a sandbox, which is two
//! more processes in front of it and changes nothing of the above; see `sandbox.rs` for what it can't do.
//!
//! Nothing ties a run to the life of the daemon: when that is killed, the processes go on and write to their files, and
//! the next daemon adopts them.
//!
//! Without `/proc` (macOS) there are only the process group, no start times, and an end is noticed within 20 ms.
//! A child in a session of its own survives there.

mod adopt;
mod cgroup;
mod disk;
mod end;
mod exit;
mod group;
mod handle;
mod host;
mod kin;
mod limit;
mod pidfd_info;
mod program;
mod reaper;
mod sandboxed;
mod seat;
mod spare;
mod spawn;
mod tree;
mod urgent;
mod watch;
mod word;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use jobmesh_protocol::RunId;
use jobmesh_protocol::outcome::{Exit, Usage};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, Isolation, Outcome};

use crate::control::Control;
use crate::event::{Ended, Event, ProcessId};
use crate::executor::{Executor, Probe, wrong_task};
use crate::order::{Order, StopReason};
use crate::process::limit::{Brake, Guard};
use crate::process::sandboxed::Sandboxed;
use crate::process::tree::{Grace, Left, Target};
use crate::process::watch::{Seen, Watch};
use crate::sandbox;
use crate::surroundings::Sandboxes;

pub use adopt::find_run;
pub use cgroup::{Enforced, Enforcement};
pub use pidfd_info::tells_exits;

pub(crate) use adopt::attend;
pub(crate) use disk::Disk;
pub(crate) use end::Remains;
pub(crate) use exit::{Ending, OutOfMemory, size};
pub(crate) use host::Host;
pub(crate) use limit::Breach;
pub(crate) use reaper::adopt_orphans;
pub(crate) use seat::Seat;
pub(crate) use spare::{Contents, Spare};

/// How long processes that a finished command left behind may take to end after TERM: one second.
///
/// Nobody asked for them any more, so it is short; a job's own grace is for work that was interrupted.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

/// Why we end a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    Asked(StopReason),
    Breach(Breach),
}

impl Brought {
    fn outcome(self) -> Outcome {
        match self {
            Self::Asked(reason) => reason.outcome(),
            Self::Breach(breach) => breach.outcome(),
        }
    }

    /// The time between TERM and KILL for a run that is ended for this reason, or has ended by itself (none) and left
    /// something; none is KILL at once.
    fn grace(this: Option<Self>, wanted: DurationMillis) -> Option<Duration> {
        match this {
            None => Some(LEFTOVER_GRACE.min(Duration::from_millis(wanted.0))),
            Some(Self::Asked(reason)) => reason.grace(wanted),
            Some(Self::Breach(breach)) => breach.grace(),
        }
    }
}

/// A run that is over within this time is told of by its end alone: news of its start would only make the end of the
/// next one wait. Its process can be found by its marker until then.
const BRIEF: Duration = Duration::from_millis(5);

/// Runs commands of the operating system.
#[derive(Debug)]
pub(crate) struct Process {
    host: Host,
}

impl Process {
    pub(crate) const fn new(host: Host) -> Self {
        Self { host }
    }

    /// What it was started amid.
    pub(crate) const fn host(&self) -> &Host {
        &self.host
    }

    /// Runs a command to its end in the name of an order, whatever that order's own task is.
    pub(crate) fn run(&self, order: &Order, task: &ProcessTask, seat: &mut Seat, control: &Control<'_>) -> Ended {
        perform(order, task, &self.host, seat, control)
    }
}

impl Executor for Process {
    fn probe(&self) -> Probe {
        let sandbox = match self.host.sandboxes() {
            Sandboxes::Use => sandbox::probe(self.host.worker()),
            Sandboxes::Avoid => Err(vec!["`isolation.sandbox` is false in config.toml".to_owned()]),
        };
        match sandbox {
            Ok(()) => Probe::ready("process", Isolation::Sandboxed),
            Err(lacks) => Probe { lacks, ..Probe::ready("process", Isolation::Contained) },
        }
    }

    fn perform(&self, order: &Order, seat: &mut Seat, control: &Control<'_>) -> Ended {
        let Task::Process(task) = &order.task else { return Ended::without_process(wrong_task(&order.task)) };
        self.run(order, task, seat, control)
    }
}

fn perform(order: &Order, task: &ProcessTask, host: &Host, seat: &mut Seat, control: &Control<'_>) -> Ended {
    if let Some(reason) = control.stop_reason() {
        return Ended::without_process(reason.outcome());
    }
    let sandboxed = match Sandboxed::required(order, host) {
        Ok(sandboxed) => sandboxed,
        Err(outcome) => return Ended::without_process(outcome),
    };
    let mut spawned = match spawn::spawn(order, (task, sandboxed), host, seat) {
        Ok(spawned) => spawned,
        Err(error) => return Ended::without_process(error.outcome()),
    };
    let (process, mut strainers) = (spawned.process, spawned.strainers.take());
    let brake = seat.group.is_none().then(|| Brake::put_on(process.pid, &order.limits));
    let started = Event::Started { run: order.run, process };

    let target = Target { root: Some(process), run: order.run, root_started: Some(spawned.at) };
    let fences = seat.fences(spawned.group.as_ref());
    let mut guard =
        Guard::new(order.limits, [Some(&spawned.stdout), Some(&spawned.stderr)], target, seat.count(), &fences)
            .with(&order.directory, sandboxed.map_or(0, |_| Sandboxed::PROCESSES));
    let mut brought = watch(&Watch::child(process), &mut guard, control, Some(started));
    drop(brake);
    let is_alone = brought.is_none() && seat.kin.as_ref().is_some_and(|kin| kin.is_only(process.pid));
    let mut notice = None;
    if !is_alone {
        let grace = Grace { time: Brought::grace(brought, order.kill_grace), is_cut: &|| control.is_urgent() };
        let swept = tree::end(target, &fences, grace);
        if swept.left == Left::Some {
            tracing::error!(run = %order.run, pid = process.pid, "processes of a run can't be killed");
        }
        notice = swept.notice(brought.is_none());
        reaper::sweep();
    }
    // Measured where it was written, and searched where it is looked for.
    let full = if brought.is_none() { guard.disk_at_end() } else { None };
    let failure = sandboxed.and_then(|_| Sandboxed::take_out(&order.directory));
    if let Some(strainers) = &mut strainers {
        strainers.finish(&order.directory);
    }
    brought = brought.or_else(|| guard.at_end().or(full).map(Brought::Breach));
    if matches!(brought, Some(Brought::Breach(_))) {
        guard.cut_logs();
    }
    let sampled = guard.memory_peak();

    let usage = Usage { cpu_ms: spawned.cpu_ms(), memory_peak_bytes: spawned.memory_peak().or(sampled), fuel: None };
    let mut exit = spawned.reap();
    let ran = spawned.at.elapsed();
    if failure.is_some() {
        exit = Exit::default();
    }
    brought = brought.or_else(|| Breach::by_signal(&order.limits, exit.signal).map(Brought::Breach));
    let left = seat.spare.contents();
    let outcome = brought.map(Brought::outcome);
    let outcome = outcome.or_else(|| failure.as_ref().map(|failure| Sandboxed::outcome(failure, order.is_foreign)));
    let mut ended = spawned.remains(order, left, exit, (usage, ran)).conclude(outcome);
    ended.notice = notice.or(ended.notice);
    if let Some(strainers) = &strainers {
        ended.outcome = strainers.clean(ended.outcome);
    }
    ended.isolation = sandboxed.map_or(Isolation::Contained, |_| Sandboxed::level(failure.as_ref()));
    seat.stand_up(order, &ended, left, is_alone && brought.is_none());
    ended
}

/// Waits until the main process ends by itself (none) or has to be ended. Says that it started once it is not brief.
fn watch(life: &Watch, guard: &mut Guard<'_>, control: &Control<'_>, mut started: Option<Event>) -> Option<Brought> {
    loop {
        let longest = if started.is_some() { BRIEF } else { guard.interval() };
        let seen = life.wait(control.wake(), longest);
        match (seen, started.take()) {
            (Seen::Ended, _) => return None,
            (Seen::Woken | Seen::Nothing, Some(event)) => control.emit(event),
            (Seen::Woken | Seen::Nothing, None) => {}
        }
        match seen {
            Seen::Ended => return None,
            Seen::Woken => control.drain(),
            Seen::Nothing => {
                reaper::sweep();
                if let Some(breach) = guard.look() {
                    return Some(Brought::Breach(breach));
                }
            }
        }
        if let Some(reason) = control.stop_reason() {
            return (!life.has_ended()).then_some(Brought::Asked(reason));
        }
    }
}

/// What became of a run from an earlier life of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanEnd {
    /// Nothing of it was alive.
    NotFound,
    /// It was alive, and now nothing of it is.
    Ended,
    /// Some of it is still alive five seconds after KILL, in a system call that can't be interrupted.
    Remains,
}

/// Kills what an earlier life of the daemon left of a run: the tree under `process` if its start time still matches,
/// and everything whose environment carries the run's id. Returns when it is gone, within about five seconds.
///
/// `process` must be from this start of the operating system: start times begin anew with each. There is no TERM: its
/// attempt is lost already, and its successor may be waiting.
#[must_use]
pub fn end_orphan(process: ProcessId, run: RunId) -> OrphanEnd {
    let root = tree::is_orphan(process).then_some(process);
    tree::end_orphan(Target { root, run, root_started: None })
}

/// The living processes of a run under its main process, as of a moment ago; none if that can't be seen.
pub(crate) fn members_under(root: Option<ProcessId>, run: RunId) -> BTreeSet<u32> {
    root.map_or_else(BTreeSet::new, |root| tree::members(Target { root: Some(root), run, root_started: None }, &[]))
}

/// Names the living process of this number; none if there is none, or it can't be seen.
pub(crate) fn identify(pid: u32) -> Option<ProcessId> {
    tree::scan::stat(pid).map(|stat| ProcessId { pid, started: stat.started })
}

/// How long ago a process started; none where that isn't known.
pub(crate) fn age_of(process: ProcessId) -> Option<Duration> {
    (process.started != 0).then(|| tree::scan::age(process.started))
}

/// Kills everything that carries the marker of a run.
pub(crate) fn end_marked(run: RunId) {
    let end = tree::end_orphan(Target { root: None, run, root_started: None });
    tracing::warn!(run = %run, end = ?end, "ended the processes of a run by their marker");
}

/// A deadline that is never before now.
fn deadline(after: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(after).unwrap_or(now)
}
