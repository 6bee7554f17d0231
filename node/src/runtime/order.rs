//! From what the engine orders to what the executors need: where, with which variables, within which limits.

use std::collections::BTreeMap;
use std::path::Path;

use jobmesh_engine::RunOrder;
use jobmesh_engine::pool::Allocation;
use jobmesh_executors::{ATTEMPT_VARIABLE, JOB_VARIABLE, Limits, Order, SOCKET_VARIABLE, Secrets, TOKEN_VARIABLE};
use jobmesh_protocol::Isolation;
use jobmesh_protocol::job::MEMORY_BYTES_MIN;
use jobmesh_protocol::place::Place;
use jobmesh_protocol::resource::{Amount, Name};
use jobmesh_protocol::task::{Complexity, LlmTask, ProcessTask, Task};

use super::handle::Handle;
use super::reduce::RESULTS_NAME;
use crate::config::Config;
use crate::home::HOME_VARIABLE;

/// The part of the node's memory that all jobs together may have which did not ask for any and are kept within bounds: a
/// half. What jobs ask for comes out of the pool.
const MEMORY_PART: u64 = 2;

/// The part of the free disk that the files of all jobs together may take which have to be kept within bounds: a half.
const DISK_PART: u64 = 2;

/// The part of it that their output may take: an eighth.
const LOG_PART: u64 = 8;

/// What one of so many slots gets of the part that all have together. As many of them as there are may be taken by jobs
/// that want all they can get.
fn share(whole: u64, part: u64, slots: u32) -> u64 {
    whole / part / u64::from(slots.max(1))
}

/// What one run may use on a node with so much memory.
pub(super) fn limits(config: &Config, order: &RunOrder, memory_bytes: u64) -> Limits {
    let amount = |name| order.allocation.as_ref().map_or(Amount::ZERO, |allocation| allocation.amount(name));
    let (memory, processors) = (amount(&Name::MEM), amount(&Name::CPUS));
    let unasked = || Some(share(memory_bytes, MEMORY_PART, config.slots)).filter(|bytes| *bytes > 0 && is_apart(order));
    let memory_bytes = if memory.is_zero() { unasked() } else { Some(memory.floor()) };
    Limits {
        log_bytes_max: order.log_bytes_max.unwrap_or(config.limits.log_bytes),
        processes_max: config.limits.processes,
        // A share of a small pool or machine, or a job from before there was a least, may be too little to start.
        memory_bytes: memory_bytes.map(|bytes| bytes.max(MEMORY_BYTES_MIN)),
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

/// These limits, with what a run that is kept within bounds may write bounded by what is free as well: those that fill the
/// disk take the node's queue with them.
fn within_free(limits: Limits, free_bytes: u64, slots: u32) -> Limits {
    let Some(disk_bytes) = limits.disk_bytes else { return limits };
    Limits {
        disk_bytes: Some(disk_bytes.min(share(free_bytes, DISK_PART, slots))),
        log_bytes_max: limits.log_bytes_max.min(share(free_bytes, LOG_PART, slots)),
        ..limits
    }
}

/// What is free on the disk of this directory. Where the system does not say, only the limits hold.
fn free_bytes(home: &Path) -> u64 {
    rustix::fs::statvfs(home).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// The order for the executors, without its secrets.
pub(super) fn order(handle: &Handle, order: RunOrder, place: Option<&Place>) -> Order {
    let config = handle.config();
    let limits = limits(&config, &order, crate::detect::memory_bytes());
    let limits = within_free(limits, free_bytes(handle.home().path()), config.slots);
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_engine::pool::{Share, Taken};
    use jobmesh_protocol::{DurationMillis, Epoch, JobId, NodeId, RunId};

    use super::*;
    use crate::config::Overrides;
    use crate::home::Home;

    const GIB: u64 = 1 << 30;

    fn config(slots: u32) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(folder.path())).unwrap();
        Config::resolve(home, Overrides { slots: Some(slots), ..Overrides::default() }).unwrap()
    }

    fn ordered(origin: Option<NodeId>, isolation: Isolation) -> RunOrder {
        RunOrder {
            run: RunId { job: JobId::from_bytes([1; 16]), epoch: Epoch(1) },
            number: "1".parse().unwrap(),
            job_type: "x".to_owned(),
            task: Task::Process(ProcessTask::new(vec!["true".to_owned()])),
            inputs: None,
            outputs: Vec::new(),
            secrets: [].into(),
            network: false,
            isolation,
            kill_grace: DurationMillis(0),
            log_bytes_max: None,
            origin,
            follows: None,
            allocation: None,
            reduce: false,
        }
    }

    /// Each had half of it all, so that two hostile jobs at once had everything.
    #[test]
    fn jobs_that_are_kept_within_bounds_have_no_more_together_than_a_part() {
        let (memory, free) = (8 * GIB, 100 * GIB);
        for (origin, isolation) in
            [(Some(NodeId::from_bytes([7; 32])), Isolation::Contained), (None, Isolation::Sandboxed)]
        {
            for slots in [1, 2, 7, 64] {
                let limits = limits(&config(slots), &ordered(origin, isolation), memory);
                let limits = within_free(limits, free, slots);
                let all = |each: u64| each * u64::from(slots);
                assert!(all(limits.memory_bytes.unwrap()) <= memory / 2, "{slots}: {limits:?}");
                assert!(all(limits.disk_bytes.unwrap()) <= free / 2, "{slots}: {limits:?}");
                assert!(all(limits.log_bytes_max) <= free / 8, "{slots}: {limits:?}");
            }
        }
    }

    #[test]
    fn no_limit_is_too_low_to_start_a_job_with() {
        let limit = |asked: u64, machine: u64| {
            let mut order = ordered(None, Isolation::Sandboxed);
            let taken = Taken::Sum(Amount::whole(asked));
            let shares = vec![Share { pool: Name::MEM, taken }];
            order.allocation = (asked > 0).then_some(Allocation { variant: 0, shares });
            limits(&config(4), &order, machine).memory_bytes
        };
        let least = Some(MEMORY_BYTES_MIN);
        assert_eq!((limit(1, GIB), limit(MEMORY_BYTES_MIN, GIB), limit(0, 1 << 20)), (least, least, least));
        assert_eq!((limit(GIB, GIB), limit(0, 8 * GIB)), (Some(GIB), Some(GIB)));
    }

    #[test]
    fn a_job_of_the_owner_has_the_limits_of_the_owner() {
        let config = config(4);
        let limits = limits(&config, &ordered(None, Isolation::None), 8 * GIB);
        assert_eq!((limits.memory_bytes, limits.disk_bytes), (None, None));
        assert_eq!(within_free(limits, 1, 4), limits);
        let one = ordered(Some(NodeId::from_bytes([7; 32])), Isolation::Contained);
        let roomy = within_free(super::limits(&config, &one, 0), u64::MAX, 4);
        assert_eq!((roomy.disk_bytes, roomy.log_bytes_max), (Some(config.limits.disk_bytes), config.limits.log_bytes));
        assert_eq!(roomy.memory_bytes, None, "a machine that does not tell how much it has");
    }
}
