//! Seeded bugs, by which the simulator shows that it would find real ones. Their code is compiled only with the
//! feature `mutants`, which no shipped build has.

/// One deliberate bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Outputs leave before the step is durable. Played by the driver with `Outputs::release_early`.
    SendBeforeCommit,
    /// A receipt of an earlier epoch is taken for the result.
    AcceptStaleEpoch,
    /// What the peers have not acknowledged is forgotten at a restart, and nobody compares what is open.
    ForgetOutbox,
    /// Signatures are not verified.
    SkipSignatureCheck,
    /// A commit does not wait for the disk. Played by the driver with `Store::sync_rarely`.
    SyncNormal,
    /// A commit whose sync failed is taken for a good one. Played by the driver with
    /// `Txn::commit_whatever_the_sync_says`.
    IgnoreSyncError,
    /// A log that an earlier daemon left is taken for durable because it can be read. Played by the driver, which does
    /// not write it once more.
    BelieveLog,
}
