//! CBOR with limits: the only way in and out of the wire and of stored blobs.
//!
//! ciborium alone accepts trailing bytes, nests up to 256 levels, finds out about a hostile length prefix only
//! while it reads, and takes an array that claims seven items and holds the five that were asked for. Here the
//! length is checked before anything is read, nesting is capped, and the bytes must be exactly one well-formed
//! item. Signatures never depend on a re-encoding, so non-canonical input is harmless.

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
    check_item(bytes)?;
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|error| DecodeError::Malformed { reason: error.to_string() })?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Trailing { count: rest.len() }) }
}

/// Checks that `bytes` are whole items from end to end, as many as the first one claims.
///
/// Counting is enough: the decoder never takes more items out of a container than its head claims, so if it takes
/// fewer anywhere it is done before the end, and what is left over is found as trailing bytes. Items of unknown
/// length and tags are refused: our encoder writes none.
fn check_item(bytes: &[u8]) -> Result<(), DecodeError> {
    let malformed = |reason: &str| DecodeError::Malformed { reason: reason.to_owned() };
    let mut rest = bytes;
    let mut pending: u64 = 1;
    while pending > 0 {
        // Every item takes a byte at least, so a claim beyond the bytes is found before anything is reserved for it.
        if pending > rest.len() as u64 {
            return Err(malformed("it ends before its last item"));
        }
        let (item, after) = Head::read(rest).ok_or_else(|| malformed("an item's head is no CBOR of ours"))?;
        let skipped = usize::try_from(item.content_bytes).ok().and_then(|length| after.get(length..));
        rest = skipped.ok_or_else(|| malformed("a string is longer than the rest"))?;
        pending = (pending - 1).saturating_add(item.items);
    }
    if rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing { count: rest.len() }) }
}

/// What follows the first bytes of an item (RFC 8949, section 3).
struct Head {
    /// Bytes of a string.
    content_bytes: u64,
    /// Items of an array or map.
    items: u64,
}

impl Head {
    const LEAF: Self = Self { content_bytes: 0, items: 0 };

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (first, rest) = bytes.split_first()?;
        let (major, info) = (first >> 5, first & 0x1F);
        let width = match info {
            0..=23 => 0,
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            _ => return None,
        };
        let (argument, rest) = rest.split_at_checked(width)?;
        let written = argument.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let argument = if width == 0 { u64::from(info) } else { written };
        let head = match major {
            0 | 1 => Self::LEAF,
            2 | 3 => Self { content_bytes: argument, items: 0 },
            4 => Self { content_bytes: 0, items: argument },
            5 => Self { content_bytes: 0, items: argument.checked_mul(2)? },
            // False, true and null; floats have no place in our types, but are whole items.
            7 if (20..=22).contains(&info) || width > 1 => Self::LEAF,
            _ => return None,
        };
        Some((head, rest))
    }
}
