//! How many streams of one protocol may be open: per peer, and in all.
//!
//! libp2p-stream itself accepts without limit, so each acceptor asks here before it spawns anything.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;

/// Counts open streams.
#[derive(Debug)]
pub(crate) struct Budget {
    per_peer: usize,
    total: usize,
    open: Mutex<BTreeMap<PeerId, usize>>,
}

/// Permission to serve one stream; given back on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    budget: Arc<Budget>,
    peer: PeerId,
}

impl Budget {
    /// Allows `per_peer` streams from each peer and `total` in all.
    pub(crate) fn new(per_peer: usize, total: usize) -> Arc<Self> {
        Arc::new(Self { per_peer, total, open: Mutex::default() })
    }

    /// Returns a permit, unless one of the limits is reached.
    pub(crate) fn take(self: &Arc<Self>, peer: PeerId) -> Option<Permit> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = open.values().sum();
        let own = open.get(&peer).copied().unwrap_or(0);
        if all >= self.total || own >= self.per_peer {
            return None;
        }
        open.insert(peer, own + 1);
        Some(Permit { budget: Arc::clone(self), peer })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.budget.open.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get(&self.peer).copied().unwrap_or(0).saturating_sub(1);
        if left == 0 {
            open.remove(&self.peer);
        } else {
            open.insert(self.peer, left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;
    use crate::peer_id::peer_of;

    #[test]
    fn limits_hold_and_permits_come_back() {
        let [one, two, three] =
            [1, 2, 3].map(|seed| peer_of(&jobmesh_keys::Identity::from_seed([seed; 32]).node()).unwrap());
        let budget = Budget::new(2, 3);
        let first = budget.take(one).unwrap();
        let _second = budget.take(one).unwrap();
        assert!(budget.take(one).is_none(), "the peer has its two");
        let _third = budget.take(two).unwrap();
        assert!(budget.take(three).is_none(), "all three are taken");
        drop(first);
        assert!(budget.take(three).is_some());
    }
}
