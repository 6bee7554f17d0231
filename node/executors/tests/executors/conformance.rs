//! What every executor owes the runtime.
//!
//! Each kind of work has a function that makes its [`Tasks`], or says what this machine lacks for them; then all of them
//! pass the same checks. A new executor adds its function to [`KINDS`] and nothing else.

use std::collections::BTreeMap;

use jobmesh_executors::{Ended, Event, Limits, Order, StopReason, Stream, log_path, result_path};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{BlobRef, Isolation, Outcome};

use crate::harness::{Node, Tools, command};

/// Tasks of one executor with a known end. What a kind of work can't do it has no task for.
pub(crate) struct Tasks {
    /// Succeeds and writes nothing to a log.
    pub(crate) ok: Task,
    /// Fails, and may work another time.
    pub(crate) failing: Task,
    /// Goes on until it is stopped.
    pub(crate) endless: Task,
    /// Goes on whatever it is asked, and must be killed; only for code that hears of it at all.
    pub(crate) stubborn: Option<Task>,
    /// Writes [`GREETING`] to standard output.
    pub(crate) greeting: Option<Task>,
    /// Writes without end.
    pub(crate) noisy: Option<Task>,
    /// Writes what it reads on standard input.
    pub(crate) echoing: Option<fn(BlobRef) -> Task>,
    /// Says that its result is [`RESULT`].
    pub(crate) telling: Option<Task>,
    /// Writes the variable `GREETING` of its environment.
    pub(crate) reading: Option<Task>,
    /// The level at which its runs are kept apart, at least.
    pub(crate) isolation: Isolation,
}

/// What a greeting says.
pub(crate) const GREETING: &str = "hello\n";
/// What a result is.
pub(crate) const RESULT: &[u8] = b"{\"answer\":42}";
/// Most bytes that a noisy task may write.
const NOISE_MAX: u64 = 1 << 20;

/// Makes the tasks of one kind on this node; the error says what is missing for them.
type Make = fn(&Node) -> Result<Tasks, String>;

/// Every kind of work that has an executor.
const KINDS: &[(&str, Make)] = &[("process", process)];

fn process(_node: &Node) -> Result<Tasks, String> {
    let script = |text: &str| command(&["sh", "-c", text]);
    Ok(Tasks {
        ok: command(&["true"]),
        failing: command(&["false"]),
        endless: command(&["sleep", "600"]),
        stubborn: Some(script("trap '' TERM; while :; do sleep 600; done")),
        greeting: Some(command(&["echo", "hello"])),
        noisy: Some(command(&["yes"])),
        echoing: Some(|blob| {
            Task::Process(ProcessTask { stdin: Some(blob), ..ProcessTask::new(vec!["cat".to_owned()]) })
        }),
        telling: Some(script("printf '{\"answer\":42}' > \"$JOBMESH_RESULT\"")),
        reading: Some(script("printf '%s\\n' \"$GREETING\"")),
        isolation: Isolation::Contained,
    })
}

/// A check of what one kind owes.
type Check = fn(&Tasks);

const CHECKS: &[(&str, Check)] = &[
    ("outcomes are told apart", outcomes_are_told_apart),
    ("each reason to stop has its outcome", each_reason_to_stop_has_its_outcome),
    ("a stop that is not heard is a kill", a_stop_that_is_not_heard_is_a_kill),
    ("an order is answered once", an_order_is_answered_once),
    ("a waiting order is stopped without a slot", a_waiting_order_is_stopped_without_a_slot),
    ("shutdown ends everything", shutdown_ends_everything),
    ("a slot is as good as before", a_slot_is_as_good_as_before),
    ("what is said is kept by its hash", what_is_said_is_kept_by_its_hash),
    ("what is read is what was given", what_is_read_is_what_was_given),
    ("variables of the order win", variables_of_the_order_win),
    ("a result is kept apart from logs", a_result_is_kept_apart_from_logs),
    ("too much output is an end", too_much_output_is_an_end),
    ("isolation is told and never less", isolation_is_told_and_never_less),
    ("nothing is left of a run that leaves nothing", nothing_is_left_of_a_run_that_leaves_nothing),
];

