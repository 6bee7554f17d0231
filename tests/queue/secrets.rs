//! Secrets: a job has them, and nothing that the node keeps, shows or logs does.

use jobmesh_tests::web::Server;
use jobmesh_tests::{Bench, CANARY, Fifo, Node, canary_file, canary_files, has_canary, with_variable};

use crate::bench;

/// A node that logs everything and knows the secret `canary`.
fn node(bench: &Bench, tables: &str) -> Node {
    let path = canary_file(bench.folder());
    let secrets =
        format!("[secrets.canary]\nfrom = \"file:{path}\"\n[secrets.missing]\nfrom = \"file:/nowhere/at/all\"\n");
    let node = bench.node_with("a", 2, &(secrets + tables));
    up(&node);
    node
}

fn up(node: &Node) {
    let up = node.run(&["up", "-d", "--log", "trace"]);
    assert_eq!(up.code, 0, "{}", up.stderr);
    node.adopt();
}

/// Says the secret in every way that a command can say something: whole, coded, in two pieces, over two lines, by its files
/// and on the socket.
const TELLTALE: &str = r#"test "$TOKEN" = "$(cat "$1")" || exit 9
    echo "plain $TOKEN"; printf %s "$TOKEN" | base64 -w0; echo; printf 'more of it: %s and so on' "$TOKEN" | base64 -w 20
    printf %s "$TOKEN" | od -An -v -tx1 | tr -d ' \n' >&2; echo >&2; printf '%s\n' "$TOKEN" | fold -w 7 >&2
    printf %s "${TOKEN%?????}" >&2; printf '%s\n' "${TOKEN#"${TOKEN%?????}"}" >&2
    quoted=$(printf %s "$TOKEN" | sed 's/"/\\"/g')
    "$2" task progress 50 "half of $TOKEN"; "$2" task notify "it is $TOKEN"
    "$2" task checkpoint set "$TOKEN" x; "$2" task checkpoint set left "a $TOKEN"
    "$2" task checkpoint get left
    printf '{"token":"%s"}' "$quoted" > "$JOBMESH_RESULT"
    printf '{"outcome":"permanent","message":"refused: %s"}' "$quoted" > "$JOBMESH_OUTCOME""#;

#[test]
fn a_secret_reaches_its_job_and_nothing_else() {
    let bench = bench();
    let node = node(&bench, "");
    let file = bench.folder().join("canary").display().to_string();
    let binary = node.binary().display().to_string();
    let job = node.submit(&["--secret", "TOKEN=canary", "--", "sh", "-c", TELLTALE, "sh", &file, &binary]);
    let shown = node.ended(&job).to_string();
    assert!(!shown.contains("exit code 9"), "the job did not have its secret: {shown}");
    assert!(shown.contains("refused: [secret canary]"), "{shown}");
    let said = node.run(&["logs", &job]);
    assert!(said.text().starts_with("plain [secret canary]\n[secret canary]"), "{}", said.text());
    assert!(said.text().ends_with("\na [secret canary]\n"), "what is remembered is without it: {}", said.text());
    assert!(node.run(&["result", &job]).text().contains("[secret canary]"));
    node.assert_no_canary(&job);
    // Also after a crash and a start over what it left.
    node.kill();
    up(&node);
    node.assert_no_canary(&job);
}

