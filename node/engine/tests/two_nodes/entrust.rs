//! Jobs with secrets: to whom they are offered and given, and what is said of those that stay.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::{Command, Declared, Response};
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::job::{JobSpec, Scope};
use jobmesh_protocol::{AttemptState, DurationMillis, JobId, JobState, Outcome, Submission};

use crate::wire::{A, B, Wire};
use crate::{escalated, spec};

/// Lets B have the secrets of A with these names, and no others.
fn entrust(wire: &mut Wire, names: &[&str]) {
    let peers = BTreeSet::from([wire.node(B)]);
    let entrusted: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), peers.clone())).collect();
    wire.command(A, Command::Configure(Box::new(Declared { entrusted, ..Declared::default() })));
}

/// A job that only B can run, with these secrets.
fn with_secrets(names: &[&str]) -> JobSpec {
    let mut spec = spec(Some("tool:gzip"));
    spec.secrets = names.iter().map(|name| (name.to_uppercase(), (*name).to_owned())).collect();
    spec
}

fn reasons(wire: &mut Wire, job: JobId) -> String {
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    format!("{} {:?}", why.summary, why.reasons)
}

#[test]
fn a_job_goes_where_all_of_its_secrets_may_and_names_what_it_lacks() {
    let mut wire = escalated();
    entrust(&mut wire, &["registry"]);
    let kept = wire.submit(A, with_secrets(&["registry", "database"]));
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, kept).state, JobState::Available);
    assert!(wire.said(A, Kind::Offer).is_empty(), "nobody is even asked");
    let why = reasons(&mut wire, kept);
    assert!(why.contains("b could run it, but is not entrusted with its secret database"), "{why}");
    assert!(!why.contains("registry") && !why.contains("no other known node"), "{why}");

    let given = wire.submit(A, with_secrets(&["registry"]));
    assert_eq!(wire.job(A, given).state, JobState::Running, "{:?}", wire.trace());
    let order = &wire.orders(B)[0];
    assert_eq!((order.origin, order.secrets.clone()), (Some(wire.node(A)), with_secrets(&["registry"]).secrets));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.job(A, given).state, JobState::Completed);

    entrust(&mut wire, &["registry", "database"]);
    wire.pass(DurationMillis::from_secs(1));
    assert_eq!(wire.job(A, kept).state, JobState::Running, "it leaves as soon as it may: {:?}", wire.trace());
}

#[test]
fn a_bid_does_not_count_any_more_once_the_trust_is_gone() {
    let mut wire = escalated();
    entrust(&mut wire, &["registry"]);
    wire.hold_frames();
    let job = wire.submit(A, with_secrets(&["registry"]));
    assert_eq!(wire.job(A, job).state, JobState::Offered);
    entrust(&mut wire, &[]);
    wire.let_frames_go();
    wire.pass(DurationMillis::from_secs(5));
    assert_eq!((wire.job(A, job).state, wire.runs(B)), (JobState::Available, 0), "{:?}", wire.trace());
    assert!(wire.attempts(A, job).is_empty(), "nothing was awarded");
}

#[test]
fn a_slot_lease_is_for_no_job_whose_secret_its_holder_may_not_have() {
    let mut wire = escalated();
    entrust(&mut wire, &["registry"]);
    let all =
        [vec![spec(Some("tool:gzip")); 4], vec![with_secrets(&["database"]); 2], vec![with_secrets(&["registry"])]];
    let submissions = all.concat().into_iter().map(Submission::new).collect();
    let Response::Submitted(taken) = wire.command(A, Command::Submit(submissions)) else { panic!("not submitted") };
    for _ in 0..40 {
        wire.end_if_any(B, Outcome::Ok);
        wire.pass(DurationMillis(500));
    }
    assert!(wire.counter(A, "given_under_slot_lease") > 0, "{:?}", wire.trace());
    let states: Vec<JobState> = taken.iter().map(|taken| wire.job(A, taken.job).state).collect();
    let (done, stays) = (JobState::Completed, JobState::Available);
    assert_eq!(states, [done, done, done, done, stays, stays, done], "{:?}", wire.trace());
    assert_eq!(wire.counter(A, "withheld_secret"), 0, "none came as far as an award");
}

#[test]
fn a_job_for_peers_alone_is_refused_if_none_may_have_its_secret() {
    let mut wire = escalated();
    let spec = JobSpec { scope: Scope::Network, ..with_secrets(&["registry"]) };
    let refused = wire.refused(A, Command::Submit(vec![Submission::new(spec.clone())]));
    assert!(refused.contains("secret registry is entrusted to no peer"), "{refused}");
    entrust(&mut wire, &["registry"]);
    let job = wire.submit(A, spec);
    assert_eq!(wire.job(A, job).state, JobState::Running);
}

/// The values were in the memory of the daemon that is gone.
#[test]
fn a_restart_of_the_executor_gives_the_attempt_back_as_lost() {
    let mut wire = escalated();
    entrust(&mut wire, &["registry"]);
    let job = wire.submit(A, with_secrets(&["registry"]));
    wire.restart(B);
    wire.connect();
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    assert_eq!(wire.runs(B), 0);
}