#[test]
fn every_executor_conforms() {
    for (kind, make) in KINDS {
        let node = Node::start(1);
        let tasks = match make(&node) {
            Ok(tasks) => tasks,
            Err(missing) => {
                Tools::missing(&format!("the conformance of {kind}"), &missing);
                continue;
            }
        };
        for task in [&tasks.ok, &tasks.failing, &tasks.endless] {
            assert_eq!(task.executor(), *kind);
        }
        for (check, run) in CHECKS {
            // What fails must say for whom.
            let failed = std::panic::catch_unwind(|| run(&tasks)).is_err();
            assert!(!failed, "the executor for {kind} does not keep this: {check}");
        }
        drop(node);
    }
}

/// Every kind of work either is in the list or does nothing outside the daemon.
#[test]
fn every_kind_is_probed_under_its_own_name() {
    let node = Node::start(1);
    let probes = node.executors.probe();
    for (kind, _) in KINDS {
        assert!(probes.iter().any(|probe| probe.executor == *kind), "{kind} is not probed: {probes:?}");
    }
    for probe in probes {
        let can = probe.isolation.is_some();
        assert_eq!(can, probe.lacks.is_empty() || can, "{probe:?} can't run anything and does not say why");
    }
}

fn end_of(node: &Node, task: &Task) -> Ended {
    node.end_of(node.order(task.clone()))
}

fn stdout(order: &Order, ended: &Ended) -> Vec<u8> {
    let kept = std::fs::read(log_path(&order.directory, Stream::Stdout)).unwrap_or_default();
    let named = ended.outputs.stdout.unwrap_or_else(|| panic!("nothing was said: {ended:?}"));
    assert_eq!(BlobRef::of(&kept), named, "the log is not what its hash says");
    kept
}

fn outcomes_are_told_apart(tasks: &Tasks) {
    let node = Node::start(1);
    assert_eq!(end_of(&node, &tasks.ok).outcome, Outcome::Ok);
    let failed = end_of(&node, &tasks.failing);
    assert_eq!(failed.outcome.word(), "error", "{failed:?}");
    assert!(failed.outcome.message().is_some_and(|message| !message.is_empty()), "{failed:?}");
}

fn each_reason_to_stop_has_its_outcome(tasks: &Tasks) {
    let node = Node::start(1);
    let reasons = [
        (StopReason::Cancel, "cancelled"),
        (StopReason::Kill, "cancelled"),
        (StopReason::Timeout, "timeout"),
        (StopReason::LeaseEnded, "lost"),
        (StopReason::Shutdown, "released"),
    ];
    for (reason, word) in reasons {
        let order = node.order(tasks.endless.clone());
        let run = order.run;
        node.executors.run(order);
        node.is_under_way(run);
        node.executors.stop(run, reason);
        node.executors.stop(run, StopReason::Cancel);
        assert_eq!(node.ended(run).outcome.word(), word);
    }
}

fn a_stop_that_is_not_heard_is_a_kill(tasks: &Tasks) {
    let Some(stubborn) = &tasks.stubborn else { return };
    let node = Node::start(1);
    let order = Order { kill_grace: jobmesh_protocol::DurationMillis(200), ..node.order(stubborn.clone()) };
    let run = order.run;
    node.executors.run(order);
    node.is_under_way(run);
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!(node.ended(run).outcome, Outcome::Cancelled);
}

fn an_order_is_answered_once(tasks: &Tasks) {
    let node = Node::start(2);
    let order = node.order(tasks.endless.clone());
    let run = order.run;
    node.executors.run(order.clone());
    node.executors.run(order);
    node.is_under_way(run);
    node.executors.stop(run, StopReason::Cancel);
    node.ended(run);
    node.executors.shutdown();
    assert!(!node.has_event(), "an order given twice was answered twice");
}

fn a_waiting_order_is_stopped_without_a_slot(tasks: &Tasks) {
    let node = Node::start(1);
    let (first, second) = (node.order(tasks.endless.clone()), node.order(tasks.endless.clone()));
    let (running, waiting) = (first.run, second.run);
    node.executors.run(first);
    node.is_under_way(running);
    node.executors.run(second);
    node.executors.stop(waiting, StopReason::Cancel);
    assert_eq!(node.ended_before(waiting, running).outcome, Outcome::Cancelled);
    assert_eq!(node.executors.running(), 1);
}

