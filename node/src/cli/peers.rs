//! `jobmesh peers`: the other nodes of the mesh, what they can do, and who was turned away.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::{PeerView, Peers as Answer, RecordView, RefusedBy, RefusedView, Status};
use jobmesh_keys::words as join_words;
use jobmesh_protocol::resource::Name;
use jobmesh_protocol::{NodeId, UnixMillis};

use crate::cli::time_words::{now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table};

#[derive(Args, Debug)]
#[command(after_help = "The four words of a node are the same on both machines; compare them after a join.")]
pub(crate) struct Peers {}

impl Peers {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let answer: Answer = client.get("/v1/peers").await?;
        let status: Status = client.get("/v1/status").await?;
        let name = |peer: &PeerView| peer.name.clone();
        let text = |colour| text(&answer, &status.node, now(), colour);
        // Those that were turned away stand in no list of members.
        if answer.peers.is_empty() && !answer.refused.is_empty() && context.output.is_for_people() {
            context.output.show(&answer, text)?;
        } else {
            context.output.list((&answer, &answer.peers), name, text)?;
        }
        Ok(Exit::OK)
    }
}

fn text(answer: &Answer, own: &NodeId, now: UnixMillis, colour: Colour) -> String {
    let mut text = if answer.peers.is_empty() {
        "No other nodes yet. Make an invite with `jobmesh invite`, then run `jobmesh join STRING` on the other \
         machine.\n"
            .to_owned()
    } else {
        members(answer, own, now, colour)
    };
    if !answer.refused.is_empty() {
        let _ = writeln!(text, "\n{}", colour.paint(Style::Bold, "turned away"));
        text.push_str(&refused(&answer.refused, now, colour));
    }
    text
}

fn members(answer: &Answer, own: &NodeId, now: UnixMillis, colour: Colour) -> String {
    let mut table = Table::new(["NODE", "IS", "ROLE", "CERTIFICATE ENDS", "CAN", "FOUR WORDS"]);
    for peer in &answer.peers {
        let ends = peer.certificate_not_after.map_or_else(String::new, |at| relative(now, at));
        table.push([
            Cell::from(&peer.name),
            standing(peer, now),
            Cell::from(peer.role.map(|role| role.to_string()).unwrap_or_default()),
            Cell::from(ends),
            Cell::from(peer.record.as_ref().map(can).unwrap_or_default()),
            Cell::styled(Style::Dim, join_words(&answer.mesh, own, &peer.node).join(" ")),
        ]);
    }
    table.render(colour, 0)
}

fn standing(peer: &PeerView, now: UnixMillis) -> Cell {
    match (peer.is_connected, peer.seen_at) {
        (true, _) => Cell::styled(Style::Good, "connected"),
        (false, Some(at)) => Cell::from(format!("away, seen {}", relative(now, at))),
        (false, None) => Cell::from("never seen"),
    }
}

/// What a node can do, in short: what a person added, then its size.
fn can(record: &RecordView) -> String {
    let is_special = |tag: &&str| !tag.starts_with("executor:");
    let mut parts: Vec<String> =
        record.tags.iter().map(|tag| tag.as_str()).filter(is_special).map(str::to_owned).collect();
    parts.extend(record.resources.iter().map(|(name, amount)| match name {
        name if *name == Name::MEM => format!("{} GiB", amount.floor() >> 30),
        name => format!("{amount} {name}"),
    }));
    parts.join(", ")
}

fn refused(refused: &[RefusedView], now: UnixMillis, colour: Colour) -> String {
    let mut table = Table::new(["NODE", "BY", "WHY", "LAST", "TIMES"]);
    for view in refused {
        let by = match view.by {
            RefusedBy::Us => "us",
            RefusedBy::Them => "them",
        };
        table.push([
            Cell::from(view.node.short()),
            Cell::from(by),
            Cell::from(&view.reason),
            Cell::from(relative(now, view.at)),
            Cell::from(view.count.to_string()),
        ]);
    }
    table.render(colour, 2)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jobmesh_keys::{MeshId, Role};
    use jobmesh_protocol::resource::Amount;

    use super::*;

    #[test]
    fn peers_read_well() {
        let record = RecordView {
            tags: ["executor:process", "tool:gzip"].iter().filter_map(|tag| tag.parse().ok()).collect(),
            attributes: BTreeMap::new(),
            resources: [(Name::CPUS, Amount::whole(8)), (Name::MEM, Amount::whole(16 << 30))]
                .into_iter()
                .collect::<BTreeMap<_, _>>()
                .try_into()
                .unwrap_or_default(),
            slots: 8,
        };
        let answer = Answer {
            mesh: MeshId::from_bytes([1; 32]),
            peers: vec![PeerView {
                node: NodeId::from_bytes([2; 32]),
                name: "gpubox".to_owned(),
                is_connected: true,
                role: Some(Role::Member),
                certificate_not_after: Some(UnixMillis(10 * 86_400_000)),
                addresses: Vec::new(),
                seen_at: None,
                record: Some(record),
            }],
            refused: vec![RefusedView {
                node: NodeId::from_bytes([0; 32]),
                by: RefusedBy::Us,
                reason: "its certificate has expired".to_owned(),
                at: UnixMillis(0),
                count: 3,
            }],
        };
        let text = text(&answer, &NodeId::from_bytes([3; 32]), UnixMillis(60_000), Colour::Off);
        assert!(text.contains("gpubox  connected  member  in 9 d            tool:gzip, 8 cpus, 16 GiB  "), "{text}");
        assert!(text.contains("its certificate has expired  1 min ago  3"), "{text}");
    }
}
