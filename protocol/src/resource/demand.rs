//! How much of one resource, and from where in its pool.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::amount::{Amount, AmountError, clip};
use super::name::{Name, NameError};

/// From which groups of a pool indices are taken; processors of one NUMA node are a group. Names and meaning are
/// HyperQueue's. A pool without groups, or one that is only a sum, gives the same under every policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// From as few groups as the moment allows, evenly from each of them.
    #[default]
    Compact,
    /// Evenly, from as few groups as an idle node would need; the job waits until that is so.
    ForceCompact,
    /// From as few groups as the moment allows, each used up before the next.
    Tight,
    /// Used up one by one, from as few groups as an idle node would need; the job waits until that is so.
    ForceTight,
    /// From as many groups as the moment allows, evenly.
    Scatter,
}

impl Policy {
    const ALL: [Self; 5] = [Self::Compact, Self::ForceCompact, Self::Tight, Self::ForceTight, Self::Scatter];

    /// The policy as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::ForceCompact => "compact!",
            Self::Tight => "tight",
            Self::ForceTight => "tight!",
            Self::Scatter => "scatter",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Policy {
    type Err = DemandError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| DemandError::Policy { text: clip(text) })
    }
}

/// So much, or everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// So much, more than nothing.
    Amount(Amount),
    /// The whole pool of the node that runs the job, while nobody else uses any of it.
    All,
}

/// What a job takes of one resource. In CBOR and JSON it is the text that a person writes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Demand {
    /// The resource.
    pub name: Name,
    /// How much of it.
    pub quantity: Quantity,
    /// From which groups.
    pub policy: Policy,
}

impl Demand {
    /// Reads what is demanded of `name`: `4`, `8 compact!`, `all`; of memory also `8G`.
    ///
    /// # Errors
    /// [`DemandError`] names the word that is wrong.
    pub fn parse(name: Name, text: &str) -> Result<Self, DemandError> {
        let mut words = text.split_whitespace();
        let quantity = match words.next() {
            Some("all") => Quantity::All,
            Some(amount) => {
                let amount = name.parse_amount(amount);
                Quantity::Amount(amount.map_err(|source| DemandError::Amount { name: name.clone(), source })?)
            }
            None => return Err(DemandError::Form { text: clip(text) }),
        };
        let policy = words.next().map_or(Ok(Policy::default()), str::parse)?;
        match words.next() {
            Some(word) => Err(DemandError::Form { text: clip(word) }),
            None => Ok(Self { name, quantity, policy }),
        }
    }

    /// The quantity as people write it.
    #[must_use]
    pub fn quantity_text(&self) -> String {
        match self.quantity {
            Quantity::Amount(amount) => self.name.amount_text(amount),
            Quantity::All => "all".to_owned(),
        }
    }
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.quantity_text())?;
        if self.policy == Policy::default() { Ok(()) } else { write!(f, " {}", self.policy) }
    }
}

impl FromStr for Demand {
    type Err = DemandError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or_else(|| DemandError::Form { text: clip(text) })?;
        Self::parse(name.trim().parse()?, value)
    }
}

impl TryFrom<String> for Demand {
    type Error = DemandError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl Serialize for Demand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text demands nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// Not of the form NAME=AMOUNT POLICY.
    #[error("{text:?} demands nothing: write cpus=4, cpus=\"8 compact!\", mem=8G or gpus/nvidia=all")]
    Form {
        /// The text, cut to size.
        text: String,
    },
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The amount is none.
    #[error("the amount of {name} can't be read")]
    Amount {
        /// The resource.
        name: Name,
        /// Why.
        source: AmountError,
    },
    /// The policy is none.
    #[error("{text:?} is no policy: write compact, compact!, tight, tight! or scatter")]
    Policy {
        /// The text, cut to size.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn a_demand_is_read_and_shown() {
        let cases = [
            ("cpus=4", "cpus=4"),
            (" cpus = 8   compact! ", "cpus=8 compact!"),
            ("cpus=8 compact", "cpus=8"),
            ("cpus=8 tight", "cpus=8 tight"),
            ("cpus=8 tight!", "cpus=8 tight!"),
            ("cpus=8 scatter", "cpus=8 scatter"),
            ("gpus/nvidia=0.50", "gpus/nvidia=0.5"),
            ("gpus/amd=all", "gpus/amd=all"),
            ("mem=8192M", "mem=8G"),
            ("tokens=100", "tokens=100"),
        ];
        for (text, shown) in cases {
            let demand: Demand = text.parse().unwrap();
            assert_eq!(demand.to_string(), shown);
            assert_eq!(shown.parse::<Demand>().unwrap(), demand);
        }
    }

    #[test]
    fn what_demands_nothing_is_refused() {
        for text in ["", "cpus", "cpus=", "=4", "cpus=4 loose", "cpus=4 tight now", "cpus=8G", "CPUS=1", "cpus==1"] {
            assert!(text.parse::<Demand>().is_err(), "{text}");
        }
    }
}
