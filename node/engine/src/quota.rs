//! What one peer may take of this node at most, so that no member stands in the way of the others.

use jobmesh_protocol::{DurationMillis, MonoMillis, NodeId};
use jobmesh_store::StoreError;

use crate::engine::Engine;
use crate::step::Step;

/// What one peer may take at most. Beyond it offers are refused and frames dropped, and both are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Bids that are open for it.
    pub holds: u32,
    /// Its attempts that run here.
    pub leases: u32,
    /// Bytes of messages that it has not acknowledged.
    pub outbox_bytes: u64,
    /// Messages of a second, on average; ten seconds' worth may come at once.
    pub messages: u32,
}

impl Default for Quotas {
    /// A quarter of all bids, more attempts than most machines run, what a day of small receipts amounts to, and twice
    /// the frames of a thousand jobs a second.
    fn default() -> Self {
        Self { holds: 16, leases: 256, outbox_bytes: 64 << 20, messages: 5_000 }
    }
}

/// Seconds whose frames may come at once.
const BURST_SECONDS: u64 = 10;

/// Frames that a peer may still send now, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowance {
    spent: u64,
    at: MonoMillis,
}

impl Allowance {
    /// Takes one frame, if there is one to take.
    fn take(&mut self, now: MonoMillis, per_second: u32) -> bool {
        let rate = u64::from(per_second);
        let DurationMillis(passed) = now.since(self.at);
        // A frame is 1000, and a millisecond gives `rate` back.
        self.spent = self.spent.saturating_sub(passed.saturating_mul(rate));
        self.at = now;
        let is_there = self.spent + 1000 <= rate.saturating_mul(1000 * BURST_SECONDS);
        if is_there {
            self.spent += 1000;
        }
        is_there
    }

    /// Takes what a frame was worth beyond the one that it is.
    fn charge(&mut self, messages: u64) {
        self.spent = self.spent.saturating_add(messages.saturating_mul(1000));
    }
}

impl Engine {
    /// Whether this node does no more for an origin now.
    pub(crate) fn is_over_quota(&self, step: &Step<'_>, origin: NodeId) -> Result<bool, StoreError> {
        let quotas = self.config.declared.quotas;
        let is_at = |count: usize, most: u32| u32::try_from(count).unwrap_or(u32::MAX) >= most;
        let holds = self.holds.values().filter(|hold| hold.origin == origin).count();
        let leases = self.held.values().filter(|held| held.origin == origin).count();
        Ok(is_at(holds, quotas.holds)
            || is_at(leases + holds, quotas.leases)
            || step.view().outbox_bytes(origin)? >= quotas.outbox_bytes)
    }

    /// Whether a peer may have another frame judged now.
    pub(crate) fn may_speak(&mut self, step: &Step<'_>, from: NodeId) -> bool {
        let messages = self.config.declared.quotas.messages;
        let is_heard = match self.peers.get_mut(&from) {
            Some(peer) => peer.allowance.take(step.now.mono, messages),
            None => true,
        };
        if !is_heard {
            self.count("dropped_over_quota");
        }
        is_heard
    }

    /// Counts the messages of a frame that was let in: a frame of many is worth as much as many frames.
    pub(crate) fn charge(&mut self, from: NodeId, messages: usize) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.allowance.charge(messages as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_with_time() {
        let mut allowance = Allowance::default();
        let mut at = |ms: u64, tries: u32| (0..tries).filter(|_| allowance.take(MonoMillis(ms), 2)).count();
        assert_eq!(at(1_000_000, 100), 20, "ten seconds' worth");
        assert_eq!(at(1_000_400, 100), 0);
        assert_eq!(at(1_001_000, 100), 2);
        assert_eq!(at(9_000_000, 100), 20);
    }
}
