//! Databases that released builds wrote are opened, brought to the newest schema and read.
//!
//! Each `fixtures/NN.sql` is the dump of a database of schema NN, full of the rows of [`samples::fill`] as they were
//! then. While a schema is not released its fixture follows it: run the tests with `JOBMESH_GOLDEN_WRITE=1`, look at
//! the difference, commit it. Once it is released neither its migration nor its fixture ever changes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{Epoch, Incarnation, RunId};
use jobmesh_store::{DATABASE_NAME, Job, Selection, Side, Store, StoreError, View};
use rusqlite::Connection;
use tempfile::{TempDir, tempdir};

use crate::samples::{self, AT, DAY, KEY, PEER, number};

pub(crate) fn strings(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn pragma(connection: &Connection, name: &str) -> u32 {
    connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
}

pub(crate) const SCHEMA: &str =
    "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
pub(crate) const TABLES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";

pub(crate) fn columns(connection: &Connection, table: &str) -> Vec<String> {
    strings(connection, &format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"))
}

/// These columns of every row of a table, as SQL writes them, in their order.
pub(crate) fn rows(connection: &Connection, table: &str, columns: &[String]) -> Vec<String> {
    let quoted: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
    strings(connection, &format!("SELECT {} FROM {table} ORDER BY {}", quoted.join(" || ', ' || "), columns.join(", ")))
}

/// The statements that make the database again.
fn dump(connection: &Connection) -> String {
    let mut text = String::new();
    for statement in strings(connection, SCHEMA) {
        writeln!(text, "{statement};").unwrap();
    }
    for table in strings(connection, TABLES) {
        for row in rows(connection, &table, &columns(connection, &table)) {
            writeln!(text, "INSERT INTO {table} VALUES ({row});").unwrap();
        }
    }
    for name in ["application_id", "user_version"] {
        writeln!(text, "PRAGMA {name} = {};", pragma(connection, name)).unwrap();
    }
    text
}

/// Makes a database of this build, full of samples, and returns a connection of its own to it.
pub(crate) fn filled(directory: &Path) -> Connection {
    let mut store = samples::open(directory);
    let txn = store.begin().unwrap();
    samples::fill(&txn);
    let _committed = txn.commit().unwrap();
    drop(store);
    raw(directory)
}

/// A connection that knows nothing of ours. It checks no references: a dump has its tables in any order.
pub(crate) fn raw(directory: &Path) -> Connection {
    let connection = Connection::open(directory.join(DATABASE_NAME)).unwrap();
    connection.pragma_update(None, "foreign_keys", false).unwrap();
    connection
}

fn fixture_path(schema: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/{schema:02}.sql"))
}

/// Makes the database of a released schema again, as its build left it.
pub(crate) fn released(schema: u32) -> TempDir {
    let path = fixture_path(schema);
    let sql = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display())).unwrap();
    let directory = tempdir().unwrap();
    raw(directory.path()).execute_batch(&sql).unwrap();
    directory
}

/// Everything that the queries find, as text.
pub(crate) fn everything(view: &View<'_>) -> Result<String, StoreError> {
    let jobs = view.jobs(&Selection { with_tasks: true, limit: u32::MAX, ..Selection::default() })?;
    let mut text = format!("{:#?}\n{:#?}\n", jobs, view.live_jobs()?);
    for job in &jobs {
        text.push_str(&all_of(view, job)?);
    }
    let mut add = |found: &dyn std::fmt::Debug| writeln!(text, "{found:#?}").unwrap();
    add(&(view.last_job_number()?, view.job_counts()?, view.queue_counts()?, view.unique_holder(&KEY)?));
    add(&(view.fired("hourly", AT)?, view.live_fired("hourly")?, view.submitted_as("deploy-7")?));
    add(&(view.queues()?, view.rates()?, view.schedules()?, view.metrics(0)?));
    add(&(view.blob(Hash::of(b"out"))?, view.outbox(PEER, 0, 9)?, view.inbound(PEER)?));
    add(&(view.peers()?, view.capabilities()?, view.choices()?, view.invite(&samples::invite().secret_hash)?));
    add(&(view.links(PEER, Side::Given, 9)?, view.links(PEER, Side::Taken, 9)?, view.open_receipts()?));
    add(&(view.alarms()?, view.leases_open(PEER, 9)?, view.last_numbers()?));
    add(&(view.cells(DAY)?, view.summaries(0)?, view.meta("membership")?));
    Ok(text)
}

