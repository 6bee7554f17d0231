//! Runs that an earlier life of the daemon began and this one sees to their end.
//!
//! Nothing ties a run to the daemon that started it: no signal at its death, no pipe, its output goes to files. So a new
//! daemon looks for the process by number and start time, or by the run's marker where the number was never written
//! down, and waits for it on a thread of its own.
//!
//! The hard case is the exit code, which the system tells to parents only. If the run's process has come to us as an
//! orphan we are its parent; else newer kernels tell whoever held a descriptor when it ended ([`pidfd_info`]); else
//! what it wrote to its outcome file counts, and without one the attempt is lost rather than guessed.

use std::time::{Duration, Instant};

use jobmesh_protocol::Isolation;
use jobmesh_protocol::RunId;
use jobmesh_protocol::outcome::{Exit, Usage};

use crate::control::Control;
use crate::directory::log_path;
use crate::event::{Ended, Event, ProcessId};
use crate::order::{Adopt, Confinement};
use crate::output::{Log, Stream};
use crate::process::cgroup::Fence;
use crate::process::end::Remains;
use crate::process::exit::{Ending, OutOfMemory};
use crate::process::limit::Guard;
use crate::process::pidfd_info::{self, Told};
use crate::process::sandboxed::Sandboxed;
use crate::process::spare::Contents;
use crate::process::tree::{self, Grace, Left, Target, scan};
use crate::process::watch::Watch;
use crate::process::{Brought, deadline, handle, reaper, watch};
use crate::sandbox::{self, Failure};
use crate::worker::Account;

/// What is known of an end that nobody saw because there was no daemon.
const UNSEEN: &str = "it ended while no daemon was there to see how";

/// What is known of an end whose exit code went to another process.
const UNTOLD: &str = "its exit code is unknown, since the daemon restarted while it ran";

/// How long the parent of a process may take to reap it: two seconds. Init does it at once.
const REAP_PATIENCE: Duration = Duration::from_secs(2);

/// Time between two looks whether it did. The kernel has no news of that.
const REAP_SLICE: Duration = Duration::from_millis(2);

/// Finds the main process of a run by its marker: the first leader of a process group that carries it.
#[must_use]
pub fn find_run(run: RunId) -> Option<ProcessId> {
    tree::find_marked(run).into_iter().min_by_key(|process| (process.started, process.pid))
}

/// Sees an adopted run to its end.
pub(crate) fn attend(adopt: &Adopt, control: &Control<'_>) -> Ended {
    // Held on to before it is looked at: the kernel tells the exit only to who did so while the process was there.
    let life = adopt.process.or_else(|| find_run(adopt.run)).map(Watch::adopted);
    let life = life.filter(|life| tree::is_orphan(life.process()));
    let process = life.as_ref().map(Watch::process);
    let logs = [Stream::Stdout, Stream::Stderr].map(|stream| Log::reopen(&log_path(&adopt.directory, stream)).ok());
    let fences = process.map(Fence::around).unwrap_or_default();
    let target = Target { root: process, run: adopt.run, root_started: None };
    // A sandbox has such a directory, and the daemon that made it is gone. Any other job could have made one.
    let is_sandboxed = adopt.confinement == Confinement::Sandbox && sandbox::words_path(&adopt.directory).exists();
    let attempt = Attempt { adopt, target, is_sandboxed, logs, fences };
    let ended = match life {
        Some(life) => {
            // Its number may never have been written down.
            control.emit(Event::Started { run: adopt.run, process: life.process() });
            attempt.wait_for(&life, control)
        }
        None => {
            let notice = attempt.end_tree(None, &|| false);
            let ending = Ending::Unknown(UNSEEN.to_owned());
            let ended = attempt.conclude(Exit::default(), ending, Usage::default(), None, Duration::ZERO);
            Ended { notice: notice.or(ended.notice.clone()), ..ended }
        }
    };
    for fence in &attempt.fences {
        fence.remove();
    }
    match adopt.confinement {
        Confinement::Worker => Account::complete(&adopt.directory, ended),
        // A file of that name is the job's own.
        Confinement::Open | Confinement::Sandbox => ended,
    }
}

