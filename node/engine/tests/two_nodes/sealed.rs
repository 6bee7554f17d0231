//! Payloads that are sealed to the winner, and what becomes of those that are not as they should be.

use jobmesh_engine::{Command, Response};
use jobmesh_keys::{SealKey, SealSecret};
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::{Award, Bid, Payload, Terms};
use jobmesh_protocol::{AttemptState, DurationMillis, Hash, JobState, Outcome, cbor};

use crate::wire::{A, B, Wire, seal};
use crate::{escalated, spec};

/// Lets A award what `award` makes of the terms and of the key that B bid with.
fn awarding(award: fn(Terms, SealKey) -> Award) -> Wire {
    let mut wire = escalated();
    let mut key = None;
    wire.bend(move |node, envelope| {
        if envelope.kind() == Kind::Bid {
            key = Some(envelope.parse::<Bid>().unwrap().key);
        }
        let is_award = node == A && envelope.kind() == Kind::Award;
        is_award.then(|| seal(A, Kind::Award, &award(envelope.parse::<Award>().unwrap().terms, key.unwrap())))
    });
    wire
}

/// B turns such an award down with these words, and takes the same job once it is awarded properly.
fn is_turned_down(award: fn(Terms, SealKey) -> Award, words: &str) {
    let mut wire = awarding(award);
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Available, "{:?}", wire.trace());
    let attempt = wire.attempts(A, job).remove(0);
    assert_eq!((attempt.state, attempt.message.as_deref()), (AttemptState::Released, Some(words)));
    assert_eq!(wire.counter(B, "refused_award"), 1);
    assert!(wire.orders(B).is_empty());
    wire.unbend();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
}

/// The job that the tests submit, under a salt that was not the one of the offer.
fn payload() -> Payload {
    Payload { salt: Some(Hash::of(b"another salt")), spec: cbor::encode(&spec(Some("tool:gzip"))) }
}

#[test]
fn an_award_that_is_sealed_to_another_key_is_turned_down() {
    let other = |terms, _| {
        let stranger = SealSecret::from_entropy(&[5; 32]).key();
        Award::seal(terms, &payload(), &stranger, &[6; 32]).unwrap()
    };
    is_turned_down(other, "the awarded job can't be opened with the key of the bid");
}

#[test]
fn an_award_whose_terms_were_changed_is_turned_down() {
    let other = |terms: Terms, key| {
        let longer = Terms { lease_ms: terms.lease_ms.scale(2, 1), ..terms };
        Award { terms: longer, ..Award::seal(terms, &payload(), &key, &[6; 32]).unwrap() }
    };
    is_turned_down(other, "the awarded job can't be opened with the key of the bid");
}

#[test]
fn an_award_with_another_salt_is_turned_down() {
    let other = |terms, key| Award::seal(terms, &payload(), &key, &[6; 32]).unwrap();
    is_turned_down(other, "the awarded job is not the one that was offered");
}

#[test]
fn an_award_of_another_job_is_turned_down() {
    let other = |terms, key| {
        let payload = Payload { spec: cbor::encode(&spec(Some("tool:xz"))), ..payload() };
        Award::seal(terms, &payload, &key, &[6; 32]).unwrap()
    };
    is_turned_down(other, "the awarded job is not the one that was offered");
}

#[test]
fn an_award_of_no_payload_is_turned_down() {
    let other = |terms, key: SealKey| {
        let sealed = key.seal(&[6; 32], &cbor::encode(&terms), b"no payload").unwrap();
        Award { terms, sealed }
    };
    is_turned_down(other, "the payload of the award does not parse");
}

/// What is sealed to a point of small order could be read by everybody.
#[test]
fn a_bid_with_a_key_that_is_none_gets_no_award() {
    let mut wire = escalated();
    wire.bend(|_, envelope| {
        let is_bid = envelope.kind() == Kind::Bid;
        is_bid.then(|| {
            let bid: Bid = envelope.parse().unwrap();
            seal(B, Kind::Bid, &Bid { key: SealKey::from_bytes([0; 32]), ..bid })
        })
    });
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Available);
    assert!(wire.attempts(A, job).is_empty(), "{:?}", wire.trace());
    assert_eq!(wire.counter(A, "refused_bid_key"), 1);
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    assert!(format!("{why:?}").contains("bid with a key that nothing can be sealed to"), "{why:?}");
    wire.unbend();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Running);
}

/// The secret of a bid lives in memory only: whoever restarts can't open the award.
#[test]
fn a_bidder_that_restarts_can_no_longer_take_the_award() {
    let mut wire = escalated();
    wire.bend(|_, envelope| (envelope.kind() == Kind::Award).then(|| vec![0xFF]));
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Offered);
    wire.unbend();
    wire.restart(B);
    wire.connect();
    wire.pass(DurationMillis::from_secs(2));
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost, "{:?}", wire.trace());
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

/// G5, as far as the bytes between the two go: what runs is said to the winner, and sealed.
#[test]
fn nothing_of_a_spec_travels_in_the_clear() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.name = Some("needle-name".to_owned());
    wanted.task = Task::Process(ProcessTask::new(vec!["needle-argument".to_owned()]));
    wanted.labels.insert("key".to_owned(), "needle-label".to_owned());
    let job = wire.submit(A, wanted);
    let orders = wire.orders(B);
    assert!(format!("{orders:?}").contains("needle-argument"), "B was told what to run");
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    let needle = b"needle";
    let shown = wire.sent().iter().filter(|frame| frame.windows(needle.len()).any(|part| part == needle)).count();
    assert_eq!(shown, 0);
}
