//! Who is let in, who is not, and that both sides hear why.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use jobmesh_keys::Role;
use jobmesh_mesh::{Event, SendError, Side};
use jobmesh_protocol::UnixMillis;

use crate::harness::{NOW, Node, QUIC, TCP, config, connect, id, membership, root};

async fn meet_over(listen: &str) {
    let mut configs = [config(1), config(2)];
    for config in &mut configs {
        config.listen = vec![listen.to_owned()];
    }
    let [ana, bob] = configs;
    let (mut ana, mut bob) = (Node::start(ana).await, Node::start(bob).await);
    assert_eq!(ana.mesh.send(bob.id, Vec::new()), Err(SendError::NotConnected));
    ana.mesh.dial(bob.id, bob.mesh.addresses());
    let admitted = ana
        .until("bob", |event| match event {
            Event::Admitted { node, name, role, not_after, addresses } => {
                Some((node, name, role, not_after, addresses))
            }
            _ => None,
        })
        .await;
    let not_after = UnixMillis(NOW.0 * 2);
    assert_eq!(admitted, (bob.id, "node-2".to_owned(), Role::Member, not_after, bob.mesh.addresses()));
    bob.admitted(ana.id).await;
    bob.mesh.stop().await;
    ana.closed(bob.id).await;
    assert_eq!(ana.mesh.send(bob.id, Vec::new()), Err(SendError::NotConnected));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_meet_over_tcp() {
    meet_over(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_meet_over_quic() {
    meet_over(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_dial_each_other_at_once_meet_once() {
    let mut configs = [config(1), config(2)];
    for config in &mut configs {
        config.listen = vec![TCP.to_owned(), QUIC.to_owned()];
    }
    let [ana, bob] = configs;
    let (mut ana, mut bob) = (Node::start(ana).await, Node::start(bob).await);
    ana.mesh.dial(bob.id, bob.mesh.addresses());
    bob.mesh.dial(ana.id, ana.mesh.addresses());
    ana.admitted(bob.id).await;
    bob.admitted(ana.id).await;
    ana.mesh.send(bob.id, b"to bob".to_vec()).unwrap();
    bob.mesh.send(ana.id, b"to ana".to_vec()).unwrap();
    assert_eq!(bob.frame().await, b"to bob");
    assert_eq!(ana.frame().await, b"to ana");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_mesh_is_refused_and_told_so() {
    let mut elsewhere = config(2);
    elsewhere.mesh = root(201).mesh();
    elsewhere.membership = membership(201, 2, UnixMillis(NOW.0 * 2));
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(elsewhere).await);
    bob.mesh.dial(ana.id, ana.mesh.addresses());
    let reason = ana.refused(Side::Us).await;
    assert!(reason.contains("another mesh"), "{reason}");
    let reason = bob.refused(Side::Us).await;
    assert!(reason.contains("another mesh"), "{reason}");
    // Each side is refused as well as refusing; the order of the two is open, hence a third node that is sound.
    let mut carol = Node::start(config(3)).await;
    connect(&mut carol, &mut ana).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_member_is_refused_and_told_so() {
    let mut late = config(2);
    late.membership = membership(200, 2, UnixMillis(NOW.0 - 60_000));
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(late).await);
    bob.mesh.dial(ana.id, ana.mesh.addresses());
    let ours = ana.refused(Side::Us).await;
    let theirs = bob.refused(Side::Them).await;
    assert!(ours.contains("expired"), "{ours}");
    assert_eq!(ours, theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_member_is_parted_from_and_stays_out() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    ana.mesh.revoke(BTreeSet::from([bob.id]));
    ana.closed(bob.id).await;
    bob.closed(ana.id).await;
    bob.mesh.dial(ana.id, ana.mesh.addresses());
    let reason = bob.refused(Side::Them).await;
    assert!(reason.contains("revoked"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_runs_out_ends_the_connection() {
    static CLOCK: AtomicU64 = AtomicU64::new(NOW.0);
    let mut ana = config(1);
    ana.now = || UnixMillis(CLOCK.load(Ordering::SeqCst));
    let (mut ana, mut bob) = (Node::start(ana).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    CLOCK.store(NOW.0 * 2 + 1, Ordering::SeqCst);
    let reason = ana.refused(Side::Us).await;
    assert!(reason.contains("expired"), "{reason}");
    ana.closed(bob.id).await;
    bob.closed(ana.id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_membership_is_shown_to_those_connected() {
    let (mut ana, mut bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    connect(&mut ana, &mut bob).await;
    let later = UnixMillis(NOW.0 * 3);
    bob.mesh.renew(membership(200, 2, later));
    // Bob is told that his stream was replaced; by then ana has judged the new certificate.
    bob.admitted(ana.id).await;
    bob.mesh.send(ana.id, b"renewed".to_vec()).unwrap();
    assert_eq!(ana.frame().await, b"renewed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_restarts_on_its_port_is_met_again() {
    let (mut ana, bob) = (Node::start(config(1)).await, Node::start(config(2)).await);
    let addresses = bob.mesh.addresses();
    ana.mesh.dial(bob.id, addresses.clone());
    ana.admitted(bob.id).await;
    bob.mesh.stop().await;
    ana.closed(bob.id).await;
    let mut again = config(2);
    again.listen = addresses;
    let mut bob = Node::start(again).await;
    ana.admitted(bob.id).await;
    bob.admitted(id(1)).await;
    ana.mesh.send(bob.id, b"welcome back".to_vec()).unwrap();
    assert_eq!(bob.frame().await, b"welcome back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remembered_member_is_dialled_from_the_start() {
    let mut bob = Node::start(config(2)).await;
    let mut remembering = config(1);
    remembering.known = vec![(bob.id, bob.mesh.addresses())];
    let mut ana = Node::start(remembering).await;
    ana.admitted(bob.id).await;
    bob.admitted(ana.id).await;
}
