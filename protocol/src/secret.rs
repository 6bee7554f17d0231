//! How a node gets the secrets of a job that it was awarded: one question, one answer.
//!
//! Both travel on an encrypted stream whose two ends have proved their node ids, and neither is kept anywhere. The values
//! are no part of a ticket, so nothing that is written down or sent again has them: whoever has lost them, as after a
//! restart, has to be awarded the job anew.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cbor::{self, DecodeError};
use crate::job::SECRETS_MAX;
use crate::ticket::LeaseKey;

/// Largest question.
pub const REQUEST_BYTES_MAX: usize = 128;
/// Most bytes of all values of one job together: several keys with all the certificates above them.
pub const VALUES_BYTES_MAX: usize = 256 * 1024;
/// Most lines of all values of one job together: many times a key with all the certificates above it. Each line is looked
/// for, in some fifty forms, in what the run says.
pub const LINES_MAX: usize = 1024;
/// Largest answer: the values, and for each its variable.
pub const ANSWER_BYTES_MAX: usize = VALUES_BYTES_MAX + SECRETS_MAX * 1024;

/// Asks for the secrets of a job that the asking node was awarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The attempt that needs them.
    pub key: LeaseKey,
}

/// What the origin answers.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The values by the variables that they go to.
    Given(BTreeMap<String, String>),
    /// No such attempt of the asking node is open, or it may not have them.
    Withheld,
    /// The origin could not look one of them up. Which and why is its own business.
    Missing,
}

/// Whether a job may have these values, by their count, their bytes and their lines.
#[must_use]
pub fn are_bounded(values: &BTreeMap<String, String>) -> bool {
    let bytes: usize = values.values().map(String::len).sum();
    let lines: usize = values.values().map(|value| value.lines().count()).sum();
    values.len() <= SECRETS_MAX && bytes <= VALUES_BYTES_MAX && lines <= LINES_MAX
}

impl fmt::Debug for Answer {
    /// Shows the variables only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(values) => f.debug_tuple("Given").field(&values.keys()).finish(),
            Self::Withheld => f.write_str("Withheld"),
            Self::Missing => f.write_str("Missing"),
        }
    }
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
    /// [`DecodeError`] if it is too long, malformed, or has more values or lines than the secrets of a job may have.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let answer = cbor::decode(bytes, ANSWER_BYTES_MAX).map_err(without_value)?;
        match &answer {
            Self::Given(values) if !are_bounded(values) => {
                let reason = format!(
                    "more than {SECRETS_MAX} values, {VALUES_BYTES_MAX} bytes or {LINES_MAX} lines; a job's secrets have less"
                );
                Err(DecodeError::Malformed { reason })
            }
            Self::Given(_) | Self::Withheld | Self::Missing => Ok(answer),
        }
    }
}

/// What a decoder found may be a part of a value.
fn without_value(error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Malformed { .. } => DecodeError::Malformed { reason: "it is no answer".to_owned() },
        error @ (DecodeError::TooLong { .. } | DecodeError::Trailing { .. }) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_does_not_show_its_values() {
        let answer = Answer::Given([("TOKEN".to_owned(), "hunter2".to_owned())].into());
        assert_eq!(format!("{answer:?}"), "Given([\"TOKEN\"])");
        assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        let long = Answer::Given([("TOKEN".to_owned(), "a line\n".repeat(LINES_MAX + 1))].into());
        assert!(
            matches!(Answer::decode(&long.encode()), Err(DecodeError::Malformed { .. })),
            "each line is looked for"
        );
        let wrong = Answer::decode(&cbor::encode(&"hunter2")).err();
        assert!(wrong.is_some_and(|error| !error.to_string().contains("hunter2")));
    }
}
