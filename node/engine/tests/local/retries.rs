//! What the end of an attempt makes of its job.

use jobmesh_engine::{Command, Ended, Input, JobAction};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::retry::{Backoff, Failure, Growth, Jitter};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::{AttemptState, DurationMillis, JobState, Outcome, Submission};

use crate::desk::{HOUR, MINUTE, SECOND, failure, node, plain, with};
use crate::node::{Fate, START};

fn growing(growth: Growth, attempts: u32) -> Submission {
    with(|job| {
        job.spec.retry.max_attempts = attempts;
        job.spec.retry.backoff = Backoff { growth, jitter: Jitter::None };
    })
}

fn lost() -> Outcome {
    Outcome::Lost { reason: "gone".to_owned() }
}

fn snoozed() -> Outcome {
    Outcome::Snoozed { for_ms: HOUR, reason: None }
}

/// The waits between the attempts of a job that always fails.
fn waits(growth: Growth) -> Vec<u64> {
    let mut node = node(1);
    let job = node.submit(growing(growth, 5));
    let mut waits = Vec::new();
    loop {
        node.end(job, failure());
        let row = node.job(job);
        let Some(run_at) = row.run_at else { break };
        assert_eq!(row.state, JobState::Retryable);
        waits.push(run_at.since(node.now.wall).0);
        node.pass(run_at.since(node.now.wall));
    }
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::Exhausted)));
    assert_eq!(node.attempts(job).len(), 5);
    waits
}

#[test]
fn waits_grow_as_they_were_asked_to() {
    assert_eq!(waits(Growth::Exponential { base_ms: SECOND, max_ms: DurationMillis(3000) }), [1000, 2000, 3000, 3000]);
    assert_eq!(waits(Growth::Fixed { wait_ms: MINUTE }), [60_000; 4]);
    assert_eq!(waits(Growth::Custom { waits_ms: vec![SECOND, MINUTE] }), [1000, 60_000, 60_000, 60_000]);
}

#[test]
fn a_job_may_ask_for_a_longer_wait_but_not_for_a_shorter_one() {
    for (asked, waited) in [(HOUR, HOUR), (SECOND, MINUTE)] {
        let mut node = node(1);
        let job = node.submit(growing(Growth::Fixed { wait_ms: MINUTE }, 2));
        node.end(job, Outcome::Error { message: "busy".to_owned(), retry_after_ms: Some(asked) });
        assert_eq!(node.job(job).run_at, Some(node.now.wall.plus(waited)));
    }
}

#[test]
fn only_the_failures_that_a_job_names_are_tried_again() {
    let mut node = node(1);
    let mut named = growing(Growth::Fixed { wait_ms: SECOND }, 9);
    named.spec.retry.retry_on = vec![Failure::Exit { from: 70, to: 79 }, Failure::Timeout];
    named.spec.retry.fail_on = vec![Failure::Exit { from: 77, to: 77 }];
    let cases = [(75, JobState::Retryable), (77, JobState::Discarded), (1, JobState::Discarded)];
    for (code, expected) in cases {
        let job = node.submit(named.clone());
        node.end_with(job, failure(), code);
        assert_eq!(node.state(job), expected, "exit code {code}");
    }
    let job = node.submit(named);
    node.end_with(job, Outcome::Timeout, 143);
    assert_eq!(node.state(job), JobState::Retryable);
}

#[test]
fn a_last_timeout_says_so_and_a_permanent_failure_is_not_repeated() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.end(job, Outcome::Timeout);
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::Timeout)));
    let job = node.submit(growing(Growth::Fixed { wait_ms: SECOND }, 9));
    node.end(job, Outcome::Permanent { message: "no such program".to_owned() });
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::Permanent)));
}

#[test]
fn a_snooze_spends_no_attempt_and_has_a_limit_of_its_own() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.retry.max_snoozes = Some(2)));
    for snoozes in 1..=2 {
        node.end(job, snoozed());
        let row = node.job(job);
        assert_eq!((row.state, row.failures, row.snoozes), (JobState::Scheduled, 0, snoozes));
        node.pass(HOUR);
    }
    node.end(job, snoozed());
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::Snoozes)));
}

#[test]
fn a_job_may_call_itself_off_or_be_given_back() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.end(job, Outcome::Released { reason: "shutdown".to_owned() });
    let row = node.job(job);
    assert_eq!((row.state, row.failures, row.crashes), (JobState::Running, 0, 0), "it ran again at once");
    node.end(job, Outcome::SelfCancelled { reason: "nothing to do".to_owned() });
    assert_eq!(node.fate(job), (JobState::Cancelled, Some(FinishReason::Itself)));
}

#[test]
fn crashes_are_counted_apart_from_attempts() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.retry.crash_limit = 2));
    for crashes in 1..=2 {
        node.end(job, lost());
        let row = node.job(job);
        assert_eq!((row.state, row.failures, row.crashes), (JobState::Running, 0, crashes));
    }
    node.end(job, lost());
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::CrashLimit)));
    let states: Vec<AttemptState> = node.attempts(job).iter().map(|attempt| attempt.state).collect();
    assert_eq!(states, [AttemptState::Lost; 3]);
}

