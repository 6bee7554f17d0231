//! Whose the file is, which schema it has, and that one daemon at a time has it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jobmesh_protocol::Incarnation;
use jobmesh_store::{DATABASE_NAME, Fault, OpenError, Reader, Store, StoreError, find_database};
use rusqlite::Connection;
use tempfile::tempdir;

use crate::samples::{INCARNATION, insert_job, number, open};

fn refusal(directory: &Path) -> OpenError {
    Store::open(directory, INCARNATION).map(drop).unwrap_err()
}

/// Makes a database of another program's, or of another version of ours.
fn write_database(directory: &Path, sql: &str) -> Vec<u8> {
    let path = directory.join(DATABASE_NAME);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_new_database_is_readable_by_its_owner_only() {
    let directory = tempdir().unwrap();
    let _store = open(directory.path());
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
    }
    assert!(directory.path().join(DATABASE_NAME).exists());
}

#[test]
fn a_new_database_bears_our_mark_and_newest_schema() {
    let directory = tempdir().unwrap();
    drop(open(directory.path()));
    let connection = Connection::open(directory.path().join(DATABASE_NAME)).unwrap();
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
    assert_eq!(number("PRAGMA application_id").to_be_bytes(), *b"jmsh");
    let steps = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/migrations")).unwrap().count();
    assert_eq!(number("PRAGMA user_version") as usize, steps, "a migration that no step runs");
    let lax =
        "SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' AND NOT strict";
    assert_eq!(number(lax), 0, "every table is STRICT");
}

#[test]
fn a_second_daemon_is_told_who_has_the_directory() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let error = refusal(directory.path());
    assert!(matches!(&error, OpenError::InUse { holder, .. } if holder.pid == Some(std::process::id())), "{error:?}");
    assert!(error.to_string().contains("jobmesh down"), "{error}");
    drop(store);
    open(directory.path());
}

/// The variable by which [`a_daemon_holds_the_directory`] knows that it is the child of the next test.
const HOLD: &str = "JOBMESH_TEST_HOLD";

/// Not a test by itself: opens the directory, commits one job, writes another and waits to be killed.
#[test]
fn a_daemon_holds_the_directory() {
    #[expect(clippy::disallowed_methods, reason = "it tells the child of a test from the test run itself")]
    let Some(directory) = std::env::var_os(HOLD) else { return };
    let mut store = open(Path::new(&directory));
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let _committed = txn.commit().unwrap();
    let txn = store.begin().unwrap();
    insert_job(&txn, 2);
    std::io::stdout().write_all(b"\nheld\n").unwrap();
    std::io::stdout().flush().unwrap();
    // Ends when the parent does, even if that forgets to kill.
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

fn spawn_holder(directory: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opening::a_daemon_holds_the_directory", "--nocapture"])
        .env(HOLD, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "held"), "the child ended before it had the directory");
    child
}

