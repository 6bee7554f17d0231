//! Bytes by their hash: which of them are here, and the files that a job has left.

use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BlobRef, Epoch};
use serde::{Deserialize, Serialize};

use crate::api::NodeName;
use crate::api::submission::numbered;

/// Most blobs of one question.
pub const BLOBS_ASKED_MAX: usize = 5000;

/// Most blobs of one body.
pub const BLOBS_TOGETHER_MAX: usize = 5000;

/// Longest blob that may come with others in one body.
pub const SMALL_BLOB_BYTES_MAX: usize = 256 << 10;

/// Asks which of these blobs are not on the node. Those that are stay for an hour at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    /// The blobs, [`BLOBS_ASKED_MAX`] at most.
    pub blobs: Vec<BlobRef>,
}

/// Blobs that are to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Those that are not there, in the order of the question.
    pub missing: Vec<BlobRef>,
}

/// Blobs that were uploaded together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    /// Each of them, in the order of the body.
    pub blobs: Vec<BlobRef>,
}

/// How much a node keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobUse {
    /// Bytes of all blobs.
    pub bytes: u64,
    /// Most bytes of them.
    pub quota: u64,
}

/// The files that an attempt left and that were kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifacts {
    /// The job's number on this node; of a task, that of its group.
    pub number: u64,
    /// Which task of the group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// The attempt.
    pub attempt: Epoch,
    /// Where it ran.
    pub node: NodeName,
    /// How it ended, in one word, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What is to be said about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The tree of them all; none if nothing was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<BlobRef>,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Each of them, by path.
    pub artifacts: Vec<Artifact>,
}

impl Artifacts {
    /// The job as people name it: 42, or 42.7 for a task.
    #[must_use]
    pub fn label(&self) -> String {
        numbered(self.number, self.task)
    }
}

/// A file, a directory or a link that was kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its path in the working directory of the job.
    pub path: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// Its permissions in octal digits, such as `644`. Links have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its length in bytes, if it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The hash of its content, if it is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Hash>,
    /// What it says, if it is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactKind {
    /// A plain file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
}
