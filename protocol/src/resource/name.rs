//! The name of a resource, which is also the name of the pool that it is taken from.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::amount::{Amount, AmountError, clip};

/// Longest name, in bytes: room for a vendor, a kind and a model.
pub const NAME_BYTES_MAX: usize = 64;

/// The name of a resource: `cpus`, `mem`, `gpus/nvidia`, or what the owner of a node calls it.
///
/// 1 to 64 of `a-z 0-9 _ / . -`, a letter first. Known names are not copied when they are cloned.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Cow<'static, str>);

impl Name {
    /// Processors.
    pub const CPUS: Self = Self(Cow::Borrowed("cpus"));
    /// Memory, in bytes.
    pub const MEM: Self = Self(Cow::Borrowed("mem"));
    /// Devices of NVIDIA.
    pub const GPUS_NVIDIA: Self = Self(Cow::Borrowed("gpus/nvidia"));
    /// Devices of AMD.
    pub const GPUS_AMD: Self = Self(Cow::Borrowed("gpus/amd"));

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a part of an environment variable: upper case, with `_` for `/`, `.` and `-`.
    ///
    /// Two names may share it (`a.b` and `a_b`); a node refuses to have pools of both.
    #[must_use]
    pub fn variable(&self) -> String {
        self.0.to_ascii_uppercase().replace(['/', '.', '-'], "_")
    }

    /// Reads an amount in the unit of this resource: memory takes a suffix, such as `8G`.
    ///
    /// # Errors
    /// [`AmountError`] if the text is no such amount.
    pub fn parse_amount(&self, text: &str) -> Result<Amount, AmountError> {
        if *self == Self::MEM { Amount::parse_memory(text) } else { text.parse() }
    }

    /// Writes an amount so that [`Self::parse_amount`] reads it again.
    #[must_use]
    pub fn amount_text(&self, amount: Amount) -> String {
        if *self == Self::MEM { amount.memory_text() } else { amount.to_string() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The name of the variable that says which of its requests a job runs with.
        const RESERVED: &str = "variant";
        let known = [Self::CPUS, Self::MEM, Self::GPUS_NVIDIA, Self::GPUS_AMD];
        if let Some(name) = known.into_iter().find(|name| name.0 == text) {
            return Ok(name);
        }
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'/' | b'.' | b'-');
        if !text.starts_with(|c: char| c.is_ascii_lowercase())
            || text.len() > NAME_BYTES_MAX
            || !text.bytes().all(legal)
        {
            return Err(NameError::Malformed { text: clip(text) });
        }
        if text == RESERVED { Err(NameError::Reserved) } else { Ok(Self(Cow::Owned(text.to_owned()))) }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no name of a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, too long, or with characters that a name can't have.
    #[error(
        "{text:?} is no resource: write it like cpus or gpus/nvidia, with 1 to {NAME_BYTES_MAX} of a-z 0-9 _ / . - and a letter first"
    )]
    Malformed {
        /// The text, cut to size.
        text: String,
    },
    /// Its variable has another meaning.
    #[error("a resource can't be called variant: its variable says which request a job runs with; choose another name")]
    Reserved,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_name_is_checked() {
        for text in ["cpus", "mem", "gpus/nvidia", "gpus/amd", "a", "fpga.x-2_b", &"a".repeat(64)] {
            assert_eq!(text.parse::<Name>().unwrap().as_str(), text);
        }
        for text in ["", "Cpus", "1a", "/a", "a b", "a=b", "a,b", "é", "variant", &"a".repeat(65)] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
        assert_eq!("cpus".parse::<Name>().unwrap(), Name::CPUS);
    }

    #[test]
    fn a_name_becomes_a_variable() {
        assert_eq!(Name::GPUS_NVIDIA.variable(), "GPUS_NVIDIA");
        assert_eq!("a.b-c_1".parse::<Name>().unwrap().variable(), "A_B_C_1");
    }

    #[test]
    fn only_memory_is_written_with_a_suffix() {
        assert_eq!(Name::MEM.parse_amount("8G").unwrap(), Amount::whole(8 << 30));
        assert_eq!(Name::MEM.amount_text(Amount::whole(8 << 30)), "8G");
        assert!(Name::CPUS.parse_amount("8G").is_err());
        assert_eq!(Name::CPUS.amount_text(Amount::whole(1024)), "1024");
    }
}
