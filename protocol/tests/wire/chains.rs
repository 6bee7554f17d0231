//! Chains of receipts: what an auditor finds who has nothing but the bytes.

use jobmesh_keys::Identity;
use jobmesh_protocol::chain::{Auditor, BEGINNING, Chain, Export, ExportError, FINDINGS_MAX, Fault, Link};
use jobmesh_protocol::envelope::{Kind, message_id};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::ticket::{Settle, Verdict};
use jobmesh_protocol::{Envelope, Epoch, Hash, MeshId, MessageId, Outcome, TicketId, UnixMillis, cbor};
use serde_bytes::ByteBuf;

use crate::samples::mesh;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

fn executor() -> Identity {
    Identity::from_seed([0xE0; 32])
}

fn origin() -> Identity {
    Identity::from_seed([0x0E; 32])
}

fn receipt(number: u64, previous: Hash) -> Receipt {
    Receipt {
        award: MessageId::from_bytes([0xA0; 16]),
        ticket: TicketId::from_bytes([number.to_le_bytes()[0]; 16]),
        epoch: Epoch(1),
        to: origin().node(),
        number,
        previous,
        spec: Hash::of(b"spec"),
        outcome: Outcome::Ok,
        exit: Exit { code: Some(0), signal: None },
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: jobmesh_protocol::Isolation::None,
        started_at: AT,
        finished_at: AT,
    }
}

fn settle(receipt: &Receipt) -> Settle {
    Settle {
        receipt: message_id(Kind::Receipt, &cbor::encode(receipt)),
        number: receipt.number,
        ticket: receipt.ticket,
        epoch: receipt.epoch,
        to: executor().node(),
        verdict: Verdict::Accepted,
        at: AT,
    }
}

fn link(receipt: &Receipt) -> Link {
    let settle = Envelope::seal(&origin(), &mesh(), Kind::Settle, &settle(receipt));
    Link { settle: Some(ByteBuf::from(settle)), ..unsettled(receipt) }
}

fn unsettled(receipt: &Receipt) -> Link {
    Link { receipt: ByteBuf::from(Envelope::seal(&executor(), &mesh(), Kind::Receipt, receipt)), settle: None }
}

/// A sound chain of so many links.
fn links(count: u64) -> Vec<Link> {
    let mut previous = BEGINNING;
    let mut links = Vec::new();
    for number in 1..=count {
        let link = link(&receipt(number, previous));
        previous = Hash::of(&link.receipt);
        links.push(link);
    }
    links
}

fn chain(links: Vec<Link>) -> Chain {
    Chain { executor: executor().node(), origin: origin().node(), links }
}

/// The faults of a chain, each with the number of its receipt.
fn faults(links: Vec<Link>) -> Vec<(Option<u64>, Fault)> {
    let audit = Auditor::check(mesh(), &chain(links));
    assert_eq!(audit.is_good(), audit.findings.is_empty());
    audit.findings.iter().map(|finding| (finding.number, finding.fault)).collect()
}

#[test]
fn a_sound_chain_is_good_and_says_how_far_it_goes() {
    let links = links(5);
    let head = Hash::of(&links[4].receipt);
    let audit = Auditor::check(mesh(), &chain(links.clone()));
    assert!(audit.is_good());
    assert_eq!((audit.receipts, audit.settled), (5, 5));
    assert_eq!((audit.first, audit.last, audit.head), (Some(1), Some(5), Some(head)));
    let empty = Auditor::check(mesh(), &chain(Vec::new()));
    assert!(empty.is_good() && empty.head.is_none());
    // What is kept for a while only begins later, and says so.
    let late = Auditor::check(mesh(), &chain(links[2..].to_vec()));
    assert!(late.is_good());
    assert_eq!(late.first, Some(3));
}

#[test]
fn a_gap_is_named_with_its_length() {
    let mut some = links(6);
    some.drain(2..4);
    let audit = Auditor::check(mesh(), &chain(some));
    let found: Vec<_> = audit.findings.iter().map(|it| (it.place, it.number, it.fault, it.missing)).collect();
    assert_eq!(found, [(3, Some(5), Fault::Gap, 2)]);
}

#[test]
fn two_receipts_of_one_number_are_a_fork_wherever_the_chain_goes_on() {
    for follows in [0, 1] {
        let mut all = links(2);
        let other = link(&Receipt { epoch: Epoch(9), ..receipt(2, Hash::of(&all[0].receipt)) });
        all.push(other);
        all.push(link(&receipt(3, Hash::of(&all[1 + follows].receipt))));
        assert_eq!(faults(all), [(Some(2), Fault::Fork)]);
    }
}

#[test]
fn a_receipt_that_stands_twice_or_before_its_turn_is_out_of_order() {
    let all = links(3);
    let twice = vec![all[0].clone(), all[1].clone(), all[1].clone(), all[2].clone()];
    assert_eq!(faults(twice), [(Some(2), Fault::Order)]);
    let turned = vec![all[0].clone(), all[2].clone(), all[1].clone()];
    assert_eq!(faults(turned), [(Some(3), Fault::Gap), (Some(2), Fault::Order)]);
}

#[test]
fn a_receipt_that_follows_another_one_is_torn() {
    let mut all = links(1);
    all.push(link(&receipt(2, Hash::of(b"another"))));
    assert_eq!(faults(all), [(Some(2), Fault::Torn)]);
    assert_eq!(faults(vec![link(&receipt(1, Hash::of(b"another")))]), [(Some(1), Fault::Torn)]);
}

