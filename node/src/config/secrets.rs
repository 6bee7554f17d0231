//! `[secrets.NAME]`: where the values of secrets are, and which members may have them for the jobs that they do for us.
//!
//! Members go by their ids, which `jobmesh peers` shows: what a node is called is its own word.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::NodeId;

use crate::config::table::{Entry, Fault};
use crate::secrets::{Kept, SECRETS_MAX, Source, is_name};

const KEYS: &[&str] = &["from", "peers"];

/// Most members that may have a secret.
const PEERS_MAX: usize = 256;

/// Reads every secret's source.
pub(super) fn read_secrets(entry: &Entry<'_>) -> Result<BTreeMap<String, Kept>, Fault> {
    let mut secrets = BTreeMap::new();
    for (name, entry) in entry.table()?.entries() {
        if !is_name(name) {
            return Err(entry.fault("is no name of a secret; it must be letters, digits, - _ and ."));
        }
        let table = entry.table()?;
        table.check_keys(KEYS, &[])?;
        let source = table.read("from", |entry| entry.parsed(Source::parse))?;
        let Some(source) = source else {
            return Err(entry.fault("says not where its value is; add from = \"env:VARIABLE\" or \"file:/path\""));
        };
        let peers = table.read("peers", peers)?.unwrap_or_default();
        secrets.insert(name.to_owned(), Kept { source: source.value, peers });
    }
    if secrets.len() > SECRETS_MAX {
        return Err(entry.fault(&format!("has {} secrets; the limit is {SECRETS_MAX}", secrets.len())));
    }
    Ok(secrets)
}

fn peers(entry: &Entry<'_>) -> Result<BTreeSet<NodeId>, Fault> {
    let mut peers = BTreeSet::new();
    for entry in entry.elements(PEERS_MAX)? {
        let id = entry.text()?.value.parse().map_err(|_| {
            entry
                .fault("is no node's id; write the id that `jobmesh peers -o json` shows, since anyone can take a name")
        })?;
        peers.insert(id);
    }
    Ok(peers)
}
