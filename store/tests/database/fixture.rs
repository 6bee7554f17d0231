//! Databases that released builds wrote are opened, brought to the newest schema and read.
//!
//! Each `fixtures/NN.sql` is the dump of a database of schema NN, full of the rows of [`samples::fill`]. While a
//! schema is not released its fixture follows it: run the tests with `JOBMESH_GOLDEN_WRITE=1`, look at the
//! difference, commit it. Once it is released neither its migration nor its fixture ever changes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jobmesh_protocol::Epoch;
use jobmesh_protocol::RunId;
use jobmesh_protocol::id::Hash;
use jobmesh_store::{DATABASE_NAME, Selection, Store, View};
use rusqlite::Connection;
use tempfile::tempdir;

use crate::samples::{self, DAY, PEER, job_id};

fn fixture_path(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{schema:02}.sql"))
}

fn strings(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn number(connection: &Connection, pragma: &str) -> u32 {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0)).unwrap()
}

const SCHEMA: &str = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";

/// The statements that make the database again.
fn dump(connection: &Connection) -> String {
    let mut text = String::new();
    for statement in strings(connection, SCHEMA) {
        writeln!(text, "{statement};").unwrap();
    }
    for table in strings(connection, TABLES) {
        let columns = strings(connection, &format!("SELECT name FROM pragma_table_info('{table}')"));
        let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        let sql = format!("SELECT {} FROM {table} ORDER BY {}", quoted.join(" || ', ' || "), columns.join(", "));
        for row in strings(connection, &sql) {
            writeln!(text, "INSERT INTO {table} VALUES ({row});").unwrap();
        }
    }
    for pragma in ["application_id", "user_version"] {
        writeln!(text, "PRAGMA {pragma} = {};", number(connection, pragma)).unwrap();
    }
    text
}

/// Makes a database of this build, full of samples, and returns its connection.
fn filled(directory: &Path) -> Connection {
    let mut store = samples::open(directory);
    let txn = store.begin().unwrap();
    samples::fill(&txn);
    let _committed = txn.commit().unwrap();
    drop(store);
    Connection::open(directory.join(DATABASE_NAME)).unwrap()
}

/// Everything that the queries find, as text.
fn everything(view: &View<'_>) -> String {
    let jobs = view.jobs(&Selection { state: None, live_only: false, limit: 100 }).unwrap();
    let mut text = format!("{:#?}\n{:#?}\n", jobs, view.live_jobs().unwrap());
    for job in jobs {
        let run = RunId { job: job.id, epoch: Epoch(1) };
        let (attempts, events) = (view.attempts(job.id).unwrap(), view.events(job.id).unwrap());
        writeln!(text, "{attempts:#?}\n{events:#?}\n{:#?}", view.lease(job.id).unwrap()).unwrap();
        writeln!(text, "{:#?} {}", view.receipts(job.id).unwrap(), view.receipt_count(run).unwrap()).unwrap();
    }
    writeln!(text, "{:?}", view.blob(Hash::of(b"out")).unwrap()).unwrap();
    writeln!(text, "{:?} {:?}", view.outbox(PEER, 0, 9).unwrap(), view.inbound(PEER).unwrap()).unwrap();
    writeln!(text, "{:?} {:?}", view.peers().unwrap(), view.capabilities().unwrap()).unwrap();
    writeln!(text, "{:?} {:?}", view.choices().unwrap(), view.invite(&samples::invite().secret_hash).unwrap()).unwrap();
    writeln!(text, "{:?} {:?}", view.cells(DAY).unwrap(), view.summaries(0).unwrap()).unwrap();
    writeln!(text, "{:?}", view.meta("membership").unwrap()).unwrap();
    text
}

#[test]
fn every_table_has_a_sample() {
    let directory = tempdir().unwrap();
    let connection = filled(directory.path());
    for table in strings(&connection, TABLES) {
        let rows: u32 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert!(rows > 0, "no sample fills the table {table}");
    }
}

#[test]
fn every_released_schema_is_brought_to_the_newest_and_read() {
    let fresh = tempdir().unwrap();
    let connection = filled(fresh.path());
    let newest = number(&connection, "user_version");
    #[expect(
        clippy::disallowed_methods,
        reason = "the variable asks this test to write the file, it does not steer the crate"
    )]
    let write = std::env::var_os("JOBMESH_GOLDEN_WRITE").is_some();
    if write {
        std::fs::write(fixture_path(newest), dump(&connection)).unwrap();
    }
    let schema = strings(&connection, SCHEMA);
    drop(connection);
    let mut store = samples::open(fresh.path());
    let expected = everything(&store.begin().unwrap().view());
    for number in 1..=newest {
        check_fixture(number, &schema, &expected);
    }
}

fn check_fixture(number: u32, schema: &[String], expected: &str) {
    let path = fixture_path(number);
    let sql = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display())).unwrap();
    let directory = tempdir().unwrap();
    let file = directory.path().join(DATABASE_NAME);
    Connection::open(&file).unwrap().execute_batch(&sql).unwrap();
    let mut store = Store::open(directory.path(), jobmesh_protocol::Incarnation::from_bytes([0; 16])).unwrap();
    assert_eq!(store.incarnation(), samples::INCARNATION);
    let txn = store.begin().unwrap();
    assert_eq!(everything(&txn.view()), expected, "schema {number} reads back otherwise");
    assert_eq!(samples::insert_job(&txn, job_id(200)), 4);
    let _committed = txn.commit().unwrap();
    drop(store);
    let migrated = strings(&Connection::open(&file).unwrap(), SCHEMA);
    assert_eq!(migrated, schema, "schema {number} does not end where a new database begins; see the head of this file");
}

/// A value that this build can't read, such as a state that a later one adds, is named and never guessed.
#[test]
fn a_value_that_does_not_read_back_is_damage() {
    let directory = tempdir().unwrap();
    let connection = filled(directory.path());
    connection.execute("UPDATE job SET state = 'dreaming' WHERE number = 1", []).unwrap();
    drop(connection);
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    let error = txn.view().job_by_number(1).unwrap_err();
    assert_eq!(error.to_string(), "the job database holds a job state that does not read back");
    assert!(txn.view().job_by_number(2).unwrap().is_some(), "other jobs still read");
}
