//! The look for damage, and the emptying of the log.

use std::io::{Seek as _, SeekFrom, Write as _};

use jobmesh_protocol::Incarnation;
use jobmesh_store::{DATABASE_NAME, Reader, Store};
use tempfile::tempdir;

use crate::samples::insert_job;

fn filled(directory: &std::path::Path) -> Store {
    let mut store = Store::open(directory, Incarnation::from_bytes([1; 16])).unwrap();
    let txn = store.begin().unwrap();
    (1..=200).for_each(|at| drop(insert_job(&txn, at)));
    let _committed = txn.commit().unwrap();
    store
}

#[test]
fn a_sound_database_has_no_faults_and_its_log_is_emptied() {
    let directory = tempdir().unwrap();
    let mut store = filled(directory.path());
    let reader = Reader::open(directory.path()).unwrap();
    let tables = reader.view().tables().unwrap();
    assert!(tables.contains(&"job".to_owned()) && tables.contains(&"attempt".to_owned()), "{tables:?}");
    for table in tables {
        assert_eq!(reader.view().faults(&table).unwrap(), Vec::<String>::new(), "{table}");
    }
    assert!(store.upkeep().unwrap().is_log_empty);
    let log = directory.path().join(format!("{DATABASE_NAME}-wal"));
    assert_eq!(std::fs::metadata(log).unwrap().len(), 0);
    let txn = store.begin().unwrap();
    insert_job(&txn, 201);
    let _committed = txn.commit().unwrap();
}

#[test]
fn a_page_that_was_overwritten_is_found() {
    let directory = tempdir().unwrap();
    let mut store = filled(directory.path());
    assert!(store.upkeep().unwrap().is_log_empty);
    drop(store);
    let path = directory.path().join(DATABASE_NAME);
    let mut file = std::fs::File::options().write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    // All but the head, the schema and the newest pages.
    file.seek(SeekFrom::Start(size / 4 * 3)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(size / 8).unwrap()]).unwrap();
    drop(file);
    let reader = Reader::open(directory.path()).unwrap();
    // Bad damage is an error of the look itself.
    let is_found = |table: &String| reader.view().faults(table).map_or(true, |faults| !faults.is_empty());
    assert!(reader.view().tables().map_or(true, |tables| tables.iter().any(is_found)));
}
