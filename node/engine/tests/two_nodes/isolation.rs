//! How well a job is kept apart on a peer: who decides, who refuses, and what a receipt that tells of less is worth.

use std::collections::BTreeMap;

use jobmesh_engine::{Command, Declared, JobAction, Policy, Response};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::task::{EmbeddingTask, HttpTask, LlmTask, Task};
use jobmesh_protocol::ticket::{Refusal, RefusalReason};
use jobmesh_protocol::{DurationMillis, Isolation, JobId, JobState, Outcome, Submission};

use crate::wire::{A, B, Wire, mesh};
use crate::{escalated, spec};

fn decree(wire: &mut Wire, node: usize, isolation: Policy) {
    wire.command(node, Command::Configure(Box::new(Declared { isolation, ..Declared::default() })));
}

/// Every word that A has for where a job could run.
fn explained(wire: &mut Wire, job: JobId) -> String {
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    format!("{:?} {:?}", why.nodes, why.reasons)
}

#[test]
fn members_are_sandboxed_unless_the_owner_says_otherwise() {
    let mut wire = escalated();
    wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.orders(B)[0].isolation, Isolation::Sandboxed);
    wire.end(B, 0, Outcome::Ok, b"");
    let peers = BTreeMap::from([(wire.node(A), Isolation::Contained)]);
    decree(&mut wire, B, Policy { peers, ..Policy::default() });
    wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.orders(B)[1].isolation, Isolation::Contained, "B trusts A's owner");
    wire.end(B, 0, Outcome::Ok, b"");
    let mut wanted = spec(Some("tool:gzip"));
    wanted.isolation = Some(Isolation::Sandboxed);
    wire.submit(A, wanted);
    assert_eq!(wire.orders(B)[2].isolation, Isolation::Sandboxed, "A wants more than B");
}

#[test]
fn own_jobs_are_contained_and_no_less() {
    let mut wire = Wire::new();
    wire.submit(A, spec(None));
    let mut wanted = spec(None);
    wanted.isolation = Some(Isolation::Sandboxed);
    wire.submit(A, wanted);
    let levels: Vec<Isolation> = wire.orders(A).iter().map(|order| order.isolation).collect();
    assert_eq!(levels, [Isolation::Contained, Isolation::Sandboxed]);
}

#[test]
fn a_node_that_can_not_keep_it_apart_refuses_and_explain_says_so() {
    let mut wire = escalated();
    decree(&mut wire, B, Policy { members: Isolation::Untrusted, ..Policy::default() });
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(DurationMillis::from_secs(5));
    assert_eq!((wire.runs(B), wire.job(A, job).state), (0, JobState::Available));
    let refusal = Envelope::open(&wire.said(B, Kind::Refusal).pop().unwrap(), &mesh()).unwrap();
    let refusal: Refusal = refusal.parse().unwrap();
    assert_eq!(refusal.reason, RefusalReason::Isolation(Isolation::Untrusted));
    let why = explained(&mut wire, job);
    assert!(why.contains("can't keep it apart well enough (untrusted)"), "{why}");
}

#[test]
fn what_nobody_gives_is_lacking_everywhere() {
    let mut wire = escalated();
    let mut wanted = spec(None);
    wanted.isolation = Some(Isolation::Untrusted);
    let job = wire.submit(A, wanted);
    assert_eq!(wire.job(A, job).state, JobState::Available);
    assert_eq!(wire.runs(A) + wire.runs(B), 0);
    let why = explained(&mut wire, job);
    assert_eq!(why.matches("isolation:process:untrusted").count(), 3, "both nodes and the reason: {why}");
}

#[test]
fn the_own_policy_holds_back_own_jobs_until_it_is_changed() {
    let mut wire = Wire::new();
    decree(&mut wire, A, Policy { own: Isolation::Untrusted, ..Policy::default() });
    let job = wire.submit(A, spec(None));
    assert_eq!(wire.job(A, job).state, JobState::Available);
    decree(&mut wire, A, Policy::default());
    wire.pass(DurationMillis::from_secs(1));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
}

/// It ran in an empty directory and succeeded, and what it wrote was deleted.
#[test]
fn a_job_in_a_directory_of_the_machine_is_not_kept_apart_from_it() {
    let mut wire = Wire::new();
    let in_directory = |isolation| {
        let mut spec = spec(None);
        let Task::Process(task) = &mut spec.task else { panic!("not a command") };
        task.directory = Some("/srv/in".to_owned());
        (spec.scope, spec.isolation) = (Scope::Local, isolation);
        Submission::new(spec)
    };
    let refused = |wire: &mut Wire, isolation, remedy: &str| {
        for command in
            [Command::Submit(vec![in_directory(isolation)]), Command::Plan(Box::new(in_directory(isolation)))]
        {
            let refusal = wire.refused(A, command);
            assert!(
                refusal.contains("/srv/in") && refusal.contains("--input") && refusal.contains(remedy),
                "{refusal}"
            );
        }
    };
    refused(&mut wire, Some(Isolation::Sandboxed), "ask for less");
    refused(&mut wire, Some(Isolation::Untrusted), "ask for less");
    wire.command(A, Command::Submit(vec![in_directory(Some(Isolation::Contained))]));
    assert_eq!(wire.orders(A)[0].isolation, Isolation::Contained);
    decree(&mut wire, A, Policy { own: Isolation::Sandboxed, ..Policy::default() });
    refused(&mut wire, None, "isolation.own");
}

