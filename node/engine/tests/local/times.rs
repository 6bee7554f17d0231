//! When a job may start at the earliest, must have started, and must be over.

use jobmesh_engine::{JobAction, QueueAction, StopReason};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{DurationMillis, JobState, Outcome};

use crate::desk::{HOUR, MINUTE, SECOND, failure, node, plain, with};

#[test]
fn a_job_waits_for_its_time() {
    let mut node = node(2);
    let at = node.now.wall.plus(HOUR);
    let delayed = node.submit(with(|job| job.start = Start::After(HOUR)));
    let dated = node.submit(with(|job| job.start = Start::At(at)));
    let past = node.submit(with(|job| job.start = Start::At(crate::node::START)));
    node.pass(DurationMillis(HOUR.0 - 1));
    assert_eq!(node.states(&[delayed, dated, past]), [JobState::Scheduled, JobState::Scheduled, JobState::Running]);
    node.ok(past);
    node.pass(DurationMillis(1));
    assert_eq!(node.states(&[delayed, dated]), [JobState::Running; 2]);
}

#[test]
fn waits_go_on_where_they_were_over_a_restart() {
    let mut node = node(1);
    let delayed = node.submit(with(|job| job.start = Start::After(HOUR)));
    node.restart(DurationMillis(HOUR.0 / 2), |_| false);
    assert_eq!(node.state(delayed), JobState::Scheduled);
    node.restart(HOUR, |_| false);
    assert_eq!(node.state(delayed), JobState::Running);
}

#[test]
fn a_job_that_did_not_start_in_time_is_skipped_and_one_that_did_is_left_alone() {
    let mut node = node(1);
    let first = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    let second = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.pass(MINUTE);
    assert_eq!(node.fate(second), (JobState::Skipped, Some(FinishReason::Expired)));
    assert_eq!(node.state(first), JobState::Running);
    let third = node.submit(with(|job| {
        job.start_within_ms = Some(MINUTE);
        job.start = Start::After(HOUR);
    }));
    node.pass(HOUR);
    assert_eq!(node.state(third), JobState::Available, "the time runs from when it first may start");
    node.pass(MINUTE);
    assert_eq!(node.fate(third), (JobState::Skipped, Some(FinishReason::Expired)));
}

#[test]
fn a_retry_of_an_expired_job_gives_it_its_time_anew() {
    let mut node = node(1);
    let blocker = node.submit(plain());
    let job = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.pass(MINUTE);
    node.act(job, JobAction::Retry);
    node.pass(SECOND);
    assert_eq!(node.state(job), JobState::Available);
    node.ok(blocker);
    assert_eq!(node.state(job), JobState::Running);
}

#[test]
fn a_deadline_skips_what_waits_and_stops_what_runs() {
    let mut node = node(1);
    let deadline = Some(node.now.wall.plus(HOUR));
    let mut retried = with(|job| job.deadline = deadline);
    retried.spec.retry.max_attempts = 5;
    let runs = node.submit(retried);
    let waits = node.submit(with(|job| job.deadline = deadline));
    let scheduled = node.submit(with(|job| (job.deadline, job.start) = (deadline, Start::After(HOUR.plus(HOUR)))));
    node.pass(HOUR);
    for job in [waits, scheduled] {
        assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Deadline)));
    }
    assert_eq!(node.executor.stops.iter().map(|stop| stop.1).collect::<Vec<_>>(), [StopReason::Timeout]);
    node.end(runs, Outcome::Timeout);
    assert_eq!(node.fate(runs), (JobState::Discarded, Some(FinishReason::Deadline)), "no attempt would be in time");
}

#[test]
fn a_deadline_ends_the_wait_for_a_retry() {
    let mut node = node(1);
    let mut job = with(|job| job.deadline = Some(crate::node::START.plus(SECOND)));
    job.spec.retry.max_attempts = 5;
    job.spec.retry.backoff.growth = jobmesh_protocol::retry::Growth::Fixed { wait_ms: HOUR };
    let job = node.submit(job);
    node.end(job, failure());
    assert_eq!(node.state(job), JobState::Retryable);
    node.pass(SECOND);
    assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Deadline)));
}

