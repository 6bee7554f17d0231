//! Signatures, and the domains that keep one kind of signed bytes from passing as another.
//!
//! The same key also signs for libp2p (handshakes, gossip). So every signature of ours covers a
//! domain tag before the message: a peer that tricks a node into signing one thing can't show the
//! signature as agreement to another.

use ed25519_dalek::VerifyingKey;

use crate::NodeId;

fixed_bytes! {
    /// An Ed25519 signature over a domain tag and a message.
    Signature, 64, "signature"
}

/// Says what kind of bytes a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// A message between two nodes.
    Envelope,
    /// A membership certificate.
    Certificate,
    /// An export of receipts, to be checked elsewhere.
    Export,
}

impl Domain {
    /// Lists every domain, in declaration order.
    pub const ALL: [Self; 3] = [Self::Envelope, Self::Certificate, Self::Export];

    /// Returns the bytes that a signature covers before the message.
    ///
    /// Each tag ends with the only zero byte in it, so none is a prefix of another.
    #[must_use]
    pub const fn tag(self) -> &'static [u8] {
        match self {
            Self::Envelope => b"jobmesh/1 envelope\0",
            Self::Certificate => b"jobmesh/1 certificate\0",
            Self::Export => b"jobmesh/1 export\0",
        }
    }

    /// Returns the exact bytes that are signed: the tag, then `message`.
    pub(crate) fn cover(self, message: &[u8]) -> Vec<u8> {
        [self.tag(), message].concat()
    }
}

/// Says why a signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The node id is not a point on the curve, so nobody can have signed with it.
    #[error("node id {} is not a valid Ed25519 public key", .node.short())]
    InvalidKey {
        /// The id that is no key.
        node: NodeId,
    },
    /// The signature was made by another key, for other bytes, or in another domain.
    #[error("signature does not match the key of node {} and the signed bytes", .node.short())]
    BadSignature {
        /// The claimed signer.
        node: NodeId,
    },
}

/// Checks that `node` signed `message` in `domain`.
///
/// The check is the strict one of RFC 8032 with small-order keys refused, so one signature can't
/// be valid for two messages and all nodes agree on what is valid.
///
/// # Errors
///
/// [`VerifyError::InvalidKey`] if `node` is no public key, [`VerifyError::BadSignature`] if the
/// signature does not hold.
pub fn verify(node: &NodeId, domain: Domain, message: &[u8], signature: &Signature) -> Result<(), VerifyError> {
    let covered = domain.cover(message);
    #[cfg(feature = "memo")]
    if crate::memo::knows(node, &covered, signature) {
        return Ok(());
    }
    let key = VerifyingKey::from_bytes(node.as_bytes()).map_err(|_| VerifyError::InvalidKey { node: *node })?;
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    key.verify_strict(&covered, &signature).map_err(|_| VerifyError::BadSignature { node: *node })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Identity;

    #[test]
    fn domains_are_prefix_free_and_apart_from_libp2p() {
        let foreign: [&[u8]; 3] = [b"noise-libp2p-static-key:", b"libp2p-tls-handshake:", b"libp2p-pubsub:"];
        for domain in Domain::ALL {
            let tag = domain.tag();
            assert_eq!(tag.iter().filter(|byte| **byte == 0).count(), 1);
            assert_eq!(tag.last(), Some(&0));
            for other in Domain::ALL {
                assert_eq!(tag.starts_with(other.tag()), domain == other);
            }
            for other in foreign {
                assert!(!tag.starts_with(other) && !other.starts_with(tag));
            }
        }
    }

    #[test]
    fn a_signature_holds_only_in_its_domain() {
        let identity = Identity::from_seed([1; 32]);
        for signed in Domain::ALL {
            let signature = identity.sign(signed, b"hello");
            for checked in Domain::ALL {
                let result = verify(&identity.node(), checked, b"hello", &signature);
                assert_eq!(result.is_ok(), signed == checked);
            }
        }
    }

    #[test]
    fn a_node_id_off_the_curve_is_an_error() {
        let signature = Identity::from_seed([1; 32]).sign(Domain::Envelope, b"hello");
        // y = 2 has no matching x on the curve.
        let mut bytes = [0; 32];
        bytes[0] = 2;
        let node = NodeId::from_bytes(bytes);
        assert_eq!(verify(&node, Domain::Envelope, b"hello", &signature), Err(VerifyError::InvalidKey { node }));
    }

    #[test]
    fn a_small_order_key_signs_nothing() {
        // The identity point: with a lax check, an all-zero scalar "signs" every message.
        let mut point = [0; 32];
        point[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let node = NodeId::from_bytes(point);
        assert_eq!(
            verify(&node, Domain::Envelope, b"x", &Signature::from_bytes(forged)),
            Err(VerifyError::BadSignature { node })
        );
    }

    proptest! {
        #[test]
        fn verification_never_panics(key: [u8; 32], first: [u8; 32], second: [u8; 32], message: Vec<u8>) {
            let mut bytes = [0; 64];
            bytes[..32].copy_from_slice(&first);
            bytes[32..].copy_from_slice(&second);
            let signature = Signature::from_bytes(bytes);
            prop_assert!(verify(&NodeId::from_bytes(key), Domain::Envelope, &message, &signature).is_err());
        }

        #[test]
        fn any_changed_bit_breaks_the_signature(seed: [u8; 32], message: Vec<u8>, bit in 0_usize..512) {
            let identity = Identity::from_seed(seed);
            let mut bytes = *identity.sign(Domain::Envelope, &message).as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let signature = Signature::from_bytes(bytes);
            prop_assert!(verify(&identity.node(), Domain::Envelope, &message, &signature).is_err());
        }
    }
}