#[test]
fn code_of_members_has_the_network_only_where_it_is_granted() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.network = true;
    let job = wire.submit(A, wanted.clone());
    wire.pass(DurationMillis::from_secs(5));
    assert_eq!(wire.runs(B), 0, "{:?}", wire.trace());
    let why = explained(&mut wire, job);
    assert!(why.contains("network:members (`isolation.network = true` in config.toml there)"), "{why}");
    // It was named only when everything else was there, after the job had been awarded and given back.
    let mut missing = wanted.clone();
    missing.requirements.push("tool:jq".parse().unwrap());
    missing.isolation = Some(Isolation::Untrusted);
    let job = wire.submit(A, missing);
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    let lacks = why.nodes.iter().find(|fit| !fit.is_self).unwrap().lacks.join(", ");
    let order = ["network:members", "isolation:process:untrusted", "tool:jq"].map(|lack| lacks.find(lack).unwrap());
    assert!(order.is_sorted(), "what decides most comes first: {lacks}");
    wire.command(A, Command::Job(job, JobAction::Cancel { reason: String::new(), is_forced: false }));
    decree(&mut wire, B, Policy { network: true, ..Policy::default() });
    let granted = wire.submit(A, wanted);
    wire.pass(DurationMillis::from_secs(1));
    assert_eq!(wire.job(A, granted).state, JobState::Running, "{:?}", wire.trace());
    assert!(wire.orders(B)[0].network);
}

#[test]
fn a_success_at_a_lower_level_than_was_asked_is_a_failure() {
    let mut wire = escalated();
    for (told, expected) in [(Isolation::Contained, JobState::Discarded), (Isolation::Sandboxed, JobState::Completed)] {
        let mut wanted = spec(Some("tool:gzip"));
        wanted.isolation = Some(Isolation::Sandboxed);
        wanted.retry.max_attempts = 1;
        let job = wire.submit(A, wanted);
        wire.isolation = told;
        wire.end(B, 0, Outcome::Ok, b"out");
        assert_eq!(wire.job(A, job).state, expected);
        let attempt = wire.attempts(A, job).pop().unwrap();
        assert_eq!(attempt.isolation, Some(told));
        let is_said = format!("{attempt:?}").contains("lower level of isolation");
        assert_eq!(is_said, told == Isolation::Contained, "{attempt:?}");
    }
}

#[test]
fn what_brings_no_code_has_no_level() {
    let mut wire = escalated();
    decree(&mut wire, A, Policy { own: Isolation::Untrusted, ..Policy::default() });
    wire.command(A, Command::AddCapability("executor:http".parse().unwrap()));
    let mut wanted = spec(None);
    wanted.task = Task::Http(HttpTask::new("https://example.org/"));
    let job = wire.submit(A, wanted);
    assert_eq!(wire.job(A, job).state, JobState::Running);
    assert_eq!(wire.orders(A)[0].isolation, Isolation::None);
}

/// What was asked for was forgotten of all that brings no code: it ran anywhere, with every address within its reach.
#[test]
fn what_brings_no_code_is_kept_apart_as_it_asks_to_be() {
    let asking = [
        Task::Http(HttpTask::new("http://127.0.0.1/")),
        Task::Llm(LlmTask::new("?")),
        Task::Embedding(EmbeddingTask::new(["x"])),
    ];
    for task in asking {
        let mut wire = escalated();
        let executor = task.executor();
        let add = |wire: &mut Wire, tag: String| wire.command(A, Command::AddCapability(tag.parse().unwrap()));
        add(&mut wire, format!("executor:{executor}"));
        let mut wanted = spec(None);
        wanted.task = task;
        wanted.isolation = Some(Isolation::Sandboxed);
        let job = wire.submit(A, wanted.clone());
        assert_eq!(wire.runs(A), 0, "nobody says that it can");
        let why = explained(&mut wire, job);
        assert!(why.contains(&format!("isolation:{executor}:sandboxed")), "{why}");
        add(&mut wire, format!("isolation:{executor}:sandboxed"));
        wire.pass(DurationMillis::from_secs(1));
        assert_eq!(wire.orders(A)[0].isolation, Isolation::Sandboxed, "{:?}", wire.trace());
        wanted.isolation = Some(Isolation::Untrusted);
        let refused = wire.refused(A, Command::Submit(vec![Submission::new(wanted)]));
        assert!(refused.contains("`sandboxed` at most"), "{refused}");
    }
}
