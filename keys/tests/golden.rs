//! The wire forms of certificates and invites, byte for byte.
//!
//! A difference means that nodes of two versions no longer understand each other. If that is
//! meant, run the tests once with `JOBMESH_GOLDEN_WRITE=1`, look at the difference, commit it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::PathBuf;

use jobmesh_keys::{Grant, Identity, Invite, InviteSecret, InviteTerms, Membership, MeshRoot, Role, Serial};

const ISSUED_AT_MS: u64 = 1_700_000_000_000;
const NOT_AFTER_MS: u64 = 1_702_592_000_000;

/// Compares `actual` with the golden file `name`; a missing file is a failure.
fn check(name: &str, actual: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    #[expect(
        clippy::disallowed_methods,
        reason = "the variable asks this test to write the files, it does not steer the crate"
    )]
    let write = std::env::var_os("JOBMESH_GOLDEN_WRITE").is_some();
    if write {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read(&path)
        .map_err(|error| format!("golden file {name} is missing ({error}); see the test's head"))
        .unwrap();
    assert_eq!(actual, expected, "{name} differs from its golden file");
}

fn grant(member: &Identity, role: Role, sponsor: &Identity) -> Grant {
    Grant {
        member: member.node(),
        role,
        sponsor: sponsor.node(),
        issued_at_ms: ISSUED_AT_MS,
        not_after_ms: NOT_AFTER_MS,
        serial: Serial::from_bytes([0xA5; 16]),
    }
}

#[test]
fn memberships_keep_their_bytes() {
    let root = MeshRoot::new(Identity::from_seed([1; 32]));
    let [admin, member] = [2, 3].map(|seed| Identity::from_seed([seed; 32]));
    let first = Membership::issue_root(&root, &grant(&admin, Role::Admin, &admin));
    check("membership-root.cbor", &first.encode());
    let second = Membership::issue(&admin, &first, &grant(&member, Role::Member, &admin)).unwrap();
    check("membership-admin.cbor", &second.encode());
    let read = Membership::decode(&second.encode()).unwrap();
    let verified = read.verify(&root.mesh(), &member.node(), NOT_AFTER_MS);
    assert_eq!(verified.unwrap().member(), member.node());
}

#[test]
fn invites_keep_their_text() {
    let invite = Invite::new(InviteTerms {
        mesh: MeshRoot::new(Identity::from_seed([1; 32])).mesh(),
        inviter: Identity::from_seed([2; 32]).node(),
        addresses: vec!["/ip4/192.168.1.20/udp/4001/quic-v1".to_owned(), "/dns4/box.example.org/tcp/4001".to_owned()],
        secret: InviteSecret::from_bytes([0x5A; 16]),
        expires_at_ms: NOT_AFTER_MS,
        role: Role::Member,
    })
    .unwrap();
    check("invite.txt", invite.encode().as_bytes());
    assert_eq!(Invite::decode(&invite.encode()), Ok(invite));
}
