//! All or nothing, seen by others only once it is on disk, and a full disk that breaks nothing.

use jobmesh_protocol::id::Hash;
use jobmesh_store::{Reader, Store, StoreError};
use tempfile::tempdir;

use crate::samples::{insert_job, memory, number, open};

#[test]
fn a_dropped_transaction_never_happened() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    assert!(txn.view().job_by_number(number(1)).unwrap().is_some(), "a transaction sees its own writes");
    drop(txn);
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().job_by_number(number(1)).unwrap(), None);
    assert_eq!(txn.view().last_job_number().unwrap(), None, "its number was not used up");
}

#[test]
fn a_reader_sees_what_was_committed_and_never_waits() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path());
    let reader = Reader::open(directory.path()).unwrap();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    assert_eq!(reader.view().job_by_number(number(1)).unwrap(), None);
    let _committed = txn.commit().unwrap();
    assert!(reader.view().job_by_number(number(1)).unwrap().is_some());
    drop(store);
    assert!(reader.view().job_by_number(number(1)).unwrap().is_some(), "a reader outlives the daemon's writer");
    assert!(Reader::open(directory.path()).unwrap().view().job_by_number(number(1)).unwrap().is_some());
}

/// Writes blobs, one a transaction, until the database is full. Returns how many were committed.
fn fill_up(store: &mut Store) -> u32 {
    for number in 0_u32.. {
        let txn = store.begin().unwrap();
        let bytes = number.to_be_bytes().repeat(1000);
        let written = txn.put_blob(Hash::of(&bytes), &bytes);
        match written.and_then(|()| txn.commit()) {
            Ok(_committed) => assert!(number < 10_000, "the limit on pages limits nothing"),
            Err(StoreError::Full) => return number,
            Err(error) => panic!("full is not reported as full: {error:?}"),
        }
    }
    unreachable!("the loop returns when the database is full")
}

#[test]
fn a_full_disk_refuses_the_write_and_breaks_nothing() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path());
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let _committed = txn.commit().unwrap();

    store.limit_pages(80).unwrap();
    let written = fill_up(&mut store);
    assert!(written > 0);

    let txn = store.begin().unwrap();
    assert!(txn.view().job_by_number(number(1)).unwrap().is_some());
    let last = (written - 1).to_be_bytes().repeat(1000);
    assert_eq!(txn.view().blob(Hash::of(&last)).unwrap(), Some(last), "what was acknowledged is still there");
    let refused = written.to_be_bytes().repeat(1000);
    assert_eq!(txn.view().blob(Hash::of(&refused)).unwrap(), None, "what was refused did not happen");
    drop(txn);
    assert!(Reader::open(directory.path()).unwrap().view().job_by_number(number(1)).unwrap().is_some());

    store.limit_pages(1000).unwrap();
    let txn = store.begin().unwrap();
    insert_job(&txn, 2);
    let _committed = txn.commit().unwrap();
}
