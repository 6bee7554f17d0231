//! A node id and a libp2p peer id are the same Ed25519 key in two wrappings.

use jobmesh_keys::{Identity, NodeId};
use libp2p::PeerId;
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multihash::Multihash;

/// Multihash code of a peer id that holds its public key instead of a hash of it.
const INLINE_KEY: u64 = 0;

/// Returns the peer id of `node`; `None` if the id is no valid key, so nobody can ever prove to be it.
pub(crate) fn peer_of(node: &NodeId) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(node.as_bytes()).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Returns the node behind `peer`; `None` if its key is not an Ed25519 key.
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let hash: &Multihash<64> = peer.as_ref();
    if hash.code() != INLINE_KEY {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?.try_into_ed25519().ok()?;
    Some(NodeId::from_bytes(key.to_bytes()))
}

/// Makes the transport's key pair from `identity`; `None` never happens, for every 32 bytes are a seed.
pub(crate) fn keypair(identity: &Identity) -> Option<Keypair> {
    Keypair::ed25519_from_bytes(identity.to_seed()).ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn node_and_peer_are_two_names_of_one_key() {
        let identity = Identity::from_seed([7; 32]);
        let peer = peer_of(&identity.node()).unwrap();
        assert_eq!(keypair(&identity).unwrap().public().to_peer_id(), peer);
        assert_eq!(node_of(&peer), Some(identity.node()));
    }

    #[test]
    fn other_kinds_of_peer_id_name_no_node() {
        let hashed = Multihash::<64>::wrap(0x12, &[5; 32]).unwrap();
        assert_eq!(node_of(&PeerId::from_multihash(hashed).unwrap()), None);
        let garbage = Multihash::<64>::wrap(INLINE_KEY, &[5; 36]).unwrap();
        assert_eq!(node_of(&PeerId::from_multihash(garbage).unwrap()), None);
    }
}
