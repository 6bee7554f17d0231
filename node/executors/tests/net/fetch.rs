//! Requests of scripts, as the daemon makes them.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::future::Future;
use std::sync::mpsc::sync_channel;

use jobmesh_executors::http::settings::{Reach, Settings};
use jobmesh_executors::http::{FetchError, Fetched, Fetcher};
use jobmesh_protocol::task::{Content, HttpTask};
use jobmesh_tests::web::{Server, nobody};

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn fetch(task: HttpTask) -> Result<Fetched, FetchError> {
    wait(Fetcher::new(Settings::default()).fetch(task, false))
}

/// What is said to the job of a peer, which may reach only what is allowed.
fn refusal(url: impl Into<String>, allow: &[&str], peers: Reach) -> String {
    let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
    let fetcher = Fetcher::new(Settings { peers, allow, ..Settings::default() });
    wait(fetcher.fetch(HttpTask::new(url), true)).unwrap_err().to_string()
}

#[test]
fn every_status_is_an_answer_with_its_headers_and_bytes() {
    let server = Server::start(|request, to| match request.path.as_str() {
        "/moved?key=1" => to.answer(303, &[("location", "/there")], ""),
        "/there" => to.answer(200, &[("x-a", "1"), ("x-a", "2")], [0_u8, 255]),
        _ => to.answer(503, &[("retry-after", "9")], "later"),
    });
    let body = Some(Content::Text("{}".to_owned()));
    let moved = HttpTask { method: "POST".to_owned(), body, ..HttpTask::new(server.url("/moved?key=1")) };
    let answer = fetch(moved).unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), answer.url), (200, &[0_u8, 255][..], server.url("/there")));
    assert_eq!(answer.headers["x-a"], "1, 2");
    let asked = server.asked();
    assert_eq!(
        (asked[0].method.as_str(), asked[0].body.as_slice(), asked[1].method.as_str()),
        ("POST", &b"{}"[..], "GET")
    );
    let busy = fetch(HttpTask::new(server.url("/"))).unwrap();
    assert_eq!((busy.status, busy.headers["retry-after"].as_str()), (503, "9"));
    assert_eq!(server.asked().len(), 3, "nothing is tried again");
}

#[test]
fn what_is_no_request_or_has_no_answer_is_told_without_its_query() {
    let error = |url: &str| fetch(HttpTask::new(url)).unwrap_err().to_string();
    for url in ["ftp://a/", "a", "http://"] {
        assert!(error(url).contains("is no address of a web server"), "{}", error(url));
    }
    let unheard = error(&format!("{}x?key=canary", nobody()));
    assert!(unheard.contains("failed to reach") && !unheard.contains("canary"), "{unheard}");
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let server = Server::start(|_, to| {
        to.stream("text/plain", &[]);
        let piece = vec![b'x'; 1 << 20];
        // Ends when whoever asked has gone; more than is ever taken in between.
        (0..64).for_each(|_| to.raw(&piece));
    });
    let error = fetch(HttpTask::new(server.url("/"))).unwrap_err();
    assert!(matches!(error, FetchError::TooLong), "{error}");
    let long = Server::start(|_, to| to.raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n"));
    assert!(matches!(fetch(HttpTask::new(long.url("/"))).unwrap_err(), FetchError::TooLong));
}

#[test]
fn a_peers_script_reaches_no_more_than_its_http_job_would() {
    let inner = Server::start(|_, to| to.answer(200, &[], "secret"));
    let target = inner.url("/");
    let outer =
        Server::start_at("127.0.0.2".parse().unwrap(), move |_, to| to.answer(302, &[("location", &target)], ""));
    for url in [inner.url("/"), format!("http://localhost:{}/", inner.port()), "http://169.254.169.254/".to_owned()] {
        let said = refusal(url, &[], Reach::Public);
        assert!(said.contains("a peer's job may not reach"), "{said}");
    }
    let said = refusal(outer.url("/"), &["127.0.0.2"], Reach::Public);
    assert!(said.contains("127.0.0.1 is a loopback address"), "{said}");
    assert!(refusal("http://1.1.1.1/", &[], Reach::None).contains("makes no requests for peers"));
    assert!(inner.asked().is_empty(), "{:?}", inner.asked());
}

#[test]
fn whoever_goes_away_ends_the_request() {
    let (sender, gone) = sync_channel(1);
    let server = Server::start(move |_, to| {
        to.raw("HTTP/1.1 200 OK\r\n\r\nand");
        sender.send(()).unwrap();
        to.until_gone();
        sender.send(()).unwrap();
    });
    let fetcher = Fetcher::new(Settings::default());
    let asked = std::thread::spawn(move || {
        wait(async {
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let heard = tokio::task::spawn_blocking(move || {
                gone.recv().unwrap();
                stop.send(()).unwrap();
                gone
            });
            tokio::select! {
                answer = fetcher.fetch(HttpTask::new(server.url("/")), false) => panic!("{answer:?}"),
                stopped = stopped => stopped.unwrap(),
            }
            // On another thread again: this one has a connection to close.
            let gone = heard.await.unwrap();
            tokio::task::spawn_blocking(move || gone.recv().unwrap()).await.unwrap();
        });
    });
    asked.join().unwrap();
}
