//! Changing jobs that wait.

use jobmesh_engine::{JobAction, QueueAction, QueueLimits, Response, StopReason};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{JobState, Outcome};

use crate::desk::{HOUR, MINUTE, SECOND, after, cancel, failure, node, plain, with};

fn hold() -> JobAction {
    JobAction::Hold { reason: "not now".to_owned() }
}

#[test]
fn a_held_job_waits_until_it_is_released_whatever_else_comes() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.held = true));
    node.restart(SECOND, |_| false);
    assert_eq!(node.state(job), JobState::Available);
    node.act(job, JobAction::Release);
    assert_eq!(node.state(job), JobState::Running);
    assert!(matches!(node.act(job, JobAction::Release), Response::Unchanged));
    node.act(job, hold());
    assert!(matches!(node.act(job, hold()), Response::Unchanged));
    node.end(job, Outcome::Released { reason: "back".to_owned() });
    assert_eq!(node.state(job), JobState::Available, "what was held while it ran does not run again");
}

#[test]
fn a_time_can_be_changed_while_a_job_waits_to_start() {
    let mut node = node(1);
    let blocker = node.submit(plain());
    let later = node.now.wall.plus(HOUR);
    let [ready, scheduled] = [Start::Now, Start::After(SECOND)].map(|start| node.submit(with(|job| job.start = start)));
    for job in [ready, scheduled] {
        node.act(job, JobAction::Reschedule(later));
    }
    node.ok(blocker);
    node.pass(SECOND);
    assert_eq!(node.states(&[ready, scheduled]), [JobState::Scheduled; 2]);
    node.act(ready, JobAction::Reschedule(node.now.wall));
    node.pass(SECOND);
    assert_eq!(node.state(ready), JobState::Running);
    assert!(node.refused(ready, JobAction::Reschedule(later)).contains("waits to start"));
}

#[test]
fn a_retry_can_be_given_another_time() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.retry.max_attempts = 3));
    node.end(job, failure());
    let later = node.now.wall.plus(HOUR);
    node.act(job, JobAction::Reschedule(later));
    node.pass(SECOND.plus(SECOND).plus(SECOND));
    assert_eq!(node.state(job), JobState::Scheduled);
    node.pass(HOUR);
    assert_eq!(node.state(job), JobState::Running);
    assert_eq!(node.job(job).failures, 1);
}

#[test]
fn a_job_changes_its_place_and_its_queue() {
    let mut node = node(1);
    let first = node.submit(plain());
    let jobs = [0, 1].map(|_| node.submit(plain()));
    node.act(jobs[1], JobAction::Prioritize(3));
    assert!(matches!(node.act(jobs[1], JobAction::Prioritize(3)), Response::Unchanged));
    node.queue("slow", QueueAction::Pause);
    node.act(jobs[0], JobAction::Move("slow".to_owned()));
    node.restart(SECOND, |_| true);
    node.ok(first);
    assert_eq!(node.running(), [jobs[1]]);
    node.ok(jobs[1]);
    assert_eq!(node.running(), []);
    node.queue("slow", QueueAction::Drain);
    assert!(node.refused(jobs[0], JobAction::Move("slow".to_owned())).contains("draining"));
    node.act(jobs[0], JobAction::Move("default".to_owned()));
    assert_eq!(node.running(), [jobs[0]]);
    assert!(node.refused(first, JobAction::Prioritize(1)).contains("it has ended"));
}

#[test]
fn a_running_job_that_is_moved_counts_where_it_is() {
    let mut node = node(9);
    let limits = QueueLimits { concurrency: Some(Some(1)), rate: None };
    for queue in ["default", "other"] {
        node.queue(queue, QueueAction::Set(limits));
    }
    let first = node.submit(plain());
    let waits = node.submit(plain());
    let elsewhere = node.submit(with(|job| job.spec.queue = "other".to_owned()));
    node.act(first, JobAction::Move("other".to_owned()));
    assert_eq!(node.running().len(), 3, "its old place is free");
    node.ok(elsewhere);
    let next = node.submit(with(|job| job.spec.queue = "other".to_owned()));
    assert_eq!(node.states(&[waits, next]), [JobState::Running, JobState::Available]);
    node.ok(first);
    assert_eq!(node.state(next), JobState::Running);
}

