//! Frames: in order, whole, and never anything else from the wire.

use futures::AsyncWriteExt as _;
use jobmesh_mesh::{Config, Event, SendError};
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

/// Stands for a machine that is frozen, or an owner that is stuck, for as long as nobody has noticed.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_stops_reading_fills_its_own_queue_and_delays_nobody() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let mut stuck = Stranger::connect(9, &ana);
    let (_hello, _) = stuck.say(&hello(membership(200, 9, UnixMillis(NOW.0 * 2)).encode())).await;
    let _unread = stuck.welcome().await;
    ana.admitted(id(9)).await;
    let mut sent = 0;
    let full = loop {
        match ana.mesh.send(id(9), vec![0; 64 * 1024]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, SendError::Full);
    assert!(sent <= 1024, "{sent} frames of 64 KiB wait for one peer");
    for number in 0_u32..200 {
        ana.mesh.send(bob.id, number.to_be_bytes().to_vec()).unwrap();
        assert_eq!(bob.frame().await, number.to_be_bytes());
        bob.mesh.send(ana.id, number.to_le_bytes().to_vec()).unwrap();
        assert_eq!(ana.frame().await, number.to_le_bytes());
    }
    ana.counted("session_broken").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_comes_back_elsewhere_and_by_the_other_transport_is_the_same_peer() {
    let both = vec!["/ip4/127.0.0.1/tcp/0".to_owned(), "/ip4/127.0.0.1/udp/0/quic-v1".to_owned()];
    let mut ana = Node::start(Config { listen: both.clone(), ..config(1) }).await;
    let by = |transport: &str| -> Vec<String> {
        ana.mesh.addresses().into_iter().filter(|address| address.contains(transport)).collect()
    };
    let (tcp, quic) = (by("/tcp/"), by("/quic-v1"));
    for (round, addresses) in [tcp.clone(), quic, tcp].into_iter().enumerate() {
        let mut bob = Node::start(Config { listen: both.clone(), ..config(2) }).await;
        bob.mesh.dial(ana.id, addresses);
        bob.admitted(ana.id).await;
        ana.admitted(bob.id).await;
        bob.mesh.send(ana.id, vec![7; round + 1]).unwrap();
        assert_eq!(ana.frame().await.len(), round + 1);
        ana.mesh.send(bob.id, b"back".to_vec()).unwrap();
        assert_eq!(bob.frame().await, b"back");
        bob.mesh.stop().await;
        ana.closed(bob.id).await;
    }
}
