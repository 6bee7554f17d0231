//! A database that is older than its own words, a key in two places, and what both sides believe to be open.

use jobmesh_engine::{Command, JobAction};
use jobmesh_protocol::capability::{CapabilityRecord, Relayed, Version};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::job::Effects;
use jobmesh_protocol::resource::Offered;
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::{DurationMillis, Hash, Incarnation, JobId, JobState, Outcome, UnixMillis};
use jobmesh_store::AlarmKind;
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::spec;
use crate::wire::{A, B, Wire, mesh, seal};

const MINUTE: DurationMillis = DurationMillis::from_secs(60);

/// A wants a job done that only B can do, and is backed up before they meet. Then B runs it.
fn backed_up(effects: Effects) -> (Wire, JobId, Vec<u8>) {
    let mut wire = Wire::with_backups_of(A);
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    let mut wanted = spec(Some("tool:gzip"));
    wanted.effects = effects;
    let job = wire.submit(A, wanted);
    let backup = wire.set_back(A, None);
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
    (wire, job, backup)
}

fn note<T: Serialize>(node: usize, kind: Kind, body: &T) -> Vec<u8> {
    Frame::Note { envelope: ByteBuf::from(seal(node, kind, body)) }.encode()
}

/// The story of a restored old backup, of work that must not run twice.
#[test]
fn a_restored_backup_is_found_out_and_work_that_must_not_run_twice_waits_for_a_person() {
    let (mut wire, job, backup) = backed_up(Effects::Once);
    wire.end(B, 0, Outcome::Ok, b"charged the card");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    wire.set_back(A, Some(&backup));
    assert_eq!(wire.job(A, job).state, JobState::Available, "the backup knows nothing of it");
    wire.connect();
    wire.pass(MINUTE);
    assert_eq!(wire.orders(B).len(), 1, "{:?}", wire.trace());
    assert_eq!(wire.alarms(A), [(AlarmKind::Older, wire.node(B))]);
    let held = wire.job(A, job).held.unwrap();
    assert_eq!(held, "this database is older than what peers have seen; release to run");

    wire.command(A, Command::Job(job, JobAction::Release));
    wire.pass(MINUTE);
    assert_eq!(wire.orders(B).len(), 2, "a person wanted it: {:?}", wire.trace());
    assert_eq!(wire.job(A, job).epoch.0, 2, "an epoch that B knows is not used again");
    wire.end(B, 0, Outcome::Ok, b"again");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    assert!(wire.outbox_is_empty(), "the numbers of the new incarnation count");
}

/// The peers have seen the database that the backup became the first time, and know the one of the backup as a former one.
#[test]
fn a_backup_that_is_restored_a_second_time_holds_what_must_not_run_twice_too() {
    let (mut wire, job, backup) = backed_up(Effects::Once);
    wire.end(B, 0, Outcome::Ok, b"charged the card");
    for others in 0..2 {
        wire.set_back(A, Some(&backup));
        wire.connect();
        wire.pass(MINUTE);
        assert_eq!(wire.orders(B).len(), 1 + others, "{:?}", wire.trace());
        assert!(wire.job(A, job).held.is_some(), "{:?}", wire.trace());
        // Something that is numbered is said, so that B hears of the new database.
        wire.submit(A, spec(Some("tool:gzip")));
        wire.pass(MINUTE);
        wire.end(B, 0, Outcome::Ok, b"other");
    }
}

#[test]
fn an_origin_that_was_set_back_stops_what_it_does_not_know_of_and_goes_on_to_the_next_epoch() {
    let (mut wire, job, backup) = backed_up(Effects::Idempotent);
    wire.set_back(A, Some(&backup));
    wire.connect();
    assert!(wire.stops(B) > 0, "{:?}", wire.trace());
    assert_eq!(wire.counter(A, "stopped_by_reconcile"), 1);
    wire.end(B, 0, Outcome::Cancelled, b"");
    wire.pass(MINUTE);
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
    assert_eq!(wire.job(A, job).held, None);
    assert_eq!(wire.job(A, job).epoch.0, 2);
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    assert!(wire.outbox_is_empty());
}

