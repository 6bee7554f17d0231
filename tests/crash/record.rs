//! What the database says after all is over, read without the daemon that wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

/// The database of a node that is down.
pub(crate) struct Record(Connection);

impl Record {
    pub(crate) fn open(database: &Path) -> Self {
        Self(Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap())
    }

    /// Whether its pages agree with each other.
    pub(crate) fn is_sound(&self) -> bool {
        self.0.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
    }

    /// Changes it behind the node's back.
    pub(crate) fn change(&self, sql: &str) {
        assert!(self.0.execute(sql, []).unwrap() > 0, "{sql} changed nothing");
    }

    /// The states of each job, in the order in which it took them.
    pub(crate) fn histories(&self) -> BTreeMap<String, Vec<String>> {
        let mut statement = self.0.prepare("SELECT hex(job), state FROM event ORDER BY id").unwrap();
        let mut rows = statement.query([]).unwrap();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        while let Some(row) = rows.next().unwrap() {
            found.entry(row.get(0).unwrap()).or_default().push(row.get(1).unwrap());
        }
        found
    }

    /// The instants at which a schedule fired, in milliseconds, in order, each as often as it did.
    pub(crate) fn fired(&self, schedule: &str) -> Vec<u64> {
        let mut statement = self.0.prepare("SELECT fire_at FROM job WHERE schedule = ?1 ORDER BY fire_at").unwrap();
        statement.query_map([schedule], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    /// The page at which a table begins, counted from 0, and the length of a page.
    pub(crate) fn root_page(&self, table: &str) -> (u64, u64) {
        let sql = "SELECT rootpage - 1 FROM sqlite_schema WHERE name = ?1";
        let page = self.0.query_row(sql, [table], |row| row.get(0)).unwrap();
        (page, self.0.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap())
    }
}
