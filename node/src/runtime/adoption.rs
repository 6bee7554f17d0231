//! Runs that an earlier daemon of this node started: taken on where they live, told apart where they don't.
//!
//! A run whose process was written down is the executors' to find. **The hard case** is one whose process was not: the
//! daemon may have ended before the start, between the start and its commit, or after an end that left nothing. If no
//! process carries the run's mark and it has no directory, it left nothing at all. Then it is given back as if it never
//! started, which is right for all work that may be done again. Work that may be done only once is lost: when in doubt,
//! it ran.

use jobmesh_engine::{Process, RunOrder};
use jobmesh_executors::{Adopt, Confinement, Executors, Order, ProcessId, Secrets, find_run};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{Isolation, Outcome, RunId};
use jobmesh_store::{Reader, StoreError};

use super::handle::Handle;
use super::order::{limits, order as for_executors};

/// Takes on a run; the executors tell the rest. `Some` is how it ended if there is nothing to take on.
pub(super) fn adopt(
    handle: &Handle,
    executors: &Executors,
    order: &RunOrder,
    process: Option<Process>,
) -> Option<Outcome> {
    let run = order.run;
    let directory = handle.home().run(run);
    let known = process.filter(|process| process.pid != 0);
    let process = match (known, &order.task) {
        (Some(process), _) => Some(ProcessId { pid: process.pid, started: process.started }),
        (None, Task::Process(_) | Task::Wasm(_) | Task::Lua(_)) => find_run(run),
        (
            None,
            Task::Container(_) | Task::Http(_) | Task::Llm(_) | Task::Embedding(_) | Task::Noop {} | Task::Builtin(_),
        ) => None,
    };
    if process.is_none() && !directory.exists() {
        handle.shared().guarded.discard(handle.home(), run);
        return Some(never_seen(handle, run));
    }
    let limits = limits(&handle.config(), order, crate::detect::memory_bytes());
    let is_container = matches!(order.task, Task::Container(_));
    if !order.secrets.is_empty() && !is_container {
        // What it says goes through the daemon that is gone, so it can't go on.
        let ended = jobmesh_executors::end_orphan(process.unwrap_or(ProcessId { pid: 0, started: 0 }), run);
        tracing::info!(%run, ?ended, "ended a run with secrets that an earlier daemon began");
        handle.shared().guarded.discard(handle.home(), run);
        let reason =
            "the daemon stopped while it ran, and what a job with secrets says has to pass through it".to_owned();
        return Some(Outcome::Lost { reason });
    }
    let container = if is_container {
        let secrets = match guarded_secrets(handle, order) {
            Ok(secrets) => secrets,
            Err(outcome) => {
                // Without them it can't be told what to leave out of its log.
                let ended = jobmesh_executors::end_orphan(process.unwrap_or(ProcessId { pid: 0, started: 0 }), run);
                tracing::warn!(%run, ?ended, "ended a container whose secrets are not there any more");
                handle.shared().guarded.discard(handle.home(), run);
                return Some(outcome);
            }
        };
        Some(Box::new(Order { secrets, ..for_executors(handle, order.clone(), None) }))
    } else {
        None
    };
    let (had_inputs, outputs, kill_grace) = (order.inputs.is_some(), order.outputs.clone(), order.kill_grace);
    let confinement = confinement(order);
    let adopt = Adopt { run, process, directory, had_inputs, outputs, kill_grace, limits, confinement, container };
    handle.shared().adopting.start(run);
    let error = executors.adopt(adopt).err()?;
    tracing::error!(%run, %error, "a run of an earlier daemon goes on unwatched; ending it");
    let process = process.unwrap_or(ProcessId { pid: 0, started: 0 });
    let ended = jobmesh_executors::end_orphan(process, run);
    tracing::info!(%run, ?ended, "ended what could not be watched");
    Some(Outcome::Lost { reason: "the daemon stopped while it ran, and the next one could not watch it".to_owned() })
}

/// The secrets of a container that goes on, which is marked as having some.
fn guarded_secrets(handle: &Handle, order: &RunOrder) -> Result<Secrets, Outcome> {
    let secrets = handle.config().secrets.of_job(&order.secrets).map_err(|error| error.outcome())?;
    let marked = handle.shared().guarded.watch(order.run, &secrets);
    marked.map_err(|error| Outcome::error(format!("it can't be marked as having secrets: {error}")))?;
    Ok(secrets)
}

/// What a run of this order was kept in.
fn confinement(order: &RunOrder) -> Confinement {
    match &order.task {
        Task::Wasm(_) | Task::Lua(_) => Confinement::Worker,
        Task::Process(_) if order.isolation >= Isolation::Sandboxed => Confinement::Sandbox,
        Task::Process(_)
        | Task::Container(_)
        | Task::Http(_)
        | Task::Llm(_)
        | Task::Embedding(_)
        | Task::Noop {}
        | Task::Builtin(_) => Confinement::Open,
    }
}

/// How a run ended of which there is no trace.
fn never_seen(handle: &Handle, run: RunId) -> Outcome {
    match effects(handle, run) {
        Ok(Some(Effects::Pure | Effects::Idempotent)) => {
            Outcome::Released { reason: "the daemon stopped before it started".to_owned() }
        }
        Ok(Some(Effects::Once) | None) => {
            Outcome::Lost { reason: "the daemon stopped, and nothing shows whether it ran".to_owned() }
        }
        Err(error) => {
            tracing::error!(%run, %error, "could not read about a run of an earlier daemon");
            Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() }
        }
    }
}

fn effects(handle: &Handle, run: RunId) -> Result<Option<Effects>, StoreError> {
    let reader = Reader::open(handle.home().path())?;
    Ok(reader.view().job(run.job)?.map(|job| job.spec.effects))
}