#[test]
fn a_killed_daemon_lets_go_and_leaves_what_it_committed() {
    let directory = tempdir().unwrap();
    let mut child = spawn_holder(directory.path());
    let error = refusal(directory.path());
    let named = matches!(&error, OpenError::InUse { holder, .. } if holder.pid == Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(named, "{error:?}");

    let mut store = open(directory.path());
    let txn = store.begin().unwrap();
    assert!(txn.view().job_by_number(number(1)).unwrap().is_some());
    assert_eq!(txn.view().job_by_number(number(2)).unwrap(), None);
}

#[test]
fn an_incarnation_is_made_once() {
    let directory = tempdir().unwrap();
    assert_eq!(open(directory.path()).incarnation(), INCARNATION);
    let again = Store::open(directory.path(), Incarnation::from_bytes([2; 16])).unwrap();
    assert_eq!(again.incarnation(), INCARNATION);
}

#[test]
fn a_database_of_another_program_is_left_alone() {
    for sql in
        ["PRAGMA application_id = 7; CREATE TABLE job (id);", "CREATE TABLE job (id);", "PRAGMA user_version = 1;"]
    {
        let directory = tempdir().unwrap();
        let before = write_database(directory.path(), sql);
        let error = refusal(directory.path());
        assert!(matches!(error, OpenError::Foreign { .. }), "{sql}: {error:?}");
        assert_eq!(std::fs::read(directory.path().join(DATABASE_NAME)).unwrap(), before, "{sql}");
    }
}

#[test]
fn a_database_of_a_newer_build_is_left_alone() {
    let directory = tempdir().unwrap();
    drop(open(directory.path()));
    let before = write_database(directory.path(), "PRAGMA user_version = 99;");
    let error = refusal(directory.path());
    assert!(matches!(error, OpenError::TooNew { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("run a newer jobmesh"), "{error}");
    assert_eq!(std::fs::read(directory.path().join(DATABASE_NAME)).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let directory = tempdir().unwrap();
    let path = directory.path().join(DATABASE_NAME);
    let text = "my shopping list\n".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = refusal(directory.path());
    let is_named = matches!(&error, OpenError::Sqlite { source: StoreError::Sqlite(Fault::NoDatabase(_)), .. });
    assert!(is_named, "{error:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

/// The file is made before SQLite writes to it; a crash between the two leaves it empty.
#[test]
fn an_empty_file_becomes_a_new_database() {
    let directory = tempdir().unwrap();
    std::fs::write(directory.path().join(DATABASE_NAME), b"").unwrap();
    assert_eq!(open(directory.path()).incarnation(), INCARNATION);
}

/// A daemon began anew, without a word, in a data directory whose database had been lost.
#[test]
fn a_database_that_was_lost_is_not_made_again() {
    let directory = tempdir().unwrap();
    let path = directory.path().join(DATABASE_NAME);
    drop(Store::open_kept(directory.path(), INCARNATION).map(drop).unwrap_err());
    assert!(!path.exists());
    std::fs::write(&path, b"").unwrap();
    let error = Store::open_kept(directory.path(), INCARNATION).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Lost { .. }), "{error:?}");
    for said in [DATABASE_NAME, "restore a backup", "jobmesh up --new-database"] {
        assert!(error.to_string().contains(said), "{error}");
    }
    // What SQLite makes of it before anything was written: no table, but not an empty file either.
    write_database(directory.path(), "CREATE TABLE t (x); DROP TABLE t;");
    let error = Store::open_kept(directory.path(), INCARNATION).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Lost { .. }), "{error:?}");
    std::fs::remove_file(&path).unwrap();
    drop(open(directory.path()));
    Store::open_kept(directory.path(), INCARNATION).unwrap();
}

/// SQLite deletes the log of an empty database; with it went what was committed last.
#[test]
fn a_log_without_its_database_is_kept() {
    for is_empty in [true, false] {
        let directory = tempdir().unwrap();
        let log = directory.path().join(format!("{DATABASE_NAME}-wal"));
        std::fs::write(&log, b"committed").unwrap();
        if is_empty {
            std::fs::write(directory.path().join(DATABASE_NAME), b"").unwrap();
        }
        let error = refusal(directory.path());
        assert!(matches!(&error, OpenError::OnlyLog { log: named, .. } if named.ends_with("jobs.db-wal")), "{error:?}");
        assert!(matches!(find_database(directory.path(), true), Err(OpenError::OnlyLog { .. })));
        assert_eq!(std::fs::read(&log).unwrap(), b"committed");
    }
}

#[test]
fn a_closed_database_is_one_file() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path());
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let _committed = txn.commit().unwrap();
    let reader = Reader::open(directory.path()).unwrap();
    assert!(reader.view().job_by_number(number(1)).unwrap().is_some());
    let log = directory.path().join(format!("{DATABASE_NAME}-wal"));
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    assert!(store.close().unwrap());
    assert_eq!(std::fs::metadata(&log).map_or(0, |log| log.len()), 0, "also while somebody has it open");
    assert!(reader.view().job_by_number(number(1)).unwrap().is_some());
}

/// A copy of the one file would lack what the log holds.
#[test]
fn a_database_that_is_closed_while_somebody_reads_says_that_it_has_a_log() {
    let directory = tempdir().unwrap();
    let mut store = open(directory.path());
    let reader = Connection::open(directory.path().join(DATABASE_NAME)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM job").unwrap();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let _committed = txn.commit().unwrap();
    assert!(!store.close().unwrap());
    drop(reader);
    assert!(find_database(directory.path(), true).unwrap());
}

#[test]
fn a_directory_without_files_has_a_database_to_be_made_or_lost() {
    let directory = tempdir().unwrap();
    assert!(!find_database(directory.path(), false).unwrap());
    assert!(matches!(find_database(directory.path(), true), Err(OpenError::Lost { .. })));
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = refusal(&missing);
    assert!(matches!(&error, OpenError::File { path, .. } if path.starts_with(&missing)), "{error:?}");
    assert!(Reader::open(&missing).is_err());
}

/// SQLite is told to follow no link, and counts every directory above the file; so a data directory behind a link,
/// such as a home on another disk, could not be opened at all.
#[test]
fn a_directory_behind_a_link_is_opened() {
    let directory = tempdir().unwrap();
    let (real, link) = (directory.path().join("real"), directory.path().join("link"));
    std::fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let _store = open(&link);
    assert!(matches!(refusal(&real), OpenError::InUse { .. }));
}

#[test]
fn a_database_that_is_a_link_is_refused() {
    let directory = tempdir().unwrap();
    let elsewhere = tempdir().unwrap();
    symlink(elsewhere.path().join("other.db"), directory.path().join(DATABASE_NAME)).unwrap();
    assert!(matches!(refusal(directory.path()), OpenError::Sqlite { .. } | OpenError::File { .. }));
}