#[test]
fn a_result_that_an_origin_forgot_is_sent_again() {
    let (mut wire, job, _) = backed_up(Effects::Once);
    let backup = wire.set_back(A, None);
    wire.connect();
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    wire.set_back(A, Some(&backup));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.connect();
    assert_eq!(wire.fetches(A).len(), 1, "the output comes by itself");
    wire.fetched(A, Hash::of(b"out"));
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.orders(B).len(), 1);
    assert_eq!(wire.counter(B, "receipt_sent_again"), 1);
}

#[test]
fn an_executor_that_was_set_back_says_what_it_does_not_know() {
    let mut wire = Wire::with_backups_of(B);
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    let backup = wire.set_back(B, None);
    wire.connect();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.set_back(B, Some(&backup));
    wire.connect();
    assert_eq!(wire.alarms(B), [(AlarmKind::Older, wire.node(A))]);
    wire.pass(MINUTE);
    assert_eq!(wire.attempts(A, job).len(), 2, "{:?}", wire.trace());
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert!(wire.outbox_is_empty());
}

/// A member that claims to have received what was never sent: believed once, and not at any rate.
#[test]
fn a_peer_that_lies_about_what_it_received_costs_an_incarnation_a_minute() {
    let mut wire = Wire::with_backups_of(A);
    wire.connect();
    let lie = |wire: &mut Wire| {
        let incarnation = wire.incarnation(A);
        wire.inject(A, Frame::Ack { incarnation, number: 1_000_000 }.encode());
        wire.settled();
        wire.incarnation(A)
    };
    let first = wire.incarnation(A);
    let second = lie(&mut wire);
    assert_ne!(first, second);
    assert_eq!(lie(&mut wire), second, "not again so soon");
    let mut careful = spec(Some("tool:gzip"));
    careful.effects = Effects::Once;
    let job = wire.submit(A, careful);
    wire.pass(MINUTE);
    assert_ne!(lie(&mut wire), second);
    assert_eq!(wire.job(A, job).held, None, "work is held once in a life of the daemon");
    assert_eq!(wire.counter(A, "older_than_words"), 3);
}

#[test]
fn two_databases_under_one_key_are_told_apart_and_reported() {
    let mut wire = Wire::new();
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.connect();
    let first = wire.submit(A, spec(Some("tool:gzip")));
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, first).state, JobState::Completed);
    // Another node with B's key and another database speaks.
    let envelope = seal(B, Kind::RecordRequest, &"anything");
    let other = Incarnation::from_bytes([0xCC; 16]);
    let frame = Frame::data((other, 1, 1), envelope, Vec::new());
    wire.inject(A, frame.encode());
    assert_eq!(wire.alarms(A), []);
    let second = wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(DurationMillis::from_secs(5));
    assert_eq!(wire.alarms(A), [(AlarmKind::Cloned, wire.node(B))], "{:?}", wire.trace());
    assert!(wire.counter(A, "refused_former_incarnation") > 0);
    assert_eq!(wire.alarms(B), [(AlarmKind::Older, wire.node(A))]);
    // B has become another database by that, and is listened to again.
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, second).state, JobState::Completed, "{:?}", wire.trace());
    assert!(wire.outbox_is_empty());
}

#[test]
fn a_record_of_the_own_key_that_another_node_made_is_reported() {
    let mut wire = Wire::new();
    wire.connect();
    let record = |at: u64| CapabilityRecord {
        version: Version { booted_at: UnixMillis(at), change: 0 },
        name: "a".to_owned(),
        tags: Default::default(),
        attributes: Default::default(),
        resources: Offered::default(),
        slots: 1,
    };
    let old = seal(A, Kind::Capability, &record(5));
    wire.inject(A, note(B, Kind::Relayed, &Relayed(old)));
    assert_eq!(wire.alarms(A), [], "its own of an earlier start");
    let foreign = seal(A, Kind::Capability, &record(u64::MAX / 4));
    assert!(Envelope::open(&foreign, &mesh()).is_ok());
    wire.inject(A, note(B, Kind::Relayed, &Relayed(foreign)));
    assert_eq!(wire.alarms(A), [(AlarmKind::Cloned, wire.node(A))]);
}

/// Both words of the start of a connection were lost, and nothing that is numbered was ever sent.
#[test]
fn a_connection_whose_first_words_were_lost_asks_again() {
    let mut wire = Wire::new();
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.hold_frames();
    wire.connect();
    wire.drop_frames();
    wire.pass(DurationMillis::from_secs(10));
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(MINUTE);
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
}
