//! The jobs that could start now, in the order in which they should: higher priority first, then older first.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use jobmesh_protocol::JobId;
use jobmesh_store::Job;

/// A job's place in the order.
type Place = (Reverse<i32>, u64, JobId);

/// Available jobs, apart by whether this node could ever run them itself.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    here: BTreeSet<Place>,
    away: BTreeSet<Place>,
}

fn place(job: &Job) -> Place {
    (Reverse(job.spec.priority), job.number, job.id)
}

impl Ready {
    pub(crate) fn insert(&mut self, job: &Job, is_capable: bool) {
        self.remove(job);
        if is_capable {
            self.here.insert(place(job))
        } else {
            self.away.insert(place(job))
        };
    }

    pub(crate) fn remove(&mut self, job: &Job) {
        self.here.remove(&place(job));
        self.away.remove(&place(job));
    }

    /// The first `limit` jobs that this node could run.
    pub(crate) fn here(&self, limit: usize) -> Vec<JobId> {
        self.here.iter().take(limit).map(|(_, _, job)| *job).collect()
    }

    /// The first `limit` jobs that only a peer could run.
    pub(crate) fn away(&self, limit: usize) -> Vec<JobId> {
        self.away.iter().take(limit).map(|(_, _, job)| *job).collect()
    }

    /// Empties both and says what was in them.
    pub(crate) fn drain(&mut self) -> Vec<JobId> {
        let here = std::mem::take(&mut self.here);
        let away = std::mem::take(&mut self.away);
        here.into_iter().chain(away).map(|(_, _, job)| job).collect()
    }
}
