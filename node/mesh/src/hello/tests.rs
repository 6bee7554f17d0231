#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use jobmesh_keys::{Grant, Identity, MeshRoot, Serial};

use super::*;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn credentials(root: u8, member: u8) -> Credentials {
    let root = MeshRoot::new(Identity::from_seed([root; 32]));
    let grant = Grant {
        member: node(member),
        role: Role::Member,
        sponsor: node(member),
        issued_at_ms: 0,
        not_after_ms: 2_000_000,
        serial: Serial::from_bytes([1; 16]),
    };
    Credentials {
        mesh: root.mesh(),
        name: "ana".to_owned(),
        membership: Membership::issue_root(&root, &grant),
        revoked: BTreeSet::new(),
    }
}

fn node(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node()
}

fn refusal(bytes: &[u8], ours: &Credentials, from: NodeId, now: UnixMillis) -> String {
    match verify(bytes, ours, from, now) {
        Err(HelloError::Refused(reason)) => reason,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_member_is_verified_as_what_it_is() {
    let ours = credentials(1, 2);
    let bytes = encode(&credentials(1, 3), 42, &["/ip4/10.0.0.1/tcp/1".to_owned()]);
    let hello = verify(&bytes, &ours, node(3), NOW).unwrap();
    assert_eq!((hello.life, hello.name.as_str(), hello.role), (42, "ana", Role::Member));
    assert_eq!(hello.not_after, UnixMillis(2_000_000));
    assert_eq!(hello.addresses, ["/ip4/10.0.0.1/tcp/1"]);
}

#[test]
fn every_refusal_names_its_reason() {
    let mut ours = credentials(1, 2);
    let theirs = encode(&credentials(1, 3), 0, &[]);
    let foreign = refusal(&encode(&credentials(9, 3), 0, &[]), &ours, node(3), NOW);
    assert!(foreign.contains("another mesh"), "{foreign}");
    assert!(!foreign.contains(&ours.mesh.short()), "a stranger must not learn the mesh id");
    let expired = refusal(&theirs, &ours, node(3), UnixMillis(3_000_000));
    assert!(expired.contains("expired"), "{expired}");
    let stolen = refusal(&theirs, &ours, node(4), NOW);
    assert!(stolen.contains("belongs to node"), "{stolen}");
    let mut nameless = credentials(1, 3);
    nameless.name = "bell\u{7}".to_owned();
    let nameless = refusal(&encode(&nameless, 0, &[]), &ours, node(3), NOW);
    assert!(nameless.contains("name"), "{nameless}");
    ours.revoked.insert(node(3));
    let revoked = refusal(&theirs, &ours, node(3), NOW);
    assert!(revoked.contains("revoked"), "{revoked}");
}

#[test]
fn a_later_version_is_told_to_update_and_garbage_is_not_answered() {
    let ours = credentials(1, 2);
    let later = cbor::encode(&Hello {
        version: 2,
        life: 0,
        name: "ana".to_owned(),
        membership: Vec::new(),
        addresses: Vec::new(),
    });
    assert!(refusal(&later, &ours, node(3), NOW).contains("update"));
    assert!(matches!(verify(&[0xFF; 64], &ours, node(3), NOW), Err(HelloError::Garbage(_))));
    assert!(matches!(verify(&vec![0; HELLO_BYTES_MAX + 1], &ours, node(3), NOW), Err(HelloError::Garbage(_))));
}

#[test]
fn a_hello_fits_whatever_the_addresses() {
    let long = vec!["/dns/".to_owned() + &"x".repeat(900) + "/tcp/1"; 20];
    assert!(encode(&credentials(1, 2), 0, &long).len() <= HELLO_BYTES_MAX);
}

#[test]
fn a_foreign_reason_is_made_harmless() {
    let hostile = Verdict::Refused("\u{1b}[2J".to_owned() + &"x".repeat(2_000));
    let verdict = decode_verdict(&encode_verdict(&hostile)).unwrap();
    let Verdict::Refused(reason) = verdict else { unreachable!("a refusal went in") };
    assert!(reason.starts_with("[2Jx"));
    assert_eq!(reason.chars().count(), REASON_CHARS_MAX);
    assert_eq!(decode_verdict(&encode_verdict(&Verdict::Welcome)).unwrap(), Verdict::Welcome);
}
