//! `jobmesh secrets`: the names of the secrets that this node knows of, where their values are, and whether they are there.

use clap::Args;
use jobmesh::causes::causes;
use jobmesh::config::{Config, Overrides};
use jobmesh::secrets::{Kept, Source, Vault};
use jobmesh_protocol::NodeId;
use serde::Serialize;

use crate::cli::{Cell, Colour, Context, Exit, Failure, Kind, Style, Table};

#[derive(Args, Debug)]
#[command(after_help = "Declare one under [secrets.NAME] in config.toml: from = \"env:VARIABLE\", \"file:/path\" or \
                        \"keyring:service/account\". A job gets it by --secret VARIABLE=NAME. It runs on this node, or by \
                        --where on a peer whose id is in peers = [\"ID\"] of each of its secrets. Values are never \
                        shown.")]
pub(crate) struct ListSecrets {}

/// A secret, without its value.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    name: String,
    from: String,
    /// The members that may have it for the jobs that they do for this node.
    peers: Vec<NodeId>,
    /// Whether the value is there; none for what only the daemon can tell.
    found: Option<bool>,
    /// Why it isn't, and what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl ListSecrets {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        let config = Config::resolve(context.home.clone(), Overrides::default());
        let config = config.map_err(|error| Failure::of(Kind::Config, &error))?;
        let entries = look(&config.secrets);
        let name = |entry: &Entry| entry.name.clone();
        context.output.list((&entries, &entries), name, |colour| table(&entries, colour))?;
        let is_whole = entries.iter().all(|entry| entry.found != Some(false));
        Ok(if is_whole { Exit::OK } else { Exit::FAILED })
    }
}

/// Looks whether each value is there.
pub(crate) fn look(vault: &Vault) -> Vec<Entry> {
    let look = |(name, Kept { source, peers }): (&str, &Kept)| {
        let problem = match source {
            // Another program's variables are nobody's business; what we have ourselves says nothing of the node's.
            Source::Variable(_) => None,
            Source::File(_) | Source::Keyring { .. } => vault.look_up(name).err().map(|error| causes(&error)),
        };
        let found = (!matches!(source, Source::Variable(_))).then_some(problem.is_none());
        let peers = peers.iter().copied().collect();
        Entry { name: name.to_owned(), from: source.to_string(), peers, found, problem }
    };
    vault.iter().map(look).collect()
}

impl Entry {
    /// What is wrong with it, with its name.
    pub(crate) fn complaint(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| format!("{}: {problem}", self.name))
    }
}

fn table(entries: &[Entry], colour: Colour) -> String {
    let mut table = Table::new(["SECRET", "FROM", "PEERS", "STATE"]);
    for entry in entries {
        let state = match (&entry.problem, entry.found) {
            (Some(problem), _) => Cell::from(problem),
            (None, Some(_)) => Cell::from("there"),
            (None, None) => Cell::styled(Style::Dim, "up to the node's environment"),
        };
        let peers: Vec<String> = entry.peers.iter().map(|peer| peer.short()).collect();
        let peers = if peers.is_empty() { Cell::styled(Style::Dim, "none") } else { Cell::from(peers.join(", ")) };
        table.push([Cell::from(&entry.name), Cell::from(&entry.from), peers, state]);
    }
    table.render(colour, 0)
}
