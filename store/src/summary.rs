//! Observations of this node, and the newest summary of every author and day.

use jobmesh_keys::NodeId;
use jobmesh_protocol::cbor;
use jobmesh_protocol::summary::{Cell, Head};

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// Largest encoded histogram: 96 bins of at most 8 bytes, and room.
const HISTOGRAM_BYTES_MAX: usize = 1024;

/// A summary in its author's envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRow {
    /// Author, day and version.
    pub head: Head,
    /// The envelope's bytes.
    pub envelope: Vec<u8>,
}

impl View<'_> {
    /// This node's own observations of a day, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn cells(&self, day: u32) -> Result<Vec<Cell>, StoreError> {
        let sql = "SELECT job_type, executor, node, succeeded, failed, timed_out, lost, durations FROM cell \
                   WHERE day = ?1 ORDER BY job_type, executor, node";
        self.all(sql, [day], |row| {
            let durations: Vec<u8> = row.column("durations")?;
            let read = cbor::decode(&durations, HISTOGRAM_BYTES_MAX);
            Ok(Cell {
                job_type: row.column("job_type")?,
                executor: row.column("executor")?,
                node: row.node("node")?,
                succeeded: row.column("succeeded")?,
                failed: row.column("failed")?,
                timed_out: row.column("timed_out")?,
                lost: row.column("lost")?,
                durations: read.map_err(|_| StoreError::Damaged { what: "histogram" })?,
            })
        })
    }

    /// The summaries from `since_day` on, by author and day.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn summaries(&self, since_day: u32) -> Result<Vec<SummaryRow>, StoreError> {
        let sql = "SELECT author, day, version, envelope FROM summary WHERE day >= ?1 ORDER BY author, day";
        self.all(sql, [since_day], |row| {
            let head = Head { author: row.node("author")?, day: row.column("day")?, version: row.column("version")? };
            Ok(SummaryRow { head, envelope: row.column("envelope")? })
        })
    }

    /// What is kept from `since_day` on, without the envelopes: so many of the newest days first, then by author.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn summary_heads(&self, since_day: u32, limit: u32) -> Result<Vec<Head>, StoreError> {
        let sql = "SELECT author, day, version FROM summary WHERE day >= ?1 ORDER BY day DESC, author LIMIT ?2";
        self.all(sql, [since_day, limit], |row| {
            Ok(Head { author: row.node("author")?, day: row.column("day")?, version: row.column("version")? })
        })
    }

    /// The summary kept of an author's day, in its author's envelope.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn summary(&self, author: NodeId, day: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT envelope FROM summary WHERE author = ?1 AND day = ?2";
        self.one(sql, params![author.as_bytes(), day], |row| row.column("envelope"))
    }

    /// The version kept of an author's day; 0 if none is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn summary_version(&self, author: NodeId, day: u32) -> Result<u64, StoreError> {
        let sql = "SELECT version FROM summary WHERE author = ?1 AND day = ?2";
        let found = self.one(sql, params![author.as_bytes(), day], |row| row.column("version"))?;
        Ok(found.unwrap_or(0))
    }
}

impl Txn<'_> {
    /// Keeps a cell of this node's own observations in place of the old one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_cell(&self, day: u32, cell: &Cell) -> Result<(), StoreError> {
        let sql = "INSERT INTO cell (day, job_type, executor, node, succeeded, failed, timed_out, lost, durations) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                   ON CONFLICT (day, job_type, executor, node) DO UPDATE SET succeeded = excluded.succeeded, \
                   failed = excluded.failed, timed_out = excluded.timed_out, lost = excluded.lost, \
                   durations = excluded.durations";
        let values = params![
            day,
            cell.job_type,
            cell.executor,
            cell.node.as_bytes(),
            cell.succeeded,
            cell.failed,
            cell.timed_out,
            cell.lost,
            cbor::encode(&cell.durations),
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Keeps a summary if it is newer than the one kept. Returns whether it was.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_summary(&self, summary: &SummaryRow) -> Result<bool, StoreError> {
        let sql = "INSERT INTO summary (author, day, version, envelope) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (author, day) DO UPDATE SET version = excluded.version, envelope = excluded.envelope \
                   WHERE excluded.version > version";
        let head = summary.head;
        let changed = self.run(sql, params![head.author.as_bytes(), head.day, head.version, summary.envelope])?;
        Ok(changed == 1)
    }

    /// Drops observations and summaries from before a day.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_summaries_before(&self, day: u32) -> Result<(), StoreError> {
        self.run("DELETE FROM summary WHERE day < ?1", [day])?;
        self.run("DELETE FROM cell WHERE day < ?1", [day])?;
        Ok(())
    }
}