fn all_of(view: &View<'_>, job: &Job) -> Result<String, StoreError> {
    let run = RunId { job: job.id, epoch: Epoch(1) };
    let mut text = String::new();
    let mut add = |found: &dyn std::fmt::Debug| writeln!(text, "{found:#?}").unwrap();
    add(&(view.job(job.id)?, view.attempts(job.id)?, view.events(job.id)?, view.lease(job.id)?));
    add(&(view.receipts(job.id)?, view.receipt_count(run)?, view.group(job.number)?, view.items_around(job.number)?));
    add(&(view.dependencies(job.number)?, view.dependants(job.number)?));
    add(&(view.progress(job.number)?, view.checkpoints(job.number)?));
    Ok(text)
}

#[test]
fn every_column_of_every_table_has_a_sample() {
    let directory = tempdir().unwrap();
    let connection = filled(directory.path());
    for table in strings(&connection, TABLES) {
        for column in columns(&connection, &table) {
            let sql = format!("SELECT count({column}) FROM {table}");
            let values: u32 = connection.query_row(&sql, [], |row| row.get(0)).unwrap();
            assert!(values > 0, "no sample fills {table}.{column}");
        }
    }
}

#[test]
fn every_released_schema_is_brought_to_the_newest() {
    let fresh = tempdir().unwrap();
    let connection = filled(fresh.path());
    let newest = pragma(&connection, "user_version");
    #[expect(
        clippy::disallowed_methods,
        reason = "the variable asks this test to write the file, it does not steer the crate"
    )]
    let write = std::env::var_os("JOBMESH_GOLDEN_WRITE").is_some();
    if write {
        std::fs::write(fixture_path(newest), dump(&connection)).unwrap();
    }
    for schema in 1..=newest {
        let directory = released(schema);
        let mut store = Store::open(directory.path(), Incarnation::from_bytes([0; 16])).unwrap();
        assert_eq!(store.incarnation(), samples::INCARNATION);
        let txn = store.begin().unwrap();
        let last = txn.view().last_job_number().unwrap().unwrap();
        let new = samples::insert_job(&txn, last.number() + 1);
        let _committed = txn.commit().unwrap();
        assert_eq!(store.begin().unwrap().view().job(new.id).unwrap(), Some(new));
        drop(store);
        let migrated = raw(directory.path());
        let both = [&migrated, &connection].map(|connection| strings(connection, SCHEMA));
        let [found, wanted] = &both;
        assert_eq!(
            found, wanted,
            "schema {schema} does not end where a new database begins; see the head of this file"
        );
        let broken = strings(&migrated, "SELECT \"table\" FROM pragma_foreign_key_check");
        assert_eq!(broken, Vec::<String>::new(), "rows of schema {schema} that refer to nothing");
    }
}

#[test]
fn the_newest_schema_reads_back_as_it_was_written() {
    let fresh = tempdir().unwrap();
    let newest = pragma(&filled(fresh.path()), "user_version");
    let read = |directory: &Path| everything(&samples::open(directory).begin().unwrap().view()).unwrap();
    assert_eq!(read(released(newest).path()), read(fresh.path()));
}

/// A value that this build can't read, such as a state that a later one adds, is named and never guessed.
#[test]
fn a_value_that_does_not_read_back_is_damage() {
    let directory = tempdir().unwrap();
    let connection = filled(directory.path());
    connection.execute("UPDATE job SET state = 'dreaming' WHERE key = 1 << 32", []).unwrap();
    connection.execute("UPDATE job SET priority = 1 << 40 WHERE key = 2 << 32", []).unwrap();
    connection.execute("UPDATE job SET spec = x'00' WHERE key = 3 << 32", []).unwrap();
    drop(connection);
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    for (job, what) in [(1, "job state"), (2, "priority"), (3, "job spec")] {
        let error = txn.view().job_by_number(number(job)).unwrap_err();
        assert_eq!(error.to_string(), format!("the job database holds a {what} that does not read back"));
    }
    assert!(txn.view().job_by_number(number(5)).unwrap().is_some(), "other jobs still read");
}
