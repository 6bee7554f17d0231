//! Why a job is where it is.

use jobmesh_engine as engine;
use jobmesh_protocol::{JobState, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

/// Why a job is where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job's number on this node.
    pub number: u64,
    /// Its state.
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Since when it is in this state.
    pub since: UnixMillis,
    /// Every reason why it does not run here now; empty if nothing holds it.
    pub reasons: Vec<String>,
    /// Every known node and how it stands to the job, nearest first.
    pub nodes: Vec<NodeFit>,
}

/// How one node stands to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFit {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it is the node that answers.
    pub is_self: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// The requirements and resources that it lacks.
    pub lacks: Vec<String>,
    /// What it last said to an offer of this job.
    pub answer: Option<String>,
}

impl From<engine::Explanation> for Explanation {
    fn from(explanation: engine::Explanation) -> Self {
        let engine::Explanation { number, state, summary, since, reasons, nodes } = explanation;
        Self { number, state, summary, since, reasons, nodes: nodes.into_iter().map(NodeFit::from).collect() }
    }
}

impl From<engine::NodeFit> for NodeFit {
    fn from(fit: engine::NodeFit) -> Self {
        let engine::NodeFit { node, name, is_self, is_connected, lacks, answer } = fit;
        Self { node, name, is_self, is_connected, lacks, answer }
    }
}
