//! Submissions that named themselves, so that a repeated one gets the first one's answer.

use jobmesh_protocol::{JobNumber, UnixMillis};

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

impl View<'_> {
    /// The job of the submission of this name, and when it came.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn submitted_as(&self, name: &str) -> Result<Option<(JobNumber, UnixMillis)>, StoreError> {
        self.one("SELECT job, at FROM idempotency WHERE name = ?1", [name], |row| {
            Ok((row.number("job")?, row.time("at")?))
        })
    }
}

impl Txn<'_> {
    /// Remembers the name of a submission.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn name_submission(&self, name: &str, job: JobNumber, at: UnixMillis) -> Result<(), StoreError> {
        let sql = "INSERT OR REPLACE INTO idempotency (name, job, at) VALUES (?1, ?2, ?3)";
        self.run(sql, params![name, job.key(), at.0])?;
        Ok(())
    }

    /// Forgets the names of submissions before `at`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_submission_names_before(&self, at: UnixMillis) -> Result<(), StoreError> {
        self.run("DELETE FROM idempotency WHERE at < ?1", [at.0])?;
        Ok(())
    }
}
