//! How many jobs ended how, hour by hour and type by type.
//!
//! A job is counted with the change that ends it, in the same transaction, and never again: neither its deletion nor
//! another count can make a difference. A job that is tried again after its end ends twice.

use std::collections::BTreeMap;

use jobmesh_protocol::time::HOUR_MS;
use jobmesh_protocol::{DurationMillis, JobState, UnixMillis};
use jobmesh_store::{Job, Metric, StoreError};

use crate::chain::CHAIN_KEPT;
use crate::engine::Engine;
use crate::output::Response;
use crate::step::Step;
use crate::submit::Answer;

/// How long it is known how many jobs ended how in an hour: a year and a month, to compare with the year before.
pub const METRICS_KEPT: DurationMillis = DurationMillis::from_secs(395 * 86_400);

/// Jobs that ended since the last commit, and how long the attempts ran that ended them. At most as many entries as one
/// transaction ends jobs.
pub(crate) type Ends = BTreeMap<(u64, JobState, String), (u64, DurationMillis)>;

impl Engine {
    /// Counts a job that has just ended.
    pub(crate) fn count_end(&mut self, step: &Step<'_>, job: &Job, ran: DurationMillis) {
        let key = (step.wall().0 / HOUR_MS, job.state, job.spec.job_type.clone());
        let (jobs, run_ms) = self.ends.entry(key).or_default();
        *jobs = jobs.saturating_add(1);
        run_ms.0 = run_ms.0.saturating_add(ran.0);
    }

    /// Writes the counts: once per transaction, however many jobs ended in it.
    pub(crate) fn write_ends(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for ((hour, state, job_type), (jobs, run_ms)) in std::mem::take(&mut self.ends) {
            step.txn.add_metric(&Metric { hour, job_type, state, jobs, run_ms })?;
        }
        Ok(())
    }
}

/// Forgets what the hours of very long ago were like, and the chains of receipts of long ago.
pub(crate) fn forget_hours(step: &Step<'_>) -> Answer {
    step.txn.drop_metrics_before((step.wall().0 / HOUR_MS).saturating_sub(METRICS_KEPT.0 / HOUR_MS))?;
    step.txn.drop_links_before(UnixMillis(step.wall().0.saturating_sub(CHAIN_KEPT.0)))?;
    Ok(Ok(Response::Done))
}
