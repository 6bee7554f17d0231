//! To whom the secrets of a job may go. Pure, and the one place that decides it: whom to ask, whose bids count, awards,
//! slot leases, submissions and `explain` all ask here.
//!
//! The engine knows names only. The values are their owner's: the driver of the node that was awarded the job asks the
//! origin's for them when the job starts, and that one asks its configuration once more. The hard case is a name of a
//! node: anyone can be called like a friend, so a secret is entrusted to ids and to nothing else.

use std::collections::BTreeSet;

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::{JobSpec, NodeId};

use crate::engine::Engine;

impl Engine {
    /// The members that may have a secret for the jobs that they do for this node; none if nobody may.
    fn trustees(&self, secret: &str) -> Option<&BTreeSet<NodeId>> {
        self.config.declared.entrusted.get(secret).filter(|peers| !peers.is_empty())
    }

    /// Whether a member may have every secret of a job.
    pub(crate) fn is_entrusted(&self, node: NodeId, spec: &JobSpec) -> bool {
        spec.secrets.values().all(|secret| self.trustees(secret).is_some_and(|peers| peers.contains(&node)))
    }

    /// The secrets of a job that a member may not have.
    pub(crate) fn withheld<'s>(&self, node: NodeId, spec: &'s JobSpec) -> BTreeSet<&'s str> {
        let is_withheld = |secret: &&str| !self.trustees(secret).is_some_and(|peers| peers.contains(&node));
        spec.secrets.values().map(String::as_str).filter(is_withheld).collect()
    }

    /// A secret of a job that nobody else may have: then nobody else is asked.
    pub(crate) fn kept_secret<'s>(&self, spec: &'s JobSpec) -> Option<&'s str> {
        spec.secrets.values().map(String::as_str).find(|secret| self.trustees(secret).is_none())
    }

    /// Why a job can't be taken on that may run on peers only, because of its secrets.
    pub(crate) fn bound_by_secret(&self, spec: &JobSpec) -> Option<String> {
        let secret = self.kept_secret(spec).filter(|_| spec.scope == Scope::Network)?;
        Some(format!(
            "its secret {secret} is entrusted to no peer; add peers = [\"ID\"] under [secrets.{secret}] in config.toml, or \
             run the job here"
        ))
    }
}
