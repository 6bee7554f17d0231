#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_tests::fuzz::Target;
use proptest::prelude::*;

use super::*;
use crate::Serial;

const HOUR_MS: u64 = 3_600_000;
const NOW_MS: u64 = 1_700_000_000_000;

fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

fn root(seed: u8) -> MeshRoot {
    MeshRoot::new(identity(seed))
}

fn grant(member: &Identity, role: Role) -> Grant {
    Grant {
        member: member.node(),
        role,
        sponsor: identity(1).node(),
        issued_at_ms: NOW_MS,
        not_after_ms: NOW_MS + HOUR_MS,
        serial: Serial::from_bytes([7; 16]),
    }
}

/// Returns admin 1 under root 0, admin 2 under admin 1, member 3 under admin 2.
fn three_levels() -> [Membership; 3] {
    let first = Membership::issue_root(&root(0), &grant(&identity(1), Role::Admin));
    let second = Membership::issue(&identity(1), &first, &grant(&identity(2), Role::Admin)).unwrap();
    let third = Membership::issue(&identity(2), &second, &grant(&identity(3), Role::Member)).unwrap();
    [first, second, third]
}

fn verify_as(membership: &Membership, seed: u8) -> Result<VerifiedMembership, MembershipError> {
    membership.verify(&root(0).mesh(), &identity(seed).node(), NOW_MS)
}

/// Signs a chain without the checks of [`Membership::issue`], own certificate first.
fn forged(links: &[(&Identity, Grant)]) -> Membership {
    let mesh = root(0).mesh();
    let sign = |(issuer, grant): &(&Identity, Grant)| SignedCertificate::sign(issuer, mesh, grant);
    let chain = links.iter().map(sign).collect();
    Membership { chain }
}

#[test]
fn a_chain_of_each_length_holds() {
    for (seed, membership) in (1..).zip(three_levels()) {
        let again = Membership::decode(&membership.encode()).unwrap();
        assert_eq!(again, membership);
        let verified = verify_as(&again, seed).unwrap();
        let role = if seed == 3 { Role::Member } else { Role::Admin };
        assert_eq!(verified.member(), identity(seed).node());
        assert_eq!(verified.role(), role);
        assert_eq!(verified.mesh(), root(0).mesh());
        assert_eq!(verified.sponsor(), identity(1).node());
        assert_eq!(verified.not_after_ms(), NOW_MS + HOUR_MS);
        let admins: Vec<NodeId> = (1..seed).rev().map(|one| identity(one).node()).collect();
        assert_eq!(verified.admins(), admins);
    }
}

#[test]
fn the_largest_chain_fits_its_limit() {
    let [_, _, third] = three_levels();
    assert!(third.encode().len() < ENCODED_BYTES_MAX / 2);
    assert!(matches!(Membership::decode(&vec![0; ENCODED_BYTES_MAX + 1]), Err(MembershipError::TooLong { .. })));
}

#[test]
fn a_chain_without_or_with_too_many_certificates_is_refused() {
    assert_eq!(Membership::decode(&[0x80]), Err(MembershipError::ChainLength { found: 0 }));
    let [first, ..] = three_levels();
    let chain = vec![first.chain[0].clone(); 4];
    assert_eq!(Membership::decode(&canonical::encode(&chain)), Err(MembershipError::ChainLength { found: 4 }));
    let empty = Membership { chain: Vec::new() };
    assert!(verify_as(&empty, 1).is_err());
}

