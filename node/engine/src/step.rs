//! What one call of the engine works with: the time, randomness and the open transaction.

use jobmesh_protocol::{Now, UnixMillis};
use jobmesh_store::{Txn, View};
use rand_core::Rng;

/// Lent to every function that decides something.
pub(crate) struct Step<'a> {
    pub(crate) now: Now,
    pub(crate) rng: &'a mut dyn Rng,
    pub(crate) txn: &'a Txn<'a>,
}

impl Step<'_> {
    pub(crate) fn view(&self) -> View<'_> {
        self.txn.view()
    }

    pub(crate) const fn wall(&self) -> UnixMillis {
        self.now.wall
    }

    /// `N` random bytes.
    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}
