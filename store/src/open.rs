//! Opening the database: lock, pragmas, identity of the file, migrations.

use std::path::{Path, PathBuf};

use jobmesh_protocol::Incarnation;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::{OpenError, StoreError};
use crate::lock::Lock;
use crate::migration::{self, APPLICATION_ID};
use crate::txn::Txn;

/// The database's file name in the data directory.
pub const DATABASE_NAME: &str = "jobs.db";

/// Statements kept prepared: more than the queries in this crate.
const STATEMENTS_MAX: usize = 128;

/// The one writer.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
    incarnation: Incarnation,
    _lock: Option<Lock>,
}

impl Store {
    /// Opens or creates the database in `directory`, which must exist, and keeps every other daemon out.
    ///
    /// `fresh` becomes the incarnation if the file is new.
    ///
    /// # Errors
    /// [`OpenError`] if another daemon has it, if it is not ours, too new, or damaged, or if only its log is left.
    pub fn open(directory: &Path, fresh: Incarnation) -> Result<Self, OpenError> {
        Self::open_if(directory, fresh, Missing::Made)
    }

    /// Does the same as [`Self::open`] where a database must be: a node that lost it must not go on as if it never had
    /// any.
    ///
    /// # Errors
    /// [`OpenError`], also if there is none.
    pub fn open_kept(directory: &Path, fresh: Incarnation) -> Result<Self, OpenError> {
        Self::open_if(directory, fresh, Missing::Refused)
    }

    fn open_if(directory: &Path, fresh: Incarnation, missing: Missing) -> Result<Self, OpenError> {
        let lock = Lock::take(directory)?;
        let path = real(directory)?.join(DATABASE_NAME);
        check_file(&path, missing)?;
        let connection = open_file(&path)?;
        renew_log(&connection, &path)?;
        Self::prepare(connection, path, (fresh, missing), Some(lock))
    }

    /// Empties the log into the file and lets go of it: what is left is the one file. Waits for nobody: returns whether
    /// no reader was in the way. If one was, the log stays beside the file, and belongs to it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails. Nothing is lost by it.
    pub fn close(self) -> Result<bool, StoreError> {
        let is_log_empty = self.empty_log()?;
        self.connection.close().map_err(|(_, error)| StoreError::from(error))?;
        Ok(is_log_empty)
    }

    /// Opens a database that lives in memory only, for simulations and tests.
    ///
    /// # Errors
    /// [`OpenError::Sqlite`] if SQLite has no memory.
    pub fn open_in_memory(fresh: Incarnation) -> Result<Self, OpenError> {
        let path = PathBuf::from(":memory:");
        let opened = Connection::open_in_memory();
        let connection = opened.map_err(|error| OpenError::Sqlite { path: path.clone(), source: error.into() })?;
        Self::prepare(connection, path, (fresh, Missing::Made), None)
    }

    /// Opens or creates the database at `path` of the SQLite file system (VFS) that is registered as `vfs`. Simulated
    /// disks are such; nobody else is kept out of them, and the files are not looked at before SQLite does.
    ///
    /// # Errors
    /// As [`Self::open`], but for what only real directories have.
    pub fn open_on(vfs: &str, path: &Path, fresh: Incarnation) -> Result<Self, OpenError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags_and_vfs(path, flags, vfs);
        let connection = opened.map_err(|error| OpenError::Sqlite { path: path.to_owned(), source: error.into() })?;
        Self::prepare(connection, path.to_owned(), (fresh, Missing::Made), None)
    }

    fn prepare(
        mut connection: Connection,
        path: PathBuf,
        (fresh, missing): (Incarnation, Missing),
        lock: Option<Lock>,
    ) -> Result<Self, OpenError> {
        let sqlite = |error: rusqlite::Error| OpenError::Sqlite { path: path.clone(), source: error.into() };
        let found: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(sqlite)?;
        let schema = migration::schema_of(&connection).map_err(sqlite)?;
        let is_empty = schema == 0 && found == 0 && table_count(&connection).map_err(sqlite)? == 0;
        if found != APPLICATION_ID && !is_empty {
            return Err(OpenError::Foreign { path, found });
        }
        if is_empty && missing == Missing::Refused {
            return Err(OpenError::Lost { path });
        }
        if schema > migration::newest() {
            return Err(OpenError::TooNew { path, found: schema, known: migration::newest() });
        }
        configure(&connection).map_err(sqlite)?;
        migration::migrate(&mut connection).map_err(sqlite)?;
        let incarnation = incarnation(&connection, fresh).map_err(sqlite)?;
        Ok(Self { connection, incarnation, _lock: lock })
    }

    /// Which life of the database this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Starts the write transaction.
    ///
    /// # Errors
    /// [`StoreError`] if SQLite refuses.
    pub fn begin(&mut self) -> Result<Txn<'_>, StoreError> {
        let inner = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // The last transaction may have renewed it, and whether that one was committed may be unknown.
        let incarnation = recorded(&inner)?;
        self.incarnation = incarnation;
        Ok(Txn::new(inner, incarnation))
    }

    /// Has commits no longer wait for the disk: a seeded bug.
    #[cfg(feature = "mutants")]
    pub fn sync_rarely(&self) {
        // A setting that is refused leaves a bug out that a test then misses.
        let _refused = self.connection.pragma_update(None, "synchronous", "NORMAL");
    }

    /// The connection, for what is done outside of transactions.
    pub(crate) const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Caps the database at so many pages, so that a test can fill the "disk".
    ///
    /// # Errors
    /// [`StoreError`] if SQLite refuses.
    pub fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.connection.pragma_update(None, "max_page_count", pages)?;
        Ok(())
    }
}

