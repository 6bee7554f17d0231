//! Gossip and Kademlia: how nodes hear of what lies beyond their neighbours.

use std::collections::BTreeSet;

use jobmesh_mesh::Event;
use jobmesh_protocol::Hash;

use crate::harness::{Node, config, connect};

async fn digest(node: &mut Node) -> (jobmesh_keys::NodeId, Vec<u8>) {
    node.until("a digest", |event| match event {
        Event::Gossip { author, bytes, .. } => Some((author, bytes)),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_reaches_those_beyond_the_neighbours() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let mut carol = Node::start(config(3)).await;
    connect(&mut ana, &mut bob).await;
    connect(&mut carol, &mut bob).await;
    // Whether or not anyone has subscribed by now: it is published again when someone does.
    ana.mesh.publish(b"first".to_vec());
    assert_eq!(digest(&mut bob).await, (ana.id, b"first".to_vec()));
    assert_eq!(digest(&mut carol).await, (ana.id, b"first".to_vec()));
    ana.mesh.publish(vec![0; 9000]);
    ana.counted("digest_too_long").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_waits_for_those_who_come_later() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    ana.mesh.publish(b"superseded".to_vec());
    ana.mesh.publish(b"latest".to_vec());
    connect(&mut bob, &mut ana).await;
    assert_eq!(digest(&mut bob).await, (ana.id, b"latest".to_vec()));
    let mut carol = Node::start(config(3)).await;
    connect(&mut carol, &mut ana).await;
    assert_eq!(digest(&mut carol).await, (ana.id, b"latest".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_two_hops_away_is_found_and_met() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let mut carol = Node::start(config(3)).await;
    let key = Hash::of(b"gpu");
    carol.mesh.provide(BTreeSet::from([key]));
    connect(&mut carol, &mut bob).await;
    connect(&mut ana, &mut bob).await;
    // Carol may not have told bob yet; an empty answer means "unknown", and the owner asks again.
    ana.mesh.find(key);
    let (mesh, wanted) = (ana.mesh.clone(), carol.id);
    let mut is_found = false;
    let mut is_met = false;
    ana.until("carol", |event| {
        match event {
            Event::Found { providers, .. } if providers.is_empty() => mesh.find(key),
            Event::Found { providers, .. } => is_found |= providers.contains(&wanted),
            Event::Admitted { node, .. } => is_met |= node == wanted,
            _ => {}
        }
        (is_found && is_met).then_some(())
    })
    .await;
    carol.admitted(ana.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_known_addresses_is_dialled_through_kademlia() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let mut carol = Node::start(config(3)).await;
    connect(&mut carol, &mut bob).await;
    connect(&mut ana, &mut bob).await;
    ana.mesh.dial(carol.id, Vec::new());
    ana.admitted(carol.id).await;
    carol.admitted(ana.id).await;
}
