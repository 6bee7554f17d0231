//! The secrets of a job, for the node that runs it.

use jobmesh_mesh::{Event, SecretsError};
use jobmesh_protocol::secret::{Answer, Request};
use jobmesh_protocol::ticket::LeaseKey;
use jobmesh_protocol::{Epoch, TicketId};

use crate::harness::{Node, config, connect};

fn request() -> Request {
    Request { key: LeaseKey { ticket: TicketId::from_bytes([7; 16]), epoch: Epoch(2) } }
}

/// Answers one question, if it is to be answered at all, and returns who asked what.
async fn answer(node: &mut Node, answer: Option<Answer>) -> (jobmesh_keys::NodeId, Request) {
    let mut answer = Some(answer);
    node.until("a question", |event| match event {
        Event::SecretsRequested { from, request, reply } => {
            if let Some(answer) = answer.take().flatten() {
                assert!(reply.send(answer).is_ok());
            }
            Some((from, request))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_member_is_answered_and_nobody_else() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let refused = ana.mesh.ask_secrets(bob.id, request()).await;
    assert!(matches!(refused, Err(SecretsError::NotConnected { .. })), "{refused:?}");
    connect(&mut ana, &mut bob).await;
    let given = Answer::Given([("TOKEN".to_owned(), "x".repeat(200_000))].into());
    for told in [given, Answer::Withheld, Answer::Missing] {
        let (heard, asked) =
            tokio::join!(ana.mesh.ask_secrets(bob.id, request()), answer(&mut bob, Some(told.clone())));
        assert_eq!((heard.unwrap(), asked), (told, (ana.id, request())));
    }
    let (heard, _) = tokio::join!(ana.mesh.ask_secrets(bob.id, request()), answer(&mut bob, None));
    assert!(matches!(heard, Err(SecretsError::Interrupted { .. })), "{heard:?}");
}
