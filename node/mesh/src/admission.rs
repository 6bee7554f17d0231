//! What decides who is admitted: our own membership, and who has been thrown out.

use std::collections::BTreeSet;

use jobmesh_keys::{Membership, MeshId, NodeId};

/// What this node shows to peers and judges theirs by.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The mesh.
    pub(crate) mesh: MeshId,
    /// The name for people.
    pub(crate) name: String,
    /// Our own proof; replaced when it is renewed.
    pub(crate) membership: Membership,
    /// Nodes whose certificates no longer count, nor those that they signed.
    pub(crate) revoked: BTreeSet<NodeId>,
}

impl Credentials {
    /// Says whether `node`, let in by `admins`, has been thrown out.
    pub(crate) fn revokes(&self, node: NodeId, admins: &[NodeId]) -> bool {
        self.revoked.contains(&node) || admins.iter().any(|admin| self.revoked.contains(admin))
    }
}
