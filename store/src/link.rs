//! The chains of receipts between this node and each peer, in both directions, as they were signed.

use jobmesh_keys::NodeId;
use jobmesh_protocol::{ReceiptId, UnixMillis};
use rusqlite::{Row, params};

use crate::error::StoreError;
use crate::row::Columns as _;
use crate::txn::Txn;
use crate::view::View;

/// Who of the two ran the work that a chain speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// This node: it gave the receipts.
    Given,
    /// The peer: this node took them.
    Taken,
}

impl Side {
    const fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Taken => "taken",
        }
    }
}

/// A receipt in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRow {
    /// The other node.
    pub peer: NodeId,
    /// Who ran the work.
    pub side: Side,
    /// The receipt's number, from 1.
    pub number: u64,
    /// The receipt's id.
    pub id: ReceiptId,
    /// Whether the origin has a job that it is for; of the others only a few are kept.
    pub is_known: bool,
    /// The receipt's envelope.
    pub receipt: Vec<u8>,
    /// The envelope of the settlement, once there is one.
    pub settle: Option<Vec<u8>>,
    /// When the row was written.
    pub at: UnixMillis,
}

fn reader(peer: NodeId, side: Side) -> impl FnMut(&Row<'_>) -> Result<LinkRow, StoreError> {
    move |row| {
        Ok(LinkRow {
            peer,
            side,
            number: row.column("number")?,
            id: row.message_or_none("id")?.ok_or(StoreError::Damaged { what: "receipt id" })?,
            is_known: row.column("is_known")?,
            receipt: row.column("receipt")?,
            settle: row.column("settle")?,
            at: row.time("at")?,
        })
    }
}

const COLUMNS: &str = "number, id, is_known, receipt, settle, at";

impl View<'_> {
    /// The newest links of a chain, lowest number first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn links(&self, peer: NodeId, side: Side, limit: u32) -> Result<Vec<LinkRow>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM link WHERE peer = ?1 AND side = ?2 ORDER BY number DESC, id DESC LIMIT ?3");
        let mut links = self.all(&sql, params![peer.as_bytes(), side.word(), limit], reader(peer, side))?;
        links.reverse();
        Ok(links)
    }

    /// The last link of a chain; of a fork, any of its ends.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_link(&self, peer: NodeId, side: Side) -> Result<Option<LinkRow>, StoreError> {
        Ok(self.links(peer, side, 1)?.pop())
    }

    /// The links that have a number: more than one if the executor signed two receipts under it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn links_numbered(&self, peer: NodeId, side: Side, number: u64) -> Result<Vec<LinkRow>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM link WHERE peer = ?1 AND side = ?2 AND number = ?3 ORDER BY id");
        self.all(&sql, params![peer.as_bytes(), side.word(), number], reader(peer, side))
    }

    /// How many links from a peer are kept although this node knows no job for them.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn unknown_links(&self, peer: NodeId) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS links FROM link WHERE peer = ?1 AND is_known = 0";
        Ok(self.one(sql, [peer.as_bytes().as_slice()], |row| row.column("links"))?.unwrap_or(0))
    }

    /// The peers with which there are chains, by id.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn linked_peers(&self) -> Result<Vec<NodeId>, StoreError> {
        self.all("SELECT DISTINCT peer FROM link ORDER BY peer", [], |row| row.node("peer"))
    }
}

impl Txn<'_> {
    /// Adds a link to a chain; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn insert_link(&self, link: &LinkRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO link (peer, side, number, id, is_known, receipt, settle, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING";
        let values = params![
            link.peer.as_bytes(),
            link.side.word(),
            link.number,
            link.id.as_bytes(),
            link.is_known,
            link.receipt,
            link.settle,
            link.at.0,
        ];
        self.run(sql, values)?;
        Ok(())
    }

    /// Keeps the settlement of a link that has none. Returns whether it did.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn settle_link(
        &self,
        (peer, side): (NodeId, Side),
        (number, id): (u64, ReceiptId),
        settle: &[u8],
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE link SET settle = ?5 \
                   WHERE peer = ?1 AND side = ?2 AND number = ?3 AND id = ?4 AND settle IS NULL";
        Ok(self.run(sql, params![peer.as_bytes(), side.word(), number, id.as_bytes(), settle])? > 0)
    }

    /// Deletes links that were written before `before`, but never the last one of a chain: the next is counted from it.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn drop_links_before(&self, before: UnixMillis) -> Result<(), StoreError> {
        let sql = "DELETE FROM link WHERE at < ?1 AND number < (SELECT max(number) FROM link AS other \
                   WHERE other.peer = link.peer AND other.side = link.side)";
        self.run(sql, [before.0])?;
        Ok(())
    }
}
