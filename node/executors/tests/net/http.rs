//! What a request to a web server brings, and what it means.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::sync::mpsc::sync_channel;

use jobmesh_executors::http::settings::Settings;
use jobmesh_executors::model::settings::Settings as ModelSettings;
use jobmesh_executors::{Event, Limits, Order, StopReason};
use jobmesh_protocol::task::{Content, HttpTask, Task};
use jobmesh_protocol::{BlobRef, Isolation, Outcome};

use crate::harness::{CANARY, Node, get};
use jobmesh_tests::web::{Server, nobody};

fn task(url: String, change: impl FnOnce(&mut HttpTask)) -> Task {
    let mut task = HttpTask::new(url);
    change(&mut task);
    Task::Http(task)
}

fn header(task: &mut HttpTask, name: &str, value: &str) {
    task.headers.insert(name.to_owned(), value.to_owned());
}

#[test]
fn the_body_is_the_output_and_the_rest_is_the_result() {
    let server =
        Server::start(|_, to| to.answer(200, &[("content-type", "text/plain"), ("x-a", "1"), ("x-a", "2")], "hello"));
    let node = Node::web();
    let end = node.run(get(server.url("/a?token=sk-canary-query"))).ok();
    assert_eq!(end.ended.outputs.stdout, Some(BlobRef::of(b"hello")));
    assert_eq!(end.ended.isolation, Isolation::Contained);
    let result = end.result();
    assert_eq!((&result["status"], &result["bytes"], &result["redirects"]), (&200.into(), &5.into(), &0.into()));
    assert_eq!(result["headers"]["x-a"], "1, 2");
    assert_eq!(result["blake3"], BlobRef::of(b"hello").hash.to_string());
    assert_eq!(result["url"], format!("{}?…", server.url("/a")), "a query may be a secret");
    assert!(end.stderr().contains("< 200 content-type: text/plain"), "{}", end.stderr());
    assert_eq!(server.asked()[0].path, "/a?token=sk-canary-query");
}

#[test]
fn a_status_says_whether_it_is_worth_another_try_and_when() {
    let server = Server::start(|request, to| {
        let status = request.path.trim_start_matches('/').parse().unwrap();
        to.answer(status, &[("retry-after", "7")], "why");
    });
    let node = Node::web();
    let end = node.run(get(server.url("/503")));
    assert_eq!((end.word(), end.retry_after()), ("error", Some(7_000)));
    assert_eq!(end.stdout(), "why", "the body tells why");
    assert_eq!(end.result()["status"], 503);
    let end = node.run(get(server.url("/404")));
    assert_eq!((end.word(), end.message().contains("answered 404")), ("permanent", true));
    node.run(task(server.url("/404"), |task| task.expect = vec![404])).ok();
    assert_eq!(server.asked().len(), 3, "nothing is asked twice");
}

#[test]
fn a_body_is_sent_from_text_or_from_a_blob() {
    let server = Server::start(|request, to| to.answer(201, &[], request.body.len().to_string()));
    let node = Node::web();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let blob = BlobRef::of(&content);
    std::fs::write(node.home.path().join("blobs").join(blob.hash.to_string()), &content).unwrap();
    for body in [Content::Text("text".to_owned()), Content::Blob(blob)] {
        let post = task(server.url("/"), |task| {
            task.method = "POST".to_owned();
            task.body = Some(body.clone());
            header(task, "content-type", "application/x-test");
            header(task, "content-length", "1");
        });
        node.run(post).ok();
    }
    let asked = server.asked();
    assert_eq!((asked[0].method.as_str(), asked[0].body.as_slice()), ("POST", b"text".as_slice()));
    assert_eq!(BlobRef::of(&asked[1].body), blob);
    assert_eq!(asked[1].headers["content-type"], "application/x-test");
    let missing = task(server.url("/"), |task| task.body = Some(Content::Blob(BlobRef::of(b"missing"))));
    assert_eq!(node.run(missing).word(), "error");
}

#[test]
fn redirects_are_followed_with_nothing_that_is_for_the_first_server_alone() {
    let last = Server::start(|_, to| to.answer(200, &[], "there"));
    let elsewhere = last.url("/end");
    let first = Server::start(move |request, to| match request.path.as_str() {
        "/see-other" => to.answer(303, &[("location", "/next")], ""),
        "/next" => to.answer(302, &[("location", &elsewhere)], ""),
        "/again" => to.answer(307, &[("location", "/echo")], ""),
        "/echo" => to.answer(200, &[], &request.body),
        "/nowhere" => to.answer(302, &[("location", "mailto:a@b")], ""),
        _ => to.answer(302, &[("location", "/loop")], ""),
    });
    let node = Node::web();
    let post = |path: &str| {
        task(first.url(path), |task| {
            task.method = "POST".to_owned();
            task.body = Some(Content::Text("again".to_owned()));
            header(task, "authorization", CANARY);
            header(task, "x-api-key", CANARY);
            header(task, "accept", "text/plain");
        })
    };
    let end = node.run(post("/see-other")).ok();
    assert_eq!((end.stdout(), &end.result()["redirects"]), ("there", &2.into()));
    let (asked, arrived) = (first.asked(), last.asked());
    assert_eq!((asked[1].method.as_str(), asked[1].body.len()), ("GET", 0));
    assert!(asked[1].headers.contains_key("authorization"), "the same server may see it again");
    assert_eq!(arrived[0].headers.get("accept").unwrap(), "text/plain");
    assert!(!format!("{arrived:?}").contains("canary"), "another server got a secret: {arrived:?}");

    assert_eq!(node.run(post("/again")).ok().stdout(), "again");
    let end = node.run(get(first.url("/loop")));
    assert_eq!((end.word(), end.message().contains("more than 5 times")), ("permanent", true), "{}", end.message());
    assert_eq!(node.run(get(first.url("/nowhere"))).word(), "permanent");
    let stays = node.run(task(first.url("/loop"), |task| task.redirects = 0));
    assert_eq!((stays.word(), &stays.result()["status"]), ("permanent", &302.into()));
    node.run(task(first.url("/loop"), |task| task.expect = vec![302])).ok();
}

