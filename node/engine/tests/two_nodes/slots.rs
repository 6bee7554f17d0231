//! Slot leases: one auction, many jobs, and what ends them.

use jobmesh_engine::{Command, JobAction, Response};
use jobmesh_keys::SealKey;
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::job::{Effects, JobSpec};
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::ticket::{Award, Bid, Payload, SlotTerms, Terms};
use jobmesh_protocol::{
    AttemptState, BidId, DurationMillis, Epoch, JobId, JobState, Outcome, Submission, TicketId, cbor,
};
use serde_bytes::ByteBuf;

use crate::wire::{A, B, Wire, mesh, seal};
use crate::{escalated, spec};

const GZIP: &str = "tool:gzip";
const SECOND: DurationMillis = DurationMillis::from_secs(1);

/// Submits so many jobs that only B can run, all at once.
fn burst(wire: &mut Wire, count: usize, spec: &JobSpec) -> Vec<JobId> {
    let submissions = vec![Submission::new(spec.clone()); count];
    let Response::Submitted(taken) = wire.command(A, Command::Submit(submissions)) else { panic!("not submitted") };
    taken.iter().map(|taken| taken.job).collect()
}

fn gzip() -> JobSpec {
    spec(Some(GZIP))
}

/// Ends what B runs, one after the other, until nothing is left.
fn run_dry(wire: &mut Wire) {
    for _ in 0..1_000 {
        if wire.runs(B) == 0 {
            return;
        }
        wire.end(B, 0, Outcome::Ok, b"out");
    }
    panic!("B never comes to an end: {:?}", wire.trace());
}

/// Runs everything that B gets, and lets time go by for what waits.
fn run_all(wire: &mut Wire, jobs: &[JobId]) {
    for _ in 0..200 {
        run_dry(wire);
        if jobs.iter().all(|job| wire.job(A, *job).state.is_final()) {
            return;
        }
        wire.pass(SECOND);
    }
    panic!("some jobs never end: {:?}", wire.trace());
}

fn assert_all(wire: &mut Wire, jobs: &[JobId], state: JobState) {
    let states: Vec<JobState> = jobs.iter().map(|job| wire.job(A, *job).state).collect();
    assert!(states.iter().all(|found| *found == state), "{states:?} {:?}", wire.trace());
}

/// Why attempts of these jobs were given back, without those that were not.
fn given_back(wire: &mut Wire, jobs: &[JobId]) -> Vec<String> {
    let attempts: Vec<_> = jobs.iter().flat_map(|job| wire.attempts(A, *job)).collect();
    let released = attempts.into_iter().filter(|attempt| attempt.state == AttemptState::Released);
    released.filter_map(|attempt| attempt.message).collect()
}

#[test]
fn a_hundred_jobs_go_over_with_one_auction() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 100, &gzip());
    assert_eq!(wire.runs(B), 2, "as many as B has slots: nobody knows yet that they are brief");
    run_dry(&mut wire);
    assert_all(&mut wire, &jobs, JobState::Completed);
    assert_eq!(wire.said(A, Kind::Offer).len(), 1);
    assert_eq!(wire.said(A, Kind::Award).len(), 100);
    assert_eq!(wire.counter(A, "given_under_slot_lease"), 99);
    assert!(jobs.iter().all(|job| wire.attempts(A, *job).len() == 1));
    assert!(wire.outbox_is_empty());
    let words: Vec<_> = wire.events(A, jobs[50]).into_iter().filter_map(|event| event.note).collect();
    assert!(words.iter().any(|words| words == "awarded to b under a slot lease"), "{words:?}");
}

/// Once jobs are known to be brief, some are sent ahead: what one commit leads to shares a frame.
#[test]
fn brief_jobs_are_sent_ahead_of_a_free_slot_and_share_frames() {
    let mut wire = escalated();
    burst(&mut wire, 100, &gzip());
    for _ in 0..20 {
        wire.end(B, 0, Outcome::Ok, b"");
    }
    let ahead = wire.runs(B) - 2;
    assert!((10..=32).contains(&ahead), "{ahead} wait on B");
    let behind = wire.orders(B).iter().filter(|order| order.follows.is_some()).count();
    assert!(behind >= ahead);
}

#[test]
fn what_must_not_run_twice_is_never_sent_ahead() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 20, &JobSpec { effects: Effects::Once, ..gzip() });
    while wire.runs(B) > 0 {
        assert!(wire.runs(B) <= 2);
        wire.end(B, 0, Outcome::Ok, b"");
    }
    assert_all(&mut wire, &jobs, JobState::Completed);
    assert_eq!(wire.said(A, Kind::Offer).len(), 1);
}

