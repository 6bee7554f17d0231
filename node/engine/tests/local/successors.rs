//! Brief jobs are claimed in advance, behind the run that they follow. Nothing is promised by that which would not be
//! promised without.

use jobmesh_engine::{JobAction, QueueAction, QueueLimits, StopReason};
use jobmesh_protocol::job::{Concurrency, Effects, Rate, RateLimit};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::submission::Array;
use jobmesh_protocol::{DurationMillis, JobId, JobState, Outcome, Submission};

use crate::desk::{HOUR, SECOND, array, cancel, failure, node, plain, with};
use crate::node::{Fate, Node};

/// A node that has learnt that jobs of the type are brief.
fn learnt(slots: u32) -> Node {
    let mut node = node(slots);
    node.executor.takes_micros = 500;
    let job = node.submit(plain());
    node.ok(job);
    node
}

fn submit_all(node: &mut Node, count: usize, submission: &Submission) -> Vec<JobId> {
    (0..count).map(|_| node.submit(submission.clone())).collect()
}

fn in_state(node: &mut Node, jobs: &[JobId], state: JobState) -> usize {
    node.states(jobs).iter().filter(|found| **found == state).count()
}

#[test]
fn brief_jobs_are_claimed_ahead_and_each_runs_once_in_order() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 30, &plain());
    assert_eq!(node.running().len(), 1);
    assert_eq!(in_state(&mut node, &jobs, JobState::Running), 17, "sixteen are behind it");
    assert_eq!(node.finish_all(), jobs);
    assert!(jobs.iter().all(|job| node.attempts(*job).len() == 1));
}

#[test]
fn jobs_that_are_not_known_to_be_brief_are_not_claimed_ahead() {
    let mut node = node(1);
    let jobs = submit_all(&mut node, 5, &plain());
    assert_eq!(in_state(&mut node, &jobs, JobState::Running), 1);
}

#[test]
fn jobs_that_must_not_run_twice_are_not_claimed_ahead() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 5, &with(|job| job.spec.effects = Effects::Once));
    assert_eq!(in_state(&mut node, &jobs, JobState::Running), 1);
    assert_eq!(node.finish_all(), jobs);
}

/// Claimed in advance, such a job counted then, and started whenever the one before it ended.
#[test]
fn jobs_that_start_only_so_often_are_not_claimed_ahead() {
    let mut node = learnt(1);
    let limit = RateLimit { count: 3, period_ms: HOUR };
    let rates = vec![Rate { key: "api".to_owned(), limit }];
    let jobs = submit_all(&mut node, 5, &with(|job| job.spec.rates.clone_from(&rates)));
    assert_eq!(in_state(&mut node, &jobs, JobState::Running), 1);
    assert_eq!(node.finish_all(), jobs[..3]);
}

/// Ends everything, seeing after every end that no more run at once than may.
fn finish_within(node: &mut Node, limit: usize) -> usize {
    let mut ended = 0;
    while let Some(job) = node.running().first().copied() {
        assert!(node.running().len() <= limit, "{} run", node.running().len());
        node.ok(job);
        ended += 1;
    }
    ended
}

#[test]
fn limits_hold_for_what_the_executor_starts() {
    let mut node = learnt(4);
    node.queue("default", QueueAction::Set(QueueLimits { concurrency: Some(Some(5)), rate: None }));
    submit_all(&mut node, 40, &with(|job| job.spec.concurrency = Some(Concurrency { key: "db".to_owned(), limit: 2 })));
    submit_all(&mut node, 40, &plain());
    let keyed: Vec<JobId> = node.jobs().iter().filter(|job| job.spec.concurrency.is_some()).map(|job| job.id).collect();
    let mut ended = 0;
    while let Some(job) = node.running().last().copied() {
        assert!(node.running().len() <= 4);
        assert!(node.running().iter().filter(|job| keyed.contains(job)).count() <= 2);
        node.ok(job);
        ended += 1;
    }
    assert_eq!(ended, 80);
}

#[test]
fn the_limit_of_an_array_holds_too() {
    let mut node = learnt(4);
    let group = node.submit(with(|job| job.array = Some(Array { at_a_time: Some(2), ..array(50) })));
    submit_all(&mut node, 10, &with(|job| job.spec.priority = -1));
    let number = node.job(group).number;
    let mut ended = 0;
    while let Some(job) = node.running().first().copied() {
        let tasks = node.running();
        let of_group = tasks.into_iter().filter(|job| node.job(*job).number.group() == number).count();
        assert!(of_group <= 2, "{of_group} tasks run");
        node.ok(job);
        ended += 1;
    }
    assert_eq!((ended, node.state(group)), (60, JobState::Completed));
}

/// Tasks that were given back came after all that had not been made yet.
#[test]
fn the_tasks_of_an_array_keep_their_order_when_successors_are_given_back() {
    for at_a_time in [Some(1), None] {
        let mut node = learnt(1);
        let group = node.submit(with(|job| job.array = Some(Array { at_a_time, ..array(40) })));
        node.pass(SECOND);
        let order = node.finish_all();
        let indices: Vec<u32> = order.iter().filter_map(|job| node.job(*job).number.index()).collect();
        assert_eq!(indices, (1..=40).collect::<Vec<_>>());
        assert_eq!(node.state(group), JobState::Completed);
        assert!(order.iter().any(|job| node.attempts(*job).len() == 2), "some were given back");
    }
}

