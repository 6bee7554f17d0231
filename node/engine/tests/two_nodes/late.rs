//! Results of attempts that were given up: the first valid success wins, of work that may run twice.

use jobmesh_engine::{Command, JobAction};
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::session::{ATTACHMENT_BYTES_MAX, Frame};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, BlobRef, DurationMillis, Hash, JobId, JobState, Outcome};
use serde_bytes::ByteBuf;

use crate::wire::{A, B, Wire};
use crate::{escalated, spec};

const MINUTE: DurationMillis = DurationMillis::from_secs(60);

/// A job of A that runs on B, cut off from A until A has given it up.
fn parted(effects: Effects) -> (Wire, JobId) {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.effects = effects;
    wanted.retry.max_attempts = if effects == Effects::Once { 1 } else { 3 };
    let job = wire.submit(A, wanted);
    wire.cut();
    wire.pass(MINUTE);
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    (wire, job)
}

/// Lets A run the job itself.
fn enable(wire: &mut Wire) {
    wire.command(A, Command::AddCapability("tool:gzip".parse().unwrap()));
}

fn verdicts(wire: &mut Wire, job: JobId) -> Vec<Option<Verdict>> {
    wire.receipts(A, job).iter().map(|receipt| receipt.verdict).collect()
}

fn states(wire: &mut Wire, job: JobId) -> Vec<AttemptState> {
    wire.attempts(A, job).iter().map(|attempt| attempt.state).collect()
}

/// Ends B's run with more output than comes with a receipt.
fn end_with_much(wire: &mut Wire) -> BlobRef {
    let large = BlobRef::of(&vec![b'b'; ATTACHMENT_BYTES_MAX + 1]);
    wire.end_with(B, 0, Outcome::Ok, Outputs { stdout: Some(large), ..Outputs::default() }, Vec::new());
    large
}

#[test]
fn both_sides_of_a_partition_ran_and_what_was_done_first_counts() {
    for effects in [Effects::Pure, Effects::Idempotent] {
        let (mut wire, job) = parted(effects);
        enable(&mut wire);
        assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
        wire.end(B, 0, Outcome::Ok, b"of b");
        wire.connect();
        assert_eq!(wire.stops(A), 1, "A stops what it runs itself");
        assert_eq!(wire.job(A, job).state, JobState::Running, "while its own process lives");
        assert_eq!(verdicts(&mut wire, job), [None]);
        // It was done before it could be stopped, but not first.
        wire.end(A, 0, Outcome::Ok, b"of a");
        let ended = wire.job(A, job);
        assert_eq!((ended.state, ended.finish_reason), (JobState::Completed, Some(FinishReason::Ok)));
        assert_eq!(states(&mut wire, job), [AttemptState::Succeeded, AttemptState::Superseded]);
        assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Accepted)]);
        assert_eq!(wire.attempts(A, job)[0].outputs.stdout, Some(BlobRef::of(b"of b")));
        assert_eq!(wire.kept(A, Hash::of(b"of b")).as_deref(), Some(b"of b".as_slice()));
        let last = wire.events(A, job).pop().unwrap();
        assert_eq!((last.cause, last.node), (Cause::Late, Some(wire.node(B))));
        assert_eq!(wire.verdict(), Some(Verdict::Accepted));
        assert!(wire.outbox_is_empty());
    }
}

#[test]
fn what_was_done_here_first_counts() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    wire.end(A, 0, Outcome::Ok, b"of a");
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.connect();
    assert_eq!(states(&mut wire, job), [AttemptState::Lost, AttemptState::Succeeded]);
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
    assert_eq!(wire.verdict(), Some(Verdict::Superseded));
}

#[test]
fn of_work_that_may_run_once_a_late_result_is_superseded() {
    let (mut wire, job) = parted(Effects::Once);
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    wire.end_if_any(B, Outcome::Ok);
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
}

#[test]
fn a_job_that_waits_for_its_next_attempt_needs_none() {
    let (mut wire, job) = parted(Effects::Pure);
    assert_eq!(wire.job(A, job).state, JobState::Available);
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(states(&mut wire, job), [AttemptState::Succeeded]);
    wire.pass(MINUTE);
    assert_eq!(wire.job(A, job).epoch.0, 1);
}

