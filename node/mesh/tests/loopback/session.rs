//! Frames: in order, whole, and never anything else from the wire.

use futures::AsyncWriteExt as _;
use jobmesh_mesh::{Event, SendError};
use jobmesh_protocol::UnixMillis;

use crate::harness::{NOW, Node, SESSION, Stranger, config, connect, hello, id, membership, until_ended, write_frame};

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_in_order_both_ways() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    for number in 0_u32..500 {
        ana.mesh.send(bob.id, number.to_be_bytes().to_vec()).unwrap();
        bob.mesh.send(ana.id, number.to_le_bytes().to_vec()).unwrap();
    }
    for number in 0_u32..500 {
        assert_eq!(bob.frame().await, number.to_be_bytes());
        assert_eq!(ana.frame().await, number.to_le_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_frame_arrives_and_a_larger_one_is_not_queued() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let largest = vec![7; 256 * 1024];
    ana.mesh.send(bob.id, largest.clone()).unwrap();
    assert_eq!(bob.frame().await, largest);
    assert_eq!(ana.mesh.send(bob.id, vec![7; 256 * 1024 + 1]), Err(SendError::TooLong));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_does_not_read_slows_the_peer_and_loses_nothing() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    // More than the queue, the stream and bob's event channel hold together.
    let mut sent = 0_u32;
    let mut refused = 0;
    while refused == 0 {
        let mut frame = vec![0; 64 * 1024];
        frame[..4].copy_from_slice(&sent.to_be_bytes());
        match ana.mesh.send(bob.id, frame) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error, SendError::Full);
                refused += 1;
            }
        }
    }
    for number in 0..sent {
        assert_eq!(bob.frame().await[..4], number.to_be_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_hello_is_counted_and_dropped() {
    let mut ana = Node::start(config(1)).await;
    let mut stranger = Stranger::connect(9, &ana);
    let mut garbage = stranger.open(SESSION).await.unwrap();
    write_frame(&mut garbage, &[0xFF; 100]).await;
    until_ended(&mut garbage).await;
    ana.counted("hello_garbage").await;
    let mut bomb = stranger.open(SESSION).await.unwrap();
    bomb.write_all(&[0xFF; 64]).await.unwrap();
    bomb.flush().await.unwrap();
    until_ended(&mut bomb).await;
    ana.counted("frame_too_long").await;
    let mut cut = stranger.open(SESSION).await.unwrap();
    cut.write_all(&[0, 0, 1, 0, 1, 2, 3]).await.unwrap();
    cut.close().await.unwrap();
    ana.counted("frame_truncated").await;
    let mut bob = Node::start(config(2)).await;
    connect(&mut bob, &mut ana).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_of_a_member_ends_its_stream_only() {
    let mut ana = Node::start(config(1)).await;
    let mut member = Stranger::connect(9, &ana);
    let hello = hello(membership(200, 9, UnixMillis(NOW.0 * 2)).encode());
    let (mut stream, _) = member.say(&hello).await;
    let _kept = member.welcome().await;
    ana.admitted(id(9)).await;
    write_frame(&mut stream, b"fine").await;
    assert_eq!(ana.frame().await, b"fine");
    stream.write_all(&[0x7F, 0xFF, 0xFF, 0xFF, 1]).await.unwrap();
    stream.flush().await.unwrap();
    until_ended(&mut stream).await;
    ana.counted("frame_too_long").await;
    let (mut again, _) = member.say(&hello).await;
    write_frame(&mut again, b"fine again").await;
    let event = ana
        .until("a frame", |event| match event {
            Event::Frame { bytes, .. } => Some(bytes),
            Event::Closed { .. } => panic!("the connection should have stayed"),
            _ => None,
        })
        .await;
    assert_eq!(event, b"fine again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_begins_anew_is_admitted_anew() {
    let mut ana = Node::start(config(1)).await;
    let certificate = membership(200, 9, UnixMillis(NOW.0 * 2)).encode();
    let mut first = Stranger::connect(9, &ana);
    let (_first_stream, _) = first.say(&hello(certificate.clone())).await;
    let _first_kept = first.welcome().await;
    ana.admitted(id(9)).await;
    // The first one's connection stands, as that of a machine that lost its power would.
    let mut second = Stranger::connect(9, &ana);
    let other_life = crate::harness::WireHello {
        version: 1,
        life: 8,
        name: "stranger".to_owned(),
        membership: certificate,
        addresses: Vec::new(),
    };
    let (mut second_stream, _) = second.say(&jobmesh_protocol::cbor::encode(&other_life)).await;
    ana.closed(id(9)).await;
    let _second_kept = second.welcome().await;
    ana.admitted(id(9)).await;
    write_frame(&mut second_stream, b"new life").await;
    assert_eq!(ana.frame().await, b"new life");
}
