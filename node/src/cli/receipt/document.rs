//! A receipt outside of any node: as the signed bytes, or as JSON that holds them.
//!
//! **The hard case** is JSON: it shows what the signed bytes say, and someone may change what it shows. So nothing in
//! the document but the signed bytes and the mesh is believed: the rest is made again from them, and the file must
//! be that, byte for byte.

use data_encoding::BASE64;
use jobmesh::api::ReceiptBody;
use jobmesh_protocol::cbor::DecodeError;
use jobmesh_protocol::envelope::{EnvelopeError, Kind as MessageKind};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::{Envelope, MeshId, NodeId, ReceiptId};
use serde::{Deserialize, Serialize};

use crate::cli::output;

/// Largest file that can be a receipt: the largest envelope as base64, with what it says.
pub(super) const FILE_BYTES_MAX: u64 = 512 * 1024;

/// A receipt as JSON. A pure function of the mesh and the signed bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// The mesh whose domain the signature covers.
    pub(super) mesh: MeshId,
    /// The receipt's id.
    pub(super) id: ReceiptId,
    /// Who signed it.
    pub(super) signer: NodeId,
    /// The signed bytes in base64.
    envelope: String,
    /// What they say.
    pub(super) receipt: ReceiptBody,
}

/// Why bytes are no good receipt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    /// The signature or the bytes under it were changed, or were never good.
    #[error("the signed bytes are not what was signed")]
    Envelope(#[from] EnvelopeError),
    /// It is another kind of message.
    #[error("the signed bytes are a {found:?}, not a receipt")]
    Kind {
        /// What it is.
        found: MessageKind,
    },
    /// It was signed, but is no receipt that this version knows.
    #[error("the signed bytes are no receipt that this version can read")]
    Body(#[source] DecodeError),
    /// The file is neither signed bytes nor JSON of ours.
    #[error("the file is no receipt")]
    Json(#[from] serde_json::Error),
    /// The bytes in the JSON are not base64.
    #[error("the signed bytes in the file are not base64")]
    Base64,
    /// The JSON shows something else than its signed bytes say.
    #[error("the file was changed: what it shows is not what its signed bytes say")]
    Changed,
}

/// A receipt that was read from a file.
#[derive(Debug)]
pub(super) struct FromFile {
    /// The signed bytes.
    pub(super) envelope: Vec<u8>,
    /// The mesh that the file names; signed bytes alone name none.
    pub(super) mesh: Option<MeshId>,
}

impl Document {
    /// Checks the signature over `envelope` and makes the document.
    pub(super) fn of(mesh: MeshId, envelope: &[u8]) -> Result<Self, DocumentError> {
        let opened = Envelope::open(envelope, &mesh)?;
        if opened.kind() != MessageKind::Receipt {
            return Err(DocumentError::Kind { found: opened.kind() });
        }
        let receipt: Receipt = opened.parse().map_err(DocumentError::Body)?;
        Ok(Self {
            mesh,
            id: opened.id(),
            signer: opened.signer(),
            envelope: BASE64.encode(envelope),
            receipt: receipt.into(),
        })
    }
}

/// Reads a file: signed bytes as they are, or JSON that is exactly what its signed bytes make.
pub(super) fn read(file: &[u8]) -> Result<FromFile, DocumentError> {
    if file.first() != Some(&b'{') {
        return Ok(FromFile { envelope: file.to_vec(), mesh: None });
    }
    let claimed: Document = serde_json::from_slice(file)?;
    let envelope = BASE64.decode(claimed.envelope.as_bytes()).map_err(|_| DocumentError::Base64)?;
    let made = output::document(&Document::of(claimed.mesh, &envelope)?).map_err(|_| DocumentError::Changed)?;
    // Only the final newline may be missing: `$(…)` in a shell takes it away.
    if file != made.as_bytes() && file != made.trim_end().as_bytes() {
        return Err(DocumentError::Changed);
    }
    Ok(FromFile { envelope, mesh: Some(claimed.mesh) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_keys::Identity;
    use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
    use jobmesh_protocol::{AwardId, BlobRef, Epoch, Hash, Outcome, TicketId, UnixMillis};
    use jobmesh_tests::fuzz::{Heap, Target};

    use super::*;

    #[global_allocator]
    static HEAP: Heap = Heap;

    const MESH: MeshId = MeshId::from_bytes([9; 32]);

    fn sealed() -> Vec<u8> {
        let receipt = Receipt {
            award: AwardId::from_bytes([1; 16]),
            ticket: TicketId::from_bytes([2; 16]),
            epoch: Epoch(1),
            to: NodeId::from_bytes([3; 32]),
            number: 1,
            previous: Hash::from_bytes([0; 32]),
            spec: Hash::of(b"spec"),
            outcome: Outcome::Ok,
            exit: Exit { code: Some(0), signal: None },
            outputs: Outputs { stdout: Some(BlobRef::of(b"out")), stderr: None, result: None, files: None },
            usage: Usage::default(),
            model: None,
            isolation: jobmesh_protocol::Isolation::None,
            started_at: UnixMillis(1_000),
            finished_at: UnixMillis(2_000),
        };
        Envelope::seal(&Identity::from_seed([5; 32]), &MESH, MessageKind::Receipt, &receipt)
    }

    #[test]
    fn a_document_reads_back_with_or_without_its_final_newline() {
        let text = output::document(&Document::of(MESH, &sealed()).unwrap()).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap().envelope, sealed());
        assert_eq!(read(text.trim_end().as_bytes()).unwrap().mesh, Some(MESH));
    }

    #[test]
    fn a_change_of_any_byte_of_the_document_shows() {
        let text = output::document(&Document::of(MESH, &sealed()).unwrap()).unwrap().into_bytes();
        for at in 0..text.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = text.clone();
                *changed.get_mut(at).unwrap() ^= flip;
                let result = read(&changed).and_then(|file| Document::of(file.mesh.unwrap_or(MESH), &file.envelope));
                assert!(result.is_err(), "byte {at} with {flip:#x} flipped");
            }
        }
    }

    #[test]
    fn a_change_of_any_bit_of_the_signed_bytes_shows() {
        let envelope = sealed();
        for at in 0..envelope.len() {
            for bit in 0..8 {
                let mut changed = envelope.clone();
                *changed.get_mut(at).unwrap() ^= 1 << bit;
                assert!(Document::of(MESH, &changed).is_err(), "byte {at} bit {bit}");
            }
        }
        assert!(Document::of(MESH, &[envelope.as_slice(), b"x"].concat()).is_err(), "a byte more");
        assert!(Document::of(MeshId::from_bytes([8; 32]), &envelope).is_err(), "another mesh");
    }

    #[test]
    fn blanks_and_other_keys_are_no_part_of_a_document() {
        let text = output::document(&Document::of(MESH, &sealed()).unwrap()).unwrap();
        assert!(matches!(read(text.replacen("\": ", "\":  ", 1).as_bytes()), Err(DocumentError::Changed)));
        assert!(matches!(read(text.replacen('{', "{\"note\": 1,", 1).as_bytes()), Err(DocumentError::Json(_))));
        assert!(matches!(read(format!("{text}\n").as_bytes()), Err(DocumentError::Changed)));
    }

    /// Exact to the byte, or refused.
    #[test]
    fn fuzz_receipts_in_files() {
        let text = output::document(&Document::of(MESH, &sealed()).unwrap()).unwrap();
        Target::text("receipt-file").sample(text).sample(sealed()).run(|bytes| {
            let file = read(bytes).map_err(|error| format!("{error:?}"))?;
            Document::of(file.mesh.unwrap_or(MESH), &file.envelope).map(drop).map_err(|error| format!("{error:?}"))
        });
    }
}
