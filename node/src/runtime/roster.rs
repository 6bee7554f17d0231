//! Who is who while this daemon lives: names, sessions, refusals, and what this node is in its mesh.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmesh_keys::{Membership, MeshId, Role};
use jobmesh_protocol::{NodeId, UnixMillis};

use crate::api::{NodeName, RefusedBy};

/// Most refusals that are remembered. A stranger can make up nodes; the oldest is forgotten first.
const REFUSED_MAX: usize = 64;
/// Most names that are remembered: as many as the engine keeps members.
const NAMES_MAX: usize = 4096;
/// Longest reason that is kept of a peer's words.
const REASON_CHARS_MAX: usize = 256;

/// What this node is in its mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The mesh.
    pub mesh: MeshId,
    /// What the node may do there.
    pub role: Role,
    /// When its certificate ends; the beginning of time if it is not good now.
    pub not_after: UnixMillis,
}

impl Standing {
    /// Reads the standing of `node` off its membership.
    pub(super) fn of(node: NodeId, mesh: MeshId, membership: &Membership, now: UnixMillis) -> Self {
        match membership.verify(&mesh, &node, now.0) {
            Ok(verified) => Self { mesh, role: verified.role(), not_after: UnixMillis(verified.not_after_ms()) },
            Err(error) => {
                tracing::warn!(%error, "this node's membership is not good; no member will accept it");
                Self { mesh, role: Role::Member, not_after: UnixMillis(0) }
            }
        }
    }
}

/// A member that is connected now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// What it may do.
    pub role: Role,
    /// When its certificate ends.
    pub not_after: UnixMillis,
}

/// A node that was turned away, or that turned this one away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Who said no.
    pub by: RefusedBy,
    /// Why.
    pub reason: String,
    /// When it last happened.
    pub at: UnixMillis,
    /// How often.
    pub count: u32,
}

/// Everything that is known of other nodes without asking the database.
#[derive(Debug)]
pub(crate) struct Roster {
    me: NodeId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    names: BTreeMap<NodeId, String>,
    sessions: BTreeMap<NodeId, Session>,
    refused: BTreeMap<NodeId, Refused>,
}

impl Roster {
    pub(super) fn new((me, name): (NodeId, String), standing: Standing, mut names: BTreeMap<NodeId, String>) -> Self {
        names.insert(me, name);
        let state = State { standing, names, sessions: BTreeMap::new(), refused: BTreeMap::new() };
        Self { me, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn standing(&self) -> Standing {
        self.lock().standing
    }

    pub(super) fn set_standing(&self, standing: Standing) {
        self.lock().standing = standing;
    }

    /// The node with the name that people know it by, or the short form of its id.
    pub(crate) fn name(&self, node: NodeId) -> NodeName {
        let name = self.lock().names.get(&node).cloned().unwrap_or_else(|| node.short());
        NodeName { node, name, is_self: node == self.me }
    }

    pub(crate) fn sessions(&self) -> BTreeMap<NodeId, Session> {
        self.lock().sessions.clone()
    }

    pub(crate) fn refused(&self) -> BTreeMap<NodeId, Refused> {
        self.lock().refused.clone()
    }

    pub(super) fn connected(&self, node: NodeId, name: &str, session: Session) {
        let mut state = self.lock();
        state.sessions.insert(node, session);
        state.refused.remove(&node);
        if !name.is_empty() && (state.names.len() < NAMES_MAX || state.names.contains_key(&node)) {
            state.names.insert(node, name.to_owned());
        }
    }

    pub(super) fn disconnected(&self, node: NodeId) {
        self.lock().sessions.remove(&node);
    }

    /// Forgets every session and returns who was connected.
    pub(super) fn disconnect_all(&self) -> Vec<NodeId> {
        std::mem::take(&mut self.lock().sessions).into_keys().collect()
    }

    /// Forgets the refusals: they were about another mesh.
    pub(super) fn forget_refused(&self) {
        self.lock().refused.clear();
    }

    pub(super) fn refuse(&self, node: NodeId, by: RefusedBy, reason: &str, at: UnixMillis) {
        let mut state = self.lock();
        let reason = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        let count = state.refused.get(&node).map_or(1, |before| before.count.saturating_add(1));
        state.refused.insert(node, Refused { by, reason, at, count });
        if state.refused.len() > REFUSED_MAX {
            let oldest = state.refused.iter().min_by_key(|(_, refused)| refused.at).map(|(node, _)| *node);
            oldest.map(|node| state.refused.remove(&node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn roster() -> Roster {
        let standing = Standing { mesh: MeshId::from_bytes([0; 32]), role: Role::Admin, not_after: UnixMillis(9) };
        Roster::new((node(0), "me".to_owned()), standing, BTreeMap::new())
    }

    #[test]
    fn refusals_are_bounded_and_the_oldest_is_forgotten() {
        let roster = roster();
        for number in 1..=100 {
            roster.refuse(node(number), RefusedBy::Us, "no\ncertificate", UnixMillis(u64::from(number)));
        }
        let refused = roster.refused();
        assert_eq!(refused.len(), REFUSED_MAX);
        assert!(!refused.contains_key(&node(1)));
        assert_eq!(refused.get(&node(100)).map(|refused| refused.reason.as_str()), Some("nocertificate"));
    }

    #[test]
    fn a_node_that_gets_in_is_no_longer_refused_and_has_its_name() {
        let roster = roster();
        roster.refuse(node(1), RefusedBy::Them, "expired", UnixMillis(1));
        assert_eq!(roster.name(node(1)).name, node(1).short());
        roster.connected(node(1), "server", Session { role: Role::Member, not_after: UnixMillis(5) });
        assert!(roster.refused().is_empty());
        assert_eq!(roster.name(node(1)).name, "server");
        assert!(roster.name(node(0)).is_self);
        assert_eq!(roster.disconnect_all(), [node(1)]);
    }
}