/// What was claimed and never began was said to have started.
#[test]
fn the_history_tells_what_is_claimed_in_advance_from_what_starts() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 2, &plain());
    let notes = |node: &mut Node, job| {
        let events = node.read().view().events(job).unwrap();
        events.into_iter().filter(|event| event.cause == Cause::Admitted).map(|event| event.note).collect::<Vec<_>>()
    };
    assert_eq!(notes(&mut node, jobs[0]), [None]);
    assert_eq!(notes(&mut node, jobs[1]), [Some("claimed behind another run".to_owned())]);
}

#[test]
fn a_successor_that_waits_too_long_is_given_back_and_spends_nothing() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 5, &plain());
    assert_eq!(in_state(&mut node, &jobs, JobState::Running), 5);
    node.pass(SECOND);
    assert_eq!(
        node.states(&jobs),
        [JobState::Running, JobState::Available, JobState::Available, JobState::Available, JobState::Available]
    );
    let row = node.job(jobs[1]);
    assert_eq!((row.failures, row.crashes), (0, 0));
    assert_eq!(node.executor.started.len(), 2, "nothing was started twice");
    node.executor.takes_micros = 2_000_000;
    assert_eq!(node.finish_all(), jobs);
}

#[test]
fn a_successor_can_be_cancelled_moved_and_held() {
    let mut node = learnt(1);
    node.queue("other", QueueAction::Set(QueueLimits { concurrency: Some(Some(1)), rate: None }));
    let jobs = submit_all(&mut node, 5, &plain());
    node.act(jobs[1], cancel());
    assert_eq!(node.state(jobs[1]), JobState::Cancelled);
    node.act(jobs[2], JobAction::Move("other".to_owned()));
    node.act(jobs[3], JobAction::Prioritize(4));
    node.act(jobs[3], JobAction::Hold { reason: String::new() });
    assert_eq!(node.state(jobs[3]), JobState::Available, "what is held does not start");
    assert_eq!(node.finish_all(), [jobs[0], jobs[4], jobs[2]]);
    node.act(jobs[3], JobAction::Release);
    assert_eq!(node.finish_all(), [jobs[3]]);
    let other = || with(|job| job.spec.queue = "other".to_owned());
    let next = submit_all(&mut node, 2, &other());
    assert_eq!(node.running(), [next[0]], "the one that was moved is not counted any more");
    node.ok(next[0]);
    assert_eq!(node.running(), [next[1]]);
}

#[test]
fn a_failed_job_leaves_its_place_to_the_next() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 3, &plain());
    node.end(jobs[0], failure());
    assert_eq!(node.running(), [jobs[1]]);
    assert_eq!(node.finish_all(), jobs[1..]);
}

#[test]
fn a_restart_loses_nothing_and_runs_nothing_twice() {
    for alive in [true, false] {
        let mut node = learnt(2);
        let jobs = submit_all(&mut node, 30, &plain());
        let head = node.running()[0];
        node.ok(head);
        node.restart(SECOND, |_| alive);
        node.finish_all();
        assert_eq!(in_state(&mut node, &jobs, JobState::Completed), 30, "alive: {alive}");
        let ended_twice = jobs.iter().filter(|job| {
            let attempts = node.attempts(**job);
            attempts.iter().filter(|attempt| attempt.state == jobmesh_protocol::AttemptState::Succeeded).count() != 1
        });
        assert_eq!(ended_twice.count(), 0);
    }
}

/// The orders were lost with the commit. All of them were given again at once, each for itself.
#[test]
fn successors_whose_orders_were_lost_do_not_start_beside_each_other() {
    for fate in [Fate::Unknown, Fate::Undone] {
        let mut node = learnt(2);
        node.queue("default", QueueAction::Set(QueueLimits { concurrency: Some(Some(3)), rate: None }));
        node.queue("default", QueueAction::Pause);
        let jobs = submit_all(&mut node, 20, &plain());
        let resume = jobmesh_engine::Command::Queue("default".to_owned(), QueueAction::Resume);
        node.ask(resume.clone(), fate);
        node.settle();
        node.ask(resume, Fate::Kept);
        node.settle();
        assert_eq!(finish_within(&mut node, 2), 20);
        assert!(jobs.iter().all(|job| node.attempts(*job).len() == 1));
    }
}

#[test]
fn a_timeout_of_a_successor_counts_from_its_own_start() {
    let mut node = learnt(1);
    let timed = with(|job| job.spec.timeout_ms = Some(DurationMillis(150)));
    let jobs = submit_all(&mut node, 2, &timed);
    node.pass(DurationMillis(100));
    node.ok(jobs[0]);
    node.pass(DurationMillis(149));
    assert_eq!(node.executor.stops, []);
    node.pass(DurationMillis(1));
    assert_eq!(node.executor.stops.iter().map(|stop| stop.1).collect::<Vec<_>>(), [StopReason::Timeout]);
    node.end(jobs[1], Outcome::Timeout);
}

