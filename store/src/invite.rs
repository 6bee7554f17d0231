//! Invites that were given out, and who used them.

use jobmesh_keys::{NodeId, Role};
use jobmesh_protocol::UnixMillis;

use crate::error::StoreError;
use crate::row::{Columns as _, params};
use crate::txn::Txn;
use crate::view::View;

/// An invite by the hash of its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteRow {
    /// The hash of the secret.
    pub secret_hash: [u8; 32],
    /// What the new member may do.
    pub role: Role,
    /// Until when it is good.
    pub expires_at: UnixMillis,
    /// Who used it.
    pub used_by: Option<NodeId>,
    /// The membership that was issued for it, so that a lost answer can be given again.
    pub membership: Option<Vec<u8>>,
}

impl View<'_> {
    /// The invite with this secret.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn invite(&self, secret_hash: &[u8; 32]) -> Result<Option<InviteRow>, StoreError> {
        let sql = "SELECT secret_hash, role, expires_at, used_by, membership FROM invite WHERE secret_hash = ?1";
        self.one(sql, [secret_hash.as_slice()], |row| {
            Ok(InviteRow {
                secret_hash: row.column("secret_hash")?,
                role: row.word("role", "role", |word| word.parse().ok())?,
                expires_at: row.time("expires_at")?,
                used_by: row.node_or_none("used_by")?,
                membership: row.column("membership")?,
            })
        })
    }
}

impl Txn<'_> {
    /// Keeps an invite in its present state.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails.
    pub fn put_invite(&self, invite: &InviteRow) -> Result<(), StoreError> {
        let sql = "INSERT INTO invite (secret_hash, role, expires_at, used_by, membership) VALUES (?1, ?2, ?3, ?4, ?5) \
                   ON CONFLICT (secret_hash) DO UPDATE SET used_by = excluded.used_by, membership = excluded.membership";
        let used_by = invite.used_by.map(|node| *node.as_bytes());
        let role = invite.role.to_string();
        self.run(sql, params![invite.secret_hash, role, invite.expires_at.0, used_by, invite.membership])?;
        Ok(())
    }
}
