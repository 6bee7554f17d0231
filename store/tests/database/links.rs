//! The chains of receipts as they are kept.

use jobmesh_protocol::{NodeId, ReceiptId, UnixMillis};
use jobmesh_store::{LinkRow, Side};

use crate::samples::{AT, LATER, PEER, link, memory, message_id};

/// Another peer.
const OTHER: NodeId = NodeId::from_bytes([0x33; 32]);

#[test]
fn a_chain_is_read_in_order_and_each_side_for_itself() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for number in [2, 1, 3] {
        txn.insert_link(&link(Side::Taken, number)).unwrap();
    }
    txn.insert_link(&link(Side::Given, 7)).unwrap();
    txn.insert_link(&LinkRow { peer: OTHER, ..link(Side::Taken, 9) }).unwrap();
    let numbers = |side, limit| -> Vec<u64> {
        txn.view().links(PEER, side, limit).unwrap().iter().map(|link| link.number).collect()
    };
    assert_eq!(numbers(Side::Taken, 10), [1, 2, 3]);
    assert_eq!(numbers(Side::Taken, 2), [2, 3], "the newest ones");
    assert_eq!(txn.view().links(PEER, Side::Given, 10).unwrap(), [link(Side::Given, 7)]);
    assert_eq!(txn.view().last_link(PEER, Side::Taken).unwrap(), Some(link(Side::Taken, 3)));
    assert_eq!(txn.view().last_link(OTHER, Side::Given).unwrap(), None);
    assert_eq!(txn.view().linked_peers().unwrap().len(), 2);
}

#[test]
fn both_ends_of_a_fork_are_kept_and_a_link_once() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let (one, other) = (link(Side::Taken, 1), LinkRow { id: message_id(0x99), ..link(Side::Taken, 1) });
    txn.insert_link(&one).unwrap();
    txn.insert_link(&other).unwrap();
    txn.insert_link(&LinkRow { receipt: b"changed".to_vec(), ..one.clone() }).unwrap();
    let mut both = txn.view().links_numbered(PEER, Side::Taken, 1).unwrap();
    both.sort_by_key(|link| link.id != one.id);
    assert_eq!(both, [one, other]);
}

#[test]
fn a_link_is_settled_once() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.insert_link(&LinkRow { settle: None, ..link(Side::Taken, 1) }).unwrap();
    let id = link(Side::Taken, 1).id;
    let settle =
        |number: u64, id: ReceiptId, bytes: &[u8]| txn.settle_link((PEER, Side::Taken), (number, id), bytes).unwrap();
    assert!(!settle(2, id, b"first"));
    assert!(!settle(1, message_id(0x99), b"first"));
    assert!(settle(1, id, b"first"));
    assert!(!settle(1, id, b"second"));
    let kept = txn.view().last_link(PEER, Side::Taken).unwrap().unwrap();
    assert_eq!(kept.settle.as_deref(), Some(b"first".as_slice()));
}

#[test]
fn old_links_go_but_never_the_last_one_of_a_chain() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for (number, at) in [(1, AT), (2, AT), (3, LATER)] {
        txn.insert_link(&LinkRow { at, ..link(Side::Taken, number) }).unwrap();
    }
    txn.insert_link(&LinkRow { at: AT, ..link(Side::Given, 4) }).unwrap();
    let numbers =
        |side| -> Vec<u64> { txn.view().links(PEER, side, 10).unwrap().iter().map(|link| link.number).collect() };
    txn.drop_links_before(LATER).unwrap();
    assert_eq!((numbers(Side::Taken), numbers(Side::Given)), (vec![3], vec![4]));
    txn.drop_links_before(UnixMillis(u64::MAX >> 1)).unwrap();
    assert_eq!((numbers(Side::Taken), numbers(Side::Given)), (vec![3], vec![4]));
}

#[test]
fn links_for_no_job_are_counted() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.insert_link(&link(Side::Taken, 1)).unwrap();
    txn.insert_link(&LinkRow { is_known: false, ..link(Side::Taken, 2) }).unwrap();
    assert_eq!(txn.view().unknown_links(PEER).unwrap(), 1);
    assert_eq!(txn.view().unknown_links(OTHER).unwrap(), 0);
}
