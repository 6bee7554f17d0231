//! What this node advertises.

use std::collections::BTreeMap;

use jobmesh_protocol::Tag;
use jobmesh_protocol::resource::Offered;
use serde::{Deserialize, Serialize};

use crate::api::AttributeValue;

/// What this node advertises, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The tags, in their order.
    pub tags: Vec<TagView>,
    /// What it measures.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What it owns in all.
    pub resources: Offered,
    /// How many jobs it runs at once.
    pub slots: u32,
}

/// One tag of this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagView {
    /// The tag.
    pub tag: Tag,
    /// Where it comes from.
    pub source: TagSource,
    /// Whether it is advertised.
    pub is_advertised: bool,
}

/// Where a tag comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagSource {
    /// It was found on this machine.
    Detected,
    /// A person added it.
    Added,
    /// A person removed it.
    Removed,
}

/// Adds or removes tags.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapabilityRequest {
    /// The tags; at least one.
    pub tags: Vec<Tag>,
}

/// What that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityAnswer {
    /// Tags that are advertised now and were not, or the other way round.
    pub changed: Vec<Tag>,
    /// Tags for which it was so already.
    pub unchanged: Vec<Tag>,
}
