//! What every executor owes the runtime. A new one adds its three tasks and calls [`conforms`].

use jobmesh_executors::{Event, StopReason};
use jobmesh_protocol::Outcome;
use jobmesh_protocol::task::Task;

use crate::harness::{Node, command};

/// Tasks of one executor with a known end.
pub(crate) struct Tasks {
    pub(crate) ok: Task,
    pub(crate) failing: Task,
    pub(crate) endless: Task,
}

#[test]
fn the_process_executor_conforms() {
    let tasks = Tasks { ok: command(&["true"]), failing: command(&["false"]), endless: command(&["sleep", "600"]) };
    conforms(&tasks, &Node::start);
}

/// Puts an executor to the test; `start` makes a node with so many slots.
pub(crate) fn conforms(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    outcomes_are_told_apart(tasks, start);
    each_reason_to_stop_has_its_outcome(tasks, start);
    an_order_is_answered_once(tasks, start);
    a_waiting_order_is_stopped_without_a_slot(tasks, start);
    shutdown_ends_everything(tasks, start);
}

fn outcomes_are_told_apart(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    let node = start(1);
    assert_eq!(node.end_of(node.order(tasks.ok.clone())).outcome, Outcome::Ok);
    assert_eq!(node.end_of(node.order(tasks.failing.clone())).outcome.word(), "error");
}

fn each_reason_to_stop_has_its_outcome(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    let node = start(1);
    let reasons = [
        (StopReason::Cancel, "cancelled"),
        (StopReason::Timeout, "timeout"),
        (StopReason::LeaseEnded, "lost"),
        (StopReason::Shutdown, "released"),
    ];
    for (reason, word) in reasons {
        let order = node.order(tasks.endless.clone());
        let run = order.run;
        node.executors.run(order);
        node.started(run);
        node.executors.stop(run, reason);
        node.executors.stop(run, StopReason::Cancel);
        assert_eq!(node.ended(run).outcome.word(), word);
    }
}

fn an_order_is_answered_once(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    let node = start(2);
    let order = node.order(tasks.endless.clone());
    let run = order.run;
    node.executors.run(order.clone());
    node.executors.run(order);
    node.started(run);
    node.executors.stop(run, StopReason::Cancel);
    node.ended(run);
    node.executors.shutdown();
    assert!(!node.has_event(), "an order given twice was answered twice");
}

fn a_waiting_order_is_stopped_without_a_slot(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    let node = start(1);
    let (first, second) = (node.order(tasks.endless.clone()), node.order(tasks.endless.clone()));
    let (running, waiting) = (first.run, second.run);
    node.executors.run(first);
    node.started(running);
    node.executors.run(second);
    node.executors.stop(waiting, StopReason::Cancel);
    match node.event() {
        Event::Ended { run, ended } => assert_eq!((run, ended.outcome), (waiting, Outcome::Cancelled)),
        Event::Started { run, .. } | Event::Progress { run, .. } => panic!("{run} started beyond the slots"),
    }
    assert_eq!(node.executors.running(), 1);
}

fn shutdown_ends_everything(tasks: &Tasks, start: &dyn Fn(u16) -> Node) {
    let node = start(2);
    for _ in 0..4 {
        node.executors.run(node.order(tasks.endless.clone()));
    }
    node.event();
    node.executors.shutdown();
    assert_eq!(node.executors.running(), 0);
    node.executors.run(node.order(tasks.ok.clone()));
    assert_eq!(node.executors.running(), 0, "an order after the shutdown was taken");
}
