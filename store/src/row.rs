//! Reading columns as the types they stand for.

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::{BlobRef, Hash};
use jobmesh_protocol::{JobId, JobNumber, MessageId, UnixMillis};
use rusqlite::{Error, Row};

use crate::error::StoreError;

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
        self.get(name).map_err(|error| {
            let is_of_another_type = matches!(
                error,
                Error::FromSqlConversionFailure(..)
                    | Error::IntegralValueOutOfRange(..)
                    | Error::InvalidColumnType(..)
                    | Error::Utf8Error(..)
            );
            if is_of_another_type { StoreError::Damaged { what: name } } else { error.into() }
        })
    }
}
