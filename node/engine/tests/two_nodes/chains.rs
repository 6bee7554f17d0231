//! The chains of receipts that two nodes keep: the same on both sides, and evidence when they are not sound.

use jobmesh_engine::Command;
use jobmesh_protocol::chain::{Audit, Auditor, BEGINNING, Chain, Fault, Link};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::ticket::{Settle, Verdict};
use jobmesh_protocol::{DurationMillis, Hash, JobState, MessageId, Outcome, TicketId};
use jobmesh_store::Side;
use serde_bytes::ByteBuf;

use crate::wire::{A, B, Wire, mesh, seal};
use crate::{escalated, spec};

/// Lets B run one more job of A.
fn run_one(wire: &mut Wire) {
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
}

/// What an auditor makes of the chain of B's work for A, as that node has it.
fn audit(wire: &mut Wire, index: usize) -> Audit {
    let links = wire.links(index).into_iter();
    let link = |row: jobmesh_store::LinkRow| Link {
        receipt: ByteBuf::from(row.receipt),
        settle: row.settle.map(ByteBuf::from),
    };
    let chain = Chain { executor: wire.node(B), origin: wire.node(A), links: links.map(link).collect() };
    Auditor::check(mesh(), &chain)
}

fn faults(wire: &mut Wire, index: usize) -> Vec<(Option<u64>, Fault)> {
    audit(wire, index).findings.iter().map(|finding| (finding.number, finding.fault)).collect()
}

/// Changes the receipts that B signs.
fn bend_receipts(wire: &mut Wire, mut bend: impl FnMut(&mut Receipt) + 'static) {
    wire.bend(move |_, envelope| {
        let is_receipt = envelope.kind() == Kind::Receipt;
        is_receipt.then(|| {
            let mut receipt = envelope.parse().unwrap();
            bend(&mut receipt);
            seal(B, Kind::Receipt, &receipt)
        })
    });
}

#[test]
fn both_sides_keep_the_same_chain() {
    let mut wire = escalated();
    run_one(&mut wire);
    wire.restart(B);
    wire.connect();
    run_one(&mut wire);
    wire.restart(A);
    wire.connect();
    run_one(&mut wire);
    let [of_a, of_b] = [A, B].map(|index| audit(&mut wire, index));
    assert!(of_a.is_good(), "{of_a:?}");
    assert_eq!(of_a, of_b);
    assert_eq!((of_a.first, of_a.last, of_a.settled), (Some(1), Some(3), 3));
    assert!(wire.outbox_is_empty());
}

#[test]
fn what_failed_and_what_came_late_is_in_the_chain_too() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.end(B, 0, Outcome::error("exit code 1"), b"");
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.cut();
    wire.pass(DurationMillis::from_secs(60));
    wire.command(A, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.end(A, 0, Outcome::Ok, b"of a");
    wire.end(B, 0, Outcome::Ok, b"of b");
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    assert_eq!(wire.verdict(), Some(Verdict::Superseded));
    let [of_a, of_b] = [A, B].map(|index| audit(&mut wire, index));
    assert!(of_a.is_good() && of_a.last == Some(2), "{of_a:?}");
    assert_eq!(of_a, of_b);
}

#[test]
fn two_receipts_of_one_number_are_both_kept_and_the_work_still_counts() {
    let mut wire = escalated();
    run_one(&mut wire);
    bend_receipts(&mut wire, |receipt| (receipt.number, receipt.previous) = (1, BEGINNING));
    run_one(&mut wire);
    assert_eq!(wire.counter(A, "forked_receipt"), 1);
    assert_eq!(wire.links(A).len(), 2, "both are the evidence");
    assert_eq!(faults(&mut wire, A), [(Some(1), Fault::Fork)]);
}

#[test]
fn a_receipt_that_does_not_follow_is_counted_and_found() {
    let mut wire = escalated();
    run_one(&mut wire);
    bend_receipts(&mut wire, |receipt| receipt.previous = Hash::of(b"another"));
    run_one(&mut wire);
    assert_eq!(wire.counter(A, "torn_receipt"), 1);
    assert_eq!(faults(&mut wire, A), [(Some(2), Fault::Torn)]);
    bend_receipts(&mut wire, |receipt| receipt.number = 7);
    run_one(&mut wire);
    assert_eq!(faults(&mut wire, A), [(Some(2), Fault::Torn), (Some(7), Fault::Gap)]);
}

