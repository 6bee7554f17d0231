//! Asking to be let in.

use std::time::Duration;

use jobmesh_keys::Identity;
use jobmesh_mesh::{Event, JoinError, join};

use crate::harness::{DEADLINE, Node, QUIC, config, connect, id};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_and_the_joiner_comes_back_as_a_member() {
    let mut inviter = config(1);
    inviter.listen.push(QUIC.to_owned());
    let mut ana = Node::start(inviter).await;
    let joiner = Identity::from_seed([2; 32]);
    let addresses = ana.mesh.addresses();
    let asking = join(&joiner, ana.id, &addresses, b"please".to_vec(), DEADLINE);
    let answering = ana.until("a join", |event| match event {
        Event::Join { from, request, reply } => {
            reply.send(b"welcome".to_vec()).unwrap();
            Some((from, request))
        }
        _ => None,
    });
    let (answer, asked) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap(), b"welcome");
    assert_eq!(asked, (id(2), b"please".to_vec()));
    let mut bob = Node::start(config(2)).await;
    connect(&mut bob, &mut ana).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_dropped_is_asked_again() {
    let mut ana = Node::start(config(1)).await;
    let joiner = Identity::from_seed([2; 32]);
    let addresses = ana.mesh.addresses();
    let asking = join(&joiner, ana.id, &addresses, b"please".to_vec(), DEADLINE);
    let mut times = 0;
    let answering = ana.until("a second request", |event| match event {
        Event::Join { reply, .. } => {
            times += 1;
            (times == 2).then(|| reply.send(b"yes".to_vec()).unwrap())
        }
        _ => None,
    });
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap(), b"yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_to_do() {
    let ana = Node::start(config(1)).await;
    let joiner = Identity::from_seed([2; 32]);
    let addresses = ana.mesh.addresses();
    let short = Duration::from_millis(300);
    let unanswered = join(&joiner, ana.id, &addresses, Vec::new(), short).await;
    assert!(matches!(unanswered, Err(JoinError::Deadline { .. })), "{unanswered:?}");
    let too_long = join(&joiner, ana.id, &addresses, vec![0; 5000], DEADLINE).await;
    assert!(matches!(too_long, Err(JoinError::TooLong { found: 5000 })));
    let nowhere = join(&joiner, ana.id, &["nonsense".to_owned()], Vec::new(), DEADLINE).await;
    assert!(matches!(nowhere, Err(JoinError::NoAddress)));
    // Someone else lives at the address: the transport notices.
    let impostor = join(&joiner, id(5), &addresses, Vec::new(), DEADLINE).await;
    assert!(matches!(impostor, Err(JoinError::Unreachable { .. })), "{impostor:?}");
    let mut gone = ana.mesh.addresses();
    ana.mesh.stop().await;
    let absent = join(&joiner, id(1), &std::mem::take(&mut gone), Vec::new(), DEADLINE).await;
    assert!(matches!(absent, Err(JoinError::Unreachable { .. })), "{absent:?}");
}
