//! Orders that follow others in the same slot, and those that never start.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_executors::{Event, FOLLOWERS_MAX, Order, StopReason};
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::task::{Builtin, Task};
use jobmesh_protocol::{Outcome, RunId};

use crate::harness::Node;

/// An order that runs until it is stopped.
fn endless(node: &Node) -> Order {
    node.command(&["sleep", "600"])
}

fn after(run: RunId, order: Order) -> Order {
    Order { follows: Some(run), ..order }
}

/// Makes orders that follow one another, the first following `first`.
fn chain(node: &Node, first: RunId, length: usize) -> Vec<Order> {
    let mut before = first;
    let mut orders = Vec::new();
    for _ in 0..length {
        let order = after(before, node.order(Task::Noop {}));
        before = order.run;
        orders.push(order);
    }
    orders
}

/// The next event, which must be an end.
fn next_end(node: &Node) -> (RunId, Outcome) {
    match node.event() {
        Event::Ended { run, ended } => (run, ended.outcome),
        Event::Started { run, .. } | Event::Progress { run, .. } => panic!("{run} started"),
    }
}

fn withdrawn() -> Outcome {
    StopReason::Withdraw.outcome()
}

#[test]
fn a_follower_starts_when_its_predecessor_ends_and_before_any_other() {
    let node = Node::start(1);
    let (first, other) = (endless(&node), node.order(Task::Noop {}));
    let (run, waiting) = (first.run, other.run);
    node.executors.run(first);
    node.started(run);
    node.executors.run(other);
    let followers = chain(&node, run, 3);
    let mut expected = vec![run];
    for order in followers {
        expected.push(order.run);
        node.executors.run(order);
    }
    expected.push(waiting);
    node.executors.stop(run, StopReason::Cancel);
    let seen: Vec<RunId> = expected.iter().map(|_| next_end(&node).0).collect();
    assert_eq!(seen, expected);
    assert_eq!(node.executors.running(), 0);
}

#[test]
fn a_follower_leaves_the_other_slots_alone() {
    let node = Node::start(2);
    let first = endless(&node);
    let run = first.run;
    node.executors.run(first);
    node.started(run);
    let follower = after(run, node.order(Task::Noop {}));
    let waits = follower.run;
    node.executors.run(follower);
    // The second slot is free, and still the follower waits for its own.
    let other = node.order(Task::Noop {});
    let passed = other.run;
    node.executors.run(other);
    assert_eq!(next_end(&node).0, passed);
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!([next_end(&node).0, next_end(&node).0], [run, waits]);
}

#[test]
fn a_follower_of_a_run_that_is_gone_is_an_order_like_any_other() {
    let node = Node::start(1);
    let first = node.order(Task::Noop {});
    let run = first.run;
    node.end_of(first);
    assert_eq!(node.end_of(after(run, node.order(Task::Noop {}))).outcome, Outcome::Ok);
}

#[test]
fn a_second_follower_waits_for_any_slot() {
    let node = Node::start(2);
    let first = endless(&node);
    let run = first.run;
    node.executors.run(first);
    node.started(run);
    node.executors.run(after(run, node.order(Task::Noop {})));
    let second = after(run, node.order(Task::Noop {}));
    let passed = second.run;
    node.executors.run(second);
    assert_eq!(next_end(&node), (passed, Outcome::Ok));
    node.executors.stop(run, StopReason::Cancel);
}

#[test]
fn a_chain_closes_up_when_a_link_is_stopped() {
    let node = Node::start(1);
    let first = endless(&node);
    let run = first.run;
    node.executors.run(first);
    node.started(run);
    let followers = chain(&node, run, 3);
    let runs: Vec<RunId> = followers.iter().map(|order| order.run).collect();
    for order in followers {
        node.executors.run(order);
    }
    node.executors.stop(runs[1], StopReason::Timeout);
    assert_eq!(next_end(&node), (runs[1], Outcome::Timeout));
    node.executors.stop(runs[0], StopReason::Withdraw);
    assert_eq!(next_end(&node), (runs[0], withdrawn()));
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!([next_end(&node), next_end(&node)], [(run, Outcome::Cancelled), (runs[2], Outcome::Ok)]);
}

#[test]
fn a_follower_inherits_the_place_of_a_waiting_order_that_was_stopped() {
    let node = Node::start(1);
    let (first, queued) = (endless(&node), node.order(Task::Noop {}));
    let (run, stopped) = (first.run, queued.run);
    node.executors.run(first);
    node.started(run);
    node.executors.run(queued);
    let follower = after(stopped, node.order(Task::Noop {}));
    let last = follower.run;
    node.executors.run(follower);
    node.executors.stop(stopped, StopReason::Withdraw);
    assert_eq!(next_end(&node), (stopped, withdrawn()));
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!([next_end(&node).0, next_end(&node).0], [run, last]);
}

#[test]
fn a_chain_has_an_end() {
    let node = Node::start(1);
    let first = endless(&node);
    let run = first.run;
    node.executors.run(first);
    node.started(run);
    let followers = chain(&node, run, FOLLOWERS_MAX + 1);
    let last = followers.last().unwrap().run;
    for order in followers {
        node.executors.run(order);
    }
    let (refused, outcome) = next_end(&node);
    assert_eq!((refused, outcome.word()), (last, "released"));
    node.executors.stop(run, StopReason::Cancel);
    for _ in 0..=FOLLOWERS_MAX {
        next_end(&node);
    }
    assert_eq!(node.executors.running(), 0);
}

#[test]
fn what_has_started_is_not_withdrawn() {
    let node = Node::start(1);
    let order = endless(&node);
    let run = order.run;
    node.executors.run(order);
    node.started(run);
    node.executors.stop(run, StopReason::Withdraw);
    node.executors.stop(run, StopReason::Cancel);
    assert_eq!(next_end(&node), (run, Outcome::Cancelled));
}

#[test]
fn a_shutdown_ends_a_chain_without_starting_it() {
    let node = Node::start(1);
    let first = endless(&node);
    let run = first.run;
    node.executors.run(first);
    node.started(run);
    for order in chain(&node, run, 4) {
        node.executors.run(order);
    }
    node.executors.shutdown();
    for _ in 0..5 {
        assert_eq!(next_end(&node).1, StopReason::Shutdown.outcome());
    }
    assert!(!node.has_event());
}

#[test]
fn nothing_at_all_and_housekeeping_end_without_a_process() {
    let node = Node::start(1);
    let order = node.order(Task::Noop {});
    let (run, directory) = (order.run, order.directory.clone());
    node.executors.run(order);
    assert_eq!(next_end(&node), (run, Outcome::Ok));
    assert!(!directory.exists());
    let ended = node.end_of(node.order(Task::Builtin(Builtin::Upkeep)));
    assert_eq!((ended.outcome, ended.exit), (Outcome::error("upkeep"), Exit::default()));
}
