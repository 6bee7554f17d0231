//! What is known of other members while this daemon lives.

use std::collections::BTreeMap;

use jobmesh_protocol::{CapabilityRecord, DurationMillis, MonoMillis, NodeId};

use crate::quota::Allowance;

/// Most members kept in memory: far above what a small team has, far below what hurts.
pub(crate) const PEERS_MAX: usize = 4096;
/// Most heartbeats that wait for an answer per origin.
const HEARTBEATS_MAX: usize = 16;

/// One other member.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) is_connected: bool,
    /// Whether it has said, on this connection, what it has received.
    pub(crate) is_met: bool,
    /// Whether it has shown its certificate, now or before.
    pub(crate) is_member: bool,
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) record: Option<CapabilityRecord>,
    /// Wait before the next resend; grows while nothing is acknowledged.
    pub(crate) resend_wait: DurationMillis,
    /// Not dialled again before this.
    pub(crate) dial_after: MonoMillis,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) allowance: Allowance,
}

/// Heartbeats sent to an origin and not answered yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats {
    last: u64,
    sent: BTreeMap<u64, MonoMillis>,
    /// The latest ones, answered or not.
    latest: BTreeMap<u64, MonoMillis>,
}

impl Heartbeats {
    /// Numbers a heartbeat that leaves now.
    pub(crate) fn send(&mut self, now: MonoMillis) -> u64 {
        self.last += 1;
        self.sent.insert(self.last, now);
        self.latest.insert(self.last, now);
        for kept in [&mut self.sent, &mut self.latest] {
            while kept.len() > HEARTBEATS_MAX {
                kept.pop_first();
            }
        }
        self.last
    }

    /// When one of the latest heartbeats left.
    pub(crate) fn sent_at(&self, number: u64) -> Option<MonoMillis> {
        self.latest.get(&number).copied()
    }

    /// When the heartbeat that is answered left, if it was ours.
    pub(crate) fn answered(&mut self, number: u64) -> Option<MonoMillis> {
        let at = self.sent.get(&number).copied();
        self.sent.retain(|sent, _| *sent >= number);
        at
    }
}

/// Every member that was met or heard of.
pub(crate) type Peers = BTreeMap<NodeId, Peer>;
