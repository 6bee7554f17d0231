//! What a job writes on another machine, seen here while it does.

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout};

use jobmesh_keys::Invite;
use jobmesh_tests::{Fifo, Node, Proxy, until_folder};

use crate::{bench, open_pair, pair};

/// Counts in lines, each when it is told to by a line of the pipe `$0`, and ends when that says so.
const COUNTS: &str =
    "n=0; while read word < \"$0\" && [ \"$word\" = on ]; do n=$((n+1)); echo \"line $n\"; done; echo end";

/// A command that prints lines for the test to read.
struct Reader {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Reader {
    fn follow(node: &Node, job: &str) -> Self {
        let mut child = node.spawn(&["logs", "-f", "--stdout", job]);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> Option<String> {
        self.lines.next().map(Result::unwrap)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It has ended by itself, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_job_writes_far_away_is_read_here_while_it_runs() {
    let bench = bench();
    let (a, b) = open_pair(&bench);
    let mut go = Fifo::new(bench.folder().join("go"));
    let path = go.path().display().to_string();
    let job = a.submit(&["--require", "tool:gzip", "--", "sh", "-c", COUNTS, &path]);
    let mut reader = Reader::follow(&a, &job);
    for number in 1..=3 {
        // It writes the next line only after the last one was read here.
        go.tell("on");
        assert_eq!(reader.line(), Some(format!("line {number}")), "{}", b.log());
    }
    assert_eq!(a.wrote(&job), "line 1\nline 2\nline 3\n", "what is there so far");
    let late = a.run(&["logs", "--stdout", &job]);
    assert_eq!((late.code, late.text().lines().count()), (0, 3), "{}", late.stderr);
    go.tell("end");
    assert_eq!((reader.line().as_deref(), reader.line()), (Some("end"), None));
    assert_eq!(a.ended(&job)["job"]["state"], "completed");
    assert_eq!(a.wrote(&job), "line 1\nline 2\nline 3\nend\n");
}

/// It was shown as one that was not kept apart at all and had written nothing.
#[test]
fn what_a_cancelled_job_wrote_far_away_and_how_it_was_kept_is_known_here() {
    let bench = bench();
    let (a, b) = pair(&bench);
    let job = a.submit(&["--require", "tool:gzip", "--", "sh", "-c", "echo begun; exec sleep 600"]);
    let mut reader = Reader::follow(&a, &job);
    assert_eq!(reader.line().as_deref(), Some("begun"), "{}", b.log());
    assert_eq!(a.run(&["cancel", &job]).code, 0);
    let attempt = || a.json(&["show", &job])["attempts"][0].clone();
    // The receipt is written down beside the database; nothing becomes of the job by it.
    until_folder(a.home(), "the receipt is here", || !attempt()["isolation"].is_null());
    let level = attempt()["isolation"].as_str().unwrap().to_owned();
    assert!(["sandboxed", "contained"].contains(&level.as_str()), "{}", attempt());
    assert_eq!(a.wrote(&job), "begun\n");
    assert_eq!(a.state(&job), "cancelled");
}

/// Settings of nodes that know each other by one wire: no other transport, and leases as of the other tests.
const SETTINGS: &str = "slots = 2\n[lease]\nttl = \"8s\"\ngrace = \"2s\"\nbid_window = \"500ms\"\nbid_hold = \"2s\"\n\
                        [learning]\npublish_after = \"200ms\"\n[drain]\nwait = \"1s\"\n[isolation]\nmembers = \"contained\"\n";

/// Makes `b` a member of the mesh of `a`, with a wire between them that can be cut.
fn admit_over_wire(a: &Node, b: &Node) -> Option<Proxy> {
    let text = a.json(&["invite"])["invite"].as_str().unwrap().to_owned();
    let mut terms = Invite::decode(&text).unwrap().terms().clone();
    let port = terms.addresses[0].rsplit('/').next().unwrap().parse().unwrap();
    let wire = Proxy::to(port)?;
    terms.addresses = vec![wire.address()];
    let run = b.run(&["join", &Invite::new(terms).unwrap().encode()]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, a.log());
    Some(wire)
}

#[test]
fn a_connection_that_breaks_loses_no_line_and_doubles_none() {
    let bench = bench();
    let [a, b] = ["a", "b"].map(|name| {
        let node = bench.node(name);
        node.reconfigure(SETTINGS);
        node.up();
        node
    });
    let Some(wire) = admit_over_wire(&a, &b) else {
        eprintln!("SKIPPED: this machine has no address but loopback");
        return;
    };
    assert_eq!(b.run(&["capability", "add", "tool:far"]).code, 0);
    let mut go = Fifo::new(bench.folder().join("go"));
    let path = go.path().display().to_string();
    let job = a.submit(&["--require", "tool:far", "--", "sh", "-c", COUNTS, &path]);
    let mut reader = Reader::follow(&a, &job);
    let mut number = 0;
    for _ in 0..3 {
        for _ in 0..2 {
            number += 1;
            go.tell("on");
            assert_eq!(reader.line(), Some(format!("line {number}")), "{}\n{}", a.log(), b.log());
        }
        assert!(wire.cut() > 0, "there was something to cut");
    }
    go.tell("end");
    assert_eq!((reader.line().as_deref(), reader.line()), (Some("end"), None));
    assert_eq!(a.ended(&job)["job"]["state"], "completed");
}
