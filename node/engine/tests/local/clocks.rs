//! Somebody sets the clock a year forward or back. Lengths of time stay what they were; dates come when they say.

use jobmesh_protocol::job::{Rate, RateLimit};
use jobmesh_protocol::retry::{Backoff, Growth, Jitter};
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{JobId, JobState, Submission, UnixMillis};

use crate::desk::{HOUR, MINUTE, YEAR, after, failure, node, plain, with};
use crate::node::{Node, START};

const AHEAD: UnixMillis = START.plus(YEAR);
const BEHIND: UnixMillis = UnixMillis(START.0 - YEAR.0);

fn retried() -> Submission {
    with(|job| {
        job.spec.retry.max_attempts = 9;
        job.spec.retry.backoff = Backoff { growth: Growth::Fixed { wait_ms: HOUR }, jitter: Jitter::None };
    })
}

/// Five jobs that wait an hour for their next attempt.
fn failed_ones(node: &mut Node) -> Vec<JobId> {
    let jobs: Vec<JobId> = (0..5).map(|_| node.submit(retried())).collect();
    jobs.iter().for_each(|job| node.end(*job, failure()));
    jobs
}

#[test]
fn retries_keep_their_wait_whichever_way_the_clock_is_set() {
    for to in [AHEAD, BEHIND] {
        let mut node = node(5);
        let jobs = failed_ones(&mut node);
        node.set_clock(to);
        assert_eq!(node.states(&jobs), [JobState::Retryable; 5], "no storm of retries");
        node.pass(jobmesh_protocol::DurationMillis(HOUR.0 - 1));
        assert_eq!(node.states(&jobs), [JobState::Retryable; 5]);
        node.pass(jobmesh_protocol::DurationMillis(1));
        assert_eq!(node.states(&jobs), [JobState::Running; 5]);
    }
}

#[test]
fn a_restart_on_a_clock_that_was_set_back_waits_no_longer_than_was_asked() {
    let mut node = node(5);
    let jobs = failed_ones(&mut node);
    node.now.wall = BEHIND;
    node.restart(MINUTE, |_| false);
    assert_eq!(node.states(&jobs), [JobState::Retryable; 5]);
    node.pass(HOUR);
    assert_eq!(node.states(&jobs), [JobState::Running; 5]);
}

#[test]
fn a_delay_is_a_length_and_a_time_is_a_date() {
    for (to, dated_state) in [(AHEAD, JobState::Running), (BEHIND, JobState::Scheduled)] {
        let mut node = node(5);
        let delayed = node.submit(with(|job| job.start = Start::After(HOUR)));
        let dated = node.submit(with(|job| job.start = Start::At(START.plus(HOUR))));
        node.set_clock(to);
        assert_eq!(node.states(&[delayed, dated]), [JobState::Scheduled, dated_state]);
        node.pass(HOUR);
        assert_eq!(node.states(&[delayed, dated]), [JobState::Running, dated_state]);
        node.set_clock(START.plus(HOUR));
        assert_eq!(node.state(dated), JobState::Running, "it comes with its date");
    }
}

/// A job that waited for another one and for an hour would have waited for a year when the other one ended.
#[test]
fn a_delay_is_a_length_after_other_jobs_as_well() {
    for (to, at_once) in [(AHEAD, JobState::Running), (BEHIND, JobState::Scheduled)] {
        let mut node = node(5);
        let first = node.submit(plain());
        let delayed = node.submit(with(|job| (job.start, job.after) = (Start::After(HOUR), after(&[first], None))));
        node.set_clock(to);
        node.ok(first);
        assert_eq!(node.state(delayed), at_once);
        node.pass(HOUR);
        assert_eq!(node.state(delayed), JobState::Running);
    }
}

#[test]
fn neither_timeouts_nor_heartbeats_nor_patience_hear_of_it() {
    for to in [AHEAD, BEHIND] {
        let mut node = node(1);
        let job = node.submit(with(|job| {
            job.spec.timeout_ms = Some(HOUR);
            job.spec.heartbeat_ms = Some(HOUR);
        }));
        let patient = node.submit(with(|job| job.start_within_ms = Some(HOUR)));
        node.set_clock(to);
        assert_eq!(node.executor.stops, []);
        assert_eq!(node.states(&[job, patient]), [JobState::Running, JobState::Available]);
        node.pass(HOUR);
        assert!(!node.executor.stops.is_empty());
        assert_eq!(node.state(patient), JobState::Skipped);
    }
}

#[test]
fn a_rate_goes_on_from_the_new_time() {
    let limit = RateLimit { count: 1, period_ms: HOUR };
    let rated = || with(|job| job.spec.rates = vec![Rate { key: "api".to_owned(), limit }]);
    for to in [AHEAD, BEHIND] {
        let mut node = node(9);
        for _ in 0..4 {
            node.submit(rated());
        }
        assert_eq!(node.running().len(), 1);
        node.set_clock(to);
        assert_eq!(node.running().len(), 2, "nobody waits for a year, and nobody storms");
        node.pass(HOUR);
        node.pass(MINUTE);
        assert_eq!(node.running().len(), 3);
    }
}

#[test]
fn a_deadline_is_a_date() {
    let mut node = node(1);
    let waits = node.submit(with(|job| (job.deadline, job.held) = (Some(START.plus(HOUR)), true)));
    node.set_clock(BEHIND);
    node.pass(HOUR);
    assert_eq!(node.state(waits), JobState::Available);
    node.set_clock(AHEAD);
    assert_eq!(node.state(waits), JobState::Skipped);
}
