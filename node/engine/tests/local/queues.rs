//! How many run at once, in which order, and how often they start.

use std::collections::BTreeMap;

use jobmesh_engine::{Command, Declared, JobAction, QueueAction, QueueLimits, Response};
use jobmesh_protocol::job::{Concurrency, Rate, RateLimit};
use jobmesh_protocol::{DurationMillis, JobId, JobState, Submission};

use crate::desk::{MINUTE, SECOND, node, plain, with};
use crate::node::{Node, Setup};

fn limit(concurrency: u32) -> QueueLimits {
    QueueLimits { concurrency: Some(Some(concurrency)), rate: None }
}

fn submit_all(node: &mut Node, count: usize, submission: &Submission) -> Vec<JobId> {
    (0..count).map(|_| node.submit(submission.clone())).collect()
}

fn keyed(key: &str, limit: u32) -> Submission {
    with(|job| job.spec.concurrency = Some(Concurrency { key: key.to_owned(), limit }))
}

#[test]
fn a_queue_runs_as_many_as_its_limit_and_follows_it_live() {
    let mut node = node(8);
    node.queue("default", QueueAction::Set(limit(2)));
    let jobs = submit_all(&mut node, 5, &plain());
    assert_eq!(node.running().len(), 2);
    node.queue("default", QueueAction::Set(limit(4)));
    assert_eq!(node.running().len(), 4);
    node.queue("default", QueueAction::Set(limit(1)));
    node.ok(jobs[0]);
    assert_eq!(node.running().len(), 3, "what runs is left alone");
    assert!(matches!(node.queue("default", QueueAction::Reset), Response::Done));
    assert_eq!(node.running().len(), 4);
    assert!(matches!(node.queue("default", QueueAction::Reset), Response::Unchanged));
}

#[test]
fn a_reset_queue_goes_by_the_configuration_again_and_a_new_configuration_counts_at_once() {
    let queues = BTreeMap::from([("default".to_owned(), limit(1))]);
    let declared = Declared { queues, ..Declared::default() };
    let mut node = Node::new(Setup { slots: 8, cpus: 8, declared });
    submit_all(&mut node, 5, &plain());
    assert_eq!(node.running().len(), 1);
    node.queue("default", QueueAction::Set(limit(2)));
    assert_eq!(node.running().len(), 2);
    let queues = BTreeMap::from([("default".to_owned(), limit(4))]);
    node.command(Command::Configure(Box::new(Declared { queues, ..Declared::default() }))).unwrap();
    assert_eq!(node.running().len(), 2, "what was set by hand goes before the file");
    node.queue("default", QueueAction::Reset);
    assert_eq!(node.running().len(), 4);
}

#[test]
fn a_paused_queue_starts_nothing_and_takes_everything_even_over_a_restart() {
    let mut node = node(2);
    node.queue("default", QueueAction::Pause);
    let job = node.submit(plain());
    assert_eq!(node.state(job), JobState::Available);
    node.restart(SECOND, |_| false);
    assert_eq!(node.state(job), JobState::Available);
    assert!(matches!(node.queue("default", QueueAction::Pause), Response::Unchanged));
    node.queue("default", QueueAction::Resume);
    assert_eq!(node.state(job), JobState::Running);
}

#[test]
fn a_draining_queue_refuses_what_is_new_and_runs_what_it_has() {
    let mut node = node(1);
    let jobs = submit_all(&mut node, 2, &plain());
    node.queue("default", QueueAction::Drain);
    let refusal = node.take(plain()).unwrap_err().to_string();
    assert!(refusal.contains("jobmesh queue resume default"), "{refusal}");
    node.ok(jobs[0]);
    assert_eq!(node.state(jobs[1]), JobState::Running);
    node.queue("default", QueueAction::Resume);
    node.submit(plain());
}

#[test]
fn a_limit_of_zero_is_refused_with_the_word_for_it() {
    let mut node = node(1);
    let refusal = node.command(Command::Queue("default".to_owned(), QueueAction::Set(limit(0)))).unwrap_err();
    assert!(refusal.to_string().contains("jobmesh queue pause"), "{refusal}");
}

#[test]
fn higher_priority_starts_first_then_the_older() {
    let mut node = node(1);
    let first = node.submit(plain());
    let [low, high, other] = [-1, 9, 9].map(|priority| node.submit(with(|job| job.spec.priority = priority)));
    assert_eq!(node.finish_all(), [first, high, other, low]);
}

#[test]
fn priority_goes_across_queues() {
    let mut node = node(1);
    let first = node.submit(plain());
    let in_queue =
        |queue: &str, priority| with(|job| (job.spec.queue, job.spec.priority) = (queue.to_owned(), priority));
    let low = node.submit(in_queue("a", 0));
    let high = node.submit(in_queue("b", 5));
    assert_eq!(node.finish_all(), [first, high, low]);
}

#[test]
fn jobs_of_one_key_run_as_many_at_once_as_they_allow_in_whatever_queue() {
    let mut node = node(8);
    let jobs = submit_all(&mut node, 2, &keyed("db", 2));
    let mut elsewhere = keyed("db", 2);
    elsewhere.spec.queue = "other".to_owned();
    let third = node.submit(elsewhere);
    let free = node.submit(keyed("api", 1));
    assert_eq!(node.states(&[third, free]), [JobState::Available, JobState::Running]);
    node.ok(jobs[0]);
    assert_eq!(node.state(third), JobState::Running);
}

