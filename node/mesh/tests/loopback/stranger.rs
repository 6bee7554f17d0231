//! What someone without a certificate gets: a verdict, and nothing else.

use jobmesh_mesh::{Event, Side};
use libp2p::StreamProtocol;
use libp2p_stream::OpenStreamError;

use crate::harness::{Node, Stranger, config, connect, hello, id, root, until_ended};

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_is_refused_with_a_reason() {
    let mut ana = Node::start(config(1)).await;
    let mut stranger = Stranger::connect(9, &ana);
    let (stream, verdict) = stranger.say(&hello(Vec::new())).await;
    let told = String::from_utf8_lossy(&verdict).into_owned();
    assert!(told.contains("no certificate"), "{told}");
    drop(stream);
    let reason = ana.refused(Side::Us).await;
    assert!(reason.contains("no certificate"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_node_is_refused() {
    let mut ana = Node::start(config(1)).await;
    let mut thief = Stranger::connect(9, &ana);
    let (stream, _) = thief.say(&hello(config(2).membership.encode())).await;
    drop(stream);
    let reason = ana.refused(Side::Us).await;
    assert!(reason.contains("belongs to node"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn protocols_of_members_are_not_offered_to_strangers() {
    let ana = Node::start(config(1)).await;
    let mut stranger = Stranger::connect(9, &ana);
    let tag = root(200).mesh().tag();
    for name in [
        "/ipfs/id/1.0.0".to_owned(),
        "/ipfs/id/push/1.0.0".to_owned(),
        format!("/jobmesh/kad/{tag}/1"),
        format!("/jobmesh/gossip/{tag}/1.1.0"),
        format!("/jobmesh/gossip/{tag}/1.0.0"),
    ] {
        let opened = stranger.open(StreamProtocol::try_from_owned(name.clone()).unwrap()).await;
        assert!(matches!(opened, Err(OpenStreamError::UnsupportedProtocol(_))), "{name} was offered");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_welcomes_everyone_stays_one() {
    let mut ana = Node::start(config(1)).await;
    let mut stranger = Stranger::connect(9, &ana);
    let _welcomed = stranger.welcome().await;
    for (protocol, counter) in [("/jobmesh/blob/3", "blob_from_stranger"), ("/jobmesh/log/1", "log_from_stranger")] {
        let mut stream = stranger.open(StreamProtocol::new(protocol)).await.unwrap();
        until_ended(&mut stream).await;
        ana.counted(counter).await;
    }
    ana.counted("admission_late").await;
    let mut bob = Node::start(config(2)).await;
    connect(&mut bob, &mut ana).await;
    while let Ok(event) = ana.events.try_recv() {
        assert!(!matches!(event, Event::Admitted { node, .. } if node == id(9)));
    }
}
