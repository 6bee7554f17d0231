//! A pool that is only a sum, such as memory: what is taken has no identity.

use jobmesh_protocol::resource::{Amount, Name, Quantity};

use super::{Cause, ClaimError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    free: Amount,
    total: Amount,
}

impl Sum {
    pub(super) const fn new(total: Amount) -> Self {
        Self { free: total, total }
    }

    pub(super) const fn free(&self) -> Amount {
        self.free
    }

    pub(super) const fn total(&self) -> Amount {
        self.total
    }

    pub(super) fn take(&mut self, quantity: Quantity) -> Option<Amount> {
        if self.cause(quantity).is_some() {
            return None;
        }
        let amount = match quantity {
            Quantity::Amount(amount) => amount,
            Quantity::All => self.total,
        };
        self.free = self.free.less(amount);
        Some(amount)
    }

    pub(super) fn claim(&mut self, name: &Name, amount: Amount) -> Result<(), ClaimError> {
        if amount > self.free {
            return Err(ClaimError::SumTaken { name: name.clone(), wanted: amount, free: self.free });
        }
        self.free = self.free.less(amount);
        Ok(())
    }

    pub(super) fn give_back(&mut self, amount: Amount) {
        let free = self.free.plus(amount);
        debug_assert!(free <= self.total, "more was given back than taken");
        self.free = free.min(self.total);
    }

    /// Why so much can't be taken now.
    pub(super) fn cause(&self, quantity: Quantity) -> Option<Cause> {
        match quantity {
            Quantity::Amount(amount) => (amount > self.free).then_some(Cause::Taken),
            Quantity::All => (self.free < self.total).then_some(Cause::NotIdle),
        }
    }
}
