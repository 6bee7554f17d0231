//! Searches that go further out: to those that are known, to Kademlia, to everyone.

use jobmesh_engine::Command;
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::ticket::Seek;

use crate::spec;
use crate::wire::{A, B, Wire, mesh, seal};

fn seconds(seconds: u64) -> DurationMillis {
    DurationMillis::from_secs(seconds)
}

#[test]
fn who_can_is_dialled_and_kademlia_asked_before_everyone_is() {
    let mut wire = Wire::new();
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.connect();
    wire.cut();
    wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.dials(A), [wire.node(B)]);
    assert!(wire.finds(A) > 0);
    assert_eq!(wire.shouts(A).len(), 0);
    wire.pass(seconds(30));
    assert_eq!(wire.shouts(A).len(), 1, "once a minute for one job");
    wire.pass(seconds(90));
    assert!((2..=3).contains(&wire.shouts(A).len()));
    let seek = Envelope::open(&wire.shouts(A)[0], &mesh()).unwrap();
    assert_eq!(seek.kind(), Kind::Seek);
    assert_eq!(seek.parse::<Seek>().unwrap().requirements.len(), 2, "what is asked for, and its executor");
}

#[test]
fn a_node_that_hears_of_work_that_it_can_do_connects_to_the_origin_once() {
    let mut wire = Wire::new();
    wire.connect();
    wire.cut();
    wire.submit(A, spec(Some("tool:gzip")));
    wire.pass(seconds(30));
    let seek = wire.shouts(A)[0].clone();
    wire.hear(B, seek.clone());
    assert_eq!(wire.dials(B), [], "it can't");
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.hear(B, seek);
    assert_eq!(wire.dials(B), [], "and has heard of it");
    wire.pass(seconds(120));
    let again = wire.shouts(A)[1].clone();
    wire.hear(B, again.clone());
    assert_eq!(wire.dials(B), [wire.node(A)]);
    wire.hear(B, again);
    assert_eq!(wire.dials(B).len(), 1);
    wire.connect();
    wire.pass(seconds(60));
    assert_eq!(wire.orders(B).len(), 1, "it is asked in the usual way");
}

#[test]
fn searches_of_yesterday_and_of_any_length_are_refused() {
    let mut wire = Wire::new();
    wire.submit(A, spec(None));
    wire.submit(A, spec(Some("executor:process")));
    let mut seek = Seek {
        requirements: Vec::new(),
        resources: Default::default(),
        addresses: Vec::new(),
        nonce: 1,
        at: jobmesh_protocol::UnixMillis(1_700_000_000_000),
        ttl_ms: DurationMillis(u64::MAX / 2),
    };
    wire.hear(B, seal(A, Kind::Seek, &seek));
    assert_eq!(wire.counter(B, "old_search"), 1);
    seek.addresses = vec!["/ip4/10.0.0.7/tcp/1".to_owned(); 9];
    wire.hear(B, seal(A, Kind::Seek, &seek));
    assert_eq!(wire.counter(B, "refused_gossip"), 1);
    assert_eq!(wire.dials(B), []);
}
