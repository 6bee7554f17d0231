//! What a node says of itself: tags, attributes, resources. Signed, versioned, the newest wins.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_tuple::{Deserialize_tuple, Serialize_tuple};

use crate::id::Hash;
use crate::requirement::{Requirement, TERM_BYTES_MAX, Tag, Value};
use crate::resource::{Offered, Requests};
use crate::time::UnixMillis;
use crate::{MeshId, NodeId};

/// Largest encoded record: ten times what a node with three models and a GPU needs.
pub const RECORD_BYTES_MAX: usize = 4096;
/// Most tags of one node.
pub const TAGS_MAX: usize = 64;
/// Most attributes of one node.
pub const ATTRIBUTES_MAX: usize = 32;

/// When a record was made: the start of the daemon, then a counter. Later wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize_tuple, Deserialize_tuple)]
pub struct Version {
    /// The wall time at which the daemon started.
    pub booted_at: UnixMillis,
    /// Grows with every change since then.
    pub change: u32,
}

impl Version {
    /// The one that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.change.checked_add(1) {
            Some(change) => Self { change, ..self },
            None => Self { booted_at: UnixMillis(self.booted_at.0.saturating_add(1)), change: 0 },
        }
    }
}

/// Everything a node advertises. The author is the signer of the envelope that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CapabilityRecord {
    /// Which of the author's records this is.
    pub version: Version,
    /// The author's name for people.
    pub name: String,
    /// What it has.
    pub tags: BTreeSet<Tag>,
    /// What it measures.
    pub attributes: BTreeMap<String, Value>,
    /// What it owns in all. What is free now is only ever said in a bid.
    pub resources: Offered,
    /// How many jobs it runs at once.
    pub slots: u32,
}

impl CapabilityRecord {
    /// The requirements that this node does not meet, in the order given.
    #[must_use]
    pub fn unmet<'r>(&self, requirements: &'r [Requirement]) -> Vec<&'r Requirement> {
        requirements.iter().filter(|r| !r.is_met(&self.tags, &self.attributes)).collect()
    }

    /// Whether the node could run a job with these needs when it is idle.
    #[must_use]
    pub fn meets(&self, requirements: &[Requirement], resources: &Requests) -> bool {
        self.slots > 0 && self.resources.first_fit(resources).is_some() && self.unmet(requirements).is_empty()
    }

    /// Whether the record keeps to the limits.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let short = |text: &str| text.len() <= TERM_BYTES_MAX;
        let bounded = |(name, value): (&String, &Value)| match value {
            Value::Number(_) => short(name),
            Value::Text(text) => short(name) && short(text),
        };
        self.tags.len() <= TAGS_MAX
            && self.attributes.len() <= ATTRIBUTES_MAX
            && short(&self.name)
            && self.attributes.iter().all(bounded)
    }
}

/// The gossiped word that a node's record or summary changed. Idempotent; losing it costs nothing but time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct Digest {
    /// The author's newest capability record.
    pub capability: Version,
    /// The day of the author's newest learning summary; 0 if there is none.
    pub summary_day: u32,
    /// The version of that summary.
    pub summary_version: u64,
}

/// Asks a peer for a node's newest record, if it is newer than `known`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct RecordRequest {
    /// Who is asked about.
    pub node: NodeId,
    /// What the asker has.
    pub known: Version,
}

/// A node's record in its author's own envelope, passed on by someone who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// Where in the Kademlia network the providers of a tag are found: a hash bound to the mesh.
#[must_use]
pub fn provider_key(mesh: &MeshId, tag: &Tag) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("jobmesh 2026 capability provider key v1");
    hasher.update(mesh.as_bytes());
    hasher.update(tag.as_str().as_bytes());
    Hash::from_bytes(*hasher.finalize().as_bytes())
}
