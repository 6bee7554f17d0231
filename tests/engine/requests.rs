//! Requests that scripts make through their node.

use std::sync::mpsc::sync_channel;

use jobmesh_tests::Node;
use jobmesh_tests::web::Server;

use crate::{bench, node, refused};

#[test]
fn a_script_that_was_granted_the_network_asks_a_server_and_one_that_was_not_does_not() {
    let bench = bench();
    let node = node(&bench, "");
    let server = Server::start(|request, to| match request.path.as_str() {
        "/missing" => to.answer(404, &[], "no such thing"),
        _ => to.answer(200, &[("x-told", "yes")], format!("{} {}", request.method, request.headers["x-asked"])),
    });
    let (url, missing) = (server.url("/"), server.url("/missing"));
    let script =
        "local got = job.http{ url = job.args[1], method = 'put', headers = {['X-Asked'] = 'nicely'}, body = '{}' }
        print(got.status, got.headers['x-told'], got.body, got.url)
        print(job.http{ url = job.args[2], headers = {} }.status)
        print(pcall(job.http, { url = 'ftp://a/' }))
        print(pcall(job.http, { address = 'http://a/' }))";
    let job = node.submit(&["--network", "--lua-script", script, "--", &url, &missing]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    let wrote = node.wrote(&job);
    let lines: Vec<&str> = wrote.lines().collect();
    assert_eq!(lines[..2], [format!("200\tyes\tPUT nicely\t{url}").as_str(), "404"], "{wrote}");
    assert!(lines[2].starts_with("false\t") && lines[2].contains("is no address"), "{wrote}");
    assert!(lines[3].starts_with("false\t") && lines[3].contains("address"), "{wrote}");
    assert_eq!(server.asked().len(), 2);
    assert_eq!(server.asked()[0].body, b"{}");

    let job = node.submit(&["--lua-script", "job.http{ url = job.args[1] }", "--", &url]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert!(shown.to_string().contains("was not granted the network"), "{shown}");
    // One that is to be kept apart may go only where a peer's may.
    let apart = ["--isolation", "sandboxed", "--network", "--lua-script", "job.http{ url = job.args[1] }", "--", &url];
    let shown = node.ended(&node.submit(&apart));
    assert!(shown.to_string().contains("is a loopback address"), "{shown}");
    assert_eq!(server.asked().len(), 2);
}

/// `--isolation` meant nothing to what brings no code, and a script that was kept from this machine's own addresses had
/// an http job ask them for it.
#[test]
fn a_request_that_is_to_be_kept_apart_is_and_so_is_the_one_of_a_child() {
    let bench = bench();
    let node = node(&bench, "");
    let server = Server::start(|_, to| to.answer(200, &[], "secret"));
    let url = server.url("/");
    let shown = node.ended(&node.submit(&["--isolation", "sandboxed", "--http", &url]));
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert_eq!(shown["attempts"][0]["isolation"], "sandboxed", "{shown}");
    assert!(shown.to_string().contains("is a loopback address"), "{shown}");
    for asking in [["--http", url.as_str()], ["--llm", "why?"], ["--embed", "this"]] {
        let said = refused(&node, 2, &[&["submit", "--isolation", "untrusted"][..], &asking].concat());
        assert!(said.contains("`sandboxed` at most"), "{said}");
    }

    let script = "return job.submit({job_type = 'child', task = {http = {url = job.args[1]}}})";
    let parent = |node: &Node, level: &[&str]| {
        let job = node.submit(&[level, &["--network", "--lua-script", script, "--", &url]].concat());
        assert_eq!(node.ended(&job)["job"]["state"], "completed", "{}", node.json(&["show", &job]));
        let child = node.run(&["result", &job]).text().trim().to_owned();
        node.ended(&child)
    };
    let child = parent(&node, &["--isolation", "sandboxed"]);
    assert!(child.to_string().contains("is a loopback address"), "{child}");
    node.down();
    node.configure(2, "[isolation]\nown = \"sandboxed\"\n");
    node.up();
    let child = parent(&node, &[]);
    assert!(child.to_string().contains("is a loopback address"), "{child}");
    let script = ["--network", "--lua-script", "job.http{ url = job.args[1] }", "--", &url];
    let shown = node.ended(&node.submit(&script));
    assert!(shown.to_string().contains("is a loopback address"), "{shown}");
    assert!(server.asked().is_empty(), "{:?}", server.asked());
    node.down();
    node.configure(2, "");
    node.up();
    assert_eq!(parent(&node, &[])["job"]["state"], "completed");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_script_that_is_cancelled_or_late_takes_its_request_with_it() {
    let bench = bench();
    let node = node(&bench, "");
    let (sender, heard) = sync_channel(4);
    let server = Server::start(move |_, to| {
        to.raw("HTTP/1.1 200 OK\r\n\r\nand");
        sender.send("asked").unwrap();
        to.until_gone();
        sender.send("gone").unwrap();
    });
    let url = server.url("/");
    let script = ["--network", "--lua-script", "job.http{ url = job.args[1] }", "--", &url];
    let job = node.submit(&script);
    assert_eq!(heard.recv().unwrap(), "asked");
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    assert_eq!(heard.recv().unwrap(), "gone");
    assert_eq!(node.ended(&job)["job"]["state"], "cancelled");

    let job = node.submit(&[&["--timeout", "1s"], &script[..]].concat());
    assert_eq!(heard.recv().unwrap(), "asked");
    assert_eq!(heard.recv().unwrap(), "gone");
    let shown = node.ended(&job);
    assert!(shown.to_string().contains("timeout"), "{shown}");
    assert_eq!(server.asked().len(), 2, "nothing is asked again");
}
