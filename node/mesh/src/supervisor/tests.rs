#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, Role, Serial};
use jobmesh_protocol::UnixMillis;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn config(seed: u8) -> Config {
    let root = MeshRoot::new(Identity::from_seed([100; 32]));
    let identity = Identity::from_seed([seed; 32]);
    let grant = Grant {
        member: identity.node(),
        role: Role::Member,
        sponsor: identity.node(),
        issued_at_ms: 0,
        not_after_ms: 2_000_000,
        serial: Serial::from_bytes([seed; 16]),
    };
    Config {
        mesh: root.mesh(),
        membership: Membership::issue_root(&root, &grant),
        identity,
        name: format!("node-{seed}"),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        known: Vec::new(),
        outboards: std::env::temp_dir().join("jobmesh-no-outboards"),
        now: || UnixMillis(1_000_000),
    }
}

async fn until(events: &mut mpsc::Receiver<Event>, is_it: impl Fn(&Event) -> bool) -> Event {
    let wait = async {
        loop {
            let event = events.recv().await.unwrap();
            if is_it(&event) {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_the_connections_and_nothing_else() {
    let (ana, mut to_ana) = Mesh::start(config(1)).await.unwrap();
    let (bob, mut to_bob) = Mesh::start(config(2)).await.unwrap();
    let addresses = ana.addresses();
    let node = config(1).identity.node();
    bob.dial(node, addresses.clone());
    until(&mut to_ana, |event| matches!(event, Event::Admitted { .. })).await;
    until(&mut to_bob, |event| matches!(event, Event::Admitted { .. })).await;

    ana.commands.send(Command::Panic).await.unwrap();
    until(&mut to_ana, |event| matches!(event, Event::Closed { .. })).await;
    until(&mut to_ana, |event| matches!(event, Event::Admitted { .. })).await;
    until(&mut to_bob, |event| matches!(event, Event::Admitted { .. })).await;
    assert_eq!(ana.addresses(), addresses, "the new swarm has the ports of the old one");
    assert_eq!(ana.counters().get("swarm_panicked"), Some(&1));
    bob.send(node, b"still here".to_vec()).unwrap();
    until(&mut to_ana, |event| matches!(event, Event::Frame { bytes, .. } if bytes == b"still here")).await;
    ana.stop().await;
    bob.stop().await;
}

#[tokio::test]
async fn what_can_not_start_says_why() {
    let mut nameless = config(1);
    nameless.name.clear();
    assert!(matches!(Mesh::start(nameless).await, Err(StartError::Name { .. })));
    let mut elsewhere = config(1);
    elsewhere.mesh = MeshRoot::new(Identity::from_seed([9; 32])).mesh();
    assert!(matches!(Mesh::start(elsewhere).await, Err(StartError::Membership(_))));
    let mut garbled = config(1);
    garbled.listen = vec!["127.0.0.1:80".to_owned()];
    assert!(matches!(Mesh::start(garbled).await, Err(StartError::Address { .. })));
    let mut foreign = config(1);
    foreign.listen = vec!["/ip4/127.0.0.1/sctp/7".to_owned()];
    assert!(matches!(Mesh::start(foreign).await, Err(StartError::Address { .. })));
    let (holder, _events) = Mesh::start(config(1)).await.unwrap();
    let mut second = config(2);
    second.listen = holder.addresses();
    assert!(matches!(Mesh::start(second).await, Err(StartError::Listen { .. })));
}
