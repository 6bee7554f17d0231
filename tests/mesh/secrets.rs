//! Secrets on another machine: only where their owner has entrusted them, and there in nothing that is kept.

use jobmesh_tests::podman::{IMAGE, Podman, podman};
use jobmesh_tests::web::Server;
use jobmesh_tests::{Bench, CANARY, Fifo, Node, Value, canary_file, canary_files};

use crate::bench;

/// Nodes `a`, which has the secret `canary`, and `b`, which has `tool:gzip` and these tables. Both log everything.
fn pair(bench: &Bench, tables: &str) -> (Node, Node) {
    drop(canary_file(bench.folder()));
    let (a, b) = (bench.node("a"), bench.node_with("b", 2, tables));
    for node in [&b, &a] {
        up(node);
    }
    a.admit(&b);
    assert_eq!(a.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(b.run(&["capability", "add", "tool:gzip"]).code, 0);
    entrust(bench, &a, &[]);
    (a, b)
}

fn up(node: &Node) {
    let up = node.run(&["up", "-d", "--log", "trace"]);
    assert_eq!(up.code, 0, "{}\n{}", up.stderr, node.log());
    node.adopt();
}

/// Lets these nodes, and no others, have the secret of `a`.
fn entrust(bench: &Bench, a: &Node, peers: &[&Node]) {
    let ids: Vec<String> = peers.iter().map(|peer| peer.json(&["status"])["node"].to_string()).collect();
    let path = bench.folder().join("canary");
    a.configure(2, &format!("[secrets.canary]\nfrom = \"file:{}\"\npeers = [{}]\n", path.display(), ids.join(", ")));
    let (status, answer) = a.ask("POST", "/v1/config/reload", &Value::Null);
    assert_eq!(status, 200, "{answer}");
}

/// A job of `a` that only `b` can run, with its secret.
fn wanted<'w>(words: &[&'w str]) -> Vec<&'w str> {
    [&["--require", "tool:gzip", "--where", "any", "--secret", "TOKEN=canary", "--retries", "0"], words].concat()
}

/// Says the secret wherever a command can, and ends well.
const TELLTALE: &str = r#"test "$TOKEN" = "$(cat "$1")" || exit 9
    echo "plain $TOKEN"; printf %s "$TOKEN" | base64 -w0; printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n' >&2
    printf %s "$TOKEN" > "$JOBMESH_RESULT"; printf %s "$TOKEN" > file"#;

#[test]
fn a_peer_that_is_entrusted_has_the_secret_while_it_runs_the_job() {
    let bench = bench();
    let server = Server::start(|request, to| {
        let echo = request.headers.get("x-key").cloned().unwrap_or_default();
        to.answer(200, &[("x-echo", &echo)], format!("it is {echo}"));
    });
    let podman = podman();
    let container = podman.as_deref().map(Podman::tables).unwrap_or_default();
    let (a, b) = pair(&bench, &format!("[http]\nallow = [\"127.0.0.0/8\"]\n{container}"));
    entrust(&bench, &a, &[&b]);
    let file = bench.folder().join("canary").display().to_string();
    let mut jobs = vec![a.submit(&wanted(&["--", "sh", "-c", TELLTALE, "sh", &file]))];
    let (url, header) = (server.url("/"), "X-Key: {{secret:TOKEN}}");
    jobs.push(a.submit(&wanted(&["--network", "--http", &url, "--header", header])));
    if podman.is_some() {
        // The value is no part of the command, which is kept.
        let said = "test ${#TOKEN} = 41 || exit 9; echo \"it is $TOKEN\"";
        jobs.push(a.submit(&wanted(&["--container", IMAGE, "--", "sh", "-c", said])));
    }
    for job in &jobs {
        let shown = a.ended(job);
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        assert_eq!(shown["attempts"][0]["node"]["name"], "b", "{shown}");
        assert!(a.wrote(job).contains("[secret canary]"), "{}", a.wrote(job));
        assert_eq!(a.run(&["receipt", "verify", job]).code, 0);
        a.assert_no_canary(job);
    }
    assert_eq!(server.asked()[0].headers["x-key"], CANARY);
    b.assert_no_canary("last");
    if let Some(podman) = podman {
        let left = podman.containers_of(b.json(&["status"])["node"].as_str().unwrap());
        assert_eq!(left, Vec::<String>::new(), "no container is left to be asked for its variables");
    }
    // Nothing comes to light when both are started over what they have written down.
    for node in [&a, &b] {
        node.kill();
        up(node);
        node.assert_no_canary("last");
    }
}

