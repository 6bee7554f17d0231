//! The node itself: how it is, and asking it to stop.

use std::collections::BTreeMap;

use jobmesh_keys::Role;
use jobmesh_protocol::{JobState, MeshId, NodeId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::api::BlobUse;

/// How the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// The build's version.
    pub version: String,
    /// The daemon's process number.
    pub pid: u32,
    /// When the daemon started.
    pub started_at: UnixMillis,
    /// The data directory.
    pub home: String,
    /// The mesh it is a member of.
    pub mesh: MeshId,
    /// What it may do there.
    pub role: Role,
    /// When its certificate ends.
    pub certificate_not_after: UnixMillis,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Members that are connected now.
    pub connected: u32,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// How many have begun on it and go on, its own and others'.
    pub running: u32,
    /// How many jobs it keeps, by state. Of those that run, what has begun: a group counts as its tasks, and as
    /// available while it has more to make; a job that was claimed behind another is available until it begins.
    pub jobs: BTreeMap<JobState, u64>,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// What it keeps of files.
    #[serde(default)]
    pub blobs: BlobUse,
    /// What a person should know: of databases that are older than their words, of keys in two places. Latest first.
    pub alarms: Vec<Alarm>,
    /// Refused messages and the like, by name.
    pub counters: BTreeMap<String, u64>,
}

/// Something that a person should know of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// `older`: the node has seen more of this database than it holds. `cloned`: the node's key is in two places.
    pub kind: String,
    /// The node.
    pub node: NodeId,
    /// How often it was seen.
    pub count: u64,
    /// When first.
    pub first_at: UnixMillis,
    /// When last.
    pub last_at: UnixMillis,
    /// It in words, with the remedy.
    pub words: String,
}

/// Asks the daemon to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownRequest {
    /// How.
    pub mode: ShutdownMode,
}

/// How the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownMode {
    /// Running jobs get some time to end; what then still runs is stopped and queued again.
    Drain,
    /// Running jobs are stopped and queued again.
    Now,
}
