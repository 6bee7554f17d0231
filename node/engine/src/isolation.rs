//! How well a job has to be kept apart from the node that runs it. Pure, and the one place that decides it: admission,
//! bids, awards, slot leases, orders, receipts, `explain` and a dry run all ask here.
//!
//! The level is the highest of what is usual, what the job asks for, and what the node's owner wants for jobs from there.
//! Nobody lowers it later: whoever can't give it refuses, and a receipt that tells of less is a failure.
//!
//! What a node's owner wants holds for code. A request or a question to a model brings none, so it has the level that is
//! asked for it and no other; kept apart, it reaches what the requests of peers reach. As untrusted none of them can run
//! anywhere, since each is an exchange with somebody else by the node's own hands. The hard case is a name: a node says of
//! itself what it is called, so an owner's exception for one peer goes by its id and by nothing else.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::{Isolation, JobSpec, NodeId, Outcome, Requirement, Tag};

use crate::engine::Engine;

/// What the owner of a node wants, by whose jobs they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The least for jobs of the node itself.
    pub own: Isolation,
    /// The least for jobs of members of the mesh.
    pub members: Isolation,
    /// The least for jobs of these members instead.
    pub peers: BTreeMap<NodeId, Isolation>,
    /// Whether code of members may use the network.
    pub network: bool,
}

impl Default for Policy {
    /// Own jobs may do what their owner may; those of others see nothing of the machine.
    fn default() -> Self {
        Self { own: Isolation::Contained, members: Isolation::Sandboxed, peers: BTreeMap::new(), network: false }
    }
}

impl Policy {
    /// The least for jobs from there; none is this node itself.
    fn least(&self, origin: Option<NodeId>) -> Isolation {
        match origin {
            None => self.own,
            Some(peer) => self.peers.get(&peer).copied().unwrap_or(self.members),
        }
    }
}

/// Whether tasks of this executor bring code with them.
fn runs_code(executor: &str) -> bool {
    matches!(executor, "process" | "container" | "wasm" | "lua")
}

/// Whether tasks of this executor have the node ask somebody else.
fn asks_others(executor: &str) -> bool {
    matches!(executor, "http" | "llm" | "embedding")
}

/// The level that a task has to be kept apart at.
pub(crate) fn required(executor: &str, wanted: Option<Isolation>, least: Isolation) -> Isolation {
    let wanted = wanted.unwrap_or(Isolation::None);
    if runs_code(executor) {
        Isolation::Contained.max(least).max(wanted)
    } else if asks_others(executor) {
        wanted
    } else {
        Isolation::None
    }
}

/// Why no node can ever keep a job apart as it asks for.
pub(crate) fn impossible(spec: &JobSpec) -> Option<&'static str> {
    let is_impossible = spec.isolation == Some(Isolation::Untrusted) && asks_others(spec.task.executor());
    is_impossible.then_some(
        "a request or a question to a model can't be kept apart from the network, so it is `sandboxed` at most and never \
         `untrusted`; ask for `sandboxed`",
    )
}

/// Why a job can't run on the node that it is submitted to, where it will be kept apart at this level. Without this it ran in
/// an empty directory, and what it left there was deleted.
pub(crate) fn hidden_directory(spec: &JobSpec, level: Isolation) -> Option<String> {
    let directory = spec.task.directory().filter(|_| level > Isolation::Contained)?;
    let remedy = if spec.isolation == Some(level) {
        "ask for less isolation"
    } else {
        "have `isolation.own = \"contained\"` in config.toml"
    };
    Some(format!(
        "a {level} job sees no directory of this machine, and this one is to run in {directory}; leave that out and bring \
         its files with --input, or {remedy}"
    ))
}

/// Whether a node with these tags keeps tasks of an executor apart so well.
pub(crate) fn keeps(tags: &BTreeSet<Tag>, executor: &str, level: Isolation) -> bool {
    level.tag(executor).is_none_or(|tag| tags.contains(&tag))
}

/// What a job asks of every node, as a requirement; none if every node gives it.
pub(crate) fn demand(spec: &JobSpec) -> Option<Requirement> {
    let executor = spec.task.executor();
    required(executor, spec.isolation, Isolation::None).tag(executor).map(Requirement::Has)
}

/// The tag of a node that lets code of members use the network.
const NETWORK_TAG: &str = "network:members";

/// The tag by which a node with this policy says so; none if it doesn't.
pub(crate) fn network_tag(policy: &Policy) -> Option<Tag> {
    policy.network.then(|| NETWORK_TAG.parse().ok()).flatten()
}

