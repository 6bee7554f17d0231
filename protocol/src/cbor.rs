//! CBOR with limits: the only way in and out of the wire and of stored blobs.
//!
//! ciborium alone accepts trailing bytes and nests up to 256 levels, and a hostile length prefix is only found
//! out while reading. Here the length is checked before anything is read, nesting is capped, and every byte
//! must be consumed. Signatures never depend on a re-encoding, so non-canonical input is harmless.

use serde::{Serialize, de::DeserializeOwned};

/// Deepest nesting that any of our messages needs is 6; 16 leaves room and stops recursion bombs early.
pub const DEPTH_MAX: usize = 16;

/// Why bytes did not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the caller allows.
    #[error("{length} bytes exceed the limit of {limit}")]
    TooLong {
        /// The length found.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not well-formed, nested too deep, or not of the expected shape.
    #[error("malformed CBOR: {reason}")]
    Malformed {
        /// What the decoder found.
        reason: String,
    },
    /// Bytes after the value.
    #[error("{count} bytes follow the value")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Encodes `value`. Our own types always encode; an error is a bug in a `Serialize` impl and yields no bytes.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    let written = ciborium::into_writer(value, &mut bytes);
    debug_assert!(written.is_ok(), "a wire type failed to encode");
    bytes
}

/// Decodes one value of at most `limit` bytes that fills `bytes` to the end.
///
/// # Errors
/// [`DecodeError`] says which limit or rule the bytes break.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, DecodeError> {
    if bytes.len() > limit {
        return Err(DecodeError::TooLong { length: bytes.len(), limit });
    }
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|error| DecodeError::Malformed { reason: error.to_string() })?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { count: rest.len() }) }
}
