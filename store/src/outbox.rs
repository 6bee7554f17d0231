//! Both ends of the numbered, ordered sessions: what is still to be acknowledged, and what was received.

use jobmesh_keys::NodeId;
use jobmesh_protocol::Incarnation;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// A message that the peer has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its number for that peer.
    pub number: u64,
    /// The envelope's bytes.
    pub envelope: Vec<u8>,
    /// The attachments, encoded.
    pub attachments: Vec<u8>,
}

/// What was received from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// The peer's database.
    pub incarnation: Incarnation,
    /// The last number received in order.
    pub number: u64,
    /// The database that spoke for it before, if any did.
    pub former: Option<Incarnation>,
}

impl View<'_> {
    /// The oldest unacknowledged messages for a peer above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn outbox(&self, peer: NodeId, after: u64, limit: u32) -> Result<Vec<Queued>, StoreError> {
        let sql = "SELECT number, envelope, attachments FROM outbox WHERE peer = ?1 AND number > ?2 \
                   ORDER BY number LIMIT ?3";
        self.all(sql, params![peer.as_bytes(), after, limit], |row| {
            Ok(Queued {
                number: row.column("number")?,
                envelope: row.column("envelope")?,
                attachments: row.column("attachments")?,
            })
        })
    }

    /// How many messages for a peer are unacknowledged.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn outbox_len(&self, peer: NodeId) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) AS messages FROM outbox WHERE peer = ?1";
        Ok(self.one(sql, [peer.as_bytes().as_slice()], |row| row.column("messages"))?.unwrap_or(0))
    }

    /// How many bytes of messages for a peer are unacknowledged.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn outbox_bytes(&self, peer: NodeId) -> Result<u64, StoreError> {
        let sql =
            "SELECT coalesce(sum(length(envelope) + length(attachments)), 0) AS bytes FROM outbox WHERE peer = ?1";
        Ok(self.one(sql, [peer.as_bytes().as_slice()], |row| row.column("bytes"))?.unwrap_or(0))
    }

    /// Whether a message for a peer is unacknowledged.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn is_queued(&self, peer: NodeId, envelope: &[u8]) -> Result<bool, StoreError> {
        let sql = "SELECT 1 AS one FROM outbox WHERE peer = ?1 AND envelope = ?2 LIMIT 1";
        let found: Option<u64> = self.one(sql, params![peer.as_bytes(), envelope], |row| row.column("one"))?;
        Ok(found.is_some())
    }

    /// The highest number given to a message, by peer.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn last_numbers(&self) -> Result<Vec<(NodeId, u64)>, StoreError> {
        let sql = "SELECT peer, sent FROM session WHERE sent > 0 ORDER BY peer";
        self.all(sql, [], |row| Ok((row.node("peer")?, row.column("sent")?)))
    }

    /// The number of the oldest unacknowledged message for a peer.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn outbox_first(&self, peer: NodeId) -> Result<Option<u64>, StoreError> {
        let sql = "SELECT min(number) AS first FROM outbox WHERE peer = ?1";
        Ok(self.one(sql, [peer.as_bytes().as_slice()], |row| row.column::<Option<u64>>("first"))?.flatten())
    }

    /// The peers for whom something is unacknowledged.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn outbox_peers(&self) -> Result<Vec<NodeId>, StoreError> {
        self.all("SELECT DISTINCT peer FROM outbox ORDER BY peer", [], |row| row.node("peer"))
    }

    /// What was received from a peer, if anything ever was.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn inbound(&self, peer: NodeId) -> Result<Option<Inbound>, StoreError> {
        let sql = "SELECT incarnation, received, former FROM session WHERE peer = ?1 AND incarnation IS NOT NULL";
        self.one(sql, [peer.as_bytes().as_slice()], |row| {
            Ok(Inbound {
                incarnation: Incarnation::from_bytes(row.column("incarnation")?),
                number: row.column("received")?,
                former: row.column::<Option<[u8; 16]>>("former")?.map(Incarnation::from_bytes),
            })
        })
    }
}

impl Txn<'_> {
    /// Queues a message for a peer under the next number and returns that.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn queue(&self, peer: NodeId, envelope: &[u8], attachments: &[u8]) -> Result<u64, StoreError> {
        let next = "INSERT INTO session (peer, sent, received) VALUES (?1, 1, 0) \
                    ON CONFLICT (peer) DO UPDATE SET sent = sent + 1";
        self.run(next, [peer.as_bytes().as_slice()])?;
        let read = "SELECT sent FROM session WHERE peer = ?1";
        let number: Option<u64> = self.view().one(read, [peer.as_bytes().as_slice()], |row| row.column("sent"))?;
        let number = number.ok_or(StoreError::Damaged { what: "session" })?;
        let sql = "INSERT INTO outbox (peer, number, envelope, attachments) VALUES (?1, ?2, ?3, ?4)";
        self.run(sql, params![peer.as_bytes(), number, envelope, attachments])?;
        Ok(number)
    }

    /// Drops what a peer has acknowledged. Returns whether that was anything.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn acknowledge(&self, peer: NodeId, number: u64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM outbox WHERE peer = ?1 AND number <= ?2";
        Ok(self.run(sql, params![peer.as_bytes(), number])? > 0)
    }

    /// Empties the outbox of every peer.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn clear_outbox(&self) -> Result<(), StoreError> {
        self.run("DELETE FROM outbox", [])?;
        Ok(())
    }

    /// Writes down what was received from a peer.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn set_inbound(&self, peer: NodeId, inbound: Inbound) -> Result<(), StoreError> {
        let sql = "INSERT INTO session (peer, sent, incarnation, received, former) VALUES (?1, 0, ?2, ?3, ?4) \
                   ON CONFLICT (peer) DO UPDATE SET incarnation = excluded.incarnation, \
                   received = excluded.received, former = excluded.former";
        let former = inbound.former.as_ref().map(Incarnation::as_bytes);
        self.run(sql, params![peer.as_bytes(), inbound.incarnation.as_bytes(), inbound.number, former])?;
        Ok(())
    }
}
