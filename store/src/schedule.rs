//! Schedules.

use jobmesh_protocol::UnixMillis;
use rusqlite::Row;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// A schedule as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleRow {
    /// Its name.
    pub name: String,
    /// What it says, in the engine's encoding.
    pub body: Vec<u8>,
    /// Whether it fires no more until resumed.
    pub is_paused: bool,
    /// Whether it comes from the configuration file.
    pub is_declared: bool,
    /// The newest instant that was dealt with.
    pub last_at: UnixMillis,
    /// When it was made: what `every` counts from.
    pub created_at: UnixMillis,
    /// The newest instant whose job could not be submitted, and why.
    pub passed: Option<(UnixMillis, String)>,
}

fn read(row: &Row<'_>) -> Result<ScheduleRow, StoreError> {
    Ok(ScheduleRow {
        name: row.column("name")?,
        body: row.column("body")?,
        is_paused: row.column("is_paused")?,
        is_declared: row.column("is_declared")?,
        last_at: row.time("last_at")?,
        created_at: row.time("created_at")?,
        passed: row.time_or_none("passed_at")?.zip(row.column("passed_for")?),
    })
}

const COLUMNS: &str = "name, body, is_paused, is_declared, last_at, created_at, passed_at, passed_for";

impl View<'_> {
    /// Every schedule, by name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        self.all(&format!("SELECT {COLUMNS} FROM schedule ORDER BY name"), [], read)
    }

    /// The schedule of this name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        self.one(&format!("SELECT {COLUMNS} FROM schedule WHERE name = ?1"), [name], read)
    }
}

/// Most instants of one schedule of which it is known that they fired though their jobs are deleted: five weeks of
/// minutes.
const FIRED_MAX: u32 = 50_000;

impl View<'_> {
    /// Before which instant it may be forgotten that a schedule fired; none if nothing is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn fired_since(&self, schedule: &str) -> Result<Option<UnixMillis>, StoreError> {
        let sql = "SELECT at FROM fired WHERE schedule = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2";
        self.one(sql, params![schedule, FIRED_MAX - 1], |row| row.time("at"))
    }
}

impl Txn<'_> {
    /// Forgets the oldest instants of a schedule whose jobs are deleted, if there are too many.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn forget_fired(&self, schedule: &str) -> Result<(), StoreError> {
        if let Some(since) = self.view().fired_since(schedule)? {
            self.run("DELETE FROM fired WHERE schedule = ?1 AND at < ?2", params![schedule, since.0])?;
        }
        Ok(())
    }

    /// Writes a schedule.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_schedule(&self, schedule: &ScheduleRow) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO schedule (name, body, is_paused, is_declared, last_at, created_at, passed_at, \
                   passed_for) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let ScheduleRow { name, body, is_paused, is_declared, last_at, created_at, passed } = schedule;
        let (passed_at, passed_for) = passed.as_ref().map(|(at, why)| (at.0, why)).unzip();
        self.run(sql, params![name, body, is_paused, is_declared, last_at.0, created_at.0, passed_at, passed_for])?;
        Ok(())
    }

    /// Forgets a schedule, and which instants fired whose jobs are deleted. Its jobs stay.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_schedule(&self, name: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM schedule WHERE name = ?1", [name])?;
        self.run("DELETE FROM fired WHERE schedule = ?1", [name])?;
        Ok(())
    }
}
