//! The read queries, over the writer's transaction or a reader's connection alike.

use rusqlite::{Connection, Params, Row};

use crate::error::StoreError;

/// Reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'c>(&'c Connection);

impl<'c> View<'c> {
    pub(crate) const fn new(connection: &'c Connection) -> Self {
        Self(connection)
    }

    pub(crate) fn one<T, P: Params>(
        &self,
        sql: &str,
        params: P,
        read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(read).transpose()
    }

    pub(crate) fn all<T, P: Params>(
        &self,
        sql: &str,
        params: P,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row)?);
        }
        Ok(found)
    }
}
