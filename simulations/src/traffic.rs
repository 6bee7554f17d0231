//! What goes over the wire, by what it is for.

use std::collections::BTreeMap;

use jobmesh_keys::{NodeId, Signature};
use jobmesh_protocol::cbor;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::session::{FRAME_BYTES_MAX, Frame};
use serde_bytes::ByteBuf;

/// The layout of an envelope on the wire: version, kind, body, signer, signature.
type Wire = (u8, u8, ByteBuf, NodeId, Signature);

/// Messages and their bytes, by kind. Acknowledgements and what does not read have words of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many messages and other frames, and how many bytes they were together.
    pub kinds: BTreeMap<String, (u64, u64)>,
}

impl Traffic {
    /// Counts what is in a frame. What belongs to no message of it counts for the first.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let parts = match Frame::decode(bytes) {
            Ok(Frame::Data { messages, .. }) => {
                messages.iter().map(|message| (word(&message.envelope), message.size() as u64)).collect()
            }
            Ok(Frame::Note { envelope }) => vec![(word(&envelope), envelope.len() as u64)],
            Ok(Frame::Ack { .. }) => vec![(ACK.to_owned(), bytes.len() as u64)],
            Ok(Frame::Meet { .. }) => vec![(MEET.to_owned(), bytes.len() as u64)],
            Err(_) => vec![(UNREADABLE.to_owned(), bytes.len() as u64)],
        };
        let known: u64 = parts.iter().map(|(_, size)| *size).sum();
        let mut rest = (bytes.len() as u64).saturating_sub(known);
        for (word, size) in parts {
            let (count, sum) = self.kinds.entry(word).or_default();
            *count += 1;
            *sum += size + std::mem::take(&mut rest);
        }
    }

    /// How many frames belonged to tickets of jobs, and how many bytes. Those that begin sessions and acknowledgements are
    /// left out: in a large world there are more sessions than jobs.
    #[must_use]
    pub fn of_tickets(&self) -> (u64, u64) {
        let is_counted = |word: &str| Self::is_of_ticket(word) && ![ACK, MEET].contains(&word);
        let of_tickets = self.kinds.iter().filter(|(word, _)| is_counted(word)).map(|(_, count)| *count);
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

/// The word for what begins a session.
const MEET: &str = "Meet";
/// The word for acknowledgements.
pub(crate) const ACK: &str = "Ack";

/// The word for what does not read.
const UNREADABLE: &str = "Unreadable";

fn word(envelope: &[u8]) -> String {
    let wire: Option<Wire> = cbor::decode(envelope, FRAME_BYTES_MAX).ok();
    let kind = wire.and_then(|(_, kind, _, _, _)| Kind::from_number(kind));
    kind.map_or_else(|| UNREADABLE.to_owned(), |kind| format!("{kind:?}"))
}