#[test]
fn a_verdict_is_signed_once_however_often_it_is_asked_for() {
    let mut wire = escalated();
    run_one(&mut wire);
    let receipt = wire.said(B, Kind::Receipt).remove(0);
    wire.pass(DurationMillis::from_secs(60));
    for _ in 0..3 {
        wire.inject(A, Frame::Note { envelope: ByteBuf::from(receipt.clone()) }.encode());
    }
    let said = wire.said(A, Kind::Settle);
    assert!(said.len() == 4 && said.iter().all(|settle| *settle == said[0]), "{}", said.len());
    assert_eq!(wire.links(A).len(), 1);
}

/// An origin that changes its mind has signed two verdicts; the first one stays.
#[test]
fn a_second_verdict_changes_nothing() {
    let mut wire = escalated();
    run_one(&mut wire);
    let kept = wire.links(B);
    let settle: Settle = Envelope::open(&wire.said(A, Kind::Settle)[0], &mesh()).unwrap().parse().unwrap();
    let other = seal(A, Kind::Settle, &Settle { verdict: Verdict::Rejected, ..settle.clone() });
    wire.inject(B, Frame::Note { envelope: ByteBuf::from(other) }.encode());
    assert_eq!(wire.counter(B, "second_settlement"), 1);
    let unknown =
        [Settle { number: 2, ..settle.clone() }, Settle { receipt: MessageId::from_bytes([0; 16]), ..settle }];
    for settle in unknown {
        let other = seal(A, Kind::Settle, &settle);
        wire.inject(B, Frame::Note { envelope: ByteBuf::from(other) }.encode());
    }
    assert_eq!(wire.counter(B, "refused_settle"), 2);
    assert_eq!(wire.links(B), kept);
}

/// A peer can sign receipts for work that nobody gave it, as many as it likes.
#[test]
fn of_receipts_for_no_job_only_so_many_are_kept() {
    let mut wire = escalated();
    run_one(&mut wire);
    let sound: Receipt = Envelope::open(&wire.said(B, Kind::Receipt)[0], &mesh()).unwrap().parse().unwrap();
    for number in 2..=300 {
        let ticket = TicketId::from_bytes([7; 16]);
        let receipt = Receipt { number, ticket, ..sound.clone() };
        let envelope = ByteBuf::from(seal(B, Kind::Receipt, &receipt));
        wire.inject(A, Frame::Note { envelope }.encode());
    }
    assert_eq!(wire.counter(A, "refused_receipt_unknown_attempt"), 299);
    assert_eq!(wire.links(A).len(), 1 + 256);
    assert_eq!(wire.counter(A, "dropped_receipt"), 299 - 256);
    let rejected = wire.links(A).pop().unwrap().settle.unwrap();
    let settle: Settle = Envelope::open(&rejected, &mesh()).unwrap().parse().unwrap();
    assert_eq!(settle.verdict, Verdict::Rejected, "and each is answered");
}

/// Links are kept for five weeks. The last one stays, so that the next has its number from it.
#[test]
fn old_links_go_and_the_chain_goes_on() {
    let mut wire = escalated();
    run_one(&mut wire);
    run_one(&mut wire);
    wire.cut();
    wire.pass(DurationMillis::from_secs(36 * 86_400));
    for index in [A, B] {
        wire.command(index, Command::ForgetHours);
        assert_eq!(wire.links(index).len(), 1);
    }
    wire.connect();
    run_one(&mut wire);
    let [of_a, of_b] = [A, B].map(|index| audit(&mut wire, index));
    assert!(of_a.is_good(), "{of_a:?}");
    assert_eq!(of_a, of_b);
    assert_eq!((of_a.first, of_a.last), (Some(2), Some(3)));
    assert_eq!(wire.links(A)[0].side, Side::Taken);
}
