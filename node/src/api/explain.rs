//! Why a job is where it is.

use jobmesh_engine as engine;
use jobmesh_protocol::{JobState, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::number_parts;

/// Why a job is where it is, or where it would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The job's number on this node; none of a plan that makes a new job.
    pub number: Option<u64>,
    /// Which task of its group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Its state.
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Since when it is in this state.
    pub since: UnixMillis,
    /// Every reason why it does not run here now; empty if nothing holds it.
    pub reasons: Vec<Reason>,
    /// How many jobs like it are ahead of it.
    #[serde(default)]
    pub ahead: u64,
    /// How long jobs of its type have taken of late, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_micros: Option<u64>,
    /// Every known node and how it stands to the job, nearest first.
    pub nodes: Vec<NodeFit>,
}

/// One reason why a job does not run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// One word for it, for programs.
    pub kind: String,
    /// The words for people.
    pub words: String,
    /// Since when it is known to hold.
    pub since: UnixMillis,
    /// What would take it away.
    pub remedy: String,
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
        let engine::Explanation { number, state, summary, since, reasons, ahead, takes_micros, nodes } = explanation;
        let (number, task) = number.map(number_parts).unzip();
        let reasons = reasons.into_iter().map(Reason::from).collect();
        let nodes = nodes.into_iter().map(NodeFit::from).collect();
        Self { number, task: task.flatten(), state, summary, since, reasons, ahead, takes_micros, nodes }
    }
}

impl From<engine::Reason> for Reason {
    fn from(reason: engine::Reason) -> Self {
        let engine::Reason { kind, words, since, remedy } = reason;
        Self { kind: kind.to_owned(), words, since, remedy }
    }
}

impl From<engine::NodeFit> for NodeFit {
    fn from(fit: engine::NodeFit) -> Self {
        let engine::NodeFit { node, name, is_self, is_connected, lacks, answer, score: _ } = fit;
        Self { node, name, is_self, is_connected, lacks, answer }
    }
}
