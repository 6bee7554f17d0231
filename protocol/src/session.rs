//! Frames between two connected nodes.
//!
//! What must arrive is `Data`: numbered per peer and database incarnation, kept in the sender's outbox until a
//! cumulative `Ack` covers it, delivered in order and once. Whatever one commit of the sender leads to travels together:
//! many jobs cost few frames, and the receiver writes them down in one transaction. What may be lost is `Note`. A message
//! may carry attachments: bytes that the envelope names by hash, too small to be worth a blob stream.
//!
//! A connection begins with a `Meet` from both sides, and numbered messages follow the other's. It says what was
//! received, so that a node whose database is older than its own words finds out before it uses a number twice.
//!
//! On the wire a frame is an array that begins with a number for its kind.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::cbor::{self, DecodeError};
use crate::id::Incarnation;

/// Largest frame on the wire: an award with the largest spec and both attachments, twice over.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// Largest attachment; bigger outputs travel as blobs.
pub const ATTACHMENT_BYTES_MAX: usize = 16 * 1024;
/// Highest message number: what a database column holds. Nobody gets there by counting.
pub const NUMBER_MAX: u64 = i64::MAX as u64;
/// Most attachments of a message: standard output and standard error.
pub const ATTACHMENTS_MAX: usize = 2;
/// Most messages of a frame: as many as may be under way.
pub const MESSAGES_MAX: usize = 64;
/// Bytes of messages after which a frame is full, though there may be room for more.
pub const MESSAGES_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// A message in a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Message {
    /// The envelope's bytes.
    pub envelope: ByteBuf,
    /// Bytes that the envelope names by hash.
    pub attachments: Vec<ByteBuf>,
}

impl Message {
    /// How many bytes it brings.
    #[must_use]
    pub fn size(&self) -> usize {
        self.envelope.len() + self.attachments.iter().map(|bytes| bytes.len()).sum::<usize>()
    }
}

/// One unit on the session stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Numbered messages, one after the other.
    Data {
        /// The sender's database. A new one starts a new count.
        incarnation: Incarnation,
        /// The number of the first message, from 1.
        number: u64,
        /// The lowest number that the sender still keeps: where a receiver without memory begins.
        first: u64,
        /// The messages, at least one.
        messages: Vec<Message>,
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

/// The numbers of the kinds of frames on the wire.
const DATA: u8 = 0;
const ACK: u8 = 1;
const MEET: u8 = 2;
const NOTE: u8 = 3;

impl Frame {
    /// A frame with one numbered message.
    #[must_use]
    pub fn data(
        (incarnation, number, first): (Incarnation, u64, u64),
        envelope: Vec<u8>,
        attachments: Vec<ByteBuf>,
    ) -> Self {
        let messages = vec![Message { envelope: ByteBuf::from(envelope), attachments }];
        Self::Data { incarnation, number, first, messages }
    }

    /// The envelopes that it brings.
    pub fn envelopes(&self) -> impl Iterator<Item = &ByteBuf> {
        let (messages, note) = match self {
            Self::Data { messages, .. } => (messages.as_slice(), None),
            Self::Note { envelope } => (&[][..], Some(envelope)),
            Self::Ack { .. } | Self::Meet { .. } => (&[][..], None),
        };
        messages.iter().map(|message| &message.envelope).chain(note)
    }

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
        let malformed = |reason: &str| Err(DecodeError::Malformed { reason: reason.to_owned() });
        match &frame {
            Self::Data { number, messages, .. } => {
                if messages.is_empty() || messages.len() > MESSAGES_MAX {
                    return malformed("the count of messages is out of bounds");
                }
                let last = number.saturating_add(messages.len() as u64 - 1);
                if last > NUMBER_MAX {
                    return malformed("the message number is out of bounds");
                }
                if !messages.iter().all(is_bounded) {
                    return malformed("attachments out of bounds");
                }
            }
            Self::Ack { number, .. } | Self::Meet { received: Some((_, number)), .. } if *number > NUMBER_MAX => {
                return malformed("the message number is out of bounds");
            }
            Self::Ack { .. } | Self::Meet { .. } | Self::Note { .. } => {}
        }
        Ok(frame)
    }
}

fn is_bounded(message: &Message) -> bool {
    let longest = message.attachments.iter().map(|bytes| bytes.len()).max().unwrap_or(0);
    message.attachments.len() <= ATTACHMENTS_MAX && longest <= ATTACHMENT_BYTES_MAX
}

impl Serialize for Frame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Data { incarnation, number, first, messages } => {
                (DATA, incarnation, number, first, messages).serialize(serializer)
            }
            Self::Ack { incarnation, number } => (ACK, incarnation, number).serialize(serializer),
            Self::Meet { received, former, wants_answer } => {
                (MEET, received, former, wants_answer).serialize(serializer)
            }
            Self::Note { envelope } => (NOTE, envelope).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FrameVisitor)
    }
}

struct FrameVisitor;

impl<'de> Visitor<'de> for FrameVisitor {
    type Value = Frame;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array that begins with the number of a kind of frame")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Frame, A::Error> {
        let kind: u8 = next(&mut seq)?;
        let frame = match kind {
            DATA => Frame::Data {
                incarnation: next(&mut seq)?,
                number: next(&mut seq)?,
                first: next(&mut seq)?,
                messages: next(&mut seq)?,
            },
            ACK => Frame::Ack { incarnation: next(&mut seq)?, number: next(&mut seq)? },
            MEET => Frame::Meet { received: next(&mut seq)?, former: next(&mut seq)?, wants_answer: next(&mut seq)? },
            NOTE => Frame::Note { envelope: next(&mut seq)? },
            unknown => return Err(A::Error::custom(format!("no frame has the kind {unknown}"))),
        };
        Ok(frame)
    }
}

fn next<'de, T: DeserializeOwned, A: SeqAccess<'de>>(seq: &mut A) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| A::Error::custom("the frame is too short"))
}