/// Whether a job brings code that asks for the network.
pub(crate) fn wants_network(spec: &JobSpec) -> bool {
    spec.network && runs_code(spec.task.executor())
}

/// What a job asks of every peer beside that, as a requirement. This node's own jobs need nobody's leave.
pub(crate) fn network_demand(spec: &JobSpec) -> Option<Requirement> {
    wants_network(spec).then(|| NETWORK_TAG.parse().ok().map(Requirement::Has)).flatten()
}

/// The level that a node with these tags lacks for a job, if it does.
pub(crate) fn lacking(tags: &BTreeSet<Tag>, spec: &JobSpec, least: Isolation) -> Option<Tag> {
    let executor = spec.task.executor();
    let level = required(executor, spec.isolation, least);
    level.tag(executor).filter(|tag| !tags.contains(tag))
}

/// The outcome of a success that was not had at the level that was asked for.
pub(crate) fn shortfall(spec: &JobSpec, receipt: &Receipt) -> Option<Outcome> {
    let asked = required(spec.task.executor(), spec.isolation, Isolation::None);
    let is_short = receipt.outcome == Outcome::Ok && spec.isolation.is_some() && receipt.isolation < asked;
    is_short.then(|| {
        Outcome::error(format!(
            "it ran at a lower level of isolation than was asked ({}, not {asked})",
            receipt.isolation
        ))
    })
}

impl Engine {
    /// The least that this node's owner wants for its own jobs.
    pub(crate) const fn own_least(&self) -> Isolation {
        self.config.declared.isolation.own
    }

    /// The level that a job has to be kept apart at on this node.
    pub(crate) fn level_of(&self, spec: &JobSpec, origin: Option<NodeId>) -> Isolation {
        required(spec.task.executor(), spec.isolation, self.config.declared.isolation.least(origin))
    }

    /// The level that is required for jobs of a peer with these needs and that this node doesn't give, if there is one.
    pub(crate) fn level_missed(&self, origin: NodeId, needs: &[Requirement]) -> Option<Isolation> {
        let executor = needs.iter().find_map(|need| match need {
            Requirement::Has(tag) => tag.as_str().strip_prefix("executor:"),
            Requirement::Attribute { .. } => None,
        })?;
        let level = required(executor, None, self.config.declared.isolation.least(Some(origin)));
        (!keeps(&self.record.tags, executor, level)).then_some(level)
    }

    /// Why this node doesn't take on a peer's job, now that it knows all of it.
    pub(crate) fn unwelcome(&self, origin: NodeId, spec: &JobSpec) -> Option<&'static str> {
        let executor = spec.task.executor();
        if !keeps(&self.record.tags, executor, self.level_of(spec, Some(origin))) {
            return Some("this node can't keep it apart well enough");
        }
        let is_refused = wants_network(spec) && !self.config.declared.isolation.network;
        is_refused.then_some("this node does not let code of members use the network")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_highest_of_all_wishes_counts_and_without_code_the_one_of_the_job() {
        use Isolation::{Contained, None as Nothing, Sandboxed, Untrusted};
        assert_eq!(required("process", None, Nothing), Contained);
        assert_eq!(required("process", Some(Sandboxed), Contained), Sandboxed);
        assert_eq!(required("wasm", Some(Contained), Untrusted), Untrusted);
        for asking in ["http", "llm", "embedding"] {
            assert_eq!(required(asking, Some(Sandboxed), Contained), Sandboxed);
            assert_eq!(required(asking, None, Untrusted), Nothing, "the owner's wish is about code");
        }
        assert_eq!(required("noop", Some(Untrusted), Sandboxed), Nothing);
    }

    #[test]
    fn an_exception_goes_by_the_id() {
        let [known, other] = [1, 2].map(|byte| NodeId::from_bytes([byte; 32]));
        let policy = Policy { peers: BTreeMap::from([(known, Isolation::Contained)]), ..Policy::default() };
        assert_eq!(policy.least(Some(known)), Isolation::Contained);
        assert_eq!(policy.least(Some(other)), Isolation::Sandboxed);
        assert_eq!(policy.least(None), Isolation::Contained);
    }

    #[test]
    fn a_node_keeps_what_it_advertises() {
        let tags = BTreeSet::from(["isolation:wasm:sandboxed".parse().unwrap()]);
        assert!(keeps(&tags, "wasm", Isolation::Sandboxed) && keeps(&tags, "process", Isolation::Contained));
        assert!(!keeps(&tags, "wasm", Isolation::Untrusted) && !keeps(&tags, "process", Isolation::Sandboxed));
    }
}