/// What becomes of a database that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Made,
    Refused,
}

/// Whether there is a database in `directory`, by its files alone: what [`Store::open`] looks at first where no node has
/// lived yet, and [`Store::open_kept`] where one has (`is_kept`).
///
/// # Errors
/// [`OpenError::OnlyLog`], or [`OpenError::Lost`] if it is missing where it must be.
pub fn find_database(directory: &Path, is_kept: bool) -> Result<bool, OpenError> {
    let path = directory.join(DATABASE_NAME);
    check_file(&path, if is_kept { Missing::Refused } else { Missing::Made })
}

/// Looks at the files before SQLite does: that takes an empty file for a new database and deletes the log beside it. Returns
/// whether there is one.
fn check_file(path: &Path, missing: Missing) -> Result<bool, OpenError> {
    let size = |path: &Path| path.symlink_metadata().map_or(0, |found| found.len());
    if size(path) > 0 {
        return Ok(true);
    }
    let log = path.with_extension("db-wal");
    if size(&log) > 0 {
        return Err(OpenError::OnlyLog { path: path.to_owned(), log });
    }
    match missing {
        Missing::Made => Ok(false),
        Missing::Refused => Err(OpenError::Lost { path: path.to_owned() }),
    }
}

/// Writes the log that an earlier daemon left once more and waits for the disk. Once a sync has failed, the system shows
/// what it covered and never writes it; commits behind such a hole would be gone after a power cut, though each of
/// them was synced. The bytes stay the same, so it does no harm to be killed here; and while this connection may write,
/// no other program may change the log.
fn renew_log(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let log = path.with_extension("db-wal");
    if !log.symlink_metadata().is_ok_and(|found| found.len() > 0) {
        return Ok(());
    }
    let sqlite = |error: rusqlite::Error| OpenError::Sqlite { path: path.to_owned(), source: error.into() };
    connection.execute_batch("BEGIN IMMEDIATE").map_err(sqlite)?;
    let renewed = rewrite(&log);
    connection.execute_batch("ROLLBACK").map_err(sqlite)?;
    match renewed {
        // A file system that writes to new places has none left. What is there stays as good as it was.
        Err(error) if error.kind() == std::io::ErrorKind::StorageFull => Ok(()),
        renewed => renewed.map_err(|source| OpenError::of_file(log, source)),
    }
}

/// Writes every byte of a file to where it is, and syncs it.
fn rewrite(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(no_links).open(path)?;
    let (mut at, mut chunk) = (0, vec![0; 1 << 16]);
    loop {
        let length = file.read_at(&mut chunk, at)?;
        let Some(found) = chunk.get(..length).filter(|found| !found.is_empty()) else { return file.sync_all() };
        file.write_all_at(found, at)?;
        at += length as u64;
    }
}

/// The directory without symbolic links: a home may lie behind one, but SQLite is told to follow none.
fn real(directory: &Path) -> Result<PathBuf, OpenError> {
    directory.canonicalize().map_err(|source| OpenError::File { path: directory.to_owned(), source })
}

fn open_file(path: &Path) -> Result<Connection, OpenError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|source| OpenError::of_file(path.to_owned(), source))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let opened = Connection::open_with_flags(path, flags);
    opened.map_err(|error| OpenError::Sqlite { path: path.to_owned(), source: error.into() })
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.busy_timeout(std::time::Duration::from_secs(5))
}

