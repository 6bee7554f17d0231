//! Daemons that are killed and commits that fail: nothing that was acknowledged is lost, nothing that ended runs again.

use jobmesh_engine::{Command, Input};
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::{AttemptState, JobState, Outcome};

use crate::desk::{SECOND, failure, node, plain, with};
use crate::node::Fate;

#[test]
fn what_still_runs_is_watched_again_under_the_same_attempt() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.restart(SECOND, |_| true);
    assert_eq!(node.causes(job).last(), Some(&Cause::Adopted));
    node.ok(job);
    assert_eq!(node.state(job), JobState::Completed);
    assert_eq!(node.attempts(job).len(), 1);
}

#[test]
fn what_is_gone_is_lost_at_once_and_tried_again() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.restart(SECOND, |_| false);
    let states: Vec<AttemptState> = node.attempts(job).iter().map(|attempt| attempt.state).collect();
    assert_eq!(states, [AttemptState::Lost, AttemptState::Running]);
    assert_eq!(node.job(job).crashes, 1);
}

#[test]
fn what_is_looked_for_keeps_its_room_until_it_is_found_or_not() {
    let mut node = node(1);
    node.submit(plain());
    let waits = node.submit(plain());
    node.restart(SECOND, |_| true);
    assert_eq!(node.state(waits), JobState::Available);
}

/// The question whether a run was alive was lost with a failed commit and not asked again: the job ran for ever.
#[test]
fn a_run_is_asked_for_until_its_fate_is_known() {
    let mut node = node(1);
    let job = node.submit(plain());
    let run = node.executor.running()[0];
    node.restart_unheard();
    assert_eq!(node.executor.running(), [run]);
    node.step(&[], Fate::Unknown);
    node.settle();
    assert_eq!(node.causes(job).last(), Some(&Cause::Adopted));
    node.ok(job);
    assert_eq!(node.state(job), JobState::Completed);
}

#[test]
fn an_end_survives_a_commit_that_fails_either_way() {
    for fate in [Fate::Undone, Fate::Unknown] {
        let mut node = node(1);
        assert!(node.executor.ends.is_empty());
        let jobs = [plain(), plain()].map(|job| node.submit(job));
        let run = node.executor.running()[0];
        node.executor.end(run, Outcome::Ok, 0);
        let told = node.executor.said.pop_front().unwrap();
        node.step(&[told], fate);
        node.settle();
        assert_eq!(node.states(&jobs), [JobState::Completed, JobState::Running], "{fate:?}");
        assert_eq!(node.executor.started.len(), 2);
        node.step(&[Input::Tick], fate);
        node.settle();
        assert_eq!(node.executor.started.len(), 2, "an order that is repeated starts nothing");
    }
}

#[test]
fn a_submission_whose_commit_failed_may_be_repeated_under_its_name() {
    for fate in [Fate::Undone, Fate::Unknown] {
        let mut node = node(1);
        let named = with(|job| job.idempotency_key = Some("order 7".to_owned()));
        assert!(node.ask(Command::Submit(vec![named.clone()]), fate).is_none());
        node.settle();
        let taken = node.take(named).unwrap();
        assert_eq!(taken.is_new, fate == Fate::Undone);
        assert_eq!(node.jobs().len(), 1);
        assert_eq!(node.executor.started.len(), 1);
    }
}

#[test]
fn nothing_that_ended_runs_again_over_any_number_of_restarts() {
    let mut node = node(2);
    let good = node.submit(plain());
    let bad = node.submit(plain());
    node.ok(good);
    node.end(bad, failure());
    for _ in 0..5 {
        node.restart(SECOND, |_| false);
    }
    assert_eq!(node.states(&[good, bad]), [JobState::Completed, JobState::Discarded]);
    assert_eq!(node.executor.started.len(), 2);
}

#[test]
fn a_crash_limit_stops_a_job_that_takes_its_daemon_down() {
    let mut node = node(1);
    let job = node.submit(with(|job| job.spec.retry.crash_limit = 1));
    node.restart(SECOND, |_| false);
    assert_eq!(node.state(job), JobState::Running);
    node.restart(SECOND, |_| false);
    assert_eq!(node.state(job), JobState::Discarded);
}