#[test]
fn what_fails_on_the_way_is_tried_again_and_what_is_wrong_is_not() {
    let cut = Server::start(|_, to| to.raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"));
    let junk = Server::start(|_, to| to.raw("this is no http\r\n\r\n"));
    let gone = Server::start(|_, _| {});
    let node = Node::web();
    for url in [cut.url("/"), junk.url("/"), gone.url("/"), nobody(), "http://no-such-host.invalid/".to_owned()] {
        let end = node.run(get(&url));
        assert_eq!((end.word(), end.retry_after()), ("error", None), "{url}: {}", end.message());
    }
    assert_eq!(node.run(get(cut.url("/"))).stdout(), "half", "what came is kept");
    for url in ["http://[::1/", "http://a b/", "http:///", "https://"] {
        assert_eq!(node.run(get(url)).word(), "permanent", "{url}");
    }
    let secret = node.run(get(nobody() + "?key=sk-canary-query"));
    assert_eq!(secret.word(), "error");
}

#[test]
fn an_answer_that_is_too_long_is_not_read_to_its_end() {
    let server = Server::start(|request, to| {
        if request.path == "/told" {
            to.raw("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        } else {
            to.raw("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
            to.raw(vec![b'x'; 100_000]);
        }
        to.until_gone();
    });
    let settings = Settings { response_bytes_max: 10_000, ..Settings::default() };
    let node = Node::start(settings, ModelSettings::default());
    for path in ["/told", "/untold"] {
        let end = node.run(get(server.url(path)));
        assert_eq!((end.word(), end.message().contains("more than 10000 bytes")), ("permanent", true), "{path}");
        assert!(end.stdout().len() <= 10_000);
    }
    let node = Node::web();
    let order = node.order(get(server.url("/untold")));
    let end = node.end_of(Order { limits: Limits { log_bytes_max: 5_000, ..Limits::default() }, ..order });
    assert_eq!((end.word(), end.message().contains("log limit")), ("permanent", true), "{}", end.message());
}

/// Most memory that this process ever had, in KiB.
fn memory_peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap())
}

#[test]
fn a_large_answer_streams_to_the_disk() {
    const MEBIBYTES: usize = 96;
    let server = Server::start(|_, to| {
        to.raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MEBIBYTES << 20));
        let piece = vec![7_u8; 1 << 20];
        for _ in 0..MEBIBYTES {
            to.raw(&piece);
        }
    });
    let node = Node::web();
    let before = memory_peak();
    let end = node.run(get(server.url("/"))).ok();
    assert_eq!(end.ended.outputs.stdout.unwrap().size, (MEBIBYTES as u64) << 20);
    let grown = memory_peak() - before;
    assert!(grown < 48 << 10, "it took {grown} KiB of memory to receive {MEBIBYTES} MiB");
}

#[test]
fn a_run_is_stopped_in_the_middle_of_an_answer_and_before_it() {
    let (gone, seen) = sync_channel(2);
    let server = Server::start(move |request, to| {
        if request.path == "/half" {
            to.raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        }
        gone.send(()).unwrap();
        to.until_gone();
        gone.send(()).unwrap();
    });
    let node = Node::web();
    for (path, reason, word) in [
        ("/half", StopReason::Cancel, "cancelled"),
        ("/none", StopReason::Timeout, "timeout"),
        ("/half", StopReason::Kill, "cancelled"),
    ] {
        let order = node.order(get(server.url(path)));
        let run = order.run;
        node.executors.run(order);
        seen.recv().unwrap();
        node.executors.stop(run, reason);
        assert_eq!(node.ended(run).outcome.word(), word);
        // The connection is closed at once, not when somebody tidies up.
        seen.recv().unwrap();
    }
    let order = node.order(get(server.url("/none")));
    node.executors.run(order);
    seen.recv().unwrap();
    node.executors.shutdown();
    assert!(matches!(node.event(), Event::Ended { ended, .. } if matches!(ended.outcome, Outcome::Released { .. })));
}
