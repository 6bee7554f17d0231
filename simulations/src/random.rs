//! The tree of random numbers: one stream per purpose, all grown from the seed.
//!
//! A stream depends on the seed and its label only. So one more draw in the network does not shift what the
//! executors or the workload draw, and two runs that differ in one fault differ in nothing else at first.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng as _};

/// One stream of random numbers.
#[derive(Debug)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("jobmesh 2026 simulation stream v1");
        hasher.update(&seed.to_le_bytes());
        hasher.update(label.as_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// A number below `end`; 0 if `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64().checked_rem(end).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// A place in a list of so many.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// One of a list; `None` if it is empty.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> Option<T> {
        list.get(self.index(list.len())).copied()
    }

    /// True so many times of a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// The stream as the engine takes it.
    pub(crate) fn rng(&mut self) -> &mut dyn Rng {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_seed_and_label_only() {
        let draw = |seed, label| Stream::new(seed, label).below(u64::MAX);
        assert_eq!(draw(1, "network"), draw(1, "network"));
        assert_ne!(draw(1, "network"), draw(1, "faults"));
        assert_ne!(draw(1, "network"), draw(2, "network"));
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut stream = Stream::new(7, "test");
        assert!((0..1000).all(|_| (3..=5).contains(&stream.between(3, 5))));
        assert_eq!(stream.below(0), 0);
        assert_eq!(stream.pick::<u8>(&[]), None);
        assert!(!stream.chance(0) && stream.chance(1000));
    }
}
