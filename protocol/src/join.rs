//! How a stranger with an invite becomes a member: one question, one answer.
//!
//! Both travel on an encrypted stream whose far end has proved its node id, so the one-time secret can be sent
//! as it is and the answer needs no signature beside those in the membership.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, DecodeError};

/// Largest question.
pub const REQUEST_BYTES_MAX: usize = 1024;
/// Largest answer: a chain of three certificates and room.
pub const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What the joining node sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The secret of the invite.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; 16],
    /// The joining node's name for people.
    pub name: String,
}

/// What the inviting node answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The membership of the joining node, encoded.
    Welcome(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Why it may not join.
    Refused(RefusalReason),
}

/// Why an invite does not let a node in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum RefusalReason {
    /// No invite has this secret.
    #[error("the invite is not known to the node that is asked; it may have been withdrawn or changed")]
    Unknown,
    /// It is too old.
    #[error("the invite has expired; ask for a new one")]
    Expired,
    /// Someone else used it.
    #[error("the invite has been used; ask for a new one")]
    Used,
    /// The question did not parse.
    #[error("the request to join was malformed")]
    Malformed,
    /// The node that is asked may not admit members.
    #[error("the node that is asked is no admin of its mesh")]
    NotAdmin,
}

impl Request {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads a question.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too long or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        cbor::decode(bytes, REQUEST_BYTES_MAX)
    }
}

impl Answer {
    /// The bytes to send.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        cbor::encode(self)
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too long or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        cbor::decode(bytes, ANSWER_BYTES_MAX)
    }
}
