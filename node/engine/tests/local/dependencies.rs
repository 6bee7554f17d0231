//! Jobs that wait for others.

use jobmesh_engine::JobAction;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Condition, Rule, Start};
use jobmesh_protocol::{JobId, JobState, Outcome};

use crate::desk::{HOUR, SECOND, after, cancel, failure, node, plain, with};
use crate::node::Node;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Completed,
    Discarded,
    Cancelled,
    Skipped,
}

use End::{Cancelled as C, Completed as O, Discarded as D, Skipped as S};

/// Three jobs that wait for their ends, a fourth that waits for them, and then their ends.
fn verdict(rule: Rule, on: Option<Condition>, ends: &[End]) -> JobState {
    let mut node = node(4);
    let far = Some(node.now.wall.plus(HOUR));
    let ups: Vec<JobId> =
        ends.iter().map(|_| node.submit(with(|job| (job.held, job.deadline) = (true, far)))).collect();
    let job = node.submit(with(|job| (job.after, job.rule) = (after(&ups, on), rule)));
    for (up, end) in ups.iter().zip(ends) {
        conclude(&mut node, *up, *end);
    }
    node.state(job)
}

fn conclude(node: &mut Node, job: JobId, end: End) {
    match end {
        O | D => {
            node.act(job, JobAction::Release);
            node.end(job, if end == O { Outcome::Ok } else { failure() });
        }
        C => drop(node.act(job, cancel())),
        S => {
            node.now.mono = node.now.mono.plus(HOUR);
            node.now.wall = node.now.wall.plus(HOUR);
            node.pass(SECOND);
            assert_eq!(node.state(job), JobState::Skipped);
        }
    }
}

const GO: JobState = JobState::Running;
const NO: JobState = JobState::Skipped;
const WAIT: JobState = JobState::Pending;

#[test]
fn every_rule_judges_every_end() {
    for (rule, cases) in [
        (Rule::AllSuccess, [(O, GO), (D, NO), (C, NO), (S, NO)]),
        (Rule::AllDone, [(O, GO), (D, GO), (C, GO), (S, GO)]),
        (Rule::AnySuccess, [(O, GO), (D, NO), (C, NO), (S, NO)]),
        (Rule::NoneFailed, [(O, GO), (D, NO), (C, NO), (S, GO)]),
        (Rule::Always, [(O, GO), (D, GO), (C, GO), (S, GO)]),
    ] {
        for (end, expected) in cases {
            assert_eq!(verdict(rule, None, &[end]), expected, "{rule} {end:?}");
        }
    }
}

#[test]
fn every_condition_judges_every_end_whatever_the_rule() {
    for rule in [Rule::AllSuccess, Rule::AllDone, Rule::AnySuccess, Rule::NoneFailed, Rule::Always] {
        for (condition, cases) in [
            (Condition::Ok, [(O, GO), (D, NO), (C, NO), (S, NO)]),
            (Condition::Done, [(O, GO), (D, GO), (C, GO), (S, GO)]),
            (Condition::Failed, [(O, NO), (D, GO), (C, GO), (S, GO)]),
        ] {
            for (end, expected) in cases {
                assert_eq!(verdict(rule, Some(condition), &[end]), expected, "{rule} {condition} {end:?}");
            }
        }
    }
}

#[test]
fn several_are_counted_by_the_rule() {
    assert_eq!(verdict(Rule::AllSuccess, None, &[O, O]), GO);
    assert_eq!(verdict(Rule::AllSuccess, None, &[O, D]), NO);
    assert_eq!(verdict(Rule::AnySuccess, None, &[D, O]), GO);
    assert_eq!(verdict(Rule::AnySuccess, None, &[D, C]), NO);
    assert_eq!(verdict(Rule::AllDone, None, &[D, C]), GO);
}

#[test]
fn it_waits_while_the_others_may_still_decide() {
    let mut node = node(4);
    let ups = [node.submit(plain()), node.submit(plain())];
    let any = node.submit(with(|job| (job.after, job.rule) = (after(&ups, None), Rule::AnySuccess)));
    let all = node.submit(with(|job| job.after = after(&ups, None)));
    node.end(ups[0], failure());
    assert_eq!(node.states(&[any, all]), [WAIT, NO]);
    node.ok(ups[1]);
    assert_eq!(node.states(&[any, all]), [GO, NO]);
}

