//! Reading columns as the types they stand for, and writing values that fit them.

use std::cell::Cell;

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::{BlobRef, Hash};
use jobmesh_protocol::{JobId, JobNumber, MessageId, UnixMillis};
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use rusqlite::{Error, Row};

use crate::error::StoreError;

/// A value on its way into a column. A whole number of SQLite has 63 bits: a larger one is written as the largest, for a
/// value that can't be written would undo the commit, and with it what everybody else asked for.
pub(crate) struct Fitting<'v, T: ?Sized>(pub(crate) &'v T);

impl<T: ToSql + ?Sized> ToSql for Fitting<'_, T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        match self.0.to_sql() {
            // No other type of ours can fail to become a value.
            Err(Error::ToSqlConversionFailure(_)) => Ok(ToSqlOutput::Owned(Value::Integer(i64::MAX))),
            known => known,
        }
    }
}

/// The parameters of a statement, each of which fits its column.
macro_rules! params {
    ($($value:expr),+ $(,)?) => {
        &[$(&$crate::row::Fitting(&$value) as &dyn ::rusqlite::ToSql),+] as &[&dyn ::rusqlite::ToSql]
    };
}

pub(crate) use params;

/// Typed columns of a row.
pub(crate) trait Columns {
    /// Reads a column. A value that is not of the type it stands for is damage.
    fn column<T: rusqlite::types::FromSql>(&self, name: &'static str) -> Result<T, StoreError>;

    fn job_id(&self, name: &'static str) -> Result<JobId, StoreError> {
        JobId::from_slice(&self.column::<Vec<u8>>(name)?).ok_or(StoreError::Damaged { what: "job id" })
    }

    fn number(&self, name: &'static str) -> Result<JobNumber, StoreError> {
        JobNumber::from_key(self.column(name)?).ok_or(StoreError::Damaged { what: "job number" })
    }

    fn node(&self, name: &'static str) -> Result<NodeId, StoreError> {
        self.node_or_none(name)?.ok_or(StoreError::Damaged { what: "node id" })
    }

    fn node_or_none(&self, name: &'static str) -> Result<Option<NodeId>, StoreError> {
        Ok(self.column::<Option<[u8; 32]>>(name)?.map(NodeId::from_bytes))
    }

    fn message_or_none(&self, name: &'static str) -> Result<Option<MessageId>, StoreError> {
        Ok(self.column::<Option<[u8; 16]>>(name)?.map(MessageId::from_bytes))
    }

    fn hash_or_none(&self, name: &'static str) -> Result<Option<Hash>, StoreError> {
        Ok(self.column::<Option<[u8; 32]>>(name)?.map(Hash::from_bytes))
    }

    fn blob(&self, hash: &'static str, size: &'static str) -> Result<Option<BlobRef>, StoreError> {
        let size = self.column::<Option<u64>>(size)?;
        Ok(self.hash_or_none(hash)?.zip(size).map(|(hash, size)| BlobRef { hash, size }))
    }

    fn time(&self, name: &'static str) -> Result<UnixMillis, StoreError> {
        self.column(name).map(UnixMillis)
    }

    fn time_or_none(&self, name: &'static str) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.column::<Option<u64>>(name)?.map(UnixMillis))
    }

    fn word<T>(
        &self,
        name: &'static str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        read(&self.column::<String>(name)?).ok_or(StoreError::Damaged { what })
    }

    fn word_or_none<T>(
        &self,
        name: &'static str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let word = self.column::<Option<String>>(name)?;
        word.map(|word| read(&word).ok_or(StoreError::Damaged { what })).transpose()
    }
}

impl Columns for Row<'_> {
    fn column<T: rusqlite::types::FromSql>(&self, name: &'static str) -> Result<T, StoreError> {
        self.get(name).map_err(|error| unread(error, name))
    }
}

/// A row whose columns are read in the order of the query. SQLite finds a column by comparing the names of all before
/// it, which is more work than reading a wide row.
#[derive(Debug)]
pub(crate) struct InOrder<'r> {
    row: &'r Row<'r>,
    next: Cell<usize>,
}

impl<'r> InOrder<'r> {
    pub(crate) const fn new(row: &'r Row<'r>) -> Self {
        Self { row, next: Cell::new(0) }
    }

    /// The place of the next column, which must be the one of this name.
    fn place(&self, name: &'static str) -> usize {
        let place = self.next.replace(self.next.get() + 1);
        debug_assert_eq!(self.row.as_ref().column_name(place).ok(), Some(name), "columns are read in order");
        place
    }

    /// The next column as it is stored.
    pub(crate) fn value(&self, name: &'static str) -> Result<ValueRef<'r>, StoreError> {
        Ok(self.row.get_ref(self.place(name))?)
    }
}

impl Columns for InOrder<'_> {
    fn column<T: rusqlite::types::FromSql>(&self, name: &'static str) -> Result<T, StoreError> {
        self.row.get(self.place(name)).map_err(|error| unread(error, name))
    }
}

fn unread(error: Error, name: &'static str) -> StoreError {
    let is_of_another_type = matches!(
        error,
        Error::FromSqlConversionFailure(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::InvalidColumnType(..)
            | Error::Utf8Error(..)
    );
    if is_of_another_type { StoreError::Damaged { what: name } } else { error.into() }
}