fn table_count(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
}

fn incarnation(connection: &Connection, fresh: Incarnation) -> rusqlite::Result<Incarnation> {
    connection.execute(
        "INSERT INTO meta (name, value) VALUES ('incarnation', ?1) ON CONFLICT DO NOTHING",
        [fresh.as_bytes().as_slice()],
    )?;
    recorded(connection)
}

fn recorded(connection: &Connection) -> rusqlite::Result<Incarnation> {
    let read = |row: &rusqlite::Row<'_>| row.get::<_, [u8; 16]>(0);
    let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE name = 'incarnation'")?;
    Ok(Incarnation::from_bytes(statement.query_row([], read)?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::error::Fault;
    use crate::view::View;

    /// An acknowledged submission survives a power cut only so. `synchronous` belongs to the connection, so that no
    /// look at the file can show it.
    #[test]
    fn the_writer_waits_for_the_disk_at_every_commit() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Incarnation::from_bytes([1; 16])).unwrap();
        let text = |sql| store.connection.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
        let number = |sql| store.connection.query_row(sql, [], |row| row.get::<_, u32>(0)).unwrap();
        assert_eq!(text("PRAGMA journal_mode"), "wal");
        assert_eq!(number("PRAGMA synchronous"), 2, "FULL");
        assert_eq!(number("PRAGMA foreign_keys"), 1);
        assert_eq!(number("PRAGMA user_version"), migration::newest());
    }

    #[test]
    fn a_file_that_is_written_once_more_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jobs.db-wal");
        let bytes: Vec<u8> = (0..200_001_u32).map(|place| u8::try_from(place % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        rewrite(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(rewrite(&link).is_err(), "links are not followed");
    }

    /// The log of a daemon that was killed holds what it committed last.
    #[test]
    fn what_a_killed_daemon_left_in_its_log_is_still_there() {
        let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut store = Store::open(before.path(), Incarnation::from_bytes([1; 16])).unwrap();
        let txn = store.begin().unwrap();
        txn.set_meta("fact", b"known").unwrap();
        let _committed = txn.commit().unwrap();
        for name in [DATABASE_NAME, "jobs.db-wal"] {
            std::fs::copy(before.path().join(name), after.path().join(name)).unwrap();
        }
        let mut found = Store::open(after.path(), Incarnation::from_bytes([2; 16])).unwrap();
        assert_eq!(found.incarnation(), store.incarnation());
        assert_eq!(found.begin().unwrap().view().meta("fact").unwrap().as_deref(), Some(b"known".as_slice()));
    }

    fn memory() -> Store {
        Store::open_in_memory(Incarnation::from_bytes([1; 16])).unwrap()
    }

    /// Stands for a file system that became read-only under a running daemon.
    #[test]
    fn a_write_that_is_not_allowed_says_so() {
        let mut store = memory();
        store.connection.pragma_update(None, "query_only", true).unwrap();
        let error = store.begin().unwrap_err();
        assert!(matches!(error, StoreError::Sqlite(Fault::ReadOnly(_))), "{error:?}");
        assert!(error.to_string().contains("write the data directory"), "{error}");
        let live = View::new(&store.connection).live_jobs().unwrap();
        assert_eq!(live, Vec::new(), "and it still reads");
    }

    #[test]
    fn a_writer_that_another_program_keeps_out_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(directory.path(), Incarnation::from_bytes([1; 16])).unwrap();
        store.connection.busy_timeout(std::time::Duration::ZERO).unwrap();
        let other = Connection::open(directory.path().join(DATABASE_NAME)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let error = store.begin().unwrap_err();
        assert!(matches!(error, StoreError::Sqlite(Fault::Busy(_))), "{error:?}");
        assert!(error.to_string().contains("try again"), "{error}");
        other.execute_batch("ROLLBACK").unwrap();
        let _committed = store.begin().unwrap().commit().unwrap();
    }

    /// The setting is switched off while tables are rebuilt; without it a job could be deleted under its attempts.
    #[test]
    fn references_are_checked_after_the_migration() {
        let store = memory();
        let is_on: bool = store.connection.query_row("PRAGMA foreign_keys", [], |row| row.get(0)).unwrap();
        assert!(is_on);
        let sql = "INSERT INTO event (job, epoch, state, cause, at) VALUES (zeroblob(16), 0, 'available', 'ready', 0)";
        let error = StoreError::from(store.connection.execute(sql, []).unwrap_err());
        assert!(matches!(error, StoreError::Sqlite(Fault::Rule(_))), "{error:?}");
    }
}