/// Says it wherever a command in a sandbox can, and ends well: once with a result of its own, once with one in its word.
const BOXED_TELLTALE: &str = r#"test ${#TOKEN} = 41 || exit 9
    echo "plain $TOKEN"; printf %s "$TOKEN" | base64 -w0 >&2; printf %s "$TOKEN" > file
    if [ "$0" = result ]; then printf %s "$TOKEN" > "$JOBMESH_RESULT"; exit; fi
    printf '{"outcome":"ok","result":"%s"}' "$(printf %s "$TOKEN" | sed 's/"/\\"/g')" > "$JOBMESH_OUTCOME""#;

/// The result of a member's sandboxed job, which is what it is unless the owner says otherwise, came back with the value.
#[test]
fn a_sandboxed_job_of_a_peer_says_its_secret_to_nobody() {
    let bench = bench();
    let (a, b) = pair(&bench, "[isolation]\nmembers = \"sandboxed\"\n");
    entrust(&bench, &a, &[&b]);
    for place in ["result", "outcome"] {
        let job = a.submit(&wanted(&["--", "sh", "-c", BOXED_TELLTALE, place]));
        let shown = a.ended(&job);
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        assert_eq!(shown["attempts"][0]["isolation"], "sandboxed", "{shown}");
        assert!(a.run(&["result", &job]).text().contains("[secret canary]"), "of {place}");
        a.assert_no_canary(&job);
        b.assert_no_canary("last");
    }
}

#[test]
fn without_trust_it_stays_and_explain_names_the_secret() {
    let bench = bench();
    let (a, b) = pair(&bench, "");
    let refused = a.run(&["submit", "--where", "mesh", "--secret", "canary", "--", "true"]);
    assert!(refused.code != 0 && refused.stderr.contains("entrusted to no peer"), "{}", refused.stderr);
    let job = a.submit(&wanted(&["--", "sh", "-c", "echo \"$TOKEN\""]));
    let plain = a.submit(&["--require", "tool:gzip", "--", "true"]);
    assert_eq!(a.ended(&plain)["attempts"][0]["node"]["name"], "b", "jobs without secrets go there");
    assert_eq!(a.state(&job), "available");
    let why = a.json(&["explain", &job]).to_string();
    assert!(why.contains("b could run it, but is not entrusted with its secret canary"), "{why}");
    assert!(why.contains("under [secrets.canary] in config.toml"), "{why}");
    entrust(&bench, &a, &[&b]);
    assert_eq!(a.ended(&job)["job"]["state"], "completed", "{}", a.json(&["show", &job]));
    let listed = a.json(&["secrets"]);
    assert_eq!(listed[0]["peers"][0], b.json(&["status"])["node"], "{listed}");
    a.assert_no_canary(&job);
    b.assert_no_canary("last");
}

/// Both halves of what may go wrong in the middle: the peer's daemon is killed, and its owner is trusted no more.
#[test]
fn a_peer_that_was_killed_has_nothing_left_and_asks_again_in_vain() {
    let bench = bench();
    let (a, b) = pair(&bench, "");
    entrust(&bench, &a, &[&b]);
    let (mut told, go) = (Fifo::new(bench.folder().join("told")), Fifo::new(bench.folder().join("go")));
    let script = r#"echo "plain $TOKEN"; echo "$TOKEN" > "$JOBMESH_RESULT"; echo "$TOKEN" > file
        echo here > "$0"; read x < "$1""#;
    let [at, until] = [told.path(), go.path()].map(|path| path.display().to_string());
    let job = a.submit(&wanted(&["--", "sh", "-c", script, &at, &until]));
    assert_eq!(told.line(), "here");
    entrust(&bench, &a, &[]);
    b.kill();
    assert!(!canary_files(b.home()).is_empty(), "nobody has searched its files yet");
    up(&b);
    // What an earlier daemon left is ended, and cleared away, before anything else runs.
    let own = b.submit(&["--", "true"]);
    assert_eq!(b.ended(&own)["job"]["state"], "completed");
    b.assert_no_canary(&own);
    let mut watch = a.watch();
    watch.until("the loss of the attempt", |event| event["cause"] == "lost" || event["state"] == "available");
    assert_eq!(a.run(&["cancel", &job]).code, 0);
    let shown = a.ended(&job);
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 1, "nobody may have it any more: {shown}");
    a.assert_no_canary(&job);
    b.assert_no_canary(&own);
}