#[test]
fn a_single_job_opens_no_slot_lease() {
    let mut wire = escalated();
    wire.submit(A, gzip());
    run_dry(&mut wire);
    wire.submit(A, gzip());
    assert_eq!(wire.said(A, Kind::Offer).len(), 2);
    assert_eq!(wire.counter(A, "slot_lease"), 0);
}

#[test]
fn a_slot_lease_that_is_not_used_ends() {
    let mut wire = escalated();
    let first = burst(&mut wire, 4, &gzip());
    run_dry(&mut wire);
    wire.pass(DurationMillis::from_secs(4));
    let second = wire.submit(A, gzip());
    assert_eq!(wire.said(A, Kind::Offer).len(), 1, "it goes on for a while");
    run_dry(&mut wire);
    wire.pass(DurationMillis::from_secs(6));
    let third = wire.submit(A, gzip());
    assert_eq!(wire.said(A, Kind::Offer).len(), 2);
    run_dry(&mut wire);
    assert_all(&mut wire, &[first.as_slice(), &[second, third]].concat(), JobState::Completed);
}

/// The lease of a job counts from the last heartbeat, and a slot lease from the auction has none after a while.
#[test]
fn jobs_under_a_slot_lease_last_as_long_as_heartbeats_are_answered() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 4, &gzip());
    for _ in 0..30 {
        wire.pass(DurationMillis::from_secs(20));
    }
    assert_eq!(wire.runs(B), 2);
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.runs(B), 2, "the slot is used again at once");
    wire.pass(DurationMillis::from_secs(20));
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
    assert!(jobs.iter().all(|job| wire.attempts(A, *job).len() == 1));
}

#[test]
fn after_twenty_minutes_there_is_another_auction() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 4, &gzip());
    for _ in 0..21 {
        wire.pass(DurationMillis::from_secs(60));
    }
    wire.end(B, 0, Outcome::Ok, b"");
    wire.end(B, 0, Outcome::Ok, b"");
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
    assert!(wire.counter(A, "slot_lease") >= 2);
}

#[test]
fn one_of_a_batch_is_cancelled_and_the_others_run() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 6, &gzip());
    let action = JobAction::Cancel { reason: "changed my mind".to_owned(), is_forced: false };
    wire.command(A, Command::Job(jobs[1], action));
    assert_eq!(wire.stops(B), 1);
    wire.end(B, 1, Outcome::Cancelled, b"");
    run_all(&mut wire, &jobs);
    assert_eq!(wire.job(A, jobs[1]).state, JobState::Cancelled);
    let others: Vec<JobId> = jobs.iter().copied().filter(|job| *job != jobs[1]).collect();
    assert_all(&mut wire, &others, JobState::Completed);
}

#[test]
fn jobs_of_a_slot_lease_survive_a_restart_of_either_side() {
    for restarted in [A, B] {
        let mut wire = escalated();
        let jobs = burst(&mut wire, 20, &gzip());
        for _ in 0..6 {
            wire.end(B, 0, Outcome::Ok, b"");
        }
        wire.restart(restarted);
        wire.connect();
        run_all(&mut wire, &jobs);
        assert_all(&mut wire, &jobs, JobState::Completed);
        wire.pass(DurationMillis::from_secs(60));
        assert!(wire.outbox_is_empty());
    }
}

#[test]
fn jobs_of_a_slot_lease_survive_a_cut() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 12, &gzip());
    wire.end(B, 0, Outcome::Ok, b"");
    wire.cut();
    wire.pass(DurationMillis::from_secs(10));
    run_dry(&mut wire);
    wire.connect();
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
}

/// What waits behind a long job goes back, and may run elsewhere.
#[test]
fn what_waits_too_long_for_a_slot_is_given_back() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 60, &gzip());
    for _ in 0..20 {
        wire.end(B, 0, Outcome::Ok, b"");
    }
    let waiting = wire.runs(B) - 2;
    assert!(waiting > 5);
    wire.pass(SECOND);
    assert_eq!(wire.stops(B), waiting, "B withdraws what waits");
    for _ in 0..waiting {
        wire.end(B, 2, Outcome::Released { reason: "withdrawn before it started".to_owned() }, b"");
    }
    assert_eq!(given_back(&mut wire, &jobs).len(), waiting);
    assert_eq!(wire.runs(B), 2, "no more are sent ahead");
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
}

