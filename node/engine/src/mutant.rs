//! Seeded bugs, by which the simulator shows that it would find real ones.
//!
//! Each is one line at the place where the bug would be, which asks [`Config::plays`]; without the feature `mutants`,
//! which no shipped build has, that is a constant `false`. 25 of them are of a list that was made before the code; where
//! it names something that jobmesh has in another form, the nearest rule is broken.

use jobmesh_protocol::NodeId;

use crate::config::Config;

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// 1: outputs leave before the step is durable. Played by the driver with `Outputs::release_early`.
    SendBeforeCommit,
    /// 2: a commit does not wait for the disk. Played by the driver with `Store::sync_rarely`.
    SyncNormal,
    /// 3: a commit whose sync failed is taken for a good one. Played by the driver with
    /// `Txn::commit_whatever_the_sync_says`.
    IgnoreSyncError,
    /// 4: signatures are not verified.
    SkipSignatureCheck,
    /// 5: a signature counts whatever kind of message it was made for.
    VerifyWithoutDomain,
    /// 6: a receipt of an earlier epoch is taken for the result.
    AcceptStaleEpoch,
    /// 7: what arrives twice counts twice.
    NoDedup,
    /// 8: a lease lasts until a time on the wall.
    LeaseOnWallClock,
    /// 9: an executor counts one lease too many.
    LeaseOffByOne,
    /// 10: what the peers have not acknowledged is forgotten at a restart, and nobody compares what is open.
    ForgetOutbox,
    /// 11: after an auction that came to nothing the wait is never longer than after the first.
    NoBackoff,
    /// 12: what a member signs for no job is kept without a limit.
    Unbounded,
    /// 13: what comes with a receipt is filed under the hash that the receipt claims.
    TrustClaimedHash,
    /// 14: a receipt counts whoever signed it.
    AcceptFromAnyone,
    /// 15: what is learnt from the end of an attempt is counted twice.
    CountTwice,
    /// 16: runs start before the step is durable. Played by the driver with `Outputs::start_early`.
    StartBeforeDurable,
    /// 17: what an earlier daemon started is started once more.
    OrphanAsNew,
    /// 18: that a run is to be stopped is not written down.
    CancelInMemory,
    /// 19: a job that waits for several takes the end of one for the ends of two.
    JoinCountsTwice,
    /// 20: a job that is to stay here is offered to others.
    LocalLeaves,
    /// 21: this node takes on what it lacks something for.
    DropRequirement,
    /// 22: what others say is worth as much as they say.
    UnweightedSummaries,
    /// 23: nothing wakes the engine when a lease is lost.
    UnarmedTimer,
    /// 24: which bid wins depends on the order of a hash map.
    HashOrder,
    /// 25: a clock that is set ends every lease.
    JumpEndsLeases,
    /// A log that an earlier daemon left is taken for durable because it can be read. Played by the driver, which does
    /// not write it once more.
    BelieveLog,
}

#[cfg(feature = "mutants")]
impl Config {
    /// Whether this is the seeded bug to run with.
    pub(crate) fn plays(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Where a bidder would be in a hash map, if the seeded bug looks there; the same place for all if not.
    #[expect(clippy::disallowed_types, reason = "that its seed differs on every run is the bug")]
    pub(crate) fn place_in_map(&self, node: NodeId) -> u64 {
        use std::hash::BuildHasher as _;
        if self.plays(Mutant::HashOrder) { std::hash::RandomState::new().hash_one(node) } else { 0 }
    }
}

#[cfg(not(feature = "mutants"))]
#[expect(clippy::unused_self, reason = "only seeded bugs look at it")]
impl Config {
    /// Whether this is the seeded bug to run with: there is none.
    pub(crate) const fn plays(&self, _: Mutant) -> bool {
        false
    }

    /// The same place for every bidder.
    pub(crate) const fn place_in_map(&self, _: NodeId) -> u64 {
        0
    }
}
