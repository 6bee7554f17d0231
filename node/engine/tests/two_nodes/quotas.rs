//! What one peer may take of a node at most.

use jobmesh_engine::{Command, Declared, Quotas};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::ticket::{Refusal, RefusalReason};
use jobmesh_protocol::{DurationMillis, JobState, Outcome};

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
