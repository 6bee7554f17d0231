//! The one write transaction, and the proof that it is on disk.

use std::cell::Cell;

use jobmesh_protocol::Incarnation;
use rusqlite::{Params, Transaction};

use crate::error::StoreError;
use crate::view::View;

/// Proof that a transaction is on disk. Only [`Txn::commit`] makes one.
#[derive(Debug)]
#[must_use = "the proof releases the outputs of the step"]
pub struct Committed(());

/// The open write transaction. Dropped without a commit, nothing of it happened.
#[derive(Debug)]
pub struct Txn<'s> {
    inner: Transaction<'s>,
    incarnation: Cell<Incarnation>,
}

impl<'s> Txn<'s> {
    pub(crate) const fn new(inner: Transaction<'s>, incarnation: Incarnation) -> Self {
        Self { inner, incarnation: Cell::new(incarnation) }
    }

    /// The read queries, seeing this transaction's own writes.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View::new(&self.inner)
    }

    /// Which life of the database this is.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation.get()
    }

    /// Makes this another life of the database: peers begin to count its messages anew.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn renew_incarnation(&self, fresh: Incarnation) -> Result<(), StoreError> {
        self.set_meta("incarnation", fresh.as_bytes())?;
        self.incarnation.set(fresh);
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// [`StoreError`]: whether it happened is then *unknown*; read the database again.
    pub fn commit(self) -> Result<Committed, StoreError> {
        self.inner.commit()?;
        Ok(Committed(()))
    }

    /// Commits and takes a failed sync for a good one: a seeded bug.
    ///
    /// # Errors
    /// As [`Self::commit`], but for that.
    #[cfg(feature = "mutants")]
    pub fn commit_whatever_the_sync_says(self) -> Result<Committed, StoreError> {
        match self.inner.commit() {
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC =>
            {
                Ok(Committed(()))
            }
            Err(error) => Err(error.into()),
            Ok(()) => Ok(Committed(())),
        }
    }

    /// Runs one statement and says how many rows it changed.
    pub(crate) fn run<P: Params>(&self, sql: &str, params: P) -> Result<usize, StoreError> {
        Ok(self.inner.prepare_cached(sql)?.execute(params)?)
    }

    /// The row id of the last insert.
    pub(crate) fn last_id(&self) -> u64 {
        u64::try_from(self.inner.last_insert_rowid()).unwrap_or(0)
    }
}
