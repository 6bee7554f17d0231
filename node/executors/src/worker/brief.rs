//! What a worker is told, in one variable of its environment.
//!
//! Not in its arguments, which every user of the machine can read; and nothing of the job's own environment becomes a
//! variable of the worker, whose loader would heed an `LD_PRELOAD` among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jobmesh_protocol::Isolation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The variable that holds it.
pub(crate) const BRIEF_VARIABLE: &str = "JOBMESH_BRIEF";

/// Whether a worker may begin with a wall missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Walls {
    /// It may not.
    Required,
    /// It raises those that this system has.
    AsFound,
}

/// What a worker is told; `P` is what only one kind of worker needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Brief<P> {
    /// The directory of the run.
    pub(crate) directory: PathBuf,
    pub(crate) walls: Walls,
    /// How well its guest is kept apart with them.
    pub(crate) isolation: Isolation,
    /// Most memory of what is interpreted; none is no limit.
    pub(crate) memory_bytes: Option<u64>,
    /// Largest file that the worker may write; none is no limit.
    pub(crate) file_bytes: Option<u64>,
    /// What is interpreted finds these as its arguments.
    pub(crate) arguments: Vec<String>,
    /// And these as its variables.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) piece: P,
}

/// Why a worker doesn't know what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BriefError {
    #[error("a worker is started by a node, not by a person: it has no {BRIEF_VARIABLE}")]
    Missing,
    #[error("the worker can't read its {BRIEF_VARIABLE}; was this program replaced while its node ran?")]
    Unreadable(#[from] serde_json::Error),
}

impl<P: DeserializeOwned> Brief<P> {
    /// Reads what this process was told.
    pub(crate) fn read() -> Result<Self, BriefError> {
        let text = std::env::var(BRIEF_VARIABLE).map_err(|_| BriefError::Missing)?;
        Ok(serde_json::from_str(&text)?)
    }
}
