//! CBOR with exactly one encoding per value.
//!
//! The hard case is malleability: CBOR can write one value in many ways (longer integers, open
//! arrays, array headers that promise more than follows). If two byte strings decoded to the same
//! thing, hashes and "seen before" checks could be dodged. So what does not encode back to the
//! received bytes is refused.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep values may nest: ours stay under four levels, and a peer gets no deeper on our stack.
const DEPTH_MAX: usize = 8;

/// Says why bytes are not the CBOR that was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// More bytes than the limit, so none was looked at.
    #[error("{found} bytes, but at most {max} are allowed")]
    TooLong {
        /// Bytes received.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not CBOR, or CBOR of another shape.
    #[error("not the expected CBOR: {reason}")]
    Shape {
        /// What the decoder said.
        reason: String,
    },
    /// A value, then more bytes.
    #[error("{bytes} bytes follow the end of the value")]
    Trailing {
        /// Bytes left over.
        bytes: usize,
    },
    /// The right value, written in another way than ours.
    #[error("not in canonical form")]
    NotCanonical,
}

/// Encodes `value`.
///
/// # Panics
///
/// If the type refuses to be serialised; ours are plain structs that can't.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = ciborium::into_writer(value, &mut bytes);
    assert!(written.is_ok(), "plain values always encode into memory");
    bytes
}

/// Decodes a value from exactly `bytes`, at most `max` of them.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CborError> {
    if bytes.len() > max {
        let found = bytes.len();
        return Err(CborError::TooLong { found, max });
    }
    let mut rest = bytes;
    let value: T =
        ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX).map_err(|error| shape(&error))?;
    if !rest.is_empty() {
        return Err(CborError::Trailing { bytes: rest.len() });
    }
    if encode(&value) != bytes {
        return Err(CborError::NotCanonical);
    }
    Ok(value)
}

/// Puts the decoder's error into words, without its debug dump of nested types.
fn shape(error: &ciborium::de::Error<std::io::Error>) -> CborError {
    use ciborium::de::Error;
    let reason = match error {
        Error::Io(_) => "it ends too early".to_owned(),
        Error::Syntax(offset) => format!("invalid at byte {offset}"),
        Error::Semantic(_, message) => message.clone(),
        Error::RecursionLimitExceeded => format!("nested deeper than {DEPTH_MAX}"),
    };
    CborError::Shape { reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_one_encoding_is_accepted() {
        type Pair = (u8, u8);
        assert_eq!(decode::<Pair>(&[0x82, 1, 2], 8), Ok((1, 2)));
        let longer = [0x82, 0x18, 1, 2];
        assert_eq!(decode::<Pair>(&longer, 8), Err(CborError::NotCanonical));
        let trailing = [0x82, 1, 2, 3];
        assert_eq!(decode::<Pair>(&trailing, 8), Err(CborError::Trailing { bytes: 1 }));
        assert_eq!(decode::<Pair>(&[0x82, 1, 2], 2), Err(CborError::TooLong { found: 3, max: 2 }));
        assert!(decode::<Pair>(&[0x9F, 1, 2, 0xFF], 8).is_err(), "open array");
        assert!(decode::<Pair>(&[0x83, 1, 2], 8).is_err(), "a header that promises more");
        assert!(decode::<Pair>(&[0x82, 1], 8).is_err(), "cut short");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let bytes = [0x81; 64];
        assert!(decode::<(Vec<Vec<u8>>,)>(&bytes, 64).is_err());
    }

    proptest! {
        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            let _ = decode::<Vec<(String, u64)>>(&bytes, 4096);
        }
    }
}
