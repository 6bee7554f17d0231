//! Why a job is where it is, what would take it on, and what would become of one that was never submitted.

use jobmesh_engine::{Command, Explanation, JobAction, QueueAction, QueueLimits, Response};
use jobmesh_protocol::job::{Concurrency, Rate, RateLimit, Scope};
use jobmesh_protocol::submission::{Array, Condition, Start};
use jobmesh_protocol::{JobId, JobState, Outcome, Submission};

use crate::desk::{HOUR, MINUTE, SECOND, after, array, cancel, failure, node, plain, with};
use crate::node::Node;

/// The one reason of this kind: its words and its remedy.
fn reason(node: &mut Node, job: JobId, kind: &str) -> (String, String) {
    let explanation = node.explain(job);
    let found = explanation.reasons.iter().find(|reason| reason.kind == kind);
    let found = found.unwrap_or_else(|| panic!("{kind} is not among {:?}", explanation.reasons));
    (found.words.clone(), found.remedy.clone())
}

fn assert_reason(node: &mut Node, job: JobId, kind: &str, words: &str, remedy: &str) {
    let found = reason(node, job, kind);
    assert!(found.0.contains(words), "{found:?}");
    assert!(found.1.contains(remedy), "{found:?}");
}

fn plan(node: &mut Node, submission: Submission) -> Explanation {
    match node.command(Command::Plan(Box::new(submission))).unwrap() {
        Response::Explained(explanation) => *explanation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_that_is_paused_or_full() {
    let mut node = node(9);
    node.queue("default", QueueAction::Pause);
    let job = node.submit(plain());
    assert_reason(&mut node, job, "paused", "queue default is paused", "jobmesh queue resume default");
    node.queue("default", QueueAction::Set(QueueLimits { concurrency: Some(Some(1)), rate: None }));
    node.queue("default", QueueAction::Resume);
    let next = node.submit(plain());
    assert_reason(&mut node, next, "queue_full", "runs 1 of at most 1", "queue set default concurrency=2");
    node.queue("default", QueueAction::Set(QueueLimits { concurrency: Some(Some(2)), rate: None }));
    assert_eq!(node.state(next), JobState::Running, "the remedy helps");
}

#[test]
fn a_key_that_is_full_and_a_rate_that_is_used_up() {
    let mut node = node(9);
    let limit = RateLimit { count: 1, period_ms: HOUR };
    let keyed = || with(|job| job.spec.concurrency = Some(Concurrency { key: "db".to_owned(), limit: 1 }));
    let rated = || with(|job| job.spec.rates = vec![Rate { key: "api".to_owned(), limit }]);
    let keys = [keyed(), keyed()].map(|job| node.submit(job));
    assert_reason(&mut node, keys[1], "key_full", "concurrency key db", "--concurrency-key db:2");
    let rates = [rated(), rated()].map(|job| node.submit(job));
    assert_reason(&mut node, rates[1], "rate", "rate of key api", "wait until 2027-01-15T09:00:00");
}

#[test]
fn slots_and_resources_that_are_taken() {
    let mut node = Node::new(crate::node::Setup { slots: 2, cpus: 4, ..Default::default() });
    let first = node.submit(with(|job| job.spec.resources = "cpus=3".parse().unwrap()));
    let wide = node.submit(with(|job| job.spec.resources = "cpus=2,mem=6M | cpus=3".parse().unwrap()));
    assert_reason(&mut node, wide, "no_room", "cpus", "1 cpus more free");
    assert_eq!(node.kinds(wide), ["no_room"]);
    let second = node.submit(plain());
    let third = node.submit(with(|job| job.spec.resources = "none".parse().unwrap()));
    assert_reason(&mut node, third, "no_slot", "all 2 slots", "slots = 3");
    assert_eq!(node.explain(third).ahead, 0);
    node.ok(first);
    node.ok(second);
    assert_eq!(node.states(&[wide, third]), [JobState::Running; 2]);
}

/// The remedy was "0 cpus more free".
#[test]
fn resources_that_are_free_in_pieces() {
    let mut node = Node::new(crate::node::Setup { slots: 9, cpus: 2, ..Default::default() });
    let part = |amount: &str| with(|job| job.spec.resources = format!("cpus={amount}").parse().unwrap());
    let parts = [0, 1].map(|_| node.submit(part("0.6")));
    let waits = node.submit(part("0.7"));
    assert_reason(&mut node, waits, "no_room", "parts of several indices", "in one piece");
    node.ok(parts[0]);
    assert_eq!(node.state(waits), JobState::Running, "the remedy helps");
}

#[test]
fn what_this_node_lacks_or_is_not_asked_for() {
    let mut node = node(1);
    let incapable = node.submit(with(|job| job.spec.requirements = vec!["tool:gzip".parse().unwrap()]));
    assert_reason(&mut node, incapable, "incapable", "tool:gzip", "another node");
    let elsewhere = node.submit(with(|job| job.spec.scope = Scope::Network));
    assert_reason(&mut node, elsewhere, "network_only", "on a peer only", "--where any");
    let huge = node.submit(with(|job| job.spec.resources = "cpus=64".parse().unwrap()));
    assert_reason(&mut node, huge, "incapable", "cpus=64 (has 1)", "ask for less");
    node.command(Command::AddCapability("tool:gzip".parse().unwrap())).unwrap();
    assert_eq!(node.state(incapable), JobState::Running, "the remedy helps");
    node.command(Command::Drain).unwrap();
    assert_reason(&mut node, huge, "draining", "shutting down", "jobmesh up");
}

#[test]
fn a_group_that_is_full() {
    let mut node = node(9);
    let group = node.submit(with(|job| job.array = Some(Array { at_a_time: Some(1), ..array(2) })));
    let first = node.task(group, 1);
    node.end(first, failure());
    node.act(first, JobAction::Retry);
    assert_reason(&mut node, first, "group_full", "1 of at most 1 tasks", "one of its tasks ends");
    assert!(node.explain(group).summary.contains("0 of 2 tasks have ended, 0 failed, 1 run"));
}

#[test]
fn other_jobs_and_time() {
    let mut node = node(1);
    let up = node.submit(with(|job| job.spec.retry.max_attempts = 2));
    let pending = node.submit(with(|job| job.after = after(&[up], Some(Condition::Done))));
    assert_reason(&mut node, pending, "dependency", "job 1, which is running (done)", "job 1 ends");
    let scheduled = node.submit(with(|job| job.start = Start::After(HOUR)));
    assert_reason(&mut node, scheduled, "time", "its start is at 2027-01-15T09:00:00", "reschedule --at now");
    node.end(up, failure());
    assert_reason(&mut node, up, "time", "the wait before its next attempt", "jobmesh retry 1");
    let held = node.submit(with(|job| job.held = true));
    assert_reason(&mut node, held, "held", "held at submission", "jobmesh release 4");
}

/// Only what a job waited for first was told: the rest came out one by one, as it went on.
#[test]
fn a_job_that_waits_for_others_or_its_time_has_its_other_reasons_as_well() {
    let mut node = node(1);
    node.queue("slow", QueueAction::Pause);
    let up = node.submit(plain());
    let stuck = |job: &mut Submission| {
        job.spec.queue = "slow".to_owned();
        job.spec.resources = "cpus=64".parse().unwrap();
    };
    let planned = plan(
        &mut node,
        with(|job| {
            job.start = Start::After(HOUR);
            stuck(job);
        }),
    );
    let kinds: Vec<_> = planned.reasons.iter().map(|reason| reason.kind).collect();
    assert_eq!(kinds, ["time", "incapable", "paused", "no_slot"]);
    let all = node.submit(with(|job| {
        (job.after, job.held, job.start) = (after(&[up], Some(Condition::Failed)), true, Start::After(HOUR));
        stuck(job);
    }));
    assert_eq!(node.kinds(all), ["held", "dependency", "time", "incapable", "paused", "no_slot"]);
    assert!(node.explain(all).summary.starts_with("waits: it waits for job 1"), "{}", node.explain(all).summary);
    assert_reason(&mut node, all, "dependency", "(failed)", "job 1 fails");
    node.ok(up);
    assert_reason(&mut node, all, "dependency", "(failed)", "job 1 fails when it runs again, by `jobmesh retry 1`");
}

#[test]
fn the_summary_of_every_state_says_something() {
    let mut node = node(1);
    let job = node.submit(plain());
    let waits = node.submit(plain());
    assert_eq!(node.explain(job).summary, "runs on here, attempt 1");
    assert!(node.explain(waits).summary.starts_with("waits: "));
    node.ok(job);
    assert_eq!(node.explain(job).summary, "completed on here");
    node.end(waits, failure());
    assert_eq!(node.explain(waits).summary, "was discarded (exhausted) after attempt 1 on here: it broke");
    let job = node.submit(with(|job| job.held = true));
    node.act(job, cancel());
    assert_eq!(node.explain(job).summary, "was cancelled: not wanted");
    let skipped = node.submit(with(|submission| submission.after = after(&[job], None)));
    let summary = node.explain(skipped).summary;
    assert_eq!(summary, "was skipped (upstream_failed): job 3 was cancelled, and it waited for that one (all_success)");
    assert_reason(&mut node, skipped, "dependency", "job 3 was cancelled", "jobmesh retry 3");
}

#[test]
fn a_reason_says_since_when_it_has_held() {
    let mut node = node(1);
    node.submit(plain());
    let job = node.submit(plain());
    let since = node.now.wall;
    node.pass(MINUTE);
    node.submit(plain());
    assert_eq!(node.explain(job).reasons[0].since, since);
    assert_eq!(node.explain(job).since, since);
}

#[test]
fn those_ahead_are_counted() {
    let mut node = node(1);
    let jobs = [0, 1, 2, 3].map(|_| node.submit(plain()));
    assert_eq!(node.explain(jobs[3]).ahead, 2);
    node.ok(jobs[0]);
    assert_eq!(node.explain(jobs[3]).ahead, 1);
    assert_eq!(node.explain(jobs[3]).takes_micros, Some(1_000_000));
}

#[test]
fn a_plan_answers_like_the_job_would_and_writes_nothing() {
    let mut node = node(1);
    assert_eq!(plan(&mut node, plain()).reasons, []);
    let first = node.submit(plain());
    let planned = plan(&mut node, plain());
    assert_eq!((planned.number, planned.state), (None, JobState::Available));
    assert_eq!(planned.reasons.iter().map(|reason| reason.kind).collect::<Vec<_>>(), ["no_slot", "no_room"]);
    let after_it = plan(&mut node, with(|job| job.after = after(&[first], None)));
    assert_eq!(after_it.state, JobState::Pending);
    assert!(after_it.summary.contains("it waits for job 1, which is running"), "{}", after_it.summary);
    let late = plan(&mut node, with(|job| job.deadline = Some(crate::node::START)));
    assert_eq!((late.state, late.summary.as_str()), (JobState::Skipped, "would be skipped (deadline)"));
    let on_failure = Some(Condition::Failed);
    assert_eq!(plan(&mut node, with(|job| job.start = Start::After(HOUR))).state, JobState::Scheduled);
    plan(&mut node, with(|job| job.array = Some(array(1000))));
    assert_eq!(node.jobs().len(), 1);
    node.ok(first);
    let doomed = plan(&mut node, with(|job| job.after = after(&[first], on_failure)));
    assert_eq!(doomed.state, JobState::Skipped);
    assert!(
        doomed.summary.starts_with("would be skipped (upstream_failed): job 1 was completed"),
        "{}",
        doomed.summary
    );
    let next = node.submit(plain());
    assert_eq!(node.job(next).number.number(), 2);
    let mut bad = plain();
    bad.spec.retry.max_attempts = 0;
    assert!(node.command(Command::Plan(Box::new(bad))).is_err());
    node.end(next, Outcome::Ok);
}

#[test]
fn a_restart_changes_no_answer() {
    let mut node = node(1);
    let runs = node.submit(plain());
    let jobs = [
        runs,
        node.submit(plain()),
        node.submit(with(|job| job.held = true)),
        node.submit(with(|job| job.after = after(&[runs], None))),
        node.submit(with(|job| job.start = Start::After(HOUR))),
        node.submit(with(|job| job.array = Some(array(5)))),
    ];
    let kinds = |node: &mut Node| jobs.map(|job| node.kinds(job));
    let before = kinds(&mut node);
    node.step(&[], crate::node::Fate::Unknown);
    assert_eq!(kinds(&mut node), before);
    node.restart(SECOND, |_| true);
    assert_eq!(kinds(&mut node), before);
}

/// What runs was said to wait for nothing, though most of it waits.
#[test]
fn the_next_task_of_a_group_that_runs() {
    let mut node = node(9);
    let limited = node.submit(with(|job| job.array = Some(Array { at_a_time: Some(1), ..array(3) })));
    assert_reason(&mut node, limited, "group_full", "1 of at most 1 tasks", "one of its tasks ends");
    assert!(node.explain(limited).summary.contains("1 run; the next one waits: its group runs 1"));
    let limit = RateLimit { count: 1, period_ms: HOUR };
    let rated = node.submit(with(|job| {
        job.array = Some(array(3));
        job.spec.rates = vec![Rate { key: "api".to_owned(), limit }];
    }));
    assert_reason(&mut node, rated, "rate", "rate of key api", "wait until");
    node.queue("slow", QueueAction::Set(QueueLimits { concurrency: Some(Some(1)), rate: None }));
    let queued = node.submit(with(|job| (job.array, job.spec.queue) = (Some(array(3)), "slow".to_owned())));
    assert_reason(&mut node, queued, "queue_full", "queue slow runs 1", "concurrency=2");
    let keyed = node.submit(with(|job| {
        job.array = Some(array(2));
        job.spec.concurrency = Some(Concurrency { key: "db".to_owned(), limit: 1 });
    }));
    assert_reason(&mut node, keyed, "key_full", "concurrency key db", "db:2");
    let open = node.submit(with(|job| job.open = true));
    let key = |job: &mut Submission| job.spec.concurrency = Some(Concurrency { key: "x".to_owned(), limit: 1 });
    for _ in 0..2 {
        node.submit(with(|job| {
            job.into = Some(open);
            key(job);
        }));
    }
    assert_reason(&mut node, open, "key_full", "concurrency key x", "x:2");
}

/// A job that waits for another one on the only slot waits for ever; nothing said who had the slot.
#[test]
fn who_has_the_slots_is_told() {
    let mut one = node(1);
    one.submit(plain());
    let waits = one.submit(plain());
    assert_reason(&mut one, waits, "no_slot", "the only slot of this node is in use, by job 1", "a job ends");
    let mut many = node(6);
    for _ in 0..6 {
        many.submit(plain());
    }
    let waits = many.submit(plain());
    assert_reason(&mut many, waits, "no_slot", "all 6 slots of this node are in use, by jobs", "a job ends");
    assert_reason(&mut many, waits, "no_slot", "and 2 more", "a job ends");
}