#[test]
fn a_late_failure_changes_nothing() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    wire.end(B, 0, Outcome::error("exit code 1"), b"");
    wire.connect();
    assert_eq!((wire.job(A, job).state, wire.stops(A)), (JobState::Running, 0));
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
}

/// The executor's first receipt is lost for good, its second attempt runs, and then the first receipt turns up.
#[test]
fn an_attempt_on_a_peer_is_cancelled_when_an_earlier_one_turns_out_to_have_succeeded() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.bend(|_, envelope| (envelope.kind() == Kind::Receipt).then(|| vec![0xFF]));
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.unbend();
    wire.pass(MINUTE);
    wire.pass(MINUTE);
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
    assert_eq!(wire.job(A, job).epoch.0, 2);
    let receipt = wire.said(B, Kind::Receipt).remove(0);
    wire.inject(A, Frame::Note { envelope: ByteBuf::from(receipt) }.encode());
    wire.fetched(A, Hash::of(b"of b"));
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.stops(B), 1, "B is told to stop the second one");
    wire.end(B, 0, Outcome::Ok, b"again");
    assert_eq!(states(&mut wire, job), [AttemptState::Succeeded, AttemptState::Cancelled]);
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Accepted), Some(Verdict::Superseded)]);
}

#[test]
fn a_late_result_counts_once_its_outputs_are_here() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    let large = end_with_much(&mut wire);
    wire.connect();
    assert_eq!((wire.job(A, job).state, wire.stops(A)), (JobState::Running, 0), "its outputs are not here");
    assert_eq!(wire.fetches(A), [(wire.node(B), large)]);
    wire.end(A, 0, Outcome::error("exit code 1"), b"");
    assert_eq!(verdicts(&mut wire, job), [None]);
    wire.fetched(A, large.hash);
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(states(&mut wire, job), [AttemptState::Succeeded, AttemptState::Failed]);
}

#[test]
fn a_late_result_whose_outputs_do_not_come_is_given_up() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    end_with_much(&mut wire);
    wire.connect();
    wire.pass(DurationMillis::from_secs(601));
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
    wire.fetches(A);
    wire.pass(DurationMillis::from_secs(601));
    assert_eq!(wire.fetches(A), [], "nobody waits for them any more");
    assert_eq!(wire.job(A, job).state, JobState::Running);
}

#[test]
fn a_job_that_ends_meanwhile_supersedes_what_comes_late() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    let large = end_with_much(&mut wire);
    wire.connect();
    wire.end(A, 0, Outcome::Ok, b"of a");
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
    wire.fetched(A, large.hash);
    assert_eq!(states(&mut wire, job), [AttemptState::Lost, AttemptState::Succeeded]);
}

#[test]
fn a_late_result_survives_a_restart_of_the_origin() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    let large = end_with_much(&mut wire);
    wire.connect();
    wire.fetches(A);
    wire.restart(A);
    assert_eq!(wire.fetches(A), [(wire.node(B), large)], "asked for again");
    assert_eq!(wire.job(A, job).state, JobState::Running, "A runs it once more meanwhile");
    wire.fetched(A, large.hash);
    wire.end(A, 0, Outcome::Cancelled, b"");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Accepted)]);
}

#[test]
fn a_run_that_is_being_stopped_for_a_late_result_ends_with_the_daemon() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.restart(A);
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(states(&mut wire, job), [AttemptState::Succeeded, AttemptState::Superseded]);
}

/// Who asks for a job again that has succeeded wants it to run.
#[test]
fn a_result_from_before_a_retry_does_not_count_for_the_job_that_had_succeeded() {
    let (mut wire, job) = parted(Effects::Pure);
    enable(&mut wire);
    wire.end(A, 0, Outcome::Ok, b"of a");
    wire.command(A, Command::Job(job, JobAction::Retry));
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.connect();
    assert_eq!((wire.job(A, job).state, wire.stops(A)), (JobState::Running, 0));
    assert_eq!(verdicts(&mut wire, job), [Some(Verdict::Superseded)]);
}