#[test]
fn a_script_and_a_request_have_it_and_nothing_else() {
    let bench = bench();
    let server = Server::start(|request, to| {
        let header = request.headers.get("authorization").cloned().unwrap_or_default();
        let body = format!("{} {header} {}", request.path, String::from_utf8_lossy(&request.body));
        let status = if request.path.starts_with("/wrong") { 500 } else { 200 };
        to.answer(status, &[("x-echo", &header)], body);
    });
    let node = node(&bench, "");
    let script =
        "print(job.env.TOKEN); job.log(job.env.TOKEN); job.result({token = job.env.TOKEN}); error(job.env.TOKEN)";
    let lua = node.submit(&["--secret", "TOKEN=canary", "--lua-script", script]);
    assert_eq!(node.ended(&lua)["job"]["state"], "discarded");
    node.assert_no_canary(&lua);
    for path in ["/right", "/wrong"] {
        let url = server.url(&format!("{path}?key={{{{secret:TOKEN}}}}"));
        let header = "Authorization: Bearer {{secret:TOKEN}}";
        let body = "{\"password\": \"{{secret:TOKEN}}\"}";
        let job = node.submit(&[
            "--secret",
            "TOKEN=canary",
            "--retries",
            "0",
            "--http",
            &url,
            "--header",
            header,
            "--body",
            body,
        ]);
        assert!(node.ended(&job).is_object());
        node.assert_no_canary(&job);
    }
    let asked = server.asked();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert!(asked.iter().all(|request| request.headers["authorization"] == format!("Bearer {CANARY}")), "{asked:?}");
    assert!(asked.iter().all(|request| has_canary(request.path.as_bytes()) && has_canary(&request.body)), "{asked:?}");
}

