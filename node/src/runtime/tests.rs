//! What a job sees and can say, on a whole node.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_engine::{RunOrder, Taken};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, JobState, NodeId};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::fixture::{LIMIT, Node, first_run};
use super::handle::ReloadError;
use super::{Home, Runtime};

/// A job that goes on until its file `go` is there.
const UNTIL_GO: &str = "while [ ! -e go ]; do sleep 0.02; done";

async fn go(node: &Node, taken: Taken) {
    // It counts as running from the moment that it is ordered.
    let work = node.handle().home().run(first_run(taken)).join("work");
    node.wait_for_file(&work).await;
    std::fs::write(work.join("go"), "").unwrap();
}

/// A client of the socket of tasks.
struct Client(BufReader<UnixStream>);

impl Client {
    async fn connect(node: &Node) -> Self {
        Self(BufReader::new(UnixStream::connect(node.handle().home().task_socket()).await.unwrap()))
    }

    async fn say(&mut self, line: &Value) -> Value {
        self.say_bytes(format!("{line}\n").as_bytes()).await
    }

    async fn say_bytes(&mut self, bytes: &[u8]) -> Value {
        self.0.write_all(bytes).await.unwrap();
        self.hear().await
    }

    async fn hear(&mut self) -> Value {
        let mut line = String::new();
        tokio::time::timeout(LIMIT, self.0.read_line(&mut line)).await.unwrap().unwrap();
        line.parse().unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reports_by_the_socket_that_it_is_told() {
    let node = Node::start("").await;
    let taken = node.submit(&format!("echo $JOBMESH_SOCKET $JOBMESH_RUN $JOBMESH_TOKEN; {UNTIL_GO}"), json!({})).await;
    node.wait(taken, |state| state == JobState::Running).await;
    let run = first_run(taken);
    let token = node.handle().tokens().token(run);
    let mut client = Client::connect(&node).await;
    let first = json!({ "run": run.to_string(), "token": token, "progress": 0.42, "message": "page 42" });
    assert_eq!(client.say(&first).await, json!({ "ok": true }));
    assert_eq!(client.say(&json!({ "heartbeat": true })).await, json!({ "ok": true }));
    let checkpoint = json!({ "checkpoint": { "name": "page", "value": "42" }, "checkpoints": true });
    assert_eq!(client.say(&checkpoint).await, json!({ "ok": true, "checkpoints": { "page": "42" } }));
    let progress = node.handle().read(move |view| view.progress(taken.number)).await.unwrap().unwrap();
    assert_eq!((progress.done, progress.message.as_deref()), (Some(4200), Some("page 42")));
    go(&node, taken).await;
    node.ended(taken).await;
    let socket = node.handle().home().task_socket();
    assert_eq!(node.stdout(taken), format!("{} {run} {token}\n", socket.display()));
    assert_eq!(code(&client.say(&json!({ "heartbeat": true })).await), "not_found");
    node.stop().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_wrong_is_told_what_is_wrong_with_it() {
    let node = Node::start("").await;
    let taken = node.submit(UNTIL_GO, json!({})).await;
    node.wait(taken, |state| state == JobState::Running).await;
    let run = first_run(taken);
    let token = node.handle().tokens().token(run);
    let mut client = Client::connect(&node).await;
    for (line, part) in [
        (json!({ "heartbeat": true }), "must say whose it is"),
        (json!({ "run": run.to_string(), "token": "00".repeat(32) }), "not the one of that run"),
        (json!({ "run": run.to_string() }), "go together"),
        (json!({ "run": "x.1", "token": token }), "names no run"),
        (json!({ "run": run.to_string(), "token": token, "colour": "red" }), "unknown field"),
        (json!({ "run": run.to_string(), "token": token, "progress": 42 }), "0 to 1"),
        (
            json!({ "checkpoint": { "name": "", "value": "x" } }),
            "the checkpoint is refused: a checkpoint has a name of 1 to",
        ),
        (json!([]), "can't be read"),
    ] {
        let answer = client.say(&line).await;
        assert_eq!(code(&answer), "bad_request", "{line}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{answer}");
    }
    assert_eq!(client.say(&json!({ "heartbeat": true })).await, json!({ "ok": true }), "it goes on");
    let largest = json!({ "checkpoint": { "name": "page", "value": "\u{1}".repeat(16 * 1024) } });
    assert_eq!(client.say(&largest).await, json!({ "ok": true }), "the largest checkpoint at its longest");
    assert_eq!(code(&client.say_bytes(&vec![b'x'; 129 * 1024]).await), "too_large");
    assert_eq!(client.0.read_to_end(&mut Vec::new()).await.unwrap_or(0), 0, "the connection is closed");
    go(&node, taken).await;
    node.ended(taken).await;
    node.stop().await;
}

/// `jobmesh` inside a job spoke to the node of the usual data directory, whichever node had started the job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_this_node_knows_its_home_and_one_of_a_peer_does_not() {
    let node = Node::start("").await;
    let home = node.handle().home().path().display().to_string();
    let own = node.submit("echo $JOBMESH_HOME", json!({})).await;
    let task =
        json!({ "process": { "argv": ["sh", "-c", "echo $JOBMESH_HOME"], "environment": { "JOBMESH_HOME": "/x" } } });
    let told = node.submit_task(&task, json!({})).await;
    node.ended(own).await;
    node.ended(told).await;
    assert_eq!((node.stdout(own), node.stdout(told)), (format!("{home}\n"), "/x\n".to_owned()));
    let foreign = RunOrder {
        run: first_run(own),
        number: own.number,
        job_type: "true".to_owned(),
        task: Task::Process(ProcessTask::new(vec!["true".to_owned()])),
        inputs: None,
        outputs: Vec::new(),
        secrets: [].into(),
        network: false,
        isolation: jobmesh_protocol::Isolation::Contained,
        kill_grace: DurationMillis(0),
        log_bytes_max: None,
        origin: Some(NodeId::from_bytes([7; 32])),
        follows: None,
        allocation: None,
        reduce: false,
    };
    let order = super::order::order(node.handle(), foreign, None);
    assert!(order.environment.contains_key("JOBMESH_SOCKET") && !order.environment.contains_key("JOBMESH_HOME"));
    node.stop().await;
}

/// One job took all seats of the socket, by connections that said something now and then, and no other was heard.
#[tokio::test(flavor = "multi_thread")]
async fn no_run_keeps_the_others_from_the_socket() {
    let node = Node::start("").await;
    let [greedy, other] = [node.submit(UNTIL_GO, json!({})).await, node.submit(UNTIL_GO, json!({})).await];
    let beat = |run: jobmesh_protocol::RunId| json!({ "run": run.to_string(), "token": node.handle().tokens().token(run), "heartbeat": true });
    let mut clients = Vec::new();
    for taken in [greedy, other] {
        node.wait(taken, |state| state == JobState::Running).await;
    }
    for _ in 0..70 {
        let mut client = Client::connect(&node).await;
        assert_eq!(client.say(&beat(first_run(greedy))).await, json!({ "ok": true }), "one line is always answered");
        clients.push(client);
    }
    // Its own and eight; the rest had to go.
    let mut kept = 0;
    for client in &mut clients {
        let said = client.0.write_all(format!("{}\n", beat(first_run(greedy))).as_bytes()).await;
        let mut line = String::new();
        let heard = tokio::time::timeout(LIMIT, client.0.read_line(&mut line)).await.unwrap();
        kept += usize::from(said.is_ok() && heard.is_ok_and(|count| count > 0));
    }
    assert_eq!(kept, 9);
    let mut client = Client::connect(&node).await;
    for _ in 0..2 {
        assert_eq!(client.say(&beat(first_run(other))).await, json!({ "ok": true }));
    }
    for taken in [greedy, other] {
        go(&node, taken).await;
        node.ended(taken).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_goes_when_another_comes() {
    let node = Node::start("").await;
    let mut clients = Vec::new();
    for _ in 0..=64 {
        let mut client = Client::connect(&node).await;
        // Answered, so it is served and not only queued.
        assert_eq!(code(&client.say(&json!({})).await), "bad_request");
        clients.push(client);
    }
    assert_eq!(code(&clients.remove(0).hear().await), "busy");
    assert_eq!(code(&clients.remove(0).say(&json!({})).await), "bad_request");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_an_array_get_their_items_and_the_reducer_their_results() {
    let node = Node::start("").await;
    let items: Vec<String> = (1..=300).map(|at| format!("it{{{{index}}}}em {at}")).collect();
    let line = r#"[ "$JOBMESH_ITEM" = "$1" ] && [ "$JOBMESH_ARRAY_INDEX" = "$2" ] && printf '{"n":%s}' "$2" > "$JOBMESH_RESULT"
        [ "$2" != 7 ]"#;
    let task = json!({ "process": { "argv": ["sh", "-c", line, "sh", "{{item}}", "{{index}}"] } });
    let array = json!({ "array": { "tasks": { "items": items } }, "spec": { "retry": { "max_attempts": 1 } } });
    let group = node.submit_task(&task, array).await;
    let before = node.submit("printf plain; exit 3", json!({ "spec": { "retry": { "max_attempts": 1 } } })).await;
    let after = json!({ "after": [{ "job": group.job }, { "job": before.job }], "rule": "all_done", "reduce": true });
    let reducer = node.submit("cat $JOBMESH_RESULTS", after).await;
    assert_eq!(node.ended(reducer).await.state, JobState::Completed);
    let text = node.stdout(reducer);
    let lines: Vec<Value> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(lines.len(), 301);
    for (index, line) in (1..).zip(lines.iter().take(300)) {
        let state = if index == 7 { "discarded" } else { "completed" };
        assert_eq!((&line["job"], &line["state"]), (&json!(format!("{}.{index}", group.number)), &json!(state)));
        assert_eq!((&line["index"], &line["result"]), (&json!(index), &json!({ "n": index })), "{line}");
        let path = line["result_path"].as_str().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{{\"n\":{index}}}"));
    }
    let last = lines.last().unwrap();
    assert_eq!((&last["exit_code"], &last["result"], &last["index"]), (&json!(3), &Value::Null, &Value::Null));
    assert_eq!(std::fs::read_to_string(last["stdout_path"].as_str().unwrap()).unwrap(), "plain");
    node.stop().await;
}

/// The results of the job that had its unique key before were among those that it had asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_reducer_reads_what_it_asked_for_and_not_what_its_key_makes_it_wait_for() {
    let node = Node::start("").await;
    let unique = json!({ "key": "one", "scope": "incomplete", "on_conflict": "replace" });
    let gate = node.handle().home().path().join("gate");
    let wait = format!("until [ -e {} ]; do sleep 0.01; done", gate.display());
    node.submit(&wait, json!({ "unique": unique })).await;
    let before = node.submit("printf before", json!({})).await;
    let after = json!({ "after": [{ "job": before.job }], "reduce": true, "unique": unique });
    let reducer = node.submit("cat $JOBMESH_RESULTS", after).await;
    std::fs::write(&gate, b"").unwrap();
    assert_eq!(node.ended(reducer).await.state, JobState::Completed);
    let text = node.stdout(reducer);
    let jobs: Vec<Value> = text.lines().map(|line| line.parse::<Value>().unwrap()["job"].clone()).collect();
    assert_eq!(jobs, [json!(before.number.to_string())]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_has_indexes_only_and_a_plain_job_keeps_its_braces() {
    let node = Node::start("").await;
    let task = json!({ "process": { "argv": ["echo", "{{index}}", "{{item}}"] } });
    let range = json!({ "array": { "tasks": { "ranges": [{ "first": 3, "last": 9, "step": 3 }] } } });
    let group = node.submit_task(&task, range).await;
    let plain = node.submit_task(&task, json!({})).await;
    node.ended(group).await;
    node.ended(plain).await;
    let group_number = group.number;
    let tasks = node.handle().read(move |view| view.tasks(group_number, None, 10)).await.unwrap();
    let outputs: Vec<String> = tasks
        .iter()
        .map(|task| node.stdout(Taken { job: task.id, number: task.number, is_new: true, is_merged: false }))
        .collect();
    assert_eq!(outputs, ["3 {{item}}\n", "6 {{item}}\n", "9 {{item}}\n"]);
    assert_eq!(node.stdout(plain), "{{index}} {{item}}\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reducer_that_is_cancelled_while_it_waits_never_starts() {
    let node = Node::start("").await;
    let before = node.submit("true", json!({})).await;
    node.ended(before).await;
    let after = json!({ "after": [{ "job": before.job }], "reduce": true });
    let reducer = node.submit("sleep 600", after).await;
    let action = jobmesh_engine::JobAction::Cancel { reason: "test".to_owned(), is_forced: true };
    node.handle().command(jobmesh_engine::Command::Job(reducer.job, action)).await.unwrap();
    assert_eq!(node.ended(reducer).await.state, JobState::Cancelled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_grace_is_killed_at_once_also_when_it_was_asked_before() {
    let node = Node::start("").await;
    let stubborn = json!({ "spec": { "kill_grace_ms": 60_000 } });
    let line = format!("trap '' TERM; touch trapped; {UNTIL_GO}");
    let taken = node.submit(&line, stubborn).await;
    node.wait_for_file(&node.handle().home().run(first_run(taken)).join("work/trapped")).await;
    for is_forced in [false, true] {
        let action = jobmesh_engine::JobAction::Cancel { reason: "test".to_owned(), is_forced };
        node.handle().command(jobmesh_engine::Command::Job(taken.job, action)).await.unwrap();
    }
    // Within the limit of these tests, which is half of its grace.
    assert_eq!(node.ended(taken).await.state, JobState::Cancelled);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_the_configuration_hold_for_jobs_without_their_own() {
    let node = Node::start_with(|config| config.limits.log_bytes = 64 * 1024).await;
    let taken = node.submit("yes", json!({ "spec": { "retry": { "max_attempts": 1 } } })).await;
    let job = node.ended(taken).await;
    assert_eq!(job.state, JobState::Discarded);
    let attempt = node.handle().read(move |view| view.attempt(first_run(taken))).await.unwrap().unwrap();
    assert!(attempt.message.unwrap().contains("log limit"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_read_again_and_a_wrong_one_changes_nothing() {
    let node = Node::start("[job_types.hello]\ncommand = [\"echo\", \"hello\"]\n").await;
    let config = node.handle().home().config();
    assert!(node.handle().job_types().find("hello").is_ok());
    std::fs::write(&config, "slots = 7\n[job_types.bye]\ncommand = [\"echo\", \"bye\"]\n").unwrap();
    let reload = node.handle().reload().await.unwrap();
    let pending: Vec<_> = reload.pending.iter().map(|pending| pending.key.as_str()).collect();
    // The flag wins.
    assert_eq!(pending, [""; 0]);
    assert!(node.handle().job_types().find("bye").is_ok() && node.handle().job_types().find("hello").is_err());
    std::fs::write(&config, "[queues.slow]\nconcurrency = \"many\"\n").unwrap();
    let error = node.handle().reload().await.unwrap_err();
    assert!(matches!(&error, ReloadError::Config(_)) && error.to_string().contains("line 2"), "{error}");
    assert!(node.handle().job_types().find("bye").is_ok());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_and_checkpoints_outlive_the_daemon() {
    let node = Node::start("").await;
    let taken = node.submit(UNTIL_GO, json!({})).await;
    node.wait(taken, |state| state == JobState::Running).await;
    let run = first_run(taken);
    let token = node.handle().tokens().token(run);
    let mut client = Client::connect(&node).await;
    let first = json!({ "run": run.to_string(), "token": token, "checkpoint": { "name": "at", "value": "1" } });
    assert_eq!(client.say(&first).await, json!({ "ok": true }));
    let node = node.restart().await;
    assert_eq!(node.handle().tokens().token(run), token);
    let job = node.wait(taken, |state| state == JobState::Running).await;
    let next = jobmesh_protocol::RunId { job: taken.job, epoch: job.epoch };
    assert_ne!(next, run);
    let mut client = Client::connect(&node).await;
    let asked = json!({ "run": next.to_string(), "token": node.handle().tokens().token(next), "checkpoints": true });
    assert_eq!(client.say(&asked).await, json!({ "ok": true, "checkpoints": { "at": "1" } }));
    let late = json!({ "run": run.to_string(), "token": token, "heartbeat": true });
    assert_eq!(code(&client.say(&late).await), "not_found");
    node.stop().await;
}

/// The next start found the new database, and upkeep deleted what was to be kept.
#[test]
fn no_database_is_made_where_what_is_left_can_not_be_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::locate(Some(folder.path())).unwrap();
    std::fs::write(home.runs(), "no directory").unwrap();
    Runtime::make_database(&home).unwrap_err();
    assert!(!folder.path().join(jobmesh_store::DATABASE_NAME).exists());
    std::fs::remove_file(home.runs()).unwrap();
    assert_eq!(Runtime::make_database(&home).unwrap(), None);
    assert!(folder.path().join(jobmesh_store::DATABASE_NAME).exists());
}

/// The socket took what the door for people refuses, and a job waited for ever for an input that nobody has.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_names_no_files_that_are_not_there() {
    let node = Node::start("").await;
    let taken = node.submit(UNTIL_GO, json!({})).await;
    node.wait(taken, |state| state == JobState::Running).await;
    let run = first_run(taken);
    let mut client = Client::connect(&node).await;
    client.say(&json!({ "run": run.to_string(), "token": node.handle().tokens().token(run) })).await;
    let missing = json!({ "hash": "00".repeat(32), "size": 1 });
    for (others, part) in
        [(json!({ "inputs": missing }), "is not on this node"), (json!({ "outputs": ["a/["] }), "a/[")]
    {
        let mut spec = json!({ "job_type": "x", "scope": "local", "task": { "noop": {} } });
        for (key, value) in others.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let answer = client.say(&json!({ "submit": { "spec": spec } })).await;
        assert_eq!(code(&answer), "bad_request", "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(part), "{answer}");
    }
    let spec = json!({ "job_type": "x", "scope": "local", "outputs": ["a/*"], "task": { "noop": {} } });
    let answer = client.say(&json!({ "submit": { "spec": spec } })).await;
    assert_eq!(answer["ok"], true, "{answer}");
    go(&node, taken).await;
    node.ended(taken).await;
    node.stop().await;
}
