//! Byte arrays of a fixed length with a name: keys, signatures, serial numbers.
//!
//! `fixed_bytes!` writes the type; the functions here are its shared, non-generated part. A binary
//! format gets a byte string, a human-readable one the base32 text. The hard case is a format that
//! hands bytes over as a sequence of numbers: it is accepted, but never beyond the fixed length.

use std::fmt;

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::Serializer;

use crate::base32;

/// How many characters a shortened id has: enough to tell the nodes of one mesh apart by eye.
pub(crate) const SHORT_CHARS: usize = 8;

/// Defines a public newtype round `[u8; N]` with its text and serde forms.
macro_rules! fixed_bytes {
    ($(#[$attribute:meta])* $name:ident, $length:literal, $what:literal) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Wraps raw bytes; every value is accepted.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// Returns the raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Returns the first 8 characters of the text form, for logs and tables.
            ///
            /// The short form identifies nothing for certain and can't be parsed back.
            #[must_use]
            pub fn short(&self) -> String {
                $crate::fixed_bytes::short(&self.0)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.pad(&$crate::base32::encode(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(formatter, "{}({})", stringify!($name), self.short())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::fixed_bytes::ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::fixed_bytes::parse($what, text).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::fixed_bytes::serialize(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::fixed_bytes::deserialize($what, deserializer).map(Self)
            }
        }
    };
}

/// Says why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// The text is shorter or longer than a whole id.
    #[error("{what} has {found} characters, but a whole one has {expected}; give the full form")]
    Length {
        /// The kind of id.
        what: &'static str,
        /// Characters in a whole one.
        expected: usize,
        /// Characters (bytes, where not ASCII) in the text.
        found: usize,
    },
    /// The text has the right length but is not lower-case base32.
    #[error("{what} is not lower-case base32 (letters a-z, digits 2-7); copy it again in full")]
    Text {
        /// The kind of id.
        what: &'static str,
    },
}

/// Parses the full text form of a `what`.
pub(crate) fn parse<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], ParseIdError> {
    let expected = base32::encoded_length(N);
    if text.len() != expected {
        let found = text.len();
        return Err(ParseIdError::Length { what, expected, found });
    }
    base32::decode(text).and_then(|bytes| bytes.try_into().ok()).ok_or(ParseIdError::Text { what })
}

/// Returns the first [`SHORT_CHARS`] characters of the text form.
pub(crate) fn short(bytes: &[u8]) -> String {
    let mut text = base32::encode(bytes);
    text.truncate(SHORT_CHARS);
    text
}

/// Writes a byte string, or text to a human-readable format.
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&base32::encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

/// Reads what [`serialize`] wrote.
pub(crate) fn deserialize<'de, const N: usize, D: Deserializer<'de>>(
    what: &'static str,
    deserializer: D,
) -> Result<[u8; N], D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_str(TextVisitor::<N> { what })
    } else {
        deserializer.deserialize_bytes(BytesVisitor::<N> { what })
    }
}

struct TextVisitor<const N: usize> {
    what: &'static str,
}

impl<const N: usize> Visitor<'_> for TextVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = base32::encoded_length(N);
        write!(formatter, "a {} of {length} base32 characters", self.what)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        parse(self.what, text).map_err(E::custom)
    }
}

struct BytesVisitor<const N: usize> {
    what: &'static str,
}

impl<'de, const N: usize> Visitor<'de> for BytesVisitor<N> {
    type Value = [u8; N];

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a {} of {N} bytes", self.what)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        self.visit_bytes(&bytes)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = sequence.next_element()?.ok_or_else(|| A::Error::invalid_length(index, &self))?;
        }
        match sequence.next_element::<u8>()? {
            None => Ok(bytes),
            Some(_) => Err(A::Error::invalid_length(N + 1, &self)),
        }
    }
}
