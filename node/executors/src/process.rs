//! The process executor: a command of the operating system, contained.
//!
//! A run is its main process, which we spawn as the leader of a process group, and everything that descends from it.
//! On Linux the daemon is a *subreaper*: a descendant that loses its parent becomes our child instead of init's. So
//! the run's processes are exactly
//!
//! - the tree under the main process, by the parent links in `/proc`,
//! - the members of its process group, and
//! - the trees under those adopted children whose environment carries [`RUN_VARIABLE`] with the run's id,
//!
//! and a new session or a double fork hides nobody. The main process stays a zombie until the others are gone, so
//! that its number, and with it the group's, can't come to mean something else.
//!
//! A process that clears its environment, opens a session *and* is orphaned before anybody looks can't be told from a
//! stranger's; keeping even those in is what process namespaces are for.
//!
//! Ending is TERM to all, the grace, then STOP to each as it is found until no new one turns up (a stopped process
//! can't fork), then KILL to all, again until none is left. A main process that ends by itself takes the ones it left
//! in the background with it, the same way.
//!
//! Without `/proc` (macOS) there are only the process group, no start times, and an end is noticed within 20 ms.
//! A child in a session of its own survives there.

mod exit;
mod group;
mod handle;
mod reaper;
mod spawn;
mod tree;
mod watch;

use std::time::{Duration, Instant};

use jobmesh_protocol::RunId;
use jobmesh_protocol::job::ProcessTask;
use jobmesh_protocol::outcome::{Exit, Outputs};
use jobmesh_protocol::{DurationMillis, Outcome};

use crate::event::{Ended, Event, ProcessId, chain};
use crate::executors::Control;
use crate::order::{Order, StopReason};
use crate::output::Log;
use crate::process::spawn::Spawned;
use crate::process::tree::{Left, Target};
use crate::process::watch::{Seen, Watch};

pub use spawn::RUN_VARIABLE;

pub(crate) use reaper::adopt_orphans;

/// How long processes that a finished command left behind may take to end after TERM: one second.
///
/// Nobody asked for them any more, so it is short; a job's own grace is for work that was interrupted.
const LEFTOVER_GRACE: Duration = Duration::from_secs(1);

/// Runs a command to its end.
pub(crate) fn perform(order: &Order, task: &ProcessTask, control: &Control<'_>) -> Ended {
    if let Some(reason) = control.stop_reason() {
        return Ended::without_process(reason.outcome());
    }
    let mut spawned = match spawn::spawn(order, task) {
        Ok(spawned) => spawned,
        Err(error) => return Ended::without_process(error.outcome()),
    };
    let process = spawned.process;
    control.emit(Event::Started { run: order.run, process });

    let stopped = watch(&spawned, control);
    let grace = stopped.map_or(LEFTOVER_GRACE.min(wanted(order.kill_grace)), |reason| reason.grace(order.kill_grace));
    let target = Target { root: Some(process), run: order.run, root_started: Some(spawned.at) };
    if tree::end(target, grace) == Left::Some {
        tracing::error!(run = %order.run, pid = process.pid, "processes of a run can't be killed");
    }
    let exit = spawned.reap();
    conclude(&spawned, exit, stopped)
}

/// Waits until the main process ends by itself (none) or has to be ended.
fn watch(spawned: &Spawned, control: &Control<'_>) -> Option<StopReason> {
    let watch = Watch::new(spawned.process);
    loop {
        match watch.wait(control.wake()) {
            Seen::Ended => return None,
            Seen::Woken => control.drain(),
            Seen::Nothing => reaper::sweep(),
        }
        if let Some(reason) = control.stop_reason() {
            return (!handle::has_ended(spawned.process.pid)).then_some(reason);
        }
    }
}

/// Puts the end together: what it means and what was written.
fn conclude(spawned: &Spawned, exit: Exit, stopped: Option<StopReason>) -> Ended {
    let outcome = stopped.map_or_else(|| exit::outcome(exit), StopReason::outcome);
    let mut ended = Ended { exit, ..Ended::without_process(outcome) };
    let Outputs { stdout, stderr } = &mut ended.outputs;
    for (log, blob) in [(&spawned.stdout, stdout), (&spawned.stderr, stderr)] {
        match digest(log) {
            Ok(Some(digest)) => {
                *blob = Some(digest.blob);
                ended.inline.extend(digest.inline);
            }
            Ok(None) => {}
            // A result without its output is none. An end that we brought about has nothing to lose.
            Err(error) if ended.outcome == Outcome::Ok => ended.outcome = Outcome::Error { message: chain(&error) },
            Err(error) => tracing::warn!(error = %error, "failed to read an output"),
        }
    }
    ended
}

fn digest(log: &Log) -> Result<Option<crate::output::Digest>, DigestError> {
    log.digest().map_err(DigestError)
}

/// Why an output has no name.
#[derive(Debug, thiserror::Error)]
#[error("failed to read back what the command wrote")]
struct DigestError(#[source] std::io::Error);

fn wanted(kill_grace: DurationMillis) -> Duration {
    Duration::from_millis(kill_grace.0)
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
