//! What a person should know of a node: that a database is older than its own words, or that a key is in two places.

use jobmesh_keys::NodeId;
use jobmesh_protocol::UnixMillis;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlarmKind {
    /// The node has seen more of this database than it holds: a backup was restored, or a copy is in use elsewhere.
    Older,
    /// The node speaks from two databases, or with a record that it did not write: its key is in two places.
    Cloned,
}

impl AlarmKind {
    /// The word for it in the database and in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Cloned => "cloned",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Older, Self::Cloned].into_iter().find(|kind| kind.word() == word)
    }
}

/// An alarm. There is one for a kind and a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What is wrong.
    pub kind: AlarmKind,
    /// With whom: for [`AlarmKind::Older`] who has proved it, else whose key it is.
    pub node: NodeId,
    /// How often it was seen.
    pub count: u64,
    /// When first.
    pub first_at: UnixMillis,
    /// When last.
    pub last_at: UnixMillis,
}

impl View<'_> {
    /// Every alarm, the latest first.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        let sql = "SELECT kind, node, count, first_at, last_at FROM alarm ORDER BY last_at DESC, kind, node";
        self.all(sql, [], |row| {
            Ok(Alarm {
                kind: row.word("kind", "alarm", AlarmKind::from_word)?,
                node: row.node("node")?,
                count: row.column("count")?,
                first_at: row.time("first_at")?,
                last_at: row.time("last_at")?,
            })
        })
    }
}

impl Txn<'_> {
    /// Raises an alarm, or counts it once more.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn raise_alarm(&self, kind: AlarmKind, node: NodeId, at: UnixMillis) -> Result<(), StoreError> {
        let sql = "INSERT INTO alarm (kind, node, count, first_at, last_at) VALUES (?1, ?2, 1, ?3, ?3) \
                   ON CONFLICT (kind, node) DO UPDATE SET count = count + 1, last_at = excluded.last_at";
        self.run(sql, params![kind.word(), node.as_bytes(), at.0])?;
        Ok(())
    }
}
