//! What an index is called: the number of a processor or device, or a name for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Longest label, in bytes: a device's UUID and the parts of it.
pub const LABEL_BYTES_MAX: usize = 64;

/// The name of one index of a pool, such as `3` or `GPU-5f2c`. Clones share the text.
///
/// 1 to 64 visible ASCII characters, none of them `,` `[` `]` or a quote, so that a list of labels can be read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(Arc<str>);

impl Label {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<u32> for Label {
    fn from(number: u32) -> Self {
        Self(number.to_string().into())
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Label({})", self.0)
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| b.is_ascii_graphic() && !matches!(b, b',' | b'[' | b']' | b'"' | b'\'');
        if text.is_empty() || text.len() > LABEL_BYTES_MAX || !text.bytes().all(legal) {
            return Err(LabelError { text: text.chars().take(LABEL_BYTES_MAX).collect() });
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Label {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} can't be the name of an index: write 1 to {LABEL_BYTES_MAX} visible ASCII characters without commas, brackets and quotes"
)]
pub struct LabelError {
    /// The text, cut to size.
    pub text: String,
}
