//! Other nodes: members, and those that were turned away.

use std::collections::BTreeMap;

use jobmesh_keys::Role;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::resource::Offered;
use jobmesh_protocol::{MeshId, NodeId, Tag, UnixMillis};
use serde::{Deserialize, Serialize};

/// The nodes of the mesh, and those that were turned away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peers {
    /// The mesh.
    pub mesh: MeshId,
    /// Members, connected ones first, then by name.
    pub peers: Vec<PeerView>,
    /// Nodes that were refused or that refused this one, newest first.
    pub refused: Vec<RefusedView>,
}

/// Another member of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// The member.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// What it may do, known once it was connected since this daemon started.
    pub role: Option<Role>,
    /// When its certificate ends, known likewise.
    pub certificate_not_after: Option<UnixMillis>,
    /// Where it was last reached.
    pub addresses: Vec<String>,
    /// When it was last connected.
    pub seen_at: Option<UnixMillis>,
    /// What it advertises, if its record has arrived.
    pub record: Option<RecordView>,
}

/// What a node advertises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordView {
    /// What it has.
    pub tags: Vec<Tag>,
    /// What it measures.
    pub attributes: BTreeMap<String, AttributeValue>,
    /// What it owns in all.
    pub resources: Offered,
    /// How many jobs it runs at once.
    pub slots: u32,
}

/// What an attribute is worth: a number or a word, plain in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeValue(pub Value);

impl Serialize for AttributeValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Number(number) => serializer.serialize_u64(*number),
            Value::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for AttributeValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(Value::Text(text))),
            serde_json::Value::Number(number) => {
                let number =
                    number.as_u64().ok_or_else(|| D::Error::custom("an attribute is a whole number from 0"))?;
                Ok(Self(Value::Number(number)))
            }
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => Err(D::Error::custom("an attribute is a number or a text")),
        }
    }
}

/// A node that was turned away, or that turned this one away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedView {
    /// The node at the far end.
    pub node: NodeId,
    /// Who refused.
    pub by: RefusedBy,
    /// Why, for people.
    pub reason: String,
    /// When it last happened.
    pub at: UnixMillis,
    /// How often it happened since the daemon started.
    pub count: u32,
}

/// Which side said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    /// This node.
    Us,
    /// The other one.
    Them,
}