fn shutdown_ends_everything(tasks: &Tasks) {
    let node = Node::start(2);
    let orders: Vec<Order> = (0..4).map(|_| node.order(tasks.endless.clone())).collect();
    let first = orders.first().map(|order| order.run);
    for order in orders {
        node.executors.run(order);
    }
    if let Some(run) = first {
        node.is_under_way(run);
    }
    node.executors.shutdown();
    assert_eq!(node.executors.running(), 0);
    node.executors.run(node.order(tasks.ok.clone()));
    assert_eq!(node.executors.running(), 0, "an order after the shutdown was taken");
}

fn a_slot_is_as_good_as_before(tasks: &Tasks) {
    let node = Node::start(1);
    for _ in 0..3 {
        let order = node.order(tasks.endless.clone());
        let run = order.run;
        node.executors.run(order);
        node.is_under_way(run);
        node.executors.stop(run, StopReason::Kill);
        node.ended(run);
        assert_eq!(end_of(&node, &tasks.ok).outcome, Outcome::Ok);
    }
}

fn what_is_said_is_kept_by_its_hash(tasks: &Tasks) {
    let Some(greeting) = &tasks.greeting else { return };
    let node = Node::start(1);
    let order = node.order(greeting.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
    assert!(ended.inline.iter().any(|bytes| bytes == GREETING.as_bytes()), "what is short comes along: {ended:?}");
}

fn what_is_read_is_what_was_given(tasks: &Tasks) {
    let Some(echoing) = tasks.echoing else { return };
    let node = Node::start(1);
    let blob = node.blob(GREETING.as_bytes());
    let order = Order { stdin: Some(node.blob_path(blob)), ..node.order(echoing(blob)) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
}

fn variables_of_the_order_win(tasks: &Tasks) {
    let Some(reading) = &tasks.reading else { return };
    let node = Node::start(1);
    let mut task = reading.clone();
    if let Some(environment) = task.environment_mut() {
        environment.insert("GREETING".to_owned(), "of the task".to_owned());
    }
    let environment = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let order = Order { environment, ..node.order(task) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&stdout(&order, &ended)), GREETING);
}

fn a_result_is_kept_apart_from_logs(tasks: &Tasks) {
    let Some(telling) = &tasks.telling else { return };
    let node = Node::start(1);
    let order = node.order(telling.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
    assert_eq!(ended.outputs.result, Some(BlobRef::of(RESULT)), "{ended:?}");
    let kept = std::fs::read(result_path(&order.directory)).ok();
    let told = ended.inline.iter().any(|bytes| bytes == RESULT);
    assert!(told || kept.as_deref() == Some(RESULT), "{ended:?}");
}

fn too_much_output_is_an_end(tasks: &Tasks) {
    let Some(noisy) = &tasks.noisy else { return };
    let node = Node::start(1);
    let limits = Limits { log_bytes_max: NOISE_MAX, ..Limits::default() };
    let order = Order { limits, ..node.order(noisy.clone()) };
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome.word(), "permanent", "{ended:?}");
    assert!(ended.outcome.message().is_some_and(|message| message.contains("log limit")), "{ended:?}");
    let sizes = [ended.outputs.stdout, ended.outputs.stderr].into_iter().flatten().map(|blob| blob.size);
    assert!(sizes.sum::<u64>() <= NOISE_MAX, "{ended:?}");
}

fn isolation_is_told_and_never_less(tasks: &Tasks) {
    let node = Node::start(1);
    for task in [&tasks.ok, &tasks.failing] {
        let ended = end_of(&node, task);
        assert!(ended.isolation >= tasks.isolation, "{ended:?}");
    }
}

fn nothing_is_left_of_a_run_that_leaves_nothing(tasks: &Tasks) {
    let node = Node::start(1);
    let order = node.order(tasks.ok.clone());
    let ended = node.end_of(order.clone());
    assert_eq!(ended.outcome, Outcome::Ok);
    let is_empty = ended.outputs.blobs().next().is_none();
    assert!(!is_empty || !order.directory.exists(), "{} is left", order.directory.display());
    assert_eq!(node.executors.running(), 0);
    assert!(!matches!(node.event_if_any(), Some(Event::Ended { .. })), "it ended twice");
}