/// Lets A give, under a slot lease, what `award` makes of the terms and of the key of the lease.
fn giving(award: fn(Terms, SealKey) -> Option<Award>) -> Wire {
    let mut wire = escalated();
    let mut key = None;
    wire.bend(move |node, envelope| {
        if envelope.kind() == Kind::Bid {
            key.get_or_insert(envelope.parse::<Bid>().unwrap().key);
        }
        let given = (node == A && envelope.kind() == Kind::Award).then(|| envelope.parse::<Award>().unwrap());
        let terms = given.map(|award| award.terms).filter(|terms| terms.slots == SlotTerms::Under)?;
        award(terms, key?).map(|award| seal(A, Kind::Award, &award))
    });
    wire
}

/// B turns what it is given down with these words, and A's jobs run all the same.
fn is_turned_down(award: fn(Terms, SealKey) -> Option<Award>, words: &str) {
    let mut wire = giving(award);
    let jobs = burst(&mut wire, 3, &gzip());
    assert_eq!(given_back(&mut wire, &jobs).first().map(String::as_str), Some(words), "{:?}", wire.trace());
    wire.unbend();
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
}

fn sealed(terms: Terms, key: SealKey, spec: &JobSpec) -> Option<Award> {
    Award::seal(terms, &Payload { salt: None, spec: cbor::encode(spec) }, &key, &[6; 32]).ok()
}

#[test]
fn a_job_under_a_slot_lease_that_nobody_opened_is_turned_down() {
    let other = |terms: Terms, key| sealed(Terms { bid: BidId::from_bytes([9; 16]), ..terms }, key, &gzip());
    is_turned_down(other, "this node knows of no such slot lease");
}

#[test]
fn a_job_of_another_class_is_turned_down() {
    let effects = |terms, key| sealed(terms, key, &JobSpec { effects: Effects::Pure, ..gzip() });
    is_turned_down(effects, "the awarded job is not of the class of the slot lease");
    let resources = |terms, key| sealed(terms, key, &JobSpec { resources: "cpus=2".parse().unwrap(), ..gzip() });
    is_turned_down(resources, "the awarded job is not of the class of the slot lease");
    let requirements = |terms, key| sealed(terms, key, &spec(None));
    is_turned_down(requirements, "the awarded job is not of the class of the slot lease");
}

#[test]
fn a_job_whose_lease_counts_from_no_known_heartbeat_is_turned_down() {
    let other = |terms: Terms, key| sealed(Terms { beat: 77, ..terms }, key, &gzip());
    is_turned_down(other, "the award came too late to be taken on");
}

#[test]
fn a_job_that_is_sealed_for_other_terms_is_turned_down() {
    let other = |terms: Terms, key| {
        let longer = Terms { lease_ms: terms.lease_ms.scale(2, 1), ..terms };
        sealed(terms, key, &gzip()).map(|award| Award { terms: longer, ..award })
    };
    is_turned_down(other, "the awarded job can't be opened with the key of the bid");
}

/// The executor's own word is the limit, whatever the origin makes of it.
#[test]
fn no_more_is_taken_on_than_the_bid_said() {
    let mut wire = escalated();
    let jobs = burst(&mut wire, 3, &gzip());
    let bid = Envelope::open(&wire.said(B, Kind::Bid)[0], &mesh()).unwrap();
    let key = bid.parse::<Bid>().unwrap().key;
    let (to, lease_ms) = (wire.node(B), SECOND.scale(30, 1));
    for number in 0..50 {
        let ticket = TicketId::from_bytes([number; 16]);
        let terms = Terms { bid: bid.id(), ticket, epoch: Epoch(1), to, lease_ms, beat: 0, slots: SlotTerms::Under };
        let envelope = ByteBuf::from(seal(A, Kind::Award, &sealed(terms, key, &gzip()).unwrap()));
        wire.inject(B, Frame::Note { envelope }.encode());
    }
    assert_eq!(wire.runs(B), 2 + 32, "two slots, and sixteen that wait for each");
    assert_eq!(wire.counter(B, "refused_award"), 50 - 32);
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
}

/// One job of a frame is refused, and the others run.
#[test]
fn one_of_a_batch_is_refused_and_the_others_run() {
    let mut wire = giving(|terms, key| {
        // Every other epoch-1 award is spoiled: the last bit of the ticket picks.
        let is_spoiled = terms.epoch.0 == 1 && terms.ticket.as_bytes()[15] % 2 == 0;
        is_spoiled.then(|| sealed(terms, key, &spec(None))).flatten()
    });
    let jobs = burst(&mut wire, 30, &gzip());
    run_all(&mut wire, &jobs);
    assert_all(&mut wire, &jobs, JobState::Completed);
    let refused = given_back(&mut wire, &jobs);
    assert!(refused.iter().any(|words| words.contains("not of the class")), "{refused:?}");
}
