//! Inviting nodes, and joining a mesh.

use jobmesh_keys::Role;
use jobmesh_protocol::{DurationMillis, MeshId, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

/// Asks for an invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// How long it is good for.
    pub ttl_ms: DurationMillis,
    /// What the new member may do.
    pub role: Role,
}

/// An invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// The string to hand over.
    pub invite: String,
    /// The mesh it lets into.
    pub mesh: MeshId,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// What the new member may do.
    pub role: Role,
    /// Where the new member will look for this node.
    pub addresses: Vec<String>,
}

/// Asks to join a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The invite string.
    pub invite: String,
}

/// The node is a member of a mesh now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The mesh.
    pub mesh: MeshId,
    /// The node that let it in.
    pub inviter: NodeId,
    /// What it may do.
    pub role: Role,
    /// When its certificate ends.
    pub certificate_not_after: UnixMillis,
    /// The four words that both ends show.
    pub words: [String; 4],
}
