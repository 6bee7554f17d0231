//! The chains of receipts between this node and another one, signed by this node, to be checked here or elsewhere.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use jobmesh_protocol::NodeId;
use jobmesh_protocol::chain::{Chain, Export, LINKS_MAX, Link};
use jobmesh_store::{LinkRow, Side, View};

use super::Control;
use super::error::{Answer, Failure};
use super::view;
use crate::api::ErrorCode;

pub(super) async fn export(State(control): State<Control>, Path(peer): Path<String>) -> Answer<Response> {
    let handle = &control.handle;
    let (me, peer) = (handle.node(), find(&control, &peer).await?);
    let limit = u32::try_from(LINKS_MAX).unwrap_or(u32::MAX);
    let read = move |view: View<'_>| {
        let given = Chain { executor: me, origin: peer, links: links(view.links(peer, Side::Given, limit)?) };
        let taken = Chain { executor: peer, origin: me, links: links(view.links(peer, Side::Taken, limit)?) };
        Ok(vec![given, taken])
    };
    let chains = handle.read(read).await?;
    let export = Export { mesh: handle.roster().standing().mesh, at: handle.wall(), chains };
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(([kind], handle.sign_export(&export)).into_response())
}

fn links(rows: Vec<LinkRow>) -> Vec<Link> {
    rows.into_iter().map(|row| Link::new(row.receipt, row.settle)).collect()
}

/// Finds a node by its id, its short id or the name that people know it by.
async fn find(control: &Control, wanted: &str) -> Answer<NodeId> {
    if let Ok(node) = wanted.parse() {
        return Ok(node);
    }
    let handle = &control.handle;
    let met = |view: View<'_>| {
        let peers = view.peers()?.into_iter().map(|peer| peer.node);
        Ok(peers.chain(view.linked_peers()?).collect::<BTreeSet<NodeId>>())
    };
    let mut nodes = handle.read(met).await?;
    nodes.retain(|node| node.short() == wanted || view::name(handle, *node).name == wanted);
    match (nodes.pop_first(), nodes.len()) {
        (Some(node), 0) => Ok(node),
        (Some(_), more) => {
            let message = format!("{} nodes are called {wanted}", more + 1);
            Err(Failure::new(ErrorCode::BadRequest, message).hint("give the id; `jobmesh peers --json` has them"))
        }
        (None, _) => {
            let message = format!("this node has met no node called {wanted}");
            Err(Failure::new(ErrorCode::NotFound, message).hint("`jobmesh peers` lists them"))
        }
    }
}
