//! What goes over the wire, by what it is for.

use std::collections::BTreeMap;

use jobmesh_keys::{NodeId, Signature};
use jobmesh_protocol::cbor;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::session::{FRAME_BYTES_MAX, Frame};
use serde_bytes::ByteBuf;

/// The layout of an envelope on the wire: version, kind, body, signer, signature.
type Wire = (u8, u8, ByteBuf, NodeId, Signature);

/// Frames and their bytes, by kind. Acknowledgements and what does not read have words of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many frames, and how many bytes they were together.
    pub kinds: BTreeMap<String, (u64, u64)>,
}

impl Traffic {
    /// Counts a frame.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (count, sum) = self.kinds.entry(word(bytes)).or_default();
        *count += 1;
        *sum += bytes.len() as u64;
    }

    /// How many frames belonged to tickets of jobs, and how many bytes.
    #[must_use]
    pub fn of_tickets(&self) -> (u64, u64) {
        let of_tickets = self.kinds.iter().filter(|(word, _)| Self::is_of_ticket(word)).map(|(_, count)| *count);
        of_tickets.fold((0, 0), |(frames, bytes), (more, more_bytes)| (frames + more, bytes + more_bytes))
    }

    /// Whether frames of this word belong to the ticket of a job, rather than to what nodes tell each other anyway.
    pub(crate) fn is_of_ticket(word: &str) -> bool {
        let is_other = |kind: Kind| match kind {
            Kind::Capability
            | Kind::RecordRequest
            | Kind::Digest
            | Kind::Seek
            | Kind::Relayed
            | Kind::Summary
            | Kind::SummaryHeads
            | Kind::SummaryRequest => format!("{kind:?}") == word,
            Kind::Offer
            | Kind::Bid
            | Kind::Refusal
            | Kind::Award
            | Kind::Accept
            | Kind::Heartbeat
            | Kind::Grant
            | Kind::Receipt
            | Kind::Settle
            | Kind::Cancel
            | Kind::Release
            | Kind::Reconcile => false,
        };
        !Kind::ALL.iter().copied().any(is_other)
    }
}

/// The word for acknowledgements.
pub(crate) const ACK: &str = "Ack";

fn word(bytes: &[u8]) -> String {
    let envelope = match Frame::decode(bytes) {
        Ok(Frame::Data { envelope, .. } | Frame::Note { envelope }) => envelope,
        Ok(Frame::Ack { .. }) => return ACK.to_owned(),
        Ok(Frame::Meet { .. }) => return "Meet".to_owned(),
        Err(_) => return "Unreadable".to_owned(),
    };
    let wire: Option<Wire> = cbor::decode(&envelope, FRAME_BYTES_MAX).ok();
    let kind = wire.and_then(|(_, kind, _, _, _)| Kind::from_number(kind));
    kind.map_or_else(|| "Unreadable".to_owned(), |kind| format!("{kind:?}"))
}
