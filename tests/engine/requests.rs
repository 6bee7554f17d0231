//! Requests that scripts make through their node.

use std::sync::mpsc::sync_channel;

use jobmesh_tests::web::Server;

use crate::{bench, node};

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
