//! What a stranger or a member may send on a stream, tried with hostile bytes.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use futures::FutureExt as _;
use futures::io::Cursor;
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, NodeId, Role, Serial};
use jobmesh_protocol::UnixMillis;
use jobmesh_tests::fuzz::{Heap, Target};

use crate::admission::Credentials;
use crate::{frame, hello, peer_id, peerbook};

#[global_allocator]
static HEAP: Heap = Heap;

const NOW: UnixMillis = UnixMillis(1_000_000);
/// Room for what the targets of frames may claim.
const FRAME_BYTES_MAX: usize = 256 * 1024;

fn node(seed: u8) -> NodeId {
    Identity::from_seed([seed; 32]).node()
}

fn credentials(member: u8) -> Credentials {
    let root = MeshRoot::new(Identity::from_seed([1; 32]));
    let grant = Grant {
        member: node(member),
        role: Role::Member,
        sponsor: node(member),
        issued_at_ms: 0,
        not_after_ms: 2_000_000,
        serial: Serial::from_bytes([1; 16]),
    };
    let membership = Membership::issue_root(&root, &grant);
    Credentials { mesh: root.mesh(), name: "ana".to_owned(), membership, revoked: BTreeSet::new() }
}

#[test]
fn fuzz_hellos_and_verdicts() {
    let addresses = ["/ip4/10.0.0.1/tcp/1".to_owned(), "/dns4/a.example.org/udp/2/quic-v1".to_owned()];
    let ours = credentials(2);
    let target = Target::cbor("hello").sample(hello::encode(&credentials(3), 42, &addresses));
    target.run(|bytes| {
        let verified = hello::verify(bytes, &ours, node(3), NOW).map_err(|error| error.to_string())?;
        let peer = peer_id::peer_of(&node(3)).unwrap();
        assert!(peerbook::parse(&verified.addresses, &peer, true).len() <= peerbook::ADDRESSES_MAX);
        Ok::<(), String>(())
    });
    let refused = hello::encode_verdict(&hello::Verdict::Refused("too old\u{1b}[2J".to_owned()));
    let target = Target::cbor("verdict").sample(refused).sample(hello::encode_verdict(&hello::Verdict::Welcome));
    target.run_stable(|bytes| hello::decode_verdict(bytes).map(|verdict| hello::encode_verdict(&verdict)));
}

/// As many frames as there are, written again as they were.
#[test]
fn fuzz_frames_of_a_stream() {
    let target = Target::cbor("stream").sample(b"\0\0\0\x03one\0\0\0\0").sample(b"\0\x03\xff\xff");
    // A frame is reserved before its bytes are here: as long as any may be, for one peer at a time.
    // Reading needs the clock of a runtime for its deadline only.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    target.run_stable(|bytes| {
        let _inside = runtime.enter();
        let (mut stream, mut written) = (Cursor::new(bytes), Cursor::new(Vec::new()));
        loop {
            let next = frame::read(&mut stream, FRAME_BYTES_MAX).now_or_never().unwrap();
            match next.map_err(|error| error.to_string())? {
                Some(body) => frame::write(&mut written, &body).now_or_never().unwrap().unwrap(),
                None => return Ok::<_, String>(written.into_inner()),
            }
        }
    });
}
