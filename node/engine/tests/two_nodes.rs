//! Two engines joined by a wire that delivers at once: the whole life of a ticket, and what disturbs it.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

#[path = "two_nodes/wire.rs"]
mod wire;

use jobmesh_engine::{Command, JobAction, Response};
use jobmesh_protocol::job::{Effects, ProcessTask, Scope, Task};
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, DurationMillis, Incarnation, JobSpec, JobState, Outcome, Submission};
use wire::{A, B, Wire};

fn spec(requirement: Option<&str>) -> JobSpec {
    let mut spec = JobSpec::new("test", Task::Process(ProcessTask::new(vec!["true".to_owned()])));
    spec.requirements = requirement.iter().map(|text| text.parse().unwrap()).collect();
    spec.scope = Scope::Hybrid;
    spec
}

fn escalated() -> Wire {
    let mut wire = Wire::new();
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.connect();
    wire
}

#[test]
fn a_job_that_fits_runs_here() {
    let mut wire = Wire::new();
    let job = wire.submit(A, spec(None));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.end(A, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

#[test]
fn a_job_that_does_not_fit_runs_on_the_peer_that_can_and_is_accepted_once() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
    wire.end(B, 0, Outcome::Ok, b"compressed");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    let attempts = wire.attempts(A, job);
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].node, wire.node(B));
    let receipts = wire.receipts(A, job);
    assert_eq!(receipts.iter().filter(|r| r.verdict == Some(Verdict::Accepted)).count(), 1);
    assert!(wire.outbox_is_empty(), "everything was acknowledged");
}

#[test]
fn a_failure_on_a_peer_is_retried_after_its_backoff() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.retry.max_attempts = 2;
    let job = wire.submit(A, wanted);
    wire.end(B, 0, Outcome::error("exit code 7"), b"");
    assert_eq!(wire.job(A, job).state, JobState::Retryable);
    wire.pass(DurationMillis::from_secs(10));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.end(B, 0, Outcome::error("exit code 7"), b"");
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    assert_eq!(wire.attempts(A, job).len(), 2);
}

#[test]
fn a_silent_peer_loses_its_lease_and_its_late_receipt_is_superseded() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.cut();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Available);
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    wire.end(B, 0, Outcome::Ok, b"late");
    wire.connect();
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"again");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    let verdicts: Vec<_> = wire.receipts(A, job).iter().map(|r| r.verdict.unwrap()).collect();
    assert_eq!(verdicts, vec![Verdict::Superseded, Verdict::Accepted]);
}

#[test]
fn a_lost_attempt_of_a_job_that_may_run_once_ends_it() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.effects = Effects::Once;
    let job = wire.submit(A, wanted);
    wire.cut();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    assert!(wire.refused(A, Command::Job(job, JobAction::Retry)).contains("must not run twice"));
}

#[test]
fn an_executor_that_restarts_gives_its_leases_back() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.restart(B);
    wire.connect();
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.attempts(A, job).len(), 2);
}

#[test]
fn an_origin_that_restarts_gets_the_result_once() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.restart(A);
    wire.end(B, 0, Outcome::Ok, b"out");
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.attempts(A, job).len(), 1);
}

#[test]
fn a_cancelled_job_is_stopped_on_the_peer() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.command(A, Command::Job(job, JobAction::Cancel { reason: "changed my mind".to_owned(), is_forced: false }));
    assert_eq!(wire.job(A, job).state, JobState::Cancelled);
    assert_eq!(wire.stops(B), 1);
    wire.end(B, 0, Outcome::Cancelled, b"");
    assert_eq!(wire.job(A, job).state, JobState::Cancelled);
    assert!(wire.outbox_is_empty());
}

#[test]
fn a_job_that_nobody_can_run_waits_and_says_what_is_missing() {
    let mut wire = Wire::new();
    wire.connect();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    assert_eq!(why.state, JobState::Available);
    assert!(why.summary.contains("tool:gzip"), "{}", why.summary);
    assert_eq!(why.nodes.len(), 2);
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
}

#[test]
fn what_one_node_learns_the_other_hears() {
    let mut wire = Wire::new();
    wire.connect();
    wire.submit(A, spec(None));
    wire.end(A, 0, Outcome::Ok, b"");
    wire.pass(DurationMillis::from_secs(10));
    assert_eq!(wire.summaries(B), vec![wire.node(A)]);
}

#[test]
fn hostile_bytes_are_counted_and_change_nothing() {
    let mut wire = escalated();
    let before = wire.dump(A);
    wire.inject(A, vec![0xff; 100]);
    wire.inject(A, Vec::new());
    wire.inject(A, vec![0x81; 10_000]);
    wire.inject(A, vec![0; 300_000]);
    assert_eq!(wire.dump(A), before);
    assert_eq!(wire.counter(A, "refused_malformed_frame"), 4);
}

/// A number that no database column holds made every step fail in which it arrived.
#[test]
fn numbers_beyond_the_database_are_refused_at_the_edge() {
    let mut wire = escalated();
    let incarnation = Incarnation::from_bytes([1; 16]);
    for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let (envelope, attachments) = (Default::default(), Vec::new());
        wire.inject(A, Frame::Data { incarnation, number, first: number, envelope, attachments }.encode());
        wire.inject(A, Frame::Ack { incarnation: Incarnation::from_bytes([0; 16]), number }.encode());
    }
    assert_eq!(wire.counter(A, "refused_malformed_frame"), 6);
}

/// Every auction gave it all of its time again.
#[test]
fn auctions_that_come_to_nothing_leave_the_time_to_start_as_it_was() {
    let mut wire = escalated();
    for _ in 0..2 {
        wire.submit(B, spec(None));
    }
    let within = Some(DurationMillis::from_secs(20));
    let wanted = Submission { start_within_ms: within, ..Submission::new(spec(Some("tool:gzip"))) };
    let Response::Submitted(taken) = wire.command(A, Command::Submit(vec![wanted])) else { panic!("not submitted") };
    wire.pass(DurationMillis::from_secs(19));
    assert_eq!(wire.job(A, taken[0].job).state, JobState::Available, "{:?}", wire.trace());
    wire.pass(DurationMillis::from_secs(1));
    assert_eq!(wire.job(A, taken[0].job).finish_reason, Some(FinishReason::Expired));
}
