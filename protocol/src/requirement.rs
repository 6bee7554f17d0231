//! What a job needs of a node: a conjunction of small typed predicates over a capability record.
//!
//! A requirement is written `tool:gzip` (the node has this tag) or `cpus>=8`, `os=linux`, `memory>=8GiB`
//! (an attribute compares so). No loops, no regular expressions: matching is linear in what is compared, and a
//! hostile requirement can cost no more than its length.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest tag, attribute name or value, in bytes.
pub const TERM_BYTES_MAX: usize = 128;

/// A capability that a node has or lacks, such as `tool:gzip` or `executor:process`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({})", self.0)
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

impl TryFrom<String> for Tag {
    type Error = RequirementError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_term(&text) { Ok(Self(text)) } else { Err(RequirementError::Term { text: clip(&text) }) }
    }
}

impl FromStr for Tag {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

fn is_term(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '.' | '_' | '-' | '/' | '@' | '+');
    let has_empty_part = text.split(':').any(str::is_empty);
    !has_empty_part && text.len() <= TERM_BYTES_MAX && text.chars().all(legal)
}

fn clip(text: &str) -> String {
    text.chars().take(TERM_BYTES_MAX).collect()
}

/// What an attribute is worth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A whole number; sizes are in bytes.
    Number(u64),
    /// A word.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// How an attribute must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// Equal.
    Is,
    /// Not equal; holds for an attribute that is missing.
    IsNot,
    /// A number of at least so much.
    AtLeast,
    /// A number of at most so much.
    AtMost,
}

impl Comparison {
    const fn sign(self) -> &'static str {
        match self {
            Self::Is => "=",
            Self::IsNot => "!=",
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
        }
    }
}

/// One condition on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// The node has this tag.
    Has(Tag),
    /// The node's attribute compares so.
    Attribute {
        /// The attribute's name.
        name: String,
        /// The comparison.
        comparison: Comparison,
        /// What it is compared with.
        value: Value,
    },
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Has(tag) => tag.fmt(f),
            Self::Attribute { name, comparison, value } => write!(f, "{name}{}{value}", comparison.sign()),
        }
    }
}

impl FromStr for Requirement {
    type Err = RequirementError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SIGNS: [(&str, Comparison); 4] =
            [(">=", Comparison::AtLeast), ("<=", Comparison::AtMost), ("!=", Comparison::IsNot), ("=", Comparison::Is)];
        let split = |(sign, comparison)| text.split_once(sign).map(|(name, value)| (name, comparison, value));
        let Some((name, comparison, value)) = SIGNS.into_iter().find_map(split) else {
            return text.parse().map(Self::Has);
        };
        let requirement =
            Self::Attribute { name: name.trim().to_owned(), comparison, value: parse_value(value.trim()) };
        requirement.check()?;
        Ok(requirement)
    }
}

fn parse_value(text: &str) -> Value {
    parse_size(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

/// Reads a whole number with an optional binary or decimal size suffix: `8GiB`, `8G`, `500MB`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, suffix) = text.split_at_checked(digits)?;
    let factor: u64 = match suffix {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl Requirement {
    /// Checks the bounds of a requirement that came from elsewhere.
    ///
    /// # Errors
    /// [`RequirementError`] names the part that is out of bounds.
    pub fn check(&self) -> Result<(), RequirementError> {
        match self {
            Self::Has(_) => Ok(()),
            Self::Attribute { name, .. } if !is_term(name) => Err(RequirementError::Term { text: clip(name) }),
            Self::Attribute { value: Value::Text(text), .. } if !is_term(text) => {
                Err(RequirementError::Term { text: clip(text) })
            }
            Self::Attribute { name, comparison: Comparison::AtLeast | Comparison::AtMost, value: Value::Text(_) } => {
                Err(RequirementError::NotANumber { name: name.clone() })
            }
            Self::Attribute { .. } => Ok(()),
        }
    }

    /// Whether a node with these tags and attributes meets it.
    #[must_use]
    pub fn is_met(&self, tags: &BTreeSet<Tag>, attributes: &BTreeMap<String, Value>) -> bool {
        match self {
            Self::Has(tag) => tags.contains(tag),
            Self::Attribute { name, comparison, value } => compares(attributes.get(name), *comparison, value),
        }
    }
}

fn compares(found: Option<&Value>, comparison: Comparison, wanted: &Value) -> bool {
    match (comparison, found, wanted) {
        (Comparison::Is, Some(found), wanted) => found == wanted,
        (Comparison::IsNot, Some(found), wanted) => found != wanted,
        (Comparison::IsNot, None, _) => true,
        (Comparison::AtLeast, Some(Value::Number(found)), Value::Number(wanted)) => found >= wanted,
        (Comparison::AtMost, Some(Value::Number(found)), Value::Number(wanted)) => found <= wanted,
        (Comparison::Is | Comparison::AtLeast | Comparison::AtMost, _, _) => false,
    }
}

/// Why a text is not a requirement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequirementError {
    /// Empty, too long, or with characters that a term can't have.
    #[error(
        "{text:?} is no tag or attribute: write it like tool:gzip, with 1 to {TERM_BYTES_MAX} letters, digits and . _ - / @ +"
    )]
    Term {
        /// The text, cut to size.
        text: String,
    },
    /// A size comparison with a word.
    #[error("{name} is compared by size, so its value must be a whole number such as 8 or 8GiB")]
    NotANumber {
        /// The attribute.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed parse is the failure of the test")]
    use super::*;

    fn met(requirement: &str) -> bool {
        let tags = BTreeSet::from(["tool:gzip".parse().unwrap()]);
        let attributes =
            BTreeMap::from([("os".to_owned(), Value::Text("linux".to_owned())), ("cpus".to_owned(), Value::Number(8))]);
        requirement.parse::<Requirement>().unwrap().is_met(&tags, &attributes)
    }

    #[test]
    fn a_requirement_compares_tags_and_attributes() {
        for holds in ["tool:gzip", "os=linux", "os!=macos", "gpu!=nvidia", "cpus>=8", "cpus<=8", "cpus=8"] {
            assert!(met(holds), "{holds}");
        }
        for fails in ["tool:zstd", "os=macos", "os!=linux", "cpus>=9", "gpu=nvidia", "gpu>=1", "os>=3"] {
            assert!(!met(fails), "{fails}");
        }
    }

    #[test]
    fn a_requirement_prints_as_it_was_written() {
        for text in ["tool:gzip", "os=linux", "cpus>=8", "os!=macos", "memory<=1024"] {
            assert_eq!(text.parse::<Requirement>().unwrap().to_string(), text);
        }
        assert_eq!("memory>=8GiB".parse::<Requirement>().unwrap().to_string(), "memory>=8589934592");
    }

    #[test]
    fn what_is_no_requirement_is_refused() {
        for text in
            ["", "tool:", ":gzip", "a b", "=x", "cpus>=many", "x=", "é", &"a".repeat(200), "cpus>=99999999999999999999"]
        {
            assert!(text.parse::<Requirement>().is_err(), "{text}");
        }
    }
}
