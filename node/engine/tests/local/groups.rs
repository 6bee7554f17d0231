//! Open groups: they take tasks until they are closed, and end with the last one.

use jobmesh_engine::JobAction;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::{JobId, JobState, Outcome, Submission};

use crate::desk::{HOUR, SECOND, after, array, cancel, failure, node, plain, with};
use crate::node::Node;

fn open(node: &mut Node) -> JobId {
    node.submit(with(|job| job.open = true))
}

fn into(group: JobId) -> Submission {
    with(|job| job.into = Some(group))
}

#[test]
fn a_group_ends_with_its_last_task_once_it_is_closed() {
    let mut node = node(9);
    let group = open(&mut node);
    let jobs = [0, 1].map(|_| node.submit(into(group)));
    assert_eq!(node.job(jobs[1]).number.to_string(), "1.2");
    assert_eq!(node.state(group), JobState::Running);
    node.ok(jobs[0]);
    node.ok(jobs[1]);
    assert_eq!(node.state(group), JobState::Running, "more may come");
    node.restart(SECOND, |_| false);
    let last = node.submit(into(group));
    node.act(group, JobAction::Close);
    assert!(node.take(into(group)).unwrap_err().to_string().contains("no open group"));
    node.ok(last);
    assert_eq!(node.fate(group), (JobState::Completed, Some(FinishReason::Ok)));
}

#[test]
fn an_empty_group_ends_when_it_is_closed() {
    let mut node = node(9);
    let group = open(&mut node);
    assert_eq!(node.state(group), JobState::Available);
    node.act(group, JobAction::Close);
    assert_eq!(node.state(group), JobState::Completed);
    assert!(node.refused(group, JobAction::Close).contains("no open group"));
}

#[test]
fn a_task_that_failed_fails_its_group_and_its_retry_mends_it() {
    let mut node = node(9);
    let group = open(&mut node);
    let jobs = [0, 1].map(|_| node.submit(into(group)));
    let waits = node.submit(with(|job| job.after = after(&[group], None)));
    node.act(group, JobAction::Close);
    node.ok(jobs[0]);
    node.end(jobs[1], failure());
    assert_eq!(node.fate(group), (JobState::Discarded, Some(FinishReason::TasksFailed)));
    assert_eq!(node.state(waits), JobState::Skipped);
    node.act(group, JobAction::Retry);
    assert_eq!(node.running(), [jobs[1]]);
    node.ok(jobs[1]);
    assert_eq!(node.states(&[group, waits]), [JobState::Completed, JobState::Running]);
}

#[test]
fn cancelling_a_group_stops_its_tasks_and_closes_it() {
    let mut node = node(1);
    let group = open(&mut node);
    let jobs = [0, 1].map(|_| node.submit(into(group)));
    node.act(group, cancel());
    assert_eq!(node.states(&jobs), [JobState::Running, JobState::Cancelled]);
    assert!(node.take(into(group)).is_err());
    node.end(jobs[0], Outcome::Cancelled);
    assert_eq!(node.state(group), JobState::Cancelled);
}

/// It could not leave the state in which it waited, and stayed there for ever.
#[test]
fn a_group_that_still_waits_itself_ends_with_its_tasks() {
    let mut node = node(9);
    let up = node.submit(plain());
    let group = node.submit(with(|job| (job.open, job.after) = (true, after(&[up], None))));
    let task = node.submit(into(group));
    node.act(group, JobAction::Close);
    node.end(task, failure());
    assert_eq!(node.state(group), JobState::Discarded);
}

#[test]
fn a_group_that_had_tasks_does_not_expire() {
    let mut node = node(9);
    let group = node.submit(with(|job| (job.open, job.start_within_ms) = (true, Some(HOUR))));
    let task = node.submit(into(group));
    node.ok(task);
    node.pass(HOUR);
    assert_eq!(node.state(group), JobState::Running);
}

#[test]
fn a_group_can_be_neither_an_array_nor_a_task() {
    let mut node = node(9);
    let group = open(&mut node);
    assert!(node.take(with(|job| (job.open, job.array) = (true, Some(array(2))))).is_err());
    assert!(node.take(with(|job| (job.open, job.into) = (true, Some(group)))).is_err());
}

/// Neither could end before the other.
#[test]
fn a_task_cannot_wait_for_its_own_group_not_even_through_others() {
    let mut node = node(9);
    let group = open(&mut node);
    let waits = node.submit(with(|job| job.after = after(&[group], None)));
    let other = open(&mut node);
    node.submit(with(|job| (job.into, job.after) = (Some(other), after(&[waits], None))));
    for upstream in [group, waits, other] {
        let circle = with(|job| (job.into, job.after) = (Some(group), after(&[upstream], None)));
        assert!(node.take(circle).unwrap_err().to_string().contains("wait for its end"));
    }
    let before = node.submit(into(group));
    node.submit(with(|job| (job.into, job.after) = (Some(group), after(&[before], None))));
}
