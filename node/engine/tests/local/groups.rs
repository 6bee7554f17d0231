//! Open groups: they take tasks until they are closed, and end with the last one.

use jobmesh_engine::{Command, JobAction, Refusal, Response, StopReason};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Array, Conflict, Span, Unique};
use jobmesh_protocol::task::Task;
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

/// The engine took a group that was put off for one that could go on, and never ended it.
#[test]
fn an_empty_group_that_was_put_off_ends_when_it_is_closed() {
    let mut node = node(9);
    let group = open(&mut node);
    let later = node.now.wall.plus(HOUR);
    node.act(group, JobAction::Reschedule(later));
    node.act(group, JobAction::Close);
    assert_eq!(node.state(group), JobState::Completed);
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

#[test]
fn a_group_that_is_killed_is_killed_task_by_task_even_if_it_is_being_cancelled() {
    let mut node = node(2);
    let group = node.submit(with(|job| job.array = Some(array(3))));
    let kill = || JobAction::Cancel { reason: "now".to_owned(), is_forced: true };
    node.act(group, cancel());
    node.act(group, kill());
    let stops: Vec<StopReason> = node.executor.stops.iter().map(|stop| stop.1).collect();
    let (gentle, hard) = (StopReason::Cancelled, StopReason::Killed);
    assert_eq!(stops, [gentle, gentle, hard, hard]);
    for task in node.running() {
        node.end(task, Outcome::Cancelled);
    }
    assert_eq!(node.fate(group), (JobState::Cancelled, Some(FinishReason::User)));
}

#[test]
fn what_the_system_stops_says_why() {
    let mut node = node(3);
    let group = node.submit(with(|job| job.array = Some(Array { max_fails: Some(0), ..array(5) })));
    let tasks = node.running();
    node.end(tasks[0], failure());
    node.act(tasks[1], cancel());
    for task in [tasks[1], tasks[2]] {
        node.end(task, Outcome::Cancelled);
    }
    assert_eq!(node.fate(tasks[2]), (JobState::Skipped, Some(FinishReason::MaxFails)));
    assert_eq!(node.job(tasks[2]).cancel_reason.as_deref(), Some("too many tasks of the group have failed"));
    assert_eq!(node.fate(group), (JobState::Discarded, Some(FinishReason::TasksFailed)));
}

#[test]
fn a_group_that_is_not_over_in_time_says_so_and_so_do_its_tasks() {
    let mut node = node(1);
    let deadline = Some(node.now.wall.plus(HOUR));
    let group = node.submit(with(|job| (job.open, job.deadline) = (true, deadline)));
    let tasks = [0, 1].map(|_| node.submit(into(group)));
    node.pass(HOUR);
    node.end(tasks[0], Outcome::Cancelled);
    assert_eq!(node.fate(tasks[0]), (JobState::Discarded, Some(FinishReason::Deadline)));
    assert_eq!(node.fate(tasks[1]), (JobState::Skipped, Some(FinishReason::Deadline)));
    assert_eq!(node.fate(group), (JobState::Discarded, Some(FinishReason::Deadline)));
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

/// What it waits for on account of its unique key was not looked at.
#[test]
fn a_task_cannot_wait_for_its_own_group_because_of_its_key() {
    let keyed = |change: &dyn Fn(&mut Submission)| {
        with(|job| {
            let (key, by) = (Some("one".to_owned()), Vec::new());
            job.unique = Some(Unique { key, by, scope: Span::Incomplete, on_conflict: Conflict::Merge });
            change(job);
        })
    };
    let of_other = |group| keyed(&move |job| (job.into, job.spec.kill_grace_ms) = (Some(group), SECOND));
    let differs = |group| {
        keyed(&move |job| {
            job.into = Some(group);
            if let Task::Process(process) = &mut job.spec.task {
                process.argv = vec!["other".to_owned()];
            }
        })
    };
    let is_circle = |answer: Result<Response, Refusal>| answer.unwrap_err().to_string().contains("wait for its end");
    let mut node = node(9);
    let group = open(&mut node);
    let waits = keyed(&|job| job.after = after(&[group], None));
    assert!(is_circle(node.command(Command::Submit(vec![waits.clone(), differs(group)]))));
    let first = node.submit(waits);
    assert!(is_circle(node.command(Command::Submit(vec![differs(group)]))));
    assert_eq!(node.take(of_other(group)).unwrap().job, first, "it is merged, and waits for nothing");
    let other = open(&mut node);
    node.submit(differs(other));
    assert!(is_circle(node.command(Command::Submit(vec![with(|job| {
        (job.into, job.after) = (Some(group), after(&[other], None));
    })]))));
}

/// After so many looks it was taken for a circle.
#[test]
fn a_task_may_wait_for_a_group_of_very_many_tasks() {
    let mut node = node(1);
    let (group, other) = (open(&mut node), open(&mut node));
    node.command(Command::Submit((0..2000).map(|_| into(other)).collect())).unwrap();
    node.submit(with(|job| (job.into, job.after) = (Some(group), after(&[other], None))));
}