#[test]
fn cancelling_ends_what_waits_at_once_and_what_runs_when_it_has_stopped() {
    let mut node = node(1);
    let runs = node.submit(plain());
    let ready = node.submit(plain());
    let scheduled = node.submit(with(|job| job.start = Start::After(HOUR)));
    let pending = node.submit(with(|job| job.after = after(&[runs], None)));
    for job in [ready, scheduled, pending, runs] {
        node.act(job, cancel());
    }
    for job in [ready, scheduled, pending] {
        assert_eq!(node.fate(job), (JobState::Cancelled, Some(FinishReason::User)));
    }
    assert_eq!(node.state(runs), JobState::Running);
    assert_eq!(node.executor.stops[0].1, StopReason::Cancelled);
    node.act(runs, JobAction::Cancel { reason: String::new(), is_forced: true });
    assert_eq!(node.executor.stops[1].1, StopReason::Killed);
    node.end(runs, Outcome::Cancelled);
    assert_eq!(node.fate(runs), (JobState::Cancelled, Some(FinishReason::User)));
    assert!(node.refused(runs, cancel()).contains("has not ended"));
}

#[test]
fn a_wait_for_a_retry_can_be_cancelled_and_a_late_success_counts() {
    let mut node = node(2);
    let job = node.submit(with(|job| job.spec.retry.max_attempts = 3));
    node.end(job, failure());
    node.act(job, cancel());
    assert_eq!(node.state(job), JobState::Cancelled);
    let job = node.submit(plain());
    node.act(job, cancel());
    node.ok(job);
    assert_eq!(node.state(job), JobState::Completed, "it was done before it heard of it");
}

#[test]
fn a_job_that_was_to_be_cancelled_is_not_tried_again_however_it_ends() {
    let lost = Outcome::Lost { reason: "gone".to_owned() };
    for outcome in [failure(), lost, Outcome::Timeout, Outcome::Released { reason: "x".to_owned() }] {
        let mut node = node(1);
        let job = node.submit(with(|job| job.spec.retry.max_attempts = 9));
        node.act(job, cancel());
        node.restart(SECOND, |_| true);
        assert_eq!(node.executor.stops.len(), 1, "the order to stop outlives the daemon");
        node.end(job, outcome);
        assert_eq!(node.state(job), JobState::Cancelled);
    }
}

#[test]
fn only_what_has_ended_is_removed_and_its_number_is_not_given_again() {
    let mut node = node(2);
    let jobs = [0, 1].map(|_| node.submit(plain()));
    assert!(node.refused(jobs[0], JobAction::Remove).contains("cancel it first"));
    node.ok(jobs[0]);
    node.ok(jobs[1]);
    node.act(jobs[1], JobAction::Remove);
    node.act(jobs[0], JobAction::Remove);
    assert_eq!(node.forgotten, [jobs[1], jobs[0]]);
    node.restart(SECOND, |_| false);
    let next = node.submit(plain());
    assert_eq!(node.job(next).number.number(), 3);
    assert!(node.refused(jobs[0], cancel()).contains("there is no job"));
}

/// The hold of a person was taken for a wait for room.
#[test]
fn the_time_to_start_within_does_not_run_while_a_job_is_held() {
    for is_held_at_once in [true, false] {
        let mut node = node(1);
        let blocker = node.submit(plain());
        let job = node.submit(with(|job| (job.held, job.start_within_ms) = (is_held_at_once, Some(MINUTE))));
        if !is_held_at_once {
            node.act(job, JobAction::Hold { reason: "later".to_owned() });
        }
        node.pass(HOUR);
        node.restart(HOUR, |_| true);
        node.pass(HOUR);
        assert_eq!(node.state(job), JobState::Available);
        node.act(job, JobAction::Release);
        node.pass(SECOND);
        assert_eq!(node.state(job), JobState::Available);
        node.pass(MINUTE);
        assert_eq!(node.state(job), JobState::Skipped, "it begins with the release");
        assert_eq!(node.running(), [blocker]);
    }
}
