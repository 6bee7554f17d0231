//! Secrets: a job has them, and nothing that the node keeps, shows or logs does.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use jobmesh_tests::{Bench, Node};

use crate::bench;

/// A value that is nowhere else.
const CANARY: &str = "canary-7f3Kq9-value-that-is-nowhere-else";

/// The forms in which it may not be found, without what depends on its place in a line of base64.
fn forms() -> Vec<String> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    vec![CANARY.to_owned(), hex.to_uppercase(), hex, "Y2FuYXJ5LTdmM0txOS12YWx1ZS10aGF0LWlzLW5vd2hlcmUtZWxzZ".to_owned()]
}

/// The files below `place` in which it is.
fn found_in(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(found_in(&path));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let has = |form: &String| bytes.windows(form.len()).any(|window| window == form.as_bytes());
        if forms().iter().any(has) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// A node that logs everything and knows the secret `canary`.
fn node(bench: &Bench) -> Node {
    let path = bench.folder().join("canary");
    std::fs::write(&path, format!("{CANARY}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let tables = format!(
        "[secrets.canary]\nfrom = \"file:{}\"\n[secrets.missing]\nfrom = \"file:/nowhere/at/all\"\n\
         ",
        path.display()
    );
    let node = bench.node_with("a", 2, &tables);
    let up = node.run(&["up", "-d", "--log", "trace"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    node.adopt();
    node
}

#[test]
fn a_secret_reaches_its_job_and_nothing_else() {
    let bench = bench();
    let node = node(&bench);
    let script = r#"test "$TOKEN" = "$(cat "$1")" || exit 9
        echo "plain $TOKEN"; printf %s "$TOKEN" | base64 -w0; echo; printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n' >&2
        printf '{"token":"%s"}' "$TOKEN" > "$JOBMESH_RESULT"
        printf '{"outcome":"permanent","message":"refused: %s"}' "$TOKEN" > "$JOBMESH_OUTCOME""#;
    let file = bench.folder().join("canary").display().to_string();
    let run = node.run(&["run", "--secret", "TOKEN=canary", "--", "sh", "-c", script, "sh", &file]);
    assert_ne!(run.code, 9, "the job did not have its secret: {}", run.stderr);
    assert!(run.text().starts_with("plain [secret canary]\n[secret canary]"), "{}", run.text());
    let shown = node.run(&["show", "last", "-o", "json"]).text();
    assert!(shown.contains("refused: [secret canary]"), "{shown}");
    assert!(node.run(&["result", "last"]).text().contains("[secret canary]"));

    for words in [
        vec!["show", "last"],
        vec!["show", "last", "-o", "json"],
        vec!["logs", "last"],
        vec!["result", "last"],
        vec!["ls", "-a", "-o", "json"],
        vec!["explain", "last", "-o", "json"],
        vec!["secrets", "-o", "json"],
        vec!["config", "show", "-o", "json"],
        vec!["doctor", "-o", "json"],
        vec!["learn", "-o", "json"],
    ] {
        let said = node.run(&words);
        let all = format!("{}{}", said.text(), said.stderr);
        assert!(forms().iter().all(|form| !all.contains(form)), "{words:?}: {all}");
    }
    assert_eq!(found_in(node.home()), Vec::<String>::new());
    // Also after a crash and a start over what it left.
    node.kill();
    node.up();
    assert_eq!(found_in(node.home()), Vec::<String>::new());
}

#[test]
fn a_job_without_its_secret_says_what_is_missing() {
    let bench = bench();
    let node = node(&bench);
    for (name, hint) in [("unheard-of", "[secrets.unheard-of]"), ("missing", "/nowhere/at/all")] {
        let job = node.submit(&["--secret", &format!("TOKEN={name}"), "--", "true"]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !node.job(&job).to_string().contains(hint) {
            assert!(std::time::Instant::now() < deadline, "{}", node.job(&job));
        }
    }
    let listed = node.run(&["secrets"]);
    assert_ne!(listed.code, 0, "one of them is not there");
    assert!(listed.text().contains("canary") && listed.text().contains("/nowhere/at/all"), "{}", listed.text());
}

#[test]
fn a_job_with_secrets_stays_here() {
    let bench = bench();
    let node = node(&bench);
    let job = node.submit(&["--secret", "canary", "--where", "any", "--", "true"]);
    assert_eq!(node.ended(&job)["spec"]["scope"], "local");
    let refused = node.run(&["submit", "--secret", "canary", "--where", "mesh", "--", "true"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("secrets"), "{}", refused.stderr);
}