/// A provider that repeats the key that it was shown, wherever it can.
#[test]
fn the_key_of_a_provider_is_told_to_it_alone() {
    let bench = bench();
    let server = Server::start(|request, to| {
        let key = request.headers.get("authorization").cloned().unwrap_or_default().replace('"', "\\\"");
        let question = String::from_utf8_lossy(&request.body);
        let json = &[("content-type", "application/json")];
        if question.contains("401") {
            return to.answer(401, json, format!(r#"{{"error":{{"message":"wrong key: {key}","code":"{key}"}}}}"#));
        }
        if question.contains("500") {
            return to.answer(500, json, format!("oops, {key}"));
        }
        let (one, two) = key.split_at(key.len() - 4);
        let piece = |text: &str| {
            format!(
                "data: {{\"model\":\"{key}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\
                 \"finish_reason\":null}}]}}\n\n"
            )
        };
        let end = format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{key}\"}}]}}\n\n");
        let pieces = [piece("it is "), piece(one), piece(two), end, "data: [DONE]\n\n".to_owned()];
        to.stream("text/event-stream", &pieces.each_ref().map(String::as_str));
    });
    let tables = format!(
        "[providers.cloud]\nkind = \"openai\"\nbase_url = \"{}\"\nkey_secret = \"canary\"\n\
         [models.tiny]\nprovider = \"cloud\"\n[models.classes]\nmedium = \"tiny\"\n",
        server.url("/v1")
    );
    let node = node(&bench, &tables);
    for question in ["say it", "fail with 401", "fail with 500"] {
        let job = node.submit(&["--retries", "0", "--llm", question]);
        assert!(node.ended(&job).is_object());
        node.assert_no_canary(&job);
    }
    let keys: Vec<String> =
        server.asked().into_iter().filter_map(|asked| asked.headers.get("authorization").cloned()).collect();
    assert!(!keys.is_empty() && keys.iter().all(|key| *key == format!("Bearer {CANARY}")), "{keys:?}");
}

/// The daemon is killed while the job has written its secret into its files, and is started again.
#[test]
fn a_killed_daemon_leaves_no_secret_and_no_process() {
    let bench = bench();
    let node = node(&bench, "");
    let (mut told, go) = (Fifo::new(bench.folder().join("told")), Fifo::new(bench.folder().join("go")));
    // What a command writes into its files is its own business, but not while nobody can have looked at its end.
    let script = r#"echo "plain $TOKEN"; echo "$TOKEN" > "$JOBMESH_RESULT"
        if [ "$JOBMESH_ATTEMPT" = 1 ]; then echo "$TOKEN" > file; fi
        echo "$JOBMESH_RUN" > "$0"; read x < "$1"; echo "plain $TOKEN""#;
    let [at, until] = [told.path(), go.path()].map(|path| path.display().to_string());
    let job = node.submit(&["--secret", "TOKEN=canary", "--retries", "0", "--", "sh", "-c", script, &at, &until]);
    let run = told.line();
    assert!(!with_variable("JOBMESH_RUN", &run).is_empty(), "it runs");
    node.kill();
    assert!(!canary_files(node.home()).is_empty(), "nobody has searched its files yet");
    up(&node);
    // It was lost with its daemon and is tried again; the next attempt comes as far as the first.
    let again = told.line();
    assert_ne!(again, run);
    assert!(with_variable("JOBMESH_RUN", &run).is_empty(), "it must not go on without a daemon");
    let first = node.json(&["show", &job])["attempts"][0].clone();
    assert!(first.to_string().contains("has to pass through it"), "{first}");
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    assert_eq!(node.ended(&job)["job"]["state"], "cancelled");
    node.assert_no_canary(&job);
}

#[test]
fn a_job_without_its_secret_says_what_is_missing() {
    let bench = bench();
    let node = node(&bench, "");
    for (name, hint) in [("unheard-of", "[secrets.unheard-of]"), ("missing", "/nowhere/at/all")] {
        let job = node.submit(&["--retries", "0", "--secret", &format!("TOKEN={name}"), "--", "true"]);
        let shown = node.ended(&job).to_string();
        assert!(shown.contains(hint), "{shown}");
    }
    let listed = node.run(&["secrets"]);
    assert_ne!(listed.code, 0, "one of them is not there");
    assert!(listed.text().contains("canary") && listed.text().contains("/nowhere/at/all"), "{}", listed.text());
}

#[test]
fn a_job_stays_here_whose_secret_nobody_else_may_have() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--secret", "canary", "--where", "any", "--", "true"]);
    assert_eq!(node.ended(&job)["job"]["state"], "completed");
    let refused = node.run(&["submit", "--secret", "canary", "--where", "mesh", "--", "true"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("secret canary is entrusted to no peer"), "{}", refused.stderr);
}

/// A keyring that is not there, has nothing, or has it: a program of that name in the PATH of the daemon stands for it.
#[test]
fn a_keyring_is_asked_by_its_program_and_doctor_says_how_that_went() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = bench();
    let node = bench.node_with("a", 2, "[secrets.canary]\nfrom = \"keyring:registry/me\"\n");
    let programs = bench.folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for name in ["sh", "cat", "sleep"] {
        let found = ["/bin", "/usr/bin"].iter().map(|folder| std::path::Path::new(folder).join(name));
        std::os::unix::fs::symlink(found.into_iter().find(|path| path.exists()).unwrap(), programs.join(name)).unwrap();
    }
    let run =
        |words: &[&str]| -> jobmesh_tests::Run { node.command(words).env("PATH", &programs).output().unwrap().into() };
    let doctor = run(&["doctor"]).text();
    assert!(
        doctor.contains("failed to ask the keyring by secret-tool") && doctor.contains("libsecret-tools"),
        "{doctor}"
    );
    let tool = programs.join("secret-tool");
    let keep = |script: &str| {
        std::fs::write(&tool, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    keep("exit 1");
    let listed = run(&["secrets"]);
    assert!(
        listed.code != 0 && listed.text().contains("the keyring has nothing for keyring:registry/me"),
        "{}",
        listed.text()
    );
    let file = canary_file(bench.folder());
    keep(&format!("[ \"$*\" = 'lookup service registry account me' ] && cat {file}"));
    assert_eq!(run(&["secrets"]).code, 0);
    assert_eq!(run(&["up", "-d", "--log", "trace"]).code, 0);
    node.adopt();
    let job = node.submit(&["--secret", "TOKEN=canary", "--", "sh", "-c", "[ \"$TOKEN\" = \"$(cat \"$0\")\" ]", &file]);
    assert_eq!(node.ended(&job)["job"]["state"], "completed");
    node.assert_no_canary(&job);
    // One that waits for a person, for each of three: whoever cancels the job need not.
    let mut asked = Fifo::new(bench.folder().join("asked"));
    keep(&format!("echo asked > {}; exec sleep 60", asked.path().display()));
    let secrets = ["--secret", "A=canary", "--secret", "B=canary", "--secret", "C=canary"];
    let job = node.submit(&[&secrets[..], &["--", "true"]].concat());
    assert_eq!(asked.line(), "asked");
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    assert_eq!(node.ended(&job)["job"]["state"], "cancelled");
}
