//! The output of a run, as it is written.

use jobmesh_mesh::{Event, LogError, LogOutput, LogPiece, LogRequest};
use jobmesh_protocol::ticket::LeaseKey;
use jobmesh_protocol::{Epoch, TicketId};
use tokio::sync::mpsc;

use crate::harness::{Node, config, connect};

fn request(offset: u64) -> LogRequest {
    let key = LeaseKey { ticket: TicketId::from_bytes([7; 16]), epoch: Epoch(2) };
    LogRequest { key, output: LogOutput::Stdout, offset, follow: true }
}

/// Answers one request with a channel, and returns the request.
async fn answer(node: &mut Node, pieces: Option<mpsc::Receiver<LogPiece>>) -> LogRequest {
    let mut pieces = Some(pieces);
    node.until("a request", |event| match event {
        Event::LogRequested { request, reply, .. } => {
            assert!(reply.send(pieces.take().flatten()).is_ok());
            Some(request)
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn output_comes_as_it_is_written_and_has_an_end() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let refused = ana.mesh.read_log(bob.id, request(0)).await;
    assert!(matches!(refused, Err(LogError::NotConnected { .. })), "{refused:?}");
    connect(&mut ana, &mut bob).await;
    let (pieces, receiver) = mpsc::channel(1);
    let (reader, asked) = tokio::join!(ana.mesh.read_log(bob.id, request(5)), answer(&mut bob, Some(receiver)));
    assert_eq!(asked, request(5));
    let mut reader = reader.unwrap();
    // The second is not written before the first was read.
    for line in [b"one\n".to_vec(), b"two\n".to_vec()] {
        pieces.send(LogPiece::Bytes(line.clone())).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), LogPiece::Bytes(line));
    }
    let large = vec![7; 100_000];
    pieces.send(LogPiece::Bytes(large.clone())).await.unwrap();
    let mut read = Vec::new();
    while read.len() < large.len() {
        let LogPiece::Bytes(bytes) = reader.next().await.unwrap() else { panic!("no end yet") };
        read.extend(bytes);
    }
    assert_eq!(read, large);
    pieces.send(LogPiece::End).await.unwrap();
    assert_eq!(reader.next().await.unwrap(), LogPiece::End);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_an_end_was_broken_and_a_stranger_run_is_unknown() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let (unknown, _) = tokio::join!(ana.mesh.read_log(bob.id, request(0)), answer(&mut bob, None));
    assert!(matches!(unknown, Err(LogError::Unknown { .. })), "{unknown:?}");
    let (pieces, receiver) = mpsc::channel(1);
    let (reader, _) = tokio::join!(ana.mesh.read_log(bob.id, request(0)), answer(&mut bob, Some(receiver)));
    let mut reader = reader.unwrap();
    drop(pieces);
    let broken = reader.next().await;
    assert!(matches!(broken, Err(LogError::Interrupted { .. })), "{broken:?}");
}
