//! The names of nodes, meshes and certificates.

use crate::base32;

/// BLAKE3 context that separates the mesh tag from every other hash.
const TAG_CONTEXT: &str = "jobmesh mesh tag v1";

/// Characters of a mesh tag: 80 bits, so two meshes on one network don't meet by chance.
const TAG_CHARS: usize = 16;

fixed_bytes! {
    /// Names a node: its Ed25519 public key.
    ///
    /// Any 32 bytes make a `NodeId`; whether they are a usable key shows when a signature is
    /// checked against them.
    NodeId, 32, "node id"
}

fixed_bytes! {
    /// Names a mesh: the Ed25519 public key of its root.
    MeshId, 32, "mesh id"
}

fixed_bytes! {
    /// Numbers a certificate; random, so that no two are alike.
    Serial, 16, "certificate serial"
}

impl MeshId {
    /// Returns 16 base32 characters that stand for the mesh in protocol names.
    ///
    /// The tag is a hash, so that a peer which only sees protocol names does not learn the mesh id.
    #[must_use]
    pub fn tag(&self) -> String {
        let mut tag = base32::encode(&blake3::derive_key(TAG_CONTEXT, self.as_bytes()));
        tag.truncate(TAG_CHARS);
        tag
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ParseIdError;

    #[test]
    fn text_form_is_52_lower_case_characters() {
        let node = NodeId::from_bytes([0xFF; 32]);
        let text = node.to_string();
        assert_eq!(text.len(), 52);
        assert_eq!(text, text.to_ascii_lowercase());
        assert_eq!(text.parse(), Ok(node));
        assert_eq!(node.short(), text[..8]);
        assert_eq!(format!("{node:?}"), "NodeId(77777777)");
        assert_eq!(format!("{node:>54}"), format!("  {text}"));
    }

    #[test]
    fn short_and_upper_case_forms_are_refused() {
        let node = NodeId::from_bytes([7; 32]);
        assert_eq!(
            node.short().parse::<NodeId>(),
            Err(ParseIdError::Length { what: "node id", expected: 52, found: 8 })
        );
        assert_eq!(node.to_string().to_uppercase().parse::<NodeId>(), Err(ParseIdError::Text { what: "node id" }));
        let message = "x".parse::<MeshId>().unwrap_err().to_string();
        assert_eq!(message, "mesh id has 1 characters, but a whole one has 52; give the full form");
    }

    #[test]
    fn json_is_text_and_cbor_is_bytes() {
        let node = NodeId::from_bytes([9; 32]);
        let json = serde_json::to_string(&node).unwrap();
        assert_eq!(json, format!("\"{node}\""));
        assert_eq!(serde_json::from_str::<NodeId>(&json).unwrap(), node);
        let mut cbor = Vec::new();
        ciborium::into_writer(&node, &mut cbor).unwrap();
        assert_eq!(cbor[..2], [0x58, 32], "a byte string of 32 bytes");
        assert_eq!(ciborium::from_reader::<NodeId, _>(cbor.as_slice()).unwrap(), node);
    }

    #[test]
    fn cbor_sequences_of_the_wrong_length_are_refused() {
        for (length, accepted) in [(31_usize, false), (32, true), (33, false)] {
            let mut cbor = Vec::new();
            ciborium::into_writer(&vec![1_u8; length], &mut cbor).unwrap();
            let node = ciborium::from_reader::<NodeId, _>(cbor.as_slice());
            assert_eq!(node.is_ok(), accepted, "a sequence of {length} numbers");
        }
    }

    #[test]
    fn tags_differ_and_reveal_nothing() {
        let meshes = [0_u8, 1, 2].map(|byte| MeshId::from_bytes([byte; 32]));
        let tags: BTreeSet<String> = meshes.iter().map(MeshId::tag).collect();
        assert_eq!(tags.len(), meshes.len());
        for mesh in meshes {
            assert_eq!(mesh.tag().len(), 16);
            assert!(!mesh.to_string().starts_with(&mesh.tag()));
        }
    }

    proptest! {
        #[test]
        fn every_id_survives_its_text(bytes: [u8; 32]) {
            let mesh = MeshId::from_bytes(bytes);
            prop_assert_eq!(mesh.to_string().parse(), Ok(mesh));
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = text.parse::<NodeId>();
        }
    }
}
