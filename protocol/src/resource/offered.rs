//! How much a node has, or has left, by the sums alone: what it says of itself to others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use super::amount::Amount;
use super::demand::{Demand, Quantity};
use super::name::Name;
use super::request::{Request, Requests};

/// Most resources of one node: the kinds that machines have, and room for fifty that their owners think of.
pub const NAMES_MAX: usize = 64;

/// Amounts by resource: the totals in a capability record, what is free in a bid. At most 64 names.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "BTreeMap<Name, Amount>")]
pub struct Offered(BTreeMap<Name, Amount>);

impl Offered {
    /// Makes an offer of `amounts`.
    ///
    /// # Errors
    /// [`OfferedError`] if there are too many.
    pub fn new(amounts: BTreeMap<Name, Amount>) -> Result<Self, OfferedError> {
        if amounts.len() > NAMES_MAX { Err(OfferedError { count: amounts.len() }) } else { Ok(Self(amounts)) }
    }

    /// How much there is of a resource; nothing of one that isn't named.
    #[must_use]
    pub fn amount(&self, name: &Name) -> Amount {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The amounts, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Amount)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }

    /// The first of these requests that could be met.
    #[must_use]
    pub fn first_fit<'r>(&self, requests: &'r Requests) -> Option<&'r Request> {
        requests.variants().iter().find(|request| self.fits(request))
    }

    /// Whether the sums leave room for `request`: of everything as much as is demanded, and something where all is.
    ///
    /// A node that fails this can't run the job; one that passes still may not, as its room may be in pieces.
    #[must_use]
    pub fn fits(&self, request: &Request) -> bool {
        request.demands().iter().all(|demand| match demand.quantity {
            Quantity::Amount(amount) => amount <= self.amount(&demand.name),
            Quantity::All => !self.amount(&demand.name).is_zero(),
        })
    }

    /// What `request` takes of these totals: everything where it demands all.
    #[must_use]
    pub fn taken_by(&self, request: &Request) -> Self {
        let taken = |demand: &Demand| match demand.quantity {
            Quantity::Amount(amount) => (demand.name.clone(), amount),
            Quantity::All => (demand.name.clone(), self.amount(&demand.name)),
        };
        Self(request.demands().iter().map(taken).collect())
    }

    /// What is left after `taken`, by the same names; never below zero.
    #[must_use]
    pub fn less(&self, taken: &Self) -> Self {
        Self(self.iter().map(|(name, amount)| (name.clone(), amount.less(taken.amount(name)))).collect())
    }

    /// The sum of both; of more than 64 names, only the first are kept.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut sum = self.0.clone();
        for (name, amount) in other.iter() {
            let entry = sum.entry(name.clone()).or_default();
            *entry = entry.plus(amount);
        }
        Self(sum.into_iter().take(NAMES_MAX).collect())
    }
}

impl TryFrom<BTreeMap<Name, Amount>> for Offered {
    type Error = OfferedError;

    fn try_from(amounts: BTreeMap<Name, Amount>) -> Result<Self, Self::Error> {
        Self::new(amounts)
    }
}

impl Serialize for Offered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Too many resources for one node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} resources are more than the {NAMES_MAX} that a node may have")]
pub struct OfferedError {
    /// How many there are.
    pub count: usize,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cbor;

    fn offered(text: &str) -> Offered {
        let request: Request = text.parse().unwrap();
        Offered::default().taken_by(&request)
    }

    #[test]
    fn a_request_fits_what_is_offered() {
        let offer = offered("cpus=4,mem=8G,gpus/amd=0.5");
        for fits in ["cpus=4", "none", "mem=8G,cpus=0.5", "gpus/amd=0.5", "cpus=all"] {
            assert!(offer.fits(&fits.parse().unwrap()), "{fits}");
        }
        for exceeds in ["cpus=4.0001", "mem=9G", "gpus/nvidia=1", "gpus/nvidia=all", "cpus=1,gpus/amd=1"] {
            assert!(!offer.fits(&exceeds.parse().unwrap()), "{exceeds}");
        }
    }

    #[test]
    fn offers_are_added_and_taken_from() {
        let total = offered("cpus=4,mem=8G");
        let taken = total.taken_by(&"cpus=all,mem=2G".parse().unwrap());
        assert_eq!(taken, offered("cpus=4,mem=2G"));
        let left = total.less(&taken).less(&offered("fpga=1"));
        assert_eq!((left.amount(&Name::CPUS), left.amount(&Name::MEM)), (Amount::ZERO, Amount::whole(6 << 30)));
        assert_eq!(left.plus(&taken), total);
    }

    #[test]
    fn an_offer_is_bounded_wherever_it_comes_from() {
        let amounts = |count: usize| -> BTreeMap<Name, Amount> {
            (0..count).map(|number| (format!("r{number:03}").parse().unwrap(), Amount::ONE)).collect()
        };
        assert!(Offered::new(amounts(NAMES_MAX)).is_ok());
        assert_eq!(Offered::new(amounts(NAMES_MAX + 1)), Err(OfferedError { count: NAMES_MAX + 1 }));
        assert!(cbor::decode::<Offered>(&cbor::encode(&amounts(NAMES_MAX + 1)), 4096).is_err());
        let most = Offered::new(amounts(NAMES_MAX)).unwrap();
        assert_eq!(most.plus(&offered("z=1")), most);
    }

    #[test]
    fn an_offer_is_numbers_in_cbor_and_texts_in_json() {
        let offer = offered("cpus=1.5,mem=1K");
        assert_eq!(serde_json::to_string(&offer).unwrap(), r#"{"cpus":"1.5","mem":"1024"}"#);
        assert_eq!(serde_json::from_str::<Offered>(r#"{"cpus":"1.5","mem":"1024"}"#).unwrap(), offer);
        assert_eq!(cbor::decode::<Offered>(&cbor::encode(&offer), 100).unwrap(), offer);
    }
}
