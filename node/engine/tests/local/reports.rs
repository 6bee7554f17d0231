//! What running jobs say of themselves.

use jobmesh_engine::{Command, Refusal, Report, Response, StopReason};
use jobmesh_protocol::{DurationMillis, JobId, JobState, Outcome, RunId};

use crate::desk::{MINUTE, SECOND, failure, node, plain, with};
use crate::node::Node;

fn report(node: &mut Node, report: Report) -> Result<Response, Refusal> {
    let run: RunId = node.executor.running()[0];
    node.command(Command::Report(run, report))
}

fn progress(node: &mut Node, done: u16) {
    report(node, Report::Progress { done: Some(done), message: None }).unwrap();
}

fn written(node: &mut Node, job: JobId) -> Option<u16> {
    let number = node.job(job).number;
    node.read().view().progress(number).unwrap().and_then(|progress| progress.done)
}

fn checkpoint(node: &mut Node, key: &str, value: &str) -> Result<Response, Refusal> {
    report(node, Report::Checkpoint { key: key.to_owned(), value: value.to_owned() })
}

#[test]
fn progress_is_written_now_and_then_and_at_the_end() {
    let mut node = node(1);
    let job = node.submit(plain());
    for (done, expected) in [(10, 10), (20, 10), (30, 10)] {
        progress(&mut node, done);
        assert_eq!(written(&mut node, job), Some(expected));
    }
    node.pass(SECOND);
    assert_eq!(written(&mut node, job), Some(30));
    progress(&mut node, 40);
    node.pass(SECOND);
    assert_eq!(written(&mut node, job), Some(40));
    progress(&mut node, u16::MAX);
    node.ok(job);
    assert_eq!(written(&mut node, job), Some(10_000));
}

#[test]
fn a_job_that_falls_silent_is_stopped_and_one_that_reports_is_not() {
    let mut node = node(1);
    let mut submission = with(|job| job.spec.heartbeat_ms = Some(MINUTE));
    submission.spec.retry.max_attempts = 2;
    let job = node.submit(submission);
    for _ in 0..5 {
        node.pass(DurationMillis(MINUTE.0 - 1));
        report(&mut node, Report::Heartbeat).unwrap();
    }
    assert_eq!(node.executor.stops, []);
    node.pass(MINUTE);
    assert_eq!(node.executor.stops[0].1, StopReason::Timeout);
    node.end(job, Outcome::Timeout);
    assert_eq!(node.state(job), JobState::Retryable);
}

#[test]
fn a_checkpoint_reaches_the_next_attempt_even_over_a_restart() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.retry.max_attempts = 2));
    checkpoint(&mut node, "page", "7").unwrap();
    checkpoint(&mut node, "page", "8").unwrap();
    checkpoint(&mut node, "gone", "1").unwrap();
    checkpoint(&mut node, "gone", "").unwrap();
    node.end(job, failure());
    node.restart(MINUTE, |_| false);
    let number = node.job(job).number;
    let kept = node.read().view().checkpoints(number).unwrap();
    assert_eq!(kept.iter().map(|one| (one.name.as_str(), one.value.as_str())).collect::<Vec<_>>(), [("page", "8")]);
}

#[test]
fn checkpoints_are_bounded() {
    let mut node = node(1);
    node.submit(plain());
    assert!(checkpoint(&mut node, "", "x").is_err());
    assert!(checkpoint(&mut node, &"k".repeat(129), "x").is_err());
    assert!(checkpoint(&mut node, "k", &"v".repeat(16 * 1024 + 1)).is_err());
    for number in 0..64 {
        checkpoint(&mut node, &format!("k{number}"), "v").unwrap();
    }
    assert_eq!(
        checkpoint(&mut node, "one more", "v").unwrap_err().to_string(),
        "this node takes at most 64 checkpoints of one job"
    );
    checkpoint(&mut node, "k0", "w").unwrap();
}

#[test]
fn what_does_not_run_reports_nothing() {
    let mut node = node(1);
    let job = node.submit(plain());
    let run = node.executor.running()[0];
    node.ok(job);
    assert!(matches!(node.command(Command::Report(run, Report::Heartbeat)), Err(Refusal::NotRunning)));
}
