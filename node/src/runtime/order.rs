//! From what the engine orders to what the executors need: where, with which variables, within which limits.

use std::collections::BTreeMap;
use std::path::Path;

use jobmesh_engine::RunOrder;
use jobmesh_engine::pool::Allocation;
use jobmesh_executors::{ATTEMPT_VARIABLE, JOB_VARIABLE, Limits, Order, SOCKET_VARIABLE, Secrets, TOKEN_VARIABLE};
use jobmesh_protocol::Isolation;
use jobmesh_protocol::place::Place;
use jobmesh_protocol::resource::{Amount, Name};
use jobmesh_protocol::task::{Complexity, LlmTask, ProcessTask, Task};

use super::handle::Handle;
use super::reduce::RESULTS_NAME;
use crate::config::Config;
use crate::home::HOME_VARIABLE;

/// The part of the machine's memory that a job of a peer may have if it did not ask for any: a half.
const FOREIGN_SHARE: u64 = 2;

/// The part of the free disk that the files of a job may take that has to be kept within bounds.
const DISK_SHARE: u64 = 2;

/// The part of it that its output may take.
const LOG_SHARE: u64 = 8;

/// What one run may use.
pub(super) fn limits(config: &Config, order: &RunOrder) -> Limits {
    let amount = |name| order.allocation.as_ref().map_or(Amount::ZERO, |allocation| allocation.amount(name));
    let (memory, processors) = (amount(&Name::MEM), amount(&Name::CPUS));
    let share = || Some(crate::detect::memory_bytes() / FOREIGN_SHARE).filter(|bytes| *bytes > 0 && is_apart(order));
    Limits {
        log_bytes_max: order.log_bytes_max.unwrap_or(config.limits.log_bytes),
        processes_max: config.limits.processes,
        memory_bytes: if memory.is_zero() { share() } else { Some(memory.floor()) },
        disk_bytes: is_apart(order).then_some(config.limits.disk_bytes),
        file_bytes_max: config.limits.file_bytes,
        // From ten-thousandths to thousandths.
        processor_millis: (!processors.is_zero()).then(|| processors.parts().div_ceil(10)),
    }
}

/// Whether a job has to be kept within bounds that its owner did not set: one of somebody else, or one that is not trusted.
fn is_apart(order: &RunOrder) -> bool {
    order.origin.is_some() || order.isolation >= Isolation::Sandboxed
}

/// These limits, with what a run that is kept within bounds may write bounded by what is free as well: one that fills the
/// disk takes the node's queue with it.
fn within_free(limits: Limits, home: &Path) -> Limits {
    let Some(disk_bytes) = limits.disk_bytes else { return limits };
    // Where the system does not say what is free, only the limits hold.
    let free = rustix::fs::statvfs(home).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    Limits {
        disk_bytes: Some(disk_bytes.min(free / DISK_SHARE)),
        log_bytes_max: limits.log_bytes_max.min(free / LOG_SHARE),
        ..limits
    }
}

/// The order for the executors, without its secrets.
pub(super) fn order(handle: &Handle, order: RunOrder, place: Option<&Place>) -> Order {
    let limits = within_free(limits(&handle.config(), &order), handle.home().path());
    let (is_foreign, is_apart) = (order.origin.is_some(), is_apart(&order));
    let directory = handle.home().run(order.run);
    let blobs = handle.blobs();
    let stdin = order.task.stdin().map(|blob| blobs.path_of(blob.hash));
    let environment = environment(handle, &order, place);
    let difficulty = handle.config().models.types.get(&order.job_type).copied();
    let task = match (rated(order.task, difficulty), place) {
        // A peer has no say in where on this machine its job runs.
        (Task::Process(process), _) if is_foreign => Task::Process(ProcessTask { directory: None, ..process }),
        (task, Some(place)) if !is_foreign => place.fill_task(task),
        (task, _) => task,
    };
    Order {
        run: order.run,
        task,
        follows: order.follows,
        kill_grace: order.kill_grace,
        blobs: blobs.folder().to_owned(),
        stdin,
        inputs: order.inputs,
        outputs: order.outputs,
        directory,
        environment,
        secrets: Secrets::default(),
        limits,
        is_foreign,
        network: order.network || !is_apart,
        isolation: order.isolation,
    }
}

/// What a job does not say of its question, its type does.
fn rated(task: Task, difficulty: Option<Complexity>) -> Task {
    let Task::Llm(llm) = task else { return task };
    Task::Llm(LlmTask { complexity: llm.complexity.or(difficulty), ..llm })
}

/// The variables of a command that tell it who it is and whom to talk to. They win over its own.
fn environment(handle: &Handle, order: &RunOrder, place: Option<&Place>) -> BTreeMap<String, String> {
    let Some(own) = order.task.environment() else { return BTreeMap::new() };
    let mut environment = BTreeMap::from([
        (JOB_VARIABLE.to_owned(), order.number.to_string()),
        (ATTEMPT_VARIABLE.to_owned(), order.run.epoch.to_string()),
        (SOCKET_VARIABLE.to_owned(), handle.task_socket().to_owned()),
        (TOKEN_VARIABLE.to_owned(), handle.tokens().token(order.run)),
    ]);
    // A job of this node that calls `jobmesh` means this node, unless it says otherwise. One of a peer has no
    // business with either.
    if order.origin.is_none() && !own.contains_key(HOME_VARIABLE) {
        let path = handle.home().path().to_string_lossy().into_owned();
        environment.insert(HOME_VARIABLE.to_owned(), path);
    }
    environment.extend(order.allocation.iter().flat_map(Allocation::variables));
    environment.extend(place.iter().flat_map(|place| place.variables()));
    if order.reduce {
        let results = handle.home().run(order.run).join(RESULTS_NAME);
        environment.insert("JOBMESH_RESULTS".to_owned(), results.to_string_lossy().into_owned());
    }
    environment
}
