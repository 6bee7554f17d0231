//! How much of a resource: a number with four decimals, kept as a whole number so that sums are exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Parts of one unit: four decimals, as in HyperQueue.
const PARTS: u64 = 10_000;
/// Digits after the point.
const DECIMALS: usize = 4;
/// Bytes of a refused text that an error repeats.
const SHOWN_BYTES_MAX: usize = 64;

/// An amount of a resource, in ten-thousandths of its unit. Memory's unit is the byte.
///
/// In CBOR it is the number of ten-thousandths, in JSON the text that a person writes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// One unit: a processor, a device, a byte.
    pub const ONE: Self = Self(PARTS);

    /// Makes an amount of so many ten-thousandths.
    #[must_use]
    pub const fn from_parts(parts: u64) -> Self {
        Self(parts)
    }

    /// Makes an amount of so many whole units, at most the largest amount there is.
    #[must_use]
    pub const fn whole(units: u64) -> Self {
        Self(units.saturating_mul(PARTS))
    }

    /// The amount in ten-thousandths.
    #[must_use]
    pub const fn parts(self) -> u64 {
        self.0
    }

    /// The whole units in it.
    #[must_use]
    pub const fn floor(self) -> u64 {
        self.0 / PARTS
    }

    /// What is left beside the whole units.
    #[must_use]
    pub const fn fraction(self) -> Self {
        Self(self.0 % PARTS)
    }

    /// Whether it is nothing.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// What is left after `taken`; never below zero.
    #[must_use]
    pub const fn less(self, taken: Self) -> Self {
        Self(self.0.saturating_sub(taken.0))
    }

    /// The sum of both, at most the largest amount there is.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Reads an amount of memory in bytes, rounded up to a whole one: `512`, `8G`, `1.5GiB`, `500MB`.
    ///
    /// K, M, G and T are powers of 1024, as in requirements; KB, MB, GB and TB are powers of 1000.
    ///
    /// # Errors
    /// [`AmountError`] if the text is no such number, or more than an amount can hold (1.6 PiB).
    pub fn parse_memory(text: &str) -> Result<Self, AmountError> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let (number, suffix) = text.split_at_checked(digits).unwrap_or((text, ""));
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
            _ => return Err(AmountError::Memory { text: clip(text) }),
        };
        let parts = number.parse::<Self>()?.0.checked_mul(factor);
        let rounded = parts.and_then(|parts| parts.div_ceil(PARTS).checked_mul(PARTS));
        rounded.map(Self).ok_or_else(|| AmountError::TooLarge { text: clip(text) })
    }

    /// The amount as bytes of memory, with the largest suffix that says it exactly: `8G`, not `8589934592`.
    #[must_use]
    pub fn memory_text(self) -> String {
        const SUFFIXES: [(u64, &str); 4] = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
        let exact = |(size, _): &&(u64, &str)| self.fraction().is_zero() && self.floor().is_multiple_of(*size);
        match SUFFIXES.iter().find(exact) {
            Some((size, suffix)) if !self.is_zero() => format!("{}{suffix}", self.floor() / size),
            Some(_) | None => self.to_string(),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.fraction().is_zero() {
            return write!(f, "{}", self.floor());
        }
        let decimals = format!("{:04}", self.fraction().0);
        write!(f, "{}.{}", self.floor(), decimals.trim_end_matches('0'))
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Amount({self})")
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        if !is_number(whole) || !is_number(decimals) {
            return Err(AmountError::Malformed { text: clip(text) });
        }
        let decimals = decimals.trim_end_matches('0');
        if decimals.len() > DECIMALS {
            return Err(AmountError::TooFine { text: clip(text) });
        }
        let fraction = decimals.bytes().chain(std::iter::repeat(b'0')).take(DECIMALS);
        let fraction = fraction.fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        let parts = whole.parse::<u64>().ok().and_then(|units| units.checked_mul(PARTS)?.checked_add(fraction));
        parts.map(Self).ok_or_else(|| AmountError::TooLarge { text: clip(text) })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { serializer.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

/// Cuts a text that is about to be repeated in an error.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(SHOWN_BYTES_MAX).collect()
}

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("{text:?} is no amount: write a number such as 4 or 0.5")]
    Malformed {
        /// The text, cut to size.
        text: String,
    },
    /// Not a number with a suffix of memory.
    #[error("{text:?} is no amount of memory: write bytes, or a number with K, M, G or T, such as 8G")]
    Memory {
        /// The text, cut to size.
        text: String,
    },
    /// More than four decimals.
    #[error("{text:?} is too fine: an amount has at most {DECIMALS} decimals")]
    TooFine {
        /// The text, cut to size.
        text: String,
    },
    /// More than an amount can hold.
    #[error("{text:?} is too large: the largest amount is {}", Amount(u64::MAX))]
    TooLarge {
        /// The text, cut to size.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_amount_is_read_as_people_write_it() {
        for (text, parts) in [("0", 0), ("4", 40_000), ("0.5", 5000), ("2.0001", 20_001), ("1.500000", 15_000)] {
            assert_eq!(text.parse::<Amount>().unwrap().parts(), parts, "{text}");
        }
        assert_eq!("1844674407370955.1615".parse::<Amount>().unwrap(), Amount::from_parts(u64::MAX));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", ".5", "5.", "+4", "-1", "1e3", "4 ", "½", "0x10", "1.2.3", "nan", "1_000"] {
            assert!(matches!(text.parse::<Amount>(), Err(AmountError::Malformed { .. })), "{text}");
        }
        assert!(matches!("0.00001".parse::<Amount>(), Err(AmountError::TooFine { .. })));
        for text in ["1844674407370955.1616", "99999999999999999999999999"] {
            assert!(matches!(text.parse::<Amount>(), Err(AmountError::TooLarge { .. })), "{text}");
        }
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let cases = [("0", 0), ("1", 1), ("1K", 1024), ("8G", 8 << 30), ("1.5GiB", 3 << 29), ("500MB", 500_000_000)];
        for (text, bytes) in cases {
            assert_eq!(Amount::parse_memory(text).unwrap(), Amount::whole(bytes), "{text}");
        }
        assert_eq!(Amount::parse_memory("0.0001K").unwrap(), Amount::ONE, "a part of a byte is a byte");
        for text in ["", "G", "8 G", "8g", "8X", "1.5.G", "-1G", "2000T", "99999999999999999999"] {
            assert!(Amount::parse_memory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_is_shown_with_the_largest_exact_suffix() {
        for (bytes, text) in [(0, "0"), (1, "1"), (1025, "1025"), (1536 << 10, "1536K"), (8 << 30, "8G")] {
            assert_eq!(Amount::whole(bytes).memory_text(), text);
        }
    }

    proptest! {
        #[test]
        fn text_and_amount_say_the_same(parts: u64) {
            let amount = Amount::from_parts(parts);
            prop_assert_eq!(amount.to_string().parse::<Amount>().unwrap(), amount);
        }

        #[test]
        fn memory_text_and_amount_say_the_same(bytes in 0..u64::MAX / PARTS, zeros in 0u32..41) {
            let amount = Amount::whole(bytes >> zeros << zeros);
            prop_assert_eq!(Amount::parse_memory(&amount.memory_text()).unwrap(), amount);
        }

        #[test]
        fn no_text_breaks_the_reader(text: String) {
            let _ = text.parse::<Amount>();
            let _ = Amount::parse_memory(&text);
        }
    }
}
