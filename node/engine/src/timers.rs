//! Everything that will happen by itself, at most once per thing.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BidId, JobId, MonoMillis, NodeId, RunId};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A scheduled or retryable job is due.
    Due(JobId),
    /// A run has had its time.
    RunTimeout(RunId),
    /// An auction closes.
    AuctionCloses(JobId),
    /// A job may be offered again.
    Reoffer(JobId),
    /// A bid's room is free again.
    HoldEnds(BidId),
    /// A lease that this node holds from another ends.
    LeaseEnds(JobId),
    /// An attempt on a peer is lost.
    LeaseLost(JobId),
    /// The leases held from an origin must be renewed.
    Heartbeat(NodeId),
    /// What a peer has not acknowledged is sent again.
    Resend(NodeId),
    /// What a connected peer should know is told again.
    Refresh(NodeId),
    /// A blob is asked for again.
    FetchAgain(Hash),
    /// A changed learning summary is published.
    Publish,
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(MonoMillis, Timer)>,
    by_timer: BTreeMap<Timer, MonoMillis>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, timer: Timer, at: MonoMillis) {
        self.clear(timer);
        self.by_timer.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets a timer unless it is set.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: MonoMillis) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Forgets a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<MonoMillis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next timer that is due.
    pub(crate) fn take_due(&mut self, now: MonoMillis) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}
