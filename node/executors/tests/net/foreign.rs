//! What the jobs of peers may reach: nothing that only this machine can.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jobmesh_executors::Order;
use jobmesh_executors::http::Names;
use jobmesh_executors::http::settings::{Reach, Settings};
use jobmesh_executors::model::settings::{ProviderKind, Settings as ModelSettings};
use jobmesh_protocol::Isolation;

use crate::harness::{Node, ask, get, models};
use jobmesh_tests::web::Server;

fn node(peers: Reach, allow: &[&str]) -> Node {
    let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
    Node::start(Settings { peers, allow, ..Settings::default() }, ModelSettings::default())
}

#[test]
fn loopback_is_refused_by_address_and_by_name_and_nothing_is_sent() {
    let server = Server::start(|_, to| to.answer(200, &[], "secret"));
    let port = server.port();
    let node = node(Reach::Public, &[]);
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "127.1", "0.0.0.0"] {
        let end = node.end_of(node.foreign(get(format!("http://{host}:{port}/"))));
        assert_eq!(end.word(), "permanent", "{host}: {}", end.message());
        assert!(end.message().contains("a peer's job may not reach"), "{host}: {}", end.message());
    }
    for host in ["169.254.169.254", "10.0.0.1", "192.168.0.1", "[fd00::1]", "100.100.100.200"] {
        let end = node.end_of(node.foreign(get(format!("http://{host}/latest/meta-data/"))));
        assert_eq!(end.word(), "permanent", "{host}: {}", end.message());
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    // A job of this node that asks to be kept apart is kept apart alike.
    let own = Order { isolation: Isolation::Sandboxed, ..node.order(get(server.url("/"))) };
    assert_eq!(node.end_of(own).word(), "permanent");
    node.run(get(server.url("/"))).ok();
}

#[test]
fn a_redirect_is_judged_like_a_first_request() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&hits);
    let inner = Server::start(move |_, to| {
        counter.fetch_add(1, Ordering::Relaxed);
        to.answer(200, &[], "secret");
    });
    let target = inner.url("/");
    // An address of this machine that is allowed, as if it were elsewhere.
    let outer = Server::start_at("127.0.0.2".parse().unwrap(), move |request, to| match request.path.as_str() {
        "/out" => to.answer(302, &[("location", &target)], ""),
        _ => to.answer(200, &[], "fine"),
    });
    let node = node(Reach::None, &["127.0.0.2"]);
    let end = node.end_of(node.foreign(get(outer.url("/")))).ok();
    assert_eq!((end.stdout(), end.ended.isolation), ("fine", Isolation::Sandboxed));
    let end = node.end_of(node.foreign(get(outer.url("/out"))));
    assert_eq!((end.word(), end.message().contains("127.0.0.1 is a loopback address")), ("permanent", true));
    assert_eq!(hits.load(Ordering::Relaxed), 0);
}

/// A name that leads elsewhere when it is asked for again: each connection is judged by the answer that it goes to.
#[test]
fn a_name_whose_answer_changes_never_leads_to_loopback() {
    let hits = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&hits);
    let inner = Server::start(move |_, to| {
        counter.fetch_add(1, Ordering::Relaxed);
        to.answer(200, &[], "secret");
    });
    // The same name with the port of another server, which only a changed answer leads to.
    let target = format!("http://rebind.example:{}/", inner.port());
    let outer = Server::start_at("127.0.0.2".parse().unwrap(), move |request, to| match request.path.as_str() {
        "/out" => to.answer(307, &[("location", &target)], ""),
        _ => to.answer(200, &[], "fine"),
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Every other answer is an address that is allowed, as if it were elsewhere; the rest is this machine.
    let names = Names::new(move |host| {
        let is_first = count.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let address = if is_first { "127.0.0.2:0" } else { "127.0.0.1:0" };
        let known = if host == "rebind.example" { vec![address.parse().unwrap()] } else { Vec::new() };
        Box::pin(std::future::ready(Ok(known)))
    });
    let settings = Settings { allow: vec!["127.0.0.2".parse().unwrap()], ..Settings::default() };
    let node = Node::start_with(settings, ModelSettings::default(), names);
    let url = |path| format!("http://rebind.example:{}{path}", outer.port());
    let end = node.end_of(node.foreign(get(url("/")))).ok();
    assert_eq!(end.stdout(), "fine");
    let refused = "rebind.example (127.0.0.1) is a loopback address, which a peer's job may not reach here";
    let end = node.end_of(node.foreign(get(url("/"))));
    assert_eq!((end.word(), end.message().contains(refused)), ("permanent", true), "{}", end.message());
    let end = node.end_of(node.foreign(get(url("/out"))));
    assert_eq!((end.word(), end.message().contains(refused)), ("permanent", true), "{}", end.message());
    assert_eq!((asked.load(Ordering::Relaxed), hits.load(Ordering::Relaxed)), (4, 0));
    node.run(get(inner.url("/"))).ok();
}

/// What a job of a peer is told is as long as what was sent: an answer of some bytes that says that it would be a
/// terabyte, once it were unpacked, is that many bytes. Nobody unpacks it.
#[test]
fn a_packed_answer_stays_packed_and_the_limit_counts_what_is_kept() {
    // A megabyte of zeros as gzip has it, and what claims to be so in the words of others.
    let bomb: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff\xed\xc1\x01\x0d\x00\x00\x00\xc2\xa0\xf7Om";
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip"] {
        let server = Server::start(move |_, to| {
            to.answer(200, &[("content-encoding", encoding), ("content-type", "x/y")], bomb)
        });
        let settings = Settings { response_bytes_max: 64, ..Settings::default() };
        let settings = Settings { allow: vec!["127.0.0.0/8".parse().unwrap()], ..settings };
        let node = Node::start(settings, ModelSettings::default());
        let end = node.end_of(node.foreign(get(server.url("/")))).ok();
        assert_eq!(end.ended.inline.first().map(Vec::as_slice), Some(bomb), "{encoding}");
        assert_eq!(end.ended.outputs.stdout.unwrap().size, bomb.len() as u64);
        assert!(!server.asked()[0].headers.contains_key("accept-encoding"), "nobody asked for it packed");
    }
}

#[test]
fn the_owner_decides_whether_there_is_a_network_for_peers() {
    let server = Server::start(|_, to| to.answer(200, &[], ""));
    let closed = node(Reach::None, &[]);
    assert_eq!(closed.end_of(closed.foreign(get(server.url("/")))).word(), "released");
    let open = node(Reach::Public, &["127.0.0.0/8"]);
    open.end_of(open.foreign(get(server.url("/")))).ok();
    let silent = Order { network: false, ..open.foreign(get(server.url("/"))) };
    open.end_of(silent).ok();
    let high = Order { isolation: Isolation::Untrusted, ..open.foreign(get(server.url("/"))) };
    assert_eq!(open.end_of(high).word(), "permanent");
}

#[test]
fn the_owner_decides_which_providers_answer_peers() {
    let server = Server::start(|_, to| to.answer(500, &[], ""));
    let mut settings = models(&[("one", ProviderKind::OpenAi, &server.url("/v1"))]);
    settings.providers.get_mut("one").unwrap().peers = false;
    let node = Node::start(Settings::default(), settings);
    let end = node.end_of(node.foreign(ask("why?")));
    assert_eq!((end.word(), end.message().contains("only for itself")), ("released", true), "{}", end.message());
    assert!(server.asked().is_empty());
    assert_eq!(node.run(ask("why?")).word(), "error");
}
