//! Capability records of other nodes, and what a person chose to advertise on this one.

use jobmesh_keys::NodeId;
use jobmesh_protocol::{Tag, UnixMillis};

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// What a person said about a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Advertise it.
    Add,
    /// Don't, even if it is detected.
    Remove,
}

impl Choice {
    const fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Remove => "remove",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Add, Self::Remove].into_iter().find(|choice| choice.word() == word)
    }
}

impl View<'_> {
    /// The newest record of every member, in its author's envelope, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn capabilities(&self) -> Result<Vec<(NodeId, Vec<u8>)>, StoreError> {
        self.all("SELECT node, envelope FROM capability ORDER BY node", [], |row| {
            Ok((row.node("node")?, row.column("envelope")?))
        })
    }

    /// The newest record of a member, in its author's envelope.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn capability(&self, node: NodeId) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT envelope FROM capability WHERE node = ?1";
        self.one(sql, params![node.as_bytes()], |row| row.column("envelope"))
    }

    /// What a person chose, in the order of the tags.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn choices(&self) -> Result<Vec<(Tag, Choice)>, StoreError> {
        self.all("SELECT tag, choice FROM capability_choice ORDER BY tag", [], |row| {
            let tag = row.word("tag", "tag", |word| word.parse().ok())?;
            Ok((tag, row.word("choice", "choice", Choice::from_word)?))
        })
    }
}

impl Txn<'_> {
    /// Keeps a member's record in place of its last one.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_capability(&self, node: NodeId, envelope: &[u8], at: UnixMillis) -> Result<(), StoreError> {
        let sql = "INSERT INTO capability (node, envelope, heard_at) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (node) DO UPDATE SET envelope = excluded.envelope, heard_at = excluded.heard_at";
        self.run(sql, params![node.as_bytes(), envelope, at.0])?;
        Ok(())
    }

    /// Keeps what a person said about a tag.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_choice(&self, tag: &Tag, choice: Choice) -> Result<(), StoreError> {
        let sql = "INSERT INTO capability_choice (tag, choice) VALUES (?1, ?2) \
                   ON CONFLICT (tag) DO UPDATE SET choice = excluded.choice";
        self.run(sql, params![tag.as_str(), choice.word()])?;
        Ok(())
    }
}