#[test]
fn keys_of_a_queue_take_turns() {
    let mut node = node(1);
    let first = node.submit(plain());
    let many: Vec<JobId> = submit_all(&mut node, 3, &keyed("a", 5));
    let few: Vec<JobId> = submit_all(&mut node, 2, &keyed("b", 5));
    assert_eq!(node.finish_all(), [first, many[0], few[0], many[1], few[1], many[2]]);
}

fn rated(count: u32, period: DurationMillis) -> Submission {
    let limit = RateLimit { count, period_ms: period };
    with(|job| job.spec.rates = vec![Rate { key: "api".to_owned(), limit }])
}

#[test]
fn a_rate_holds_over_a_restart_and_wakes_by_itself() {
    let mut node = node(9);
    submit_all(&mut node, 4, &rated(2, MINUTE));
    assert_eq!(node.running().len(), 2);
    node.restart(SECOND, |_| true);
    assert_eq!(node.running().len(), 2, "a restart is no new minute");
    node.pass(DurationMillis::from_secs(58));
    assert_eq!(node.running().len(), 2, "never more than two in a minute");
    node.pass(DurationMillis::from_secs(2));
    assert_eq!(node.running().len(), 4);
}

#[test]
fn nothing_is_tried_again_into_a_draining_queue() {
    let mut node = node(1);
    let job = node.submit(plain());
    node.end(job, crate::desk::failure());
    let group = node.submit(with(|job| job.array = Some(crate::desk::array(2))));
    node.finish_all();
    node.queue("default", QueueAction::Drain);
    for job in [job, group] {
        let refusal = node.refused(job, JobAction::Retry);
        assert!(refusal.contains("jobmesh queue resume default"), "{refusal}");
    }
    node.queue("default", QueueAction::Resume);
    node.act(job, JobAction::Retry);
    assert_eq!(node.running(), [job]);
}

#[test]
fn a_limit_beyond_all_sense_and_a_name_of_blanks_are_refused_as_what_they_are() {
    let mut node = node(1);
    for (name, limits) in [("default", limit(u32::MAX)), (" ", limit(1))] {
        let refusal = node.command(Command::Queue(name.to_owned(), QueueAction::Set(limits))).unwrap_err();
        assert!(refusal.to_string().starts_with("the queue is refused: "), "{refusal}");
    }
}

#[test]
fn the_rate_of_a_queue_counts_every_start_in_it() {
    let mut node = node(9);
    let rate = Some(Some(RateLimit { count: 1, period_ms: MINUTE }));
    node.queue("default", QueueAction::Set(QueueLimits { concurrency: None, rate }));
    let jobs = submit_all(&mut node, 3, &plain());
    assert_eq!(node.running(), [jobs[0]]);
    node.ok(jobs[0]);
    assert_eq!(node.running(), []);
    node.pass(MINUTE);
    node.pass(DurationMillis(1));
    assert_eq!(node.running(), [jobs[1]]);
}

#[test]
fn no_processor_is_given_to_two_jobs() {
    let mut node = node(4);
    let jobs = submit_all(&mut node, 9, &plain());
    node.ok(jobs[1]);
    node.restart(SECOND, |_| true);
    let shares = node.executor.orders().filter_map(|order| order.allocation.as_ref()).flat_map(|all| all.variables());
    let cpus: Vec<String> =
        shares.filter(|(name, _)| name == "JOBMESH_RESOURCE_CPUS").map(|(_, index)| index).collect();
    let different: std::collections::BTreeSet<&String> = cpus.iter().collect();
    assert_eq!((cpus.len(), different.len()), (4, 4), "{cpus:?}");
}

#[test]
fn a_node_that_shuts_down_starts_and_takes_nothing() {
    let mut node = node(1);
    let jobs = submit_all(&mut node, 2, &plain());
    node.command(Command::Drain).unwrap();
    assert!(node.take(plain()).is_err());
    node.ok(jobs[0]);
    assert_eq!(node.states(&jobs), [JobState::Completed, JobState::Available]);
}

/// The scheduler looked at the first 1024 of them, and at no other ever.
#[test]
fn what_waits_behind_thousands_that_cannot_start_gets_its_turn() {
    let mut node = node(1);
    for number in 0..3000 {
        let lacking = format!("tool:t{number}").parse().unwrap();
        node.submit(with(|job| job.spec.requirements = vec![lacking]));
    }
    let last = node.submit(plain());
    node.pass(SECOND);
    assert_eq!(node.running(), [last]);
    let next = node.submit(plain());
    node.ok(last);
    node.pass(SECOND);
    assert_eq!(node.running(), [next]);
    node.ok(next);
    // One that was passed long ago.
    node.command(Command::AddCapability("tool:t2000".parse().unwrap())).unwrap();
    node.pass(SECOND);
    assert_eq!(node.running().len(), 1);
    let wakeup = node.wakeup();
    assert!(wakeup.is_none_or(|at| at > node.now.mono.plus(SECOND)), "it looks on only while there is a reason to");
}
