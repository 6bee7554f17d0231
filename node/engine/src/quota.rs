//! What one peer may take of this node at most, so that no member stands in the way of the others.

use std::collections::BTreeMap;

use jobmesh_protocol::ticket::{Offer, RefusalReason};
use jobmesh_protocol::{DurationMillis, MonoMillis, NodeId, TicketId};
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
    /// Bytes of input that one of its jobs may bring: what there is room for at all.
    pub input_bytes: u64,
}

impl Default for Quotas {
    /// A quarter of all bids, more attempts than most machines run, what a day of small receipts amounts to, and twice
    /// the frames of a thousand jobs a second.
    fn default() -> Self {
        Self { holds: 16, leases: 256, outbox_bytes: 64 << 20, messages: 5_000, input_bytes: u64::MAX }
    }
}

/// How long a ticket is not bid for whose input could not be brought here: so long a disk takes to become free.
const UNFIT_FOR: DurationMillis = DurationMillis::from_secs(600);
/// Most tickets of which that is remembered. Of one that is forgotten the input is asked for once more.
const UNFIT_MAX: usize = 1024;

/// Tickets whose inputs could not be brought here, by their origins, and until when they are not bid for.
#[derive(Debug, Default)]
pub(crate) struct Unfit(BTreeMap<(NodeId, TicketId), MonoMillis>);

impl Unfit {
    /// Remembers a ticket, in place of the one that is soonest forgotten if there are many.
    pub(crate) fn add(&mut self, ticket: (NodeId, TicketId), now: MonoMillis) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() >= UNFIT_MAX
            && let Some(soonest) = self.0.iter().min_by_key(|(_, until)| **until).map(|(ticket, _)| *ticket)
        {
            self.0.remove(&soonest);
        }
        self.0.insert(ticket, now.plus(UNFIT_FOR));
    }

    /// How long a ticket is still not bid for, if it is not.
    fn left(&self, ticket: (NodeId, TicketId), now: MonoMillis) -> Option<DurationMillis> {
        self.0.get(&ticket).filter(|until| **until > now).map(|until| until.since(now))
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

    /// Why the input of an offered job can't be brought here, and when it is worth asking again.
    pub(crate) fn input_refusal(
        &self,
        step: &Step<'_>,
        from: NodeId,
        offer: &Offer,
    ) -> Option<(RefusalReason, DurationMillis)> {
        let most = self.config.declared.quotas.input_bytes;
        // What is told is rounded up to a power of two, so the input has more than half of that; none is told as one byte.
        if offer.input_bytes > 1 && offer.input_bytes / 2 >= most {
            return Some((RefusalReason::Room(most), DurationMillis(0)));
        }
        let left = self.unfit.left((from, offer.ticket), step.now.mono)?;
        Some((RefusalReason::NoInput, left))
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
    fn what_could_not_be_brought_is_remembered_for_a_while_and_within_bounds() {
        let mut unfit = Unfit::default();
        let ticket = |number: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            (NodeId::from_bytes([1; 32]), TicketId::from_bytes(bytes))
        };
        let at = |number: usize| MonoMillis(number as u64);
        for number in 0..=UNFIT_MAX {
            unfit.add(ticket(number), at(number));
        }
        assert_eq!((unfit.0.len(), unfit.left(ticket(0), at(1))), (UNFIT_MAX, None), "the oldest made room");
        assert_eq!(unfit.left(ticket(1), at(1)), Some(UNFIT_FOR));
        let later = at(1).plus(UNFIT_FOR);
        assert_eq!(unfit.left(ticket(1), later), None);
        unfit.add(ticket(0), later);
        assert_eq!(unfit.0.len(), UNFIT_MAX, "what is over went");
    }

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
