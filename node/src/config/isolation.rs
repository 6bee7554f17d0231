//! How well jobs are kept apart from this machine, as the file says it.
//!
//! Exceptions for single members go by their ids, which `jobmesh peers` shows: what a node is called is its own word, and
//! anyone can be called like a friend.

use std::collections::BTreeMap;

use jobmesh_engine::Policy;
use jobmesh_protocol::{Isolation, NodeId};

use crate::config::settings::Sources;
use crate::config::table::{Entry, Fault, Lined, Table};

pub(super) const ISOLATION_KEYS: &[&str] = &["own", "members", "network", "sandbox", "peers"];

/// Most exceptions.
const PEERS_MAX: usize = 256;

/// What one file says of isolation.
#[derive(Debug, Default)]
pub(super) struct IsolationTable {
    own: Option<Lined<Isolation>>,
    members: Option<Lined<Isolation>>,
    network: Option<Lined<bool>>,
    sandbox: Option<Lined<bool>>,
    peers: BTreeMap<NodeId, Isolation>,
}

impl IsolationTable {
    /// Reads the table.
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            own: table.read("own", level)?,
            members: table.read("members", level)?,
            network: table.read("network", Entry::boolean)?,
            sandbox: table.read("sandbox", Entry::boolean)?,
            peers: table.read("peers", peers)?.unwrap_or_default(),
        })
    }

    /// What holds by this file and the defaults, and whether sandboxes may be made.
    pub(super) fn resolve(&self, sources: &mut Sources, default: &Self) -> (Policy, bool) {
        let built_in = Policy::default();
        let own = sources.pick("isolation.own", [&None, &None], &self.own, &default.own).unwrap_or(built_in.own);
        let members = sources.pick("isolation.members", [&None, &None], &self.members, &default.members);
        let network = sources.pick("isolation.network", [&None, &None], &self.network, &default.network);
        let sandbox = sources.pick("isolation.sandbox", [&None, &None], &self.sandbox, &default.sandbox);
        let policy = Policy {
            own,
            members: members.unwrap_or(built_in.members),
            peers: self.peers.clone(),
            network: network.unwrap_or(built_in.network),
        };
        (policy, sandbox.unwrap_or(true))
    }
}

fn level(entry: &Entry<'_>) -> Result<Lined<Isolation>, Fault> {
    let wanted = "\"contained\", \"sandboxed\" or \"untrusted\"";
    let found = entry.as_text().and_then(Isolation::from_word).filter(|level| *level != Isolation::None);
    found.map(|level| entry.lined(level)).ok_or_else(|| entry.wrong(wanted))
}

fn peers(entry: &Entry<'_>) -> Result<BTreeMap<NodeId, Isolation>, Fault> {
    let mut peers = BTreeMap::new();
    for (key, entry) in entry.table()?.entries() {
        let peer: NodeId = key.parse().map_err(|_| {
            entry
                .fault("is no node's id; write the id that `jobmesh peers -o json` shows, since anyone can take a name")
        })?;
        peers.insert(peer, level(&entry)?.value);
    }
    if peers.len() > PEERS_MAX {
        return Err(entry.fault(&format!("has {} members; the limit is {PEERS_MAX}", peers.len())));
    }
    Ok(peers)
}
