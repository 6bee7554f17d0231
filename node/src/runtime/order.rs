//! From what the engine orders to what the executors need: where, with which variables, within which limits.

use std::collections::BTreeMap;

use jobmesh_engine::RunOrder;
use jobmesh_engine::pool::Allocation;
use jobmesh_executors::{Limits, Order};
use jobmesh_protocol::job::{ProcessTask, Task};
use jobmesh_protocol::place::Place;
use jobmesh_protocol::resource::{Amount, Name};

use super::handle::Handle;
use super::reduce::RESULTS_NAME;
use crate::api::{JOB_VARIABLE, SOCKET_VARIABLE, TOKEN_VARIABLE};
use crate::config::Config;
use crate::home::HOME_VARIABLE;

/// What one run may use.
pub(super) fn limits(config: &Config, order: &RunOrder) -> Limits {
    let memory = order.allocation.as_ref().map_or(Amount::ZERO, |allocation| allocation.amount(&Name::MEM));
    Limits {
        log_bytes_max: order.log_bytes_max.unwrap_or(config.limits.log_bytes),
        processes_max: config.limits.processes,
        memory_bytes: (!memory.is_zero()).then(|| memory.floor()),
    }
}

/// The order for the executors.
pub(super) fn order(handle: &Handle, order: RunOrder, place: Option<&Place>) -> Order {
    let limits = limits(&handle.config(), &order);
    let RunOrder { run, number, task, kill_grace, log_bytes_max: _, origin, follows, allocation, reduce } = order;
    let directory = handle.home().run(run);
    let stdin = task.input().map(|blob| handle.blobs().path_of(blob.hash));
    let mut environment = BTreeMap::new();
    if let Task::Process(process) = &task {
        environment.extend([
            (JOB_VARIABLE.to_owned(), number.to_string()),
            ("JOBMESH_ATTEMPT".to_owned(), run.epoch.to_string()),
            (SOCKET_VARIABLE.to_owned(), handle.task_socket().to_owned()),
            (TOKEN_VARIABLE.to_owned(), handle.tokens().token(run)),
        ]);
        // A job of this node that calls `jobmesh` means this node, unless it says otherwise. One of a peer has no
        // business with either.
        if origin.is_none() && !process.environment.contains_key(HOME_VARIABLE) {
            let path = handle.home().path().to_string_lossy().into_owned();
            environment.insert(HOME_VARIABLE.to_owned(), path);
        }
        environment.extend(allocation.iter().flat_map(Allocation::variables));
        environment.extend(place.iter().flat_map(|place| place.variables()));
        if reduce {
            environment
                .insert("JOBMESH_RESULTS".to_owned(), directory.join(RESULTS_NAME).to_string_lossy().into_owned());
        }
    }
    let task = match task {
        // A peer has no say in where on this machine its job runs.
        Task::Process(process) if origin.is_some() => Task::Process(ProcessTask { directory: None, ..process }),
        Task::Process(process) => Task::Process(match place {
            Some(place) => place.fill_task(process),
            None => process,
        }),
        Task::Noop {} => Task::Noop {},
        Task::Builtin(builtin) => Task::Builtin(builtin),
    };
    Order { run, task, follows, kill_grace, stdin, directory, environment, limits }
}
