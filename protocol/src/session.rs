//! Frames between two connected nodes.
//!
//! What must arrive is `Data`: numbered per peer and database incarnation, kept in the sender's outbox until a
//! cumulative `Ack` covers it, delivered in order and once. What may be lost is `Note`. A frame may carry
//! attachments: bytes that the envelope names by hash, too small to be worth a blob stream.
//!
//! A connection begins with a `Meet` from both sides, and numbered messages follow the other's. It says what was
//! received, so that a node whose database is older than its own words finds out before it uses a number twice.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::cbor::{self, DecodeError};
use crate::id::Incarnation;

/// Largest frame on the wire: an award with the largest spec and both attachments, twice over.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Largest attachment; bigger outputs travel as blobs.
pub const ATTACHMENT_BYTES_MAX: usize = 16 * 1024;
/// Highest message number: what a database column holds. Nobody gets there by counting.
pub const NUMBER_MAX: u64 = i64::MAX as u64;
/// Most attachments of a frame: standard output and standard error.
pub const ATTACHMENTS_MAX: usize = 2;

/// One unit on the session stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Frame {
    /// A numbered message.
    Data {
        /// The sender's database. A new one starts a new count.
        incarnation: Incarnation,
        /// The number, from 1.
        number: u64,
        /// The lowest number that the sender still keeps: where a receiver without memory begins.
        first: u64,
        /// The envelope's bytes.
        envelope: ByteBuf,
        /// Bytes that the envelope names by hash.
        attachments: Vec<ByteBuf>,
    },
    /// Everything up to `number` of that incarnation has been written down.
    Ack {
        /// The incarnation of the receiver of this frame.
        incarnation: Incarnation,
        /// The highest number received in order.
        number: u64,
    },
    /// What the sender has received from the addressee.
    Meet {
        /// The incarnation of the addressee that the sender listens to, and the highest number received in order.
        received: Option<(Incarnation, u64)>,
        /// The incarnation that it listened to before that one, and refuses now.
        former: Option<Incarnation>,
        /// Whether the addressee is asked to say the same.
        wants_answer: bool,
    },
    /// A message that may be lost.
    Note {
        /// The envelope's bytes.
        envelope: ByteBuf,
    },
}

impl Frame {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads a frame from a peer and checks its bounds.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too long, malformed or carries too much.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let frame: Self = cbor::decode(bytes, FRAME_BYTES_MAX)?;
        let (Self::Data { number, .. } | Self::Ack { number, .. } | Self::Meet { received: Some((_, number)), .. }) =
            &frame
        else {
            return Ok(frame);
        };
        if *number > NUMBER_MAX {
            return Err(DecodeError::Malformed { reason: "the message number is out of bounds".to_owned() });
        }
        if let Self::Data { attachments, .. } = &frame {
            let longest = attachments.iter().map(|a| a.len()).max().unwrap_or(0);
            if attachments.len() > ATTACHMENTS_MAX || longest > ATTACHMENT_BYTES_MAX {
                return Err(DecodeError::Malformed { reason: "attachments out of bounds".to_owned() });
            }
        }
        Ok(frame)
    }
}