#[test]
fn every_missing_countersignature_is_named() {
    let mut all = links(4);
    (all[1].settle, all[3].settle) = (None, None);
    assert_eq!(faults(all), [(Some(2), Fault::Unsettled), (Some(4), Fault::Unsettled)]);
}

#[test]
fn a_countersignature_must_be_the_origins_for_this_very_receipt() {
    let receipt = receipt(1, BEGINNING);
    let sound = settle(&receipt);
    let others = [
        Settle { receipt: MessageId::from_bytes([0; 16]), ..sound.clone() },
        Settle { number: 2, ..sound.clone() },
        Settle { epoch: Epoch(2), ..sound.clone() },
        Settle { ticket: TicketId::from_bytes([0; 16]), ..sound.clone() },
        Settle { to: origin().node(), ..sound.clone() },
    ];
    let with = |settle: Vec<u8>| vec![Link { settle: Some(ByteBuf::from(settle)), ..unsettled(&receipt) }];
    for other in others {
        let sealed = Envelope::seal(&origin(), &mesh(), Kind::Settle, &other);
        assert_eq!(faults(with(sealed)), [(Some(1), Fault::BadSettle)], "{other:?}");
    }
    let by_executor = Envelope::seal(&executor(), &mesh(), Kind::Settle, &sound);
    let elsewhere = Envelope::seal(&origin(), &MeshId::from_bytes([1; 32]), Kind::Settle, &sound);
    let of_kind = Envelope::seal(&origin(), &mesh(), Kind::Accept, &sound);
    for sealed in [by_executor, elsewhere, of_kind, Vec::new(), vec![0xFF; 300]] {
        assert_eq!(faults(with(sealed)), [(Some(1), Fault::BadSettle)]);
    }
}

#[test]
fn a_receipt_must_be_the_executors_for_this_origin() {
    let sound = receipt(1, BEGINNING);
    let seal = |by: &Identity, mesh: &MeshId, kind, receipt: &Receipt| Envelope::seal(by, mesh, kind, receipt);
    let unbounded = [0, u64::MAX].map(|number| Receipt { number, ..sound.clone() });
    let bad = [
        seal(&origin(), &mesh(), Kind::Receipt, &sound),
        seal(&executor(), &MeshId::from_bytes([1; 32]), Kind::Receipt, &sound),
        seal(&executor(), &mesh(), Kind::Settle, &sound),
        seal(&executor(), &mesh(), Kind::Receipt, &Receipt { to: executor().node(), ..sound }),
        seal(&executor(), &mesh(), Kind::Receipt, &unbounded[0]),
        seal(&executor(), &mesh(), Kind::Receipt, &unbounded[1]),
        Vec::new(),
        vec![0xFF; 300],
    ];
    for receipt in bad {
        let link = Link { receipt: ByteBuf::from(receipt), settle: None };
        assert_eq!(faults(vec![link]), [(None, Fault::BadReceipt)]);
    }
}

#[test]
fn very_many_findings_are_counted() {
    let link = Link { receipt: ByteBuf::new(), settle: None };
    let audit = Auditor::check(mesh(), &chain(vec![link; FINDINGS_MAX + 7]));
    assert_eq!((audit.findings.len(), audit.more), (FINDINGS_MAX, 7));
}

/// The file of a sound chain.
pub(crate) fn export() -> Export {
    Export { mesh: mesh(), at: AT, chains: vec![chain(links(3))] }
}

#[test]
fn an_export_says_whose_it_is_and_reads_back() {
    assert_eq!(Export::open(&export().seal(&origin())), Ok((origin().node(), export())));
}

/// Whatever is changed in a file is noticed before anything in it is believed.
#[test]
fn every_changed_byte_of_an_export_is_noticed() {
    let sealed = export().seal(&origin());
    for at in 0..sealed.len() {
        for mask in [1, 0x80, 0xFF] {
            let mut changed = sealed.clone();
            changed[at] ^= mask;
            assert!(Export::open(&changed).is_err(), "byte {at} xor {mask:#x} went unnoticed");
        }
        assert!(matches!(Export::open(&sealed[..at]), Err(ExportError::Decode(_))), "cut to {at} bytes");
    }
    let longer = [sealed.as_slice(), &[0]].concat();
    assert!(matches!(Export::open(&longer), Err(ExportError::Decode(_))));
}

/// Whoever writes the file anew with another name on it has still not signed the receipts.
#[test]
fn a_file_that_was_written_by_another_says_so() {
    let forger = Identity::from_seed([0xF0; 32]);
    let (author, _) = Export::open(&export().seal(&forger)).unwrap();
    assert_eq!(author, forger.node());
    let mut bent = export();
    bent.chains[0].links[1].receipt = ByteBuf::from(Envelope::seal(
        &forger,
        &mesh(),
        Kind::Receipt,
        &receipt(2, Hash::of(&bent.chains[0].links[0].receipt)),
    ));
    let (_, read) = Export::open(&bent.seal(&forger)).unwrap();
    let audit = Auditor::check(read.mesh, &read.chains[0]);
    let found: Vec<_> = audit.findings.iter().map(|it| it.fault).collect();
    assert_eq!(found, [Fault::BadReceipt, Fault::Gap]);
}

#[test]
fn an_export_of_another_layout_is_refused_by_its_version() {
    let mut sealed = export().seal(&origin());
    // 0x84 version …
    sealed[1] = 2;
    assert_eq!(Export::open(&sealed), Err(ExportError::Version { found: 2 }));
}
