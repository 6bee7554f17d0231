//! Members this node has met, and where.

use jobmesh_keys::NodeId;
use jobmesh_protocol::UnixMillis;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// A member in the address book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRow {
    /// The member.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where it was last reached, newest first.
    pub addresses: Vec<String>,
    /// When it was last connected.
    pub seen_at: UnixMillis,
}

/// Separates addresses; no multiaddress contains it.
const SEPARATOR: &str = "\n";

impl View<'_> {
    /// Every member met, in the order of their ids.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn peers(&self) -> Result<Vec<PeerRow>, StoreError> {
        self.all("SELECT node, name, addresses, seen_at FROM peer ORDER BY node", [], |row| {
            let addresses: String = row.column("addresses")?;
            Ok(PeerRow {
                node: row.node("node")?,
                name: row.column("name")?,
                addresses: addresses.split(SEPARATOR).filter(|a| !a.is_empty()).map(str::to_owned).collect(),
                seen_at: row.time("seen_at")?,
            })
        })
    }
}

impl Txn<'_> {
    /// Writes down where a member was met. Empty addresses leave the old ones.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_peer(&self, peer: &PeerRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO peer (node, name, addresses, seen_at) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (node) DO UPDATE SET name = excluded.name, seen_at = excluded.seen_at, \
                   addresses = CASE excluded.addresses WHEN '' THEN addresses ELSE excluded.addresses END";
        let addresses = peer.addresses.join(SEPARATOR);
        self.run(sql, params![peer.node.as_bytes(), peer.name, addresses, peer.seen_at.0])?;
        Ok(())
    }

    /// Forgets every member and what was heard of them: this node has joined another mesh.
    ///
    /// What was not acknowledged is gone with them, so the caller takes a new incarnation: a peer met again would take
    /// the gap for a proof that it forgot what it received.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn forget_peers(&self) -> Result<(), StoreError> {
        for table in ["peer", "capability", "outbox"] {
            self.run(&format!("DELETE FROM {table}"), [])?;
        }
        self.run("UPDATE session SET incarnation = NULL, received = 0, former = NULL", [])?;
        Ok(())
    }
}