#[test]
fn a_job_that_must_not_run_twice_ends_with_its_first_loss_and_is_never_retried() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.effects = Effects::Once));
    node.end(job, lost());
    assert_eq!(node.fate(job), (JobState::Discarded, Some(FinishReason::Lost)));
    assert!(node.refused(job, JobAction::Retry).contains("must not run twice"));
}

/// It was given back by the end of the node, and run a second time by the next one.
#[test]
fn a_job_that_must_not_run_twice_is_given_up_if_the_node_stops_in_the_middle_of_it() {
    let mut node = node(2);
    let once = || with(|job| job.spec.effects = Effects::Once);
    let [cut, own] = [0, 1].map(|_| node.submit(once()));
    let waits = node.submit(once());
    let released = || Outcome::Released { reason: "shutdown".to_owned() };
    node.end_with(own, released(), 0);
    assert_eq!(node.state(own), JobState::Running, "it asked for that itself");
    node.command(Command::Drain).unwrap();
    node.end(cut, released());
    assert_eq!(node.fate(cut), (JobState::Discarded, Some(FinishReason::Lost)));
    assert!(node.explain(cut).summary.contains("stopped while it ran"), "{}", node.explain(cut).summary);
    node.end(own, released());
    assert_eq!(node.state(waits), JobState::Available, "it had not begun");
    node.restart(SECOND, |_| true);
    assert_eq!(node.states(&[cut, own, waits]), [JobState::Discarded, JobState::Discarded, JobState::Running]);
}

/// Nothing of it was done, so it may begin with the next daemon.
#[test]
fn a_job_that_must_not_run_twice_is_kept_if_the_node_stops_before_it_begins() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.effects = Effects::Once));
    node.command(Command::Drain).unwrap();
    let run = node.executor.running()[0];
    let ended = Ended {
        exit: Exit::default(),
        ..crate::executor::ended(Outcome::Released { reason: "shutdown".to_owned() }, 0, 0)
    };
    node.step(&[Input::Ended { run, ended }], Fate::Kept);
    assert_eq!(node.state(job), JobState::Available);
}

#[test]
fn a_retry_by_hand_gives_all_attempts_back_and_keeps_the_history() {
    let mut node = node(1);
    let job = node.submit(growing(Growth::Fixed { wait_ms: HOUR }, 2));
    node.end(job, failure());
    node.act(job, JobAction::Retry);
    assert_eq!(node.state(job), JobState::Running, "it does not wait out its backoff");
    node.end(job, failure());
    assert_eq!(node.state(job), JobState::Retryable, "both attempts are back");
    node.pass(HOUR);
    node.end(job, failure());
    assert_eq!(node.state(job), JobState::Discarded);
    node.act(job, JobAction::Retry);
    node.ok(job);
    let row = node.job(job);
    assert_eq!((row.state, row.failures), (JobState::Completed, 0));
    let epochs: Vec<u32> = node.attempts(job).iter().map(|attempt| attempt.epoch.0).collect();
    assert_eq!(epochs, [1, 2, 3, 4]);
    node.act(job, JobAction::Retry);
    assert!(node.refused(job, JobAction::Retry).contains("has ended or waits for its retry"));
}

#[test]
fn an_end_that_is_told_twice_counts_once() {
    let mut node = node(1);
    let job = node.submit(growing(Growth::Fixed { wait_ms: HOUR }, 9));
    let run = node.executor.running()[0];
    node.end(job, failure());
    node.executor
        .said
        .push_back(jobmesh_engine::Input::Ended { run, ended: crate::executor::ended(Outcome::Ok, 0, 1) });
    node.settle();
    let row = node.job(job);
    assert_eq!((row.state, row.failures), (JobState::Retryable, 1));
}

/// It was started all the same, and its deadline had no say any more.
#[test]
fn nothing_is_tried_again_after_its_deadline() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.deadline = Some(START.plus(HOUR))));
    node.end(job, failure());
    node.pass(HOUR.plus(HOUR));
    let refusal = node.refused(job, JobAction::Retry);
    assert!(refusal.contains("2027-01-15T09:00:00.000Z; submit it anew"), "{refusal}");
    assert_eq!(node.running(), []);
}

#[test]
fn of_a_group_only_those_are_tried_again_whose_deadline_is_to_come() {
    let mut node = node(9);
    let group = node.submit(with(|job| job.open = true));
    let late = node.submit(with(|job| (job.into, job.deadline) = (Some(group), Some(START.plus(HOUR)))));
    let other = node.submit(with(|job| job.into = Some(group)));
    for job in [late, other] {
        node.end(job, failure());
    }
    node.pass(HOUR.plus(HOUR));
    node.act(group, JobAction::Retry);
    assert_eq!(node.running(), [other]);
    node.ok(other);
    assert!(node.refused(group, JobAction::Retry).contains("submit it anew"));
}