#[test]
fn what_ended_before_is_judged_at_submission() {
    let mut node = node(4);
    let (good, bad) = (node.submit(plain()), node.submit(plain()));
    node.ok(good);
    node.end(bad, failure());
    let goes = node.submit(with(|job| job.after = after(&[good], None)));
    let never = node.submit(with(|job| job.after = after(&[good, bad], None)));
    assert_eq!(node.state(goes), GO);
    assert_eq!(node.fate(never), (NO, Some(FinishReason::UpstreamFailed)));
}

#[test]
fn it_waits_for_its_time_after_it_waited_for_others() {
    let mut node = node(4);
    let up = node.submit(plain());
    let job = node.submit(with(|job| (job.after, job.start) = (after(&[up], None), Start::After(HOUR))));
    node.ok(up);
    assert_eq!(node.state(job), JobState::Scheduled);
    node.pass(HOUR);
    assert_eq!(node.state(job), GO);
}

#[test]
fn a_diamond_joins_once() {
    let mut node = node(4);
    let top = node.submit(plain());
    let sides = [0, 1].map(|_| node.submit(with(|job| job.after = after(&[top], None))));
    let bottom = node.submit(with(|job| job.after = after(&sides, None)));
    node.ok(top);
    assert_eq!(node.states(&sides), [GO, GO]);
    node.ok(sides[0]);
    assert_eq!(node.state(bottom), WAIT);
    node.ok(sides[1]);
    node.ok(bottom);
    assert_eq!(node.attempts(bottom).len(), 1);
}

fn chain(node: &mut Node, length: usize) -> Vec<JobId> {
    let mut jobs = vec![node.submit(plain())];
    for place in 1..length {
        let before = jobs[place - 1];
        jobs.push(node.submit(with(|job| job.after = after(&[before], None))));
    }
    jobs
}

#[test]
fn a_chain_runs_in_order() {
    let mut node = node(4);
    let jobs = chain(&mut node, 30);
    assert_eq!(node.finish_all(), jobs);
}

/// Reviving went down the stack, one frame for each job.
#[test]
fn a_chain_of_two_thousand_is_dropped_revived_and_cancelled_as_one() {
    let mut node = node(4);
    let jobs = chain(&mut node, 2000);
    node.end(jobs[0], failure());
    assert!(node.states(&jobs[1..]).iter().all(|state| *state == NO));
    node.act(jobs[0], JobAction::Retry);
    assert!(node.states(&jobs[1..]).iter().all(|state| *state == WAIT));
    node.ok(jobs[0]);
    assert_eq!(node.states(&jobs[1..3]), [GO, WAIT]);
    node.act(jobs[2], cancel());
    assert!(node.states(&jobs[3..]).iter().all(|state| *state == NO));
}

#[test]
fn a_retry_upstream_revives_only_what_was_dropped_for_it() {
    let mut node = node(9);
    let (up, other) = (node.submit(plain()), node.submit(plain()));
    let both = node.submit(with(|job| job.after = after(&[up, other], None)));
    let cancelled = node.submit(with(|job| job.after = after(&[up], None)));
    let on_failure = node.submit(with(|job| job.after = after(&[up], Some(Condition::Failed))));
    node.act(cancelled, cancel());
    node.end(other, failure());
    node.end(up, failure());
    assert_eq!(node.states(&[both, cancelled, on_failure]), [NO, JobState::Cancelled, GO]);
    node.act(up, JobAction::Retry);
    assert_eq!(node.states(&[both, cancelled, on_failure]), [WAIT, JobState::Cancelled, GO]);
    node.ok(up);
    assert_eq!(node.state(both), NO, "the other one is still what it was");
    node.act(other, JobAction::Retry);
    node.ok(other);
    assert_eq!(node.state(both), GO);
}

#[test]
fn an_upstream_is_deleted_only_once_nobody_waits_for_it() {
    let mut node = node(9);
    let (up, other) = (node.submit(plain()), node.submit(plain()));
    let any = node.submit(with(|job| (job.after, job.rule) = (after(&[up, other], None), Rule::AnySuccess)));
    node.end(up, failure());
    assert!(node.refused(up, JobAction::Remove).contains("as long as job 3"));
    assert_eq!(node.state(any), WAIT);
    node.restart(SECOND, |_| true);
    node.ok(other);
    assert_eq!(node.state(any), GO);
    node.ok(any);
    node.act(up, JobAction::Remove);
    let refusal = node.take(with(|job| job.after = after(&[up], None))).unwrap_err().to_string();
    assert!(refusal.contains("there is no job"), "{refusal}");
}

