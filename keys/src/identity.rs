//! Private keys: of a node, and of the root of a mesh.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};

use crate::{Domain, MeshId, NodeId, Signature};

/// The private signing key of a node.
///
/// The key is wiped from memory on drop. There is deliberately no `Clone`: share it by reference
/// or `Arc`, so that there is one copy to wipe.
pub struct Identity(SigningKey);

impl Identity {
    /// Makes the identity that `seed` stands for; the same seed gives the same node.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Returns the public name of this identity.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::from_bytes(self.0.verifying_key().to_bytes())
    }

    /// Signs `message` in `domain`.
    #[must_use]
    pub fn sign(&self, domain: Domain, message: &[u8]) -> Signature {
        let covered = domain.cover(message);
        let signature = Signature::from_bytes(self.0.sign(&covered).to_bytes());
        #[cfg(feature = "memo")]
        crate::memo::remember(&self.node(), &covered, &signature);
        signature
    }

    /// Returns a copy of the secret seed, to build the transport's key from.
    ///
    /// The copy is not wiped on drop; keep it no longer than that takes.
    #[must_use]
    pub fn to_seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Identity").field(&self.node()).finish()
    }
}

/// The private key of a mesh: it signs the certificates that every chain ends at.
pub struct MeshRoot(Identity);

impl MeshRoot {
    /// Takes `identity` as the root of a mesh.
    ///
    /// It should be a key of its own and not that of a node, so that it can be kept offline.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self(identity)
    }

    /// Returns the public name of the mesh.
    #[must_use]
    pub fn mesh(&self) -> MeshId {
        MeshId::from_bytes(*self.0.node().as_bytes())
    }

    /// Returns the key that signs certificates.
    pub(crate) fn identity(&self) -> &Identity {
        &self.0
    }
}

impl From<Identity> for MeshRoot {
    fn from(identity: Identity) -> Self {
        Self::new(identity)
    }
}

impl fmt::Debug for MeshRoot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("MeshRoot").field(&self.mesh()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify;

    #[test]
    fn a_seed_gives_one_node_that_signs_for_itself() {
        let identity = Identity::from_seed([3; 32]);
        let again = Identity::from_seed(identity.to_seed());
        assert_eq!(identity.node(), again.node());
        let signature = identity.sign(Domain::Envelope, b"message");
        assert_eq!(verify(&again.node(), Domain::Envelope, b"message", &signature), Ok(()));
        let stranger = Identity::from_seed([4; 32]).node();
        assert!(verify(&stranger, Domain::Envelope, b"message", &signature).is_err());
    }

    #[test]
    fn debug_shows_only_the_public_name() {
        let identity = Identity::from_seed([3; 32]);
        let short = identity.node().short();
        assert_eq!(format!("{identity:?}"), format!("Identity(NodeId({short}))"));
        assert_eq!(format!("{:?}", MeshRoot::new(identity)), format!("MeshRoot(MeshId({short}))"));
    }
}