#[test]
fn an_array_header_that_promises_the_world_is_refused() {
    let bytes = [0x9B, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert!(matches!(Membership::decode(&bytes), Err(MembershipError::Malformed(_))));
}

#[test]
fn another_mesh_or_member_is_refused() {
    let [first, ..] = three_levels();
    let (here, there) = (root(0).mesh(), root(9).mesh());
    assert_eq!(
        first.verify(&there, &identity(1).node(), NOW_MS),
        Err(MembershipError::WrongMesh { expected: there, found: here })
    );
    assert_eq!(
        verify_as(&first, 2),
        Err(MembershipError::WrongMember { expected: identity(2).node(), found: identity(1).node() })
    );
}

#[test]
fn a_member_can_not_issue() {
    let member = Membership::issue_root(&root(0), &grant(&identity(1), Role::Member));
    assert_eq!(
        Membership::issue(&identity(1), &member, &grant(&identity(2), Role::Member)),
        Err(IssueError::NotAdmin { node: identity(1).node() })
    );
    let chain =
        forged(&[(&identity(1), grant(&identity(2), Role::Member)), (&identity(0), grant(&identity(1), Role::Member))]);
    assert_eq!(verify_as(&chain, 2), Err(MembershipError::NotAdmin { issuer: identity(1).node() }));
}

#[test]
fn a_stranger_can_not_issue() {
    let alone = forged(&[(&identity(5), grant(&identity(2), Role::Member))]);
    let stranger = identity(5).node();
    let untrusted = Err(MembershipError::UntrustedIssuer { issuer: stranger });
    assert_eq!(verify_as(&alone, 2), untrusted);
    // A real admin's certificate next to it lends nothing.
    let beside =
        forged(&[(&identity(5), grant(&identity(2), Role::Member)), (&identity(0), grant(&identity(1), Role::Admin))]);
    assert_eq!(verify_as(&beside, 2), untrusted);
}

#[test]
fn an_admin_can_not_issue_with_the_chain_of_another_or_a_full_one() {
    let [first, second, _] = three_levels();
    assert!(matches!(
        Membership::issue(&identity(2), &first, &grant(&identity(3), Role::Member)),
        Err(IssueError::Chain(MembershipError::WrongMember { .. }))
    ));
    let third = Membership::issue(&identity(2), &second, &grant(&identity(3), Role::Admin)).unwrap();
    assert_eq!(
        Membership::issue(&identity(3), &third, &grant(&identity(4), Role::Member)),
        Err(IssueError::ChainFull { node: identity(3).node() })
    );
}

#[test]
fn dates_of_every_link_count() {
    let member = grant(&identity(2), Role::Member);
    let mut admin = grant(&identity(1), Role::Admin);
    admin.not_after_ms = NOW_MS + 1;
    let chain = forged(&[(&identity(1), member), (&identity(0), admin)]);
    let check = |now_ms| chain.verify(&root(0).mesh(), &identity(2).node(), now_ms);
    assert_eq!(check(NOW_MS + 1).unwrap().not_after_ms(), NOW_MS + 1);
    let error = check(NOW_MS + 1 + 2 * HOUR_MS);
    // The member's own certificate ran out as well, and is the one to name.
    let holder = identity(2).node();
    assert!(matches!(error, Err(MembershipError::Expired { holder: found, .. }) if found == holder));
    let holder = identity(1).node();
    assert_eq!(
        check(NOW_MS + 2),
        Err(MembershipError::Expired { holder, not_after_ms: NOW_MS + 1, now_ms: NOW_MS + 2 })
    );
}

#[test]
fn a_clock_may_be_ten_minutes_behind() {
    let [first, ..] = three_levels();
    let check = |now_ms| first.verify(&root(0).mesh(), &identity(1).node(), now_ms);
    assert!(check(NOW_MS - CLOCK_SKEW_MS).is_ok());
    assert!(matches!(check(NOW_MS - CLOCK_SKEW_MS - 1), Err(MembershipError::NotYetValid { .. })));
}

#[test]
fn messages_tell_a_person_what_to_do() {
    let holder = identity(1).node();
    let error = MembershipError::Expired { holder, not_after_ms: NOW_MS, now_ms: NOW_MS + 2 * HOUR_MS };
    assert_eq!(
        error.to_string(),
        format!("certificate of node {} expired 2 h ago; ask an admin of the mesh for a new invite", holder.short())
    );
    let spans = [0, 59_999, 60_000, HOUR_MS, 47 * HOUR_MS, 48 * HOUR_MS].map(span);
    assert_eq!(spans, ["0 s", "59 s", "1 min", "1 h", "47 h", "2 days"]);
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes: Vec<u8>) {
        if let Ok(membership) = Membership::decode(&bytes) {
            let _ = verify_as(&membership, 1);
        }
    }

    #[test]
    fn any_changed_byte_is_noticed(index: prop::sample::Index, mask in 1_u8..) {
        let [_, _, third] = three_levels();
        let mut bytes = third.encode();
        let index = index.index(bytes.len());
        bytes[index] ^= mask;
        let verified = Membership::decode(&bytes).and_then(|damaged| verify_as(&damaged, 3));
        prop_assert!(verified.is_err());
    }
}

#[test]
fn fuzz_memberships() {
    let chains = three_levels();
    let target = chains.iter().fold(Target::cbor("membership"), |target, chain| target.sample(chain.encode()));
    target.run_stable(|bytes| {
        Membership::decode(bytes).map(|chain| chain.encode()).map_err(|error| format!("{error:?}"))
    });
    let target = Target::cbor("membership-check").sample(chains[2].encode());
    target.run(|bytes| {
        let chain = Membership::decode(bytes).map_err(|error| format!("{error:?}"))?;
        verify_as(&chain, 3).map(drop).map_err(|error| error.to_string())
    });
}
