//! Facts about this database and its node, one named value each.

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

impl View<'_> {
    /// The value under a name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.one("SELECT value FROM meta WHERE name = ?1", [name], |row| row.column("value"))
    }
}

impl Txn<'_> {
    /// Keeps a value under a name.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.run(sql, params![name, value])?;
        Ok(())
    }
}