#[test]
fn a_higher_priority_is_not_kept_waiting_by_what_was_claimed_after_it() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 3, &plain());
    let urgent = node.submit(with(|job| job.spec.priority = 9));
    let late = submit_all(&mut node, 3, &plain());
    let order = node.finish_all();
    let place = |job: JobId| order.iter().position(|other| *other == job).unwrap();
    assert!(place(urgent) < place(late[0]), "what came later did not overtake it");
    assert!(place(jobs[0]) < place(urgent));
    node.pass(HOUR);
}

#[test]
fn a_queue_that_is_paused_gets_its_successors_back() {
    let mut node = learnt(1);
    let jobs = submit_all(&mut node, 5, &plain());
    node.queue("default", QueueAction::Pause);
    node.ok(jobs[0]);
    assert_eq!((node.running().len(), in_state(&mut node, &jobs, JobState::Available)), (0, 4));
    node.queue("default", QueueAction::Resume);
    assert_eq!(node.finish_all(), jobs[1..]);
}

#[test]
fn a_limit_that_is_lowered_holds_for_successors_too() {
    let mut node = learnt(4);
    let set = |limit| QueueAction::Set(QueueLimits { concurrency: Some(Some(limit)), rate: None });
    node.queue("default", set(9));
    let jobs = submit_all(&mut node, 30, &plain());
    node.queue("default", set(1));
    for job in node.running() {
        node.ok(job);
    }
    assert_eq!(finish_within(&mut node, 1), 26);
    assert_eq!(in_state(&mut node, &jobs, JobState::Completed), 30);
}

/// They counted in the queue that it had left, beside whatever had taken its place there.
#[test]
fn what_follows_a_run_that_is_moved_stays_within_the_limit_of_its_queue() {
    let mut node = learnt(3);
    node.queue("default", QueueAction::Set(QueueLimits { concurrency: Some(Some(2)), rate: None }));
    let others = submit_all(&mut node, 2, &with(|job| job.spec.queue = "other".to_owned()));
    let jobs = submit_all(&mut node, 40, &plain());
    assert!(in_state(&mut node, &jobs, JobState::Running) > 1, "some are claimed");
    node.act(jobs[0], JobAction::Move("other".to_owned()));
    for job in [others[0], others[1], jobs[0]] {
        node.ok(job);
    }
    assert_eq!(finish_within(&mut node, 2), 39);
}

#[test]
fn a_successor_that_is_given_back_has_no_more_time_to_start_than_before() {
    let mut node = learnt(1);
    let first = node.submit(plain());
    let job = node.submit(with(|job| job.start_within_ms = Some(SECOND.plus(SECOND))));
    assert_eq!(node.state(job), JobState::Running, "claimed");
    node.pass(SECOND);
    assert_eq!((node.state(job), node.job(job).epoch.0), (JobState::Available, 1));
    node.pass(SECOND);
    assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Expired)));
    node.ok(first);
}

#[test]
fn a_successor_whose_time_to_start_ends_while_it_is_claimed_is_skipped() {
    let mut node = learnt(1);
    let first = node.submit(plain());
    let job = node.submit(with(|job| job.start_within_ms = Some(DurationMillis(100))));
    node.pass(DurationMillis(100));
    assert_eq!(node.fate(job), (JobState::Skipped, Some(FinishReason::Expired)));
    assert_eq!(node.running(), [first]);
}

/// The type of the job that waited was taken for the one that was not brief, and the next was claimed, for ever.
#[test]
fn a_run_that_is_not_brief_after_all_gets_no_successor_of_another_type_either() {
    let mut node = learnt(1);
    let head = node.submit(plain());
    let other = node.submit(with(|job| job.spec.job_type = "other".to_owned()));
    node.pass(HOUR);
    assert_eq!(node.states(&[head, other]), [JobState::Running, JobState::Available]);
    assert_eq!(node.attempts(other).len(), 1, "it was claimed once and given back");
}

/// After a failed commit it was put behind another run, and its processors were given away when that one had ended.
#[test]
fn a_successor_goes_on_behind_the_run_whose_processors_it_gets() {
    let mut node = learnt(2);
    let jobs = submit_all(&mut node, 12, &plain());
    for _ in 0..jobs.len() {
        node.step(&[], Fate::Unknown);
        node.settle();
        let shares = node.executor.orders().filter_map(|order| order.allocation.as_ref());
        let mut cpus: Vec<String> = shares
            .flat_map(|all| all.variables())
            .filter(|(name, _)| name == "JOBMESH_RESOURCE_CPUS")
            .map(|(_, index)| index)
            .collect();
        cpus.sort();
        let count = cpus.len();
        cpus.dedup();
        assert_eq!(cpus.len(), count, "a processor was given to two runs");
        let newest = node.running().last().copied().unwrap();
        node.ok(newest);
    }
    assert_eq!(node.running(), []);
}
