//! Who is in the mesh, who is connected, and who was turned away.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use jobmesh_keys::MeshId;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::{CapabilityRecord, Envelope, NodeId};
use jobmesh_store::PeerRow;

use super::Control;
use super::error::Answer;
use super::view;
use crate::api::{PeerView, Peers, RefusedView};

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Peers>> {
    let handle = &control.handle;
    let (rows, envelopes) = handle.read(|view| Ok((view.peers()?, view.capabilities()?))).await?;
    let mesh = handle.roster().standing().mesh;
    let mut records = read_records(&mesh, envelopes);
    records.remove(&handle.node());
    let met: BTreeMap<NodeId, PeerRow> = rows.into_iter().map(|row| (row.node, row)).collect();
    let sessions = handle.roster().sessions();
    let mut nodes: Vec<NodeId> = met.keys().chain(records.keys()).chain(sessions.keys()).copied().collect();
    nodes.sort_unstable();
    nodes.dedup();
    let mut peers: Vec<PeerView> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let (row, session, record) = (met.get(&node), sessions.get(&node), records.remove(&node));
        let told = record.as_ref().map(|record| record.name.clone()).filter(|name| !name.is_empty());
        let met_as = row.map(|row| row.name.clone()).filter(|name| !name.is_empty());
        peers.push(PeerView {
            node,
            name: told.or(met_as).unwrap_or_else(|| view::name(handle, node).name),
            is_connected: session.is_some(),
            role: session.map(|session| session.role),
            certificate_not_after: session.map(|session| session.not_after),
            addresses: row.map(|row| row.addresses.clone()).unwrap_or_default(),
            seen_at: row.map(|row| row.seen_at),
            record: record.map(view::record),
        });
    }
    peers.sort_by(|a, b| (!a.is_connected, &a.name, a.node).cmp(&(!b.is_connected, &b.name, b.node)));
    Ok(Json(Peers { mesh, peers, refused: refused(&control) }))
}

/// The records that verify. One that doesn't was kept in another mesh, and says nothing here.
fn read_records(mesh: &MeshId, envelopes: Vec<(NodeId, Vec<u8>)>) -> BTreeMap<NodeId, CapabilityRecord> {
    let read = |(node, bytes): (NodeId, Vec<u8>)| {
        let envelope = Envelope::open(&bytes, mesh).ok()?;
        let is_good = envelope.signer() == node && envelope.kind() == Kind::Capability;
        is_good.then(|| envelope.parse().ok()).flatten().map(|record| (node, record))
    };
    envelopes.into_iter().filter_map(read).collect()
}

fn refused(control: &Control) -> Vec<RefusedView> {
    let refused = control.handle.roster().refused().into_iter();
    let mut list: Vec<RefusedView> = refused
        .map(|(node, refused)| RefusedView {
            node,
            by: refused.by,
            reason: refused.reason,
            at: refused.at,
            count: refused.count,
        })
        .collect();
    list.sort_by_key(|refused| std::cmp::Reverse(refused.at));
    list
}