#[test]
fn a_timeout_counts_from_the_start_and_again_for_every_attempt() {
    let mut node = node(1);
    let mut job = plain();
    job.spec.timeout_ms = Some(MINUTE);
    job.spec.retry.max_attempts = 2;
    let job = node.submit(job);
    node.pass(DurationMillis(MINUTE.0 - 1));
    assert_eq!(node.executor.stops, []);
    node.pass(DurationMillis(1));
    assert_eq!(node.executor.stops.len(), 1);
    node.end(job, Outcome::Timeout);
    assert_eq!(node.state(job), JobState::Retryable);
    node.act(job, JobAction::Retry);
    node.pass(MINUTE);
    assert_eq!(node.executor.stops.len(), 2);
    node.end(job, Outcome::Ok);
    assert_eq!(node.state(job), JobState::Completed, "it was done before it could be stopped");
}

#[test]
fn a_paused_queue_does_not_stop_the_clock_of_a_start() {
    let mut node = node(1);
    node.queue("default", QueueAction::Pause);
    let job = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.pass(MINUTE);
    assert_eq!(node.state(job), JobState::Skipped);
}

/// The time began anew with the daemon, or with whatever put the job back.
#[test]
fn the_time_to_start_runs_on_over_restarts_and_from_the_date_on() {
    let mut node = node(1);
    node.submit(plain());
    let half = DurationMillis(MINUTE.0 / 2);
    let waits = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.pass(half);
    node.restart(half, |_| true);
    assert_eq!(node.fate(waits), (JobState::Skipped, Some(FinishReason::Expired)));
    let date = node.now.wall.plus(HOUR);
    let dated = node.submit(with(|job| (job.start_within_ms, job.start) = (Some(MINUTE), Start::At(date))));
    node.restart(HOUR.plus(half), |_| true);
    assert_eq!(node.state(dated), JobState::Available);
    node.pass(half);
    assert_eq!(
        node.fate(dated),
        (JobState::Skipped, Some(FinishReason::Expired)),
        "its date is an hour and a minute ago"
    );
}

#[test]
fn a_job_that_is_put_off_has_its_time_from_its_new_start() {
    let mut node = node(1);
    node.submit(plain());
    let job = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.pass(SECOND);
    let later = node.now.wall.plus(HOUR);
    node.act(job, jobmesh_engine::JobAction::Reschedule(later));
    node.pass(HOUR);
    assert_eq!(node.state(job), JobState::Available);
    node.pass(MINUTE);
    assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Expired)));
}

#[test]
fn a_job_that_started_in_time_is_never_late_again() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.start_within_ms = Some(MINUTE)));
    node.end(job, Outcome::Released { reason: "back".to_owned() });
    node.act(job, jobmesh_engine::JobAction::Hold { reason: String::new() });
    node.end(job, Outcome::Released { reason: "back".to_owned() });
    node.pass(HOUR);
    assert_eq!(node.state(job), JobState::Available);
}

#[test]
fn an_array_of_which_nothing_starts_in_time_is_skipped() {
    let mut node = node(1);
    let blocker = node.submit(plain());
    let late = || with(|job| (job.array, job.start_within_ms) = (Some(crate::desk::array(3)), Some(MINUTE)));
    let skipped = node.submit(late());
    node.pass(MINUTE);
    assert_eq!(node.fate(skipped), (JobState::Skipped, Some(FinishReason::Expired)));
    let group = node.submit(late());
    node.ok(blocker);
    node.pass(HOUR);
    assert_eq!(node.state(group), JobState::Running);
}

#[test]
fn a_timeout_runs_on_while_the_daemon_is_down() {
    let mut node = node(1);
    let job = node.submit(with(|job| {
        job.spec.timeout_ms = Some(HOUR);
        job.spec.heartbeat_ms = Some(DurationMillis(HOUR.0 - 1));
    }));
    node.pass(DurationMillis(HOUR.0 / 2));
    for _ in 0..2 {
        node.restart(DurationMillis(HOUR.0 / 4 - 1), |_| true);
        assert_eq!(node.executor.stops, []);
    }
    node.pass(DurationMillis(2));
    assert_eq!(node.executor.stops.len(), 1, "an hour after its start, and a heartbeat is heard of only by a daemon");
    node.end(job, Outcome::Timeout);
    let events = node.read().view().events(job).unwrap();
    assert!(events.last().unwrap().note.as_deref().unwrap().contains("longer than its timeout"));
}
