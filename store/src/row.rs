//! Reading columns as the types they stand for.

use jobmesh_keys::NodeId;
use jobmesh_protocol::id::{BlobRef, Hash};
use jobmesh_protocol::{JobId, MessageId, UnixMillis};
use rusqlite::Row;

use crate::error::StoreError;

/// Typed columns of a row.
pub(crate) trait Columns {
    fn column<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, StoreError>;

    fn job_id(&self, name: &str) -> Result<JobId, StoreError> {
        JobId::from_slice(&self.column::<Vec<u8>>(name)?).ok_or(StoreError::Damaged { what: "job id" })
    }

    fn node(&self, name: &str) -> Result<NodeId, StoreError> {
        self.node_or_none(name)?.ok_or(StoreError::Damaged { what: "node id" })
    }

    fn node_or_none(&self, name: &str) -> Result<Option<NodeId>, StoreError> {
        Ok(self.column::<Option<[u8; 32]>>(name)?.map(NodeId::from_bytes))
    }

    fn message_or_none(&self, name: &str) -> Result<Option<MessageId>, StoreError> {
        Ok(self.column::<Option<[u8; 16]>>(name)?.map(MessageId::from_bytes))
    }

    fn hash_or_none(&self, name: &str) -> Result<Option<Hash>, StoreError> {
        Ok(self.column::<Option<[u8; 32]>>(name)?.map(Hash::from_bytes))
    }

    fn blob(&self, hash: &str, size: &str) -> Result<Option<BlobRef>, StoreError> {
        let size = self.column::<Option<u64>>(size)?;
        Ok(self.hash_or_none(hash)?.zip(size).map(|(hash, size)| BlobRef { hash, size }))
    }

    fn time(&self, name: &str) -> Result<UnixMillis, StoreError> {
        self.column(name).map(UnixMillis)
    }

    fn time_or_none(&self, name: &str) -> Result<Option<UnixMillis>, StoreError> {
        Ok(self.column::<Option<u64>>(name)?.map(UnixMillis))
    }

    fn word<T>(&self, name: &str, what: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, StoreError> {
        read(&self.column::<String>(name)?).ok_or(StoreError::Damaged { what })
    }

    fn word_or_none<T>(
        &self,
        name: &str,
        what: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let word = self.column::<Option<String>>(name)?;
        word.map(|word| read(&word).ok_or(StoreError::Damaged { what })).transpose()
    }
}

impl Columns for Row<'_> {
    fn column<T: rusqlite::types::FromSql>(&self, name: &str) -> Result<T, StoreError> {
        Ok(self.get(name)?)
    }
}