/// How a process ended that has ended, from its parent's point of view if that is us, or from the kernel's.
fn exit_of(life: &Watch) -> Option<Exit> {
    let until = deadline(REAP_PATIENCE);
    loop {
        // Its parent may die before it reaps it, and then we are the parent.
        if is_still(life.process())
            && let Some(exit) = handle::take_exit(life.process().pid)
        {
            return Some(exit);
        }
        match life.handle().map_or(Told::Never, pidfd_info::exit) {
            Told::Exit(exit) => return Some(exit),
            Told::NotYet if Instant::now() < until => std::thread::sleep(REAP_SLICE),
            Told::NotYet | Told::Never => return None,
        }
    }
}

/// Whether the number still means this process, dead or alive.
fn is_still(process: ProcessId) -> bool {
    scan::stat(process.pid).is_some_and(|stat| stat.started == process.started)
}

/// An adopted run and what it left on the disk and in the kernel.
struct Attempt<'a> {
    adopt: &'a Adopt,
    target: Target,
    /// Whether it is in a sandbox, whose processes are not the run's own.
    is_sandboxed: bool,
    logs: [Option<Log>; 2],
    fences: Vec<Fence>,
}

impl Attempt<'_> {
    fn wait_for(&self, life: &Watch, control: &Control<'_>) -> Ended {
        let process = life.process();
        // Should it be our child by now, nobody else may take its status.
        let _root = reaper::Root::new(process.pid);
        let mut guard =
            Guard::new(self.adopt.limits, self.logs.each_ref().map(Option::as_ref), self.target, None, &self.fences)
                .with(&self.adopt.directory, if self.is_sandboxed { Sandboxed::PROCESSES } else { 0 });
        let mut brought = watch(life, &mut guard, control, None);
        let notice = self.end_tree(brought, &|| control.is_urgent());
        brought = brought.or_else(|| guard.at_end().or_else(|| guard.disk_at_end()).map(Brought::Breach));
        if matches!(brought, Some(Brought::Breach(_))) {
            guard.cut_logs();
        }
        // Complete only while it is a zombie.
        let cpu_ms = if is_still(process) { scan::cpu_ms(process.pid) } else { None };
        let exit = exit_of(life);
        let ending = exit.map_or_else(|| Ending::Unknown(UNTOLD.to_owned()), Ending::of);
        let memory_peak_bytes = self.fences.iter().find_map(|fence| fence.memory()?.peak()).or(guard.memory_peak());
        let usage = Usage { cpu_ms, memory_peak_bytes, fuel: None };
        let ran = scan::age(process.started);
        let ended = self.conclude(exit.unwrap_or_default(), ending, usage, brought, ran);
        Ended { notice: notice.or(ended.notice.clone()), ..ended }
    }

    /// Ends what is left of the run. Returns what there is to say about that.
    fn end_tree(&self, brought: Option<Brought>, is_cut: &dyn Fn() -> bool) -> Option<String> {
        let grace = Grace { time: Brought::grace(brought, self.adopt.kill_grace), is_cut };
        let swept = tree::end_adopted(self.target, &self.fences, grace);
        if swept.left == Left::Some {
            tracing::error!(run = %self.adopt.run, "processes of an adopted run can't be killed");
        }
        swept.notice(brought.is_none())
    }

    fn conclude(&self, exit: Exit, ending: Ending, usage: Usage, brought: Option<Brought>, ran: Duration) -> Ended {
        let failure = Sandboxed::take_out(&self.adopt.directory);
        let isolation = match &failure {
            Some(Failure::Sandbox(_)) => Isolation::None,
            Some(Failure::Program(_)) | None if self.is_sandboxed => Isolation::Sandboxed,
            Some(Failure::Program(_)) | None => Isolation::Contained,
        };
        let brought =
            brought.map(Brought::outcome).or_else(|| failure.map(|failure| Sandboxed::outcome(&failure, false)));
        let [stdout, stderr] = self.logs.each_ref().map(Option::as_ref);
        let oom: Option<OutOfMemory> = self.fences.iter().find_map(|fence| fence.memory()?.out_of_memory());
        let left = Contents::UNKNOWN;
        let remains = Remains { directory: &self.adopt.directory, left, stdout, stderr, exit, ending, oom, usage, ran };
        Ended { isolation, ..remains.conclude(brought) }
    }
}
