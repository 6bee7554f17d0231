//! The runs that were ordered and have not ended, and which of them have only been claimed.
//!
//! A run that follows another one takes no slot until that one is over. **The hard case** is a chain that loses a link:
//! what followed the run that is gone then follows what that one followed, or has its slot.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::RunId;

/// Each run with the one that it waits behind.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<RunId, Option<RunId>>);

impl Runs {
    /// Enters a run that was ordered behind another one, if that is not over by now. `false` if it is here already.
    pub(super) fn order(&mut self, run: RunId, follows: Option<RunId>) -> bool {
        let follows = follows.filter(|before| self.0.contains_key(before));
        self.0.insert(run, follows).is_none()
    }

    /// Enters a run that goes on already.
    pub(super) fn adopt(&mut self, run: RunId) {
        self.0.insert(run, None);
    }

    /// Takes out those that ended, of all that were here when `started` had begun.
    pub(super) fn change(&mut self, started: &BTreeSet<RunId>, ended: &BTreeSet<RunId>) {
        for run in started {
            if let Some(follows) = self.0.get_mut(run) {
                *follows = None;
            }
        }
        let gone: BTreeMap<_, _> = ended.iter().filter_map(|run| Some((*run, self.0.remove(run)?))).collect();
        for follows in self.0.values_mut() {
            while let Some(before) = follows.and_then(|before| gone.get(&before)) {
                *follows = *before;
            }
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeSet<RunId> {
        self.0.keys().copied().collect()
    }

    /// Those that wait behind another one.
    pub(super) fn claimed(&self) -> BTreeSet<RunId> {
        self.0.iter().filter(|(_, follows)| follows.is_some()).map(|(run, _)| *run).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::{Epoch, JobId};

    use super::*;

    fn run(byte: u8) -> RunId {
        RunId { job: JobId::from_bytes([byte; 16]), epoch: Epoch(1) }
    }

    fn chain() -> Runs {
        let mut runs = Runs::default();
        assert!(runs.order(run(1), None) && runs.order(run(2), Some(run(1))) && runs.order(run(3), Some(run(2))));
        assert!(!runs.order(run(1), None), "it is under way");
        runs
    }

    fn end(runs: &mut Runs, ended: &[u8]) -> Vec<RunId> {
        runs.change(&BTreeSet::new(), &ended.iter().copied().map(run).collect());
        runs.claimed().into_iter().collect()
    }

    #[test]
    fn what_follows_a_withdrawn_run_still_waits() {
        let mut runs = chain();
        assert_eq!(end(&mut runs, &[2]), [run(3)]);
        assert_eq!(end(&mut runs, &[1]), []);
        assert_eq!(runs.all(), [run(3)].into());
    }

    #[test]
    fn the_end_of_a_run_gives_its_slot_to_one() {
        assert_eq!(end(&mut chain(), &[1]), [run(3)]);
        assert_eq!(end(&mut chain(), &[1, 2]), [], "in one commit");
    }

    #[test]
    fn what_has_begun_waits_for_nothing() {
        let mut runs = chain();
        runs.change(&[run(2)].into(), &BTreeSet::new());
        assert_eq!(runs.claimed(), [run(3)].into());
        assert!(runs.order(run(5), Some(run(4))));
        assert_eq!(runs.claimed(), [run(3)].into(), "what it was to follow is over");
    }
}
