//! What one peer may take of a node at most.

use jobmesh_engine::{Command, Declared, Input, Quotas, Remedy, Response};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::ticket::{Refusal, RefusalReason};
use jobmesh_protocol::{BlobRef, DurationMillis, Hash, JobId, JobSpec, JobState, Outcome};

use crate::wire::{A, B, Wire, mesh};
use crate::{escalated, spec};

fn limit(wire: &mut Wire, node: usize, quotas: Quotas) {
    wire.command(node, Command::Configure(Box::new(Declared { quotas, ..Declared::default() })));
}

fn last_refusal(wire: &Wire) -> Refusal {
    let said = wire.said(B, Kind::Refusal).pop().unwrap();
    Envelope::open(&said, &mesh()).unwrap().parse().unwrap()
}

#[test]
fn an_origin_with_as_much_here_as_it_may_have_is_refused_and_told_when_to_ask_again() {
    let mut wire = escalated();
    limit(&mut wire, B, Quotas { leases: 1, ..Quotas::default() });
    let jobs = [wire.submit(A, spec(Some("tool:gzip"))), wire.submit(A, spec(Some("tool:gzip")))];
    wire.pass(DurationMillis::from_secs(5));
    assert_eq!(wire.orders(B).len(), 1, "B has two slots, and one is for others");
    assert_eq!(last_refusal(&wire).reason, RefusalReason::Quota);
    assert!(last_refusal(&wire).retry_after_ms.0 > 0);
    wire.end(B, 0, Outcome::Ok, b"");
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(jobs.map(|job| wire.job(A, job).state), [JobState::Completed; 2]);
}

#[test]
fn an_origin_that_acknowledges_nothing_gets_no_more_than_its_share_of_the_disk() {
    let mut wire = escalated();
    limit(&mut wire, B, Quotas { outbox_bytes: 1, ..Quotas::default() });
    let first = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, first).state, JobState::Running);
    // From here on nothing that A says arrives, its acknowledgements included.
    wire.hold_frames();
    wire.end(B, 0, Outcome::Ok, b"out");
    wire.drop_frames();
    wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(last_refusal(&wire).reason, RefusalReason::Quota, "{:?}", wire.trace());
}

/// What a person is told of where a job of A could run.
fn explained(wire: &mut Wire, job: JobId) -> String {
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    format!("{:?}", why.reasons)
}

fn with_input(size: u64) -> JobSpec {
    let mut spec = spec(Some("tool:gzip"));
    spec.inputs = Some(BlobRef { hash: Hash::of(b"input"), size });
    spec
}

/// It was awarded, given back before the first byte, and awarded again, for ever.
#[test]
fn a_job_whose_input_has_no_room_on_a_peer_is_refused_with_how_much_has() {
    let mut wire = escalated();
    limit(&mut wire, B, Quotas { input_bytes: 20 << 30, ..Quotas::default() });
    let job = wire.submit(A, with_input((32 << 30) + 1));
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(last_refusal(&wire).reason, RefusalReason::Room(20 << 30));
    assert_eq!((wire.transfers(B).0.len(), wire.attempts(A, job).len()), (0, 0), "it was never awarded");
    let why = explained(&mut wire, job);
    assert!(why.contains("b has no room for its input: it takes 20 GiB at most"), "{why}");
    // What is told is rounded up, and so is no reason to refuse what may still fit.
    wire.submit(A, with_input((16 << 30) + 1));
    assert_eq!(wire.transfers(B).0.len(), 1);
}

/// A disk that says it has no size made a node refuse these, too.
#[test]
fn a_job_without_an_input_needs_no_room_for_it() {
    let mut wire = escalated();
    limit(&mut wire, B, Quotas { input_bytes: 0, ..Quotas::default() });
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
}

#[test]
fn a_job_whose_input_could_not_be_brought_is_not_bid_for_again_soon() {
    let mut wire = escalated();
    let job = wire.submit(A, with_input(100));
    let wanted = wire.transfers(B).0[0];
    let reason = "its files have 9 bytes; this node keeps 5 at most".to_owned();
    wire.tell(B, Input::FetchFailed { wanted, reason, remedy: Remedy::None });
    wire.pass(DurationMillis::from_secs(500));
    assert_eq!(last_refusal(&wire).reason, RefusalReason::NoInput);
    assert_eq!(wire.attempts(A, job).len(), 1, "{:?}", wire.trace());
    let why = explained(&mut wire, job);
    assert!(why.contains("b its files have 9 bytes; this node keeps 5 at most"), "{why}");
    // By then somebody may have made room.
    let asked = (0..100).find_map(|_| {
        wire.pass(DurationMillis::from_secs(10));
        wire.transfers(B).0.pop()
    });
    assert_eq!(asked, Some(wanted), "{:?}", wire.trace());
    wire.tell(B, Input::Fetched(wanted));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

/// Its origin was asked for it again only ten minutes after its copy was mended.
#[test]
fn a_job_whose_input_is_damaged_where_it_comes_from_is_bid_for_as_before() {
    let mut wire = escalated();
    let job = wire.submit(A, with_input(100));
    let wanted = wire.transfers(B).0.remove(0);
    let reason = "the copy of it is damaged".to_owned();
    wire.tell(B, Input::FetchFailed { wanted, reason, remedy: Remedy::Mending });
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.transfers(B).0.pop(), Some(wanted), "{:?}", wire.trace());
    wire.tell(B, Input::Fetched(wanted));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

#[test]
fn frames_beyond_the_rate_are_dropped_and_counted_and_those_that_must_arrive_do() {
    let mut wire = escalated();
    limit(&mut wire, A, Quotas { messages: 10, ..Quotas::default() });
    for _ in 0..200 {
        wire.inject(A, vec![0xff; 4]);
    }
    let (dropped, judged) = (wire.counter(A, "dropped_over_quota"), wire.counter(A, "refused_malformed_frame"));
    assert!((1..=100).contains(&judged), "{judged} were judged");
    assert_eq!(dropped + judged, 200);
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"out");
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
}
