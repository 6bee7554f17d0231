//! Who is not let in, and what both sides are told.

use crate::bench;

#[test]
fn a_tampered_invite_is_refused_before_anything_is_sent() {
    let bench = bench();
    let (a, b) = (bench.up("a"), bench.up("b"));
    let invite = a.json(&["invite"])["invite"].as_str().unwrap().to_owned();
    let last = if invite.ends_with('a') { "b" } else { "a" };
    let tampered = format!("{}{last}", &invite[..invite.len() - 1]);
    let run = b.run(&["join", &tampered]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("invite"), "{}", run.stderr);
}

#[test]
fn an_invite_is_good_once() {
    let bench = bench();
    let (a, b, c) = (bench.up("a"), bench.up("b"), bench.up("c"));
    let invite = a.json(&["invite"])["invite"].as_str().unwrap().to_owned();
    assert_eq!(b.run(&["join", &invite]).code, 0);
    let run = c.run(&["join", &invite]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("used"), "{}", run.stderr);
    let peers = a.run(&["peers"]).text();
    assert!(peers.contains("the invite has been used"), "the inviter is told too: {peers}");
}

#[test]
fn an_expired_invite_is_refused() {
    let bench = bench();
    let (a, b) = (bench.up("a"), bench.up("b"));
    let invite = a.json(&["invite", "--ttl", "1ms"])["invite"].as_str().unwrap().to_owned();
    let run = b.run(&["join", &invite]);
    assert_ne!(run.code, 0);
    assert!(run.stderr.contains("expired"), "{}", run.stderr);
}
