//! What a mesh is started with.

use std::path::PathBuf;

use jobmesh_keys::{Identity, Membership, MeshId, NodeId};
use jobmesh_protocol::UnixMillis;

/// Longest name of a node, in bytes; it is read by people and travels in every hello.
pub const NAME_BYTES_MAX: usize = 64;

/// What a mesh is started with.
#[derive(Debug)]
pub struct Config {
    /// The key that peers know this node by.
    pub identity: Identity,
    /// The mesh that peers must belong to.
    pub mesh: MeshId,
    /// The proof that this node belongs to it.
    pub membership: Membership,
    /// The name that peers are told, 1 to 64 bytes without control characters.
    pub name: String,
    /// Multiaddrs to listen on, such as `/ip4/0.0.0.0/udp/0/quic-v1` and `/ip4/0.0.0.0/tcp/0`.
    pub listen: Vec<String>,
    /// Whether to look for peers on the local network, and be found there.
    pub mdns: bool,
    /// Members met before and where they were: dialled until they answer.
    pub known: Vec<(NodeId, Vec<String>)>,
    /// Folder for the hashes of files that were sent; it is made when it is needed, and its size is bounded.
    pub outboards: PathBuf,
    /// The wall clock, which certificates are checked against.
    pub now: fn() -> UnixMillis,
}
