//! How a schedule is written down: when it fires, and what it does when firings meet or were missed.
//!
//! Only the words are here; `calendar` in the engine knows which instants they mean. The hard case is that text
//! outlives the program that read it: a [`Timing`] keeps what the person wrote, so a newer build with a newer zone
//! database computes its instants again from the same words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::DurationMillis;

/// Longest text of a schedule, in bytes: every minute of an hour in a list, and to spare.
pub const TEXT_BYTES_MAX: usize = 256;
/// Longest name of a time zone, in bytes. The zone database's own stay below 40.
pub const ZONE_BYTES_MAX: usize = 64;

/// What a schedule does at an instant when its job of an earlier instant has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Lets the instant pass.
    #[default]
    Skip,
    /// Keeps one instant waiting until the job ends; further ones pass.
    BufferOne,
    /// Keeps every instant waiting, one job after another.
    BufferAll,
    /// Cancels the job and starts the new one.
    CancelOther,
    /// Starts another beside it.
    Allow,
}

impl Overlap {
    /// Every policy, in the order of their documentation.
    pub const ALL: [Self; 5] = [Self::Skip, Self::BufferOne, Self::BufferAll, Self::CancelOther, Self::Allow];

    /// The word for it in the database, JSON and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::BufferOne => "buffer_one",
            Self::BufferAll => "buffer_all",
            Self::CancelOther => "cancel_other",
            Self::Allow => "allow",
        }
    }

    /// The policy of a word; a hyphen does for an underscore.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.replace('-', "_");
        Self::ALL.into_iter().find(|policy| policy.word() == word)
    }
}

/// Which instants a schedule still fires after the node was down or its clock was set forward.
///
/// Written `none`, `latest`, or a length of time such as `6h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CatchUp {
    /// None of those that were missed.
    None,
    /// Only the newest one, however old it is.
    #[default]
    Latest,
    /// All that are no older than this.
    Window(DurationMillis),
}

impl fmt::Display for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Latest => f.write_str("latest"),
            Self::Window(length) => f.write_str(&format_length(*length)),
        }
    }
}

impl FromStr for CatchUp {
    type Err = CatchUpError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "latest" => Ok(Self::Latest),
            length => match parse_length(length) {
                Some(length) if length > DurationMillis(0) => Ok(Self::Window(length)),
                Some(_) | None => Err(CatchUpError { text: text.chars().take(TEXT_BYTES_MAX).collect() }),
            },
        }
    }
}

impl TryFrom<String> for CatchUp {
    type Error = CatchUpError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CatchUp> for String {
    fn from(policy: CatchUp) -> Self {
        policy.to_string()
    }
}

/// A text is no catch-up policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no catch-up policy: write none, latest, or how far to look back, like 6h")]
pub struct CatchUpError {
    /// The text, cut to size.
    pub text: String,
}

/// When a schedule fires, as it was written. Says nothing about whether it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// A cron expression of five fields, or six with the second in front; a name such as `@daily`; or `every 5m`.
    pub text: String,
    /// The IANA name of the time zone whose wall clock a cron expression reads.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// How much later than its instant a firing may be, so that many schedules do not fire at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub jitter_ms: DurationMillis,
}

fn default_zone() -> String {
    "UTC".to_owned()
}

fn is_zero(length: &DurationMillis) -> bool {
    *length == DurationMillis(0)
}

impl Timing {
    /// The timing of this text in UTC, without jitter.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), zone: default_zone(), jitter_ms: DurationMillis(0) }
    }

    /// The same by another zone's wall clock.
    #[must_use]
    pub fn in_zone(self, zone: impl Into<String>) -> Self {
        Self { zone: zone.into(), ..self }
    }
}

/// The units of a length of time, longest first, each with its milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a length of time: numbers with units, such as `90s`, `5m`, `1h 30m`, `2 weeks`.
///
/// A number without a unit is refused, because it could be anything; so is a sum that does not fit.
#[must_use]
pub fn parse_length(text: &str) -> Option<DurationMillis> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at_checked(digits)?;
        let after = after.trim_start();
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, next) = after.split_at_checked(letters)?;
        let part = number.parse::<u64>().ok()?.checked_mul(unit_millis(unit)?)?;
        total = Some(total.unwrap_or(0).checked_add(part)?);
        rest = next.trim_start();
    }
    total.map(DurationMillis)
}

fn unit_millis(unit: &str) -> Option<u64> {
    let short = match unit {
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hour" | "hours" => "h",
        "day" | "days" => "d",
        "w" | "week" | "weeks" => return Some(7 * 86_400_000),
        other => other,
    };
    UNITS.iter().find(|(name, _)| *name == short).map(|(_, millis)| *millis)
}

/// Writes a length of time the way [`parse_length`] reads it, in as few units as are exact: `1h30m`.
#[must_use]
pub fn format_length(length: DurationMillis) -> String {
    let mut left = length.0;
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if left >= millis {
            text.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cbor;

    #[test]
    fn a_length_is_read_with_its_units() {
        for (text, millis) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            (" 1h 30 min ", 5_400_000),
            ("2 weeks", 1_209_600_000),
            ("1d", 86_400_000),
            ("250ms", 250),
            ("0s", 0),
        ] {
            assert_eq!(parse_length(text), Some(DurationMillis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_length_is_refused() {
        for text in ["", " ", "5", "m", "-5m", "5M", "1.5h", "5m3", "5 years", "m5", "5é", "99999999999999999999s"] {
            assert_eq!(parse_length(text), None, "{text}");
        }
        assert_eq!(parse_length("18446744073709551615ms 1ms"), None);
        assert_eq!(parse_length("18446744073709551615d"), None);
    }

    #[test]
    fn a_length_prints_as_it_is_read() {
        for (millis, text) in [(0, "0s"), (5_400_000, "1h30m"), (90_061_001, "1d1h1m1s1ms"), (1_209_600_000, "14d")] {
            assert_eq!(format_length(DurationMillis(millis)), text);
            assert_eq!(parse_length(text), Some(DurationMillis(millis)));
        }
    }

    #[test]
    fn every_overlap_policy_has_a_word_of_its_own() {
        for policy in Overlap::ALL {
            assert_eq!(Overlap::from_word(policy.word()), Some(policy));
        }
        assert_eq!(Overlap::from_word("buffer-one"), Some(Overlap::BufferOne));
        assert_eq!(Overlap::from_word("terminate"), None);
        assert_eq!(Overlap::default(), Overlap::Skip);
    }

    #[test]
    fn a_catch_up_policy_prints_as_it_is_read() {
        for text in ["none", "latest", "6h", "1d12h"] {
            assert_eq!(text.parse::<CatchUp>().unwrap().to_string(), text);
        }
        for text in ["", "0s", "all", "6"] {
            assert_eq!(text.parse::<CatchUp>(), Err(CatchUpError { text: text.to_owned() }));
        }
    }

    #[test]
    fn a_timing_keeps_what_was_written() {
        let timing = Timing { jitter_ms: DurationMillis(5), ..Timing::new("@daily").in_zone("Europe/Oslo") };
        let bytes = cbor::encode(&timing);
        assert_eq!(cbor::decode::<Timing>(&bytes, 1024).unwrap(), timing);
        let policies = (Overlap::CancelOther, CatchUp::Window(DurationMillis(21_600_000)));
        assert_eq!(cbor::decode::<(Overlap, CatchUp)>(&cbor::encode(&policies), 1024).unwrap(), policies);
        assert!(cbor::decode::<CatchUp>(&cbor::encode(&"sometimes"), 1024).is_err());
    }
}