#[test]
fn a_skipped_job_that_is_retried_runs_without_what_it_waited_for() {
    let mut node = node(9);
    let up = node.submit(plain());
    let job = node.submit(with(|job| job.after = after(&[up], None)));
    node.end(up, failure());
    node.act(job, JobAction::Retry);
    assert_eq!(node.state(job), GO);
}

#[test]
fn waiting_outlives_restarts_and_failed_commits() {
    let mut node = node(9);
    let up = node.submit(plain());
    let job = node.submit(with(|job| job.after = after(&[up], None)));
    node.restart(SECOND, |_| true);
    let run = node.executor.running()[0];
    node.executor.end(run, Outcome::Ok, 0);
    let told = node.executor.said.pop_front().unwrap();
    node.step(&[told], crate::node::Fate::Unknown);
    node.settle();
    assert_eq!(node.state(job), GO);
    assert_eq!(node.attempts(job).len(), 1);
}

#[test]
fn a_cancelled_job_that_waited_is_forgotten_by_what_it_waited_for() {
    let mut node = node(9);
    let up = node.submit(plain());
    let job = node.submit(with(|job| job.after = after(&[up], None)));
    node.act(job, cancel());
    node.ok(up);
    assert_eq!(node.state(job), JobState::Cancelled);
}

/// The second mention was not written down but counted, so that the job waited longer than it had to.
#[test]
fn a_job_that_is_named_twice_is_waited_for_once_and_in_one_way() {
    let mut node = node(9);
    let up = node.submit(plain());
    let twice = node.submit(with(|job| job.after = after(&[up, up], None)));
    let both = [after(&[up], None), after(&[up], Some(Condition::Failed))].concat();
    assert!(node.take(with(|job| job.after = both)).unwrap_err().to_string().contains("in two ways"));
    node.ok(up);
    assert_eq!(node.state(twice), GO);
}

/// What ended while a job was dropped for another one was known until the next restart only: retried, that other one
/// revived a job which then waited for an end that had come long before.
#[test]
fn a_dropped_job_hears_of_ends_after_a_restart_as_well() {
    let mut node = node(2);
    let [fails, ends] = [plain(), plain()].map(|job| node.submit(job));
    let mut both = after(&[fails], None);
    both.extend(after(&[ends], Some(Condition::Done)));
    let job = node.submit(with(|job| job.after = both));
    node.end(fails, failure());
    assert_eq!(node.state(job), JobState::Skipped);
    node.restart(SECOND, |_| true);
    node.ok(ends);
    node.act(fails, JobAction::Retry);
    assert_eq!(node.state(job), JobState::Pending);
    node.ok(fails);
    assert_eq!(node.state(job), JobState::Running);
}

/// A job that had completed and was deleted was taken for one that had been skipped, and so was what waited for it.
#[test]
fn what_completed_counts_after_it_was_deleted() {
    let mut node = node(3);
    let ups = [plain(), plain()].map(|job| node.submit(job));
    let job = node.submit(with(|job| job.after = after(&ups, None)));
    node.ok(ups[0]);
    node.end(ups[1], failure());
    node.act(ups[0], JobAction::Remove);
    node.act(ups[1], JobAction::Retry);
    assert_eq!(node.state(job), JobState::Pending);
    node.restart(SECOND, |_| true);
    node.ok(ups[1]);
    assert_eq!(node.state(job), JobState::Running);
}

/// One that had failed and was deleted was taken for one that may still end well, and what waited for it did for ever.
#[test]
fn what_failed_counts_after_it_was_deleted() {
    let mut node = node(2);
    let ups = [plain(), plain()].map(|job| node.submit(job));
    let job = node.submit(with(|job| (job.after, job.rule) = (after(&ups, None), Rule::NoneFailed)));
    node.end(ups[0], failure());
    node.end(ups[1], failure());
    node.act(ups[0], JobAction::Remove);
    node.act(ups[1], JobAction::Retry);
    assert_eq!(node.state(job), JobState::Pending);
    node.ok(ups[1]);
    assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::UpstreamFailed)));
}
