//! A node in this process, asked over its real socket.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::*;
use crate::api::{Capabilities, InviteView, JobDetail, JobList, Joined, Peers, Status, Submitted, TagSource};
use crate::config::Overrides;
use crate::home::Home;

/// Longest wait for anything in these tests.
const LIMIT: Duration = Duration::from_secs(20);

struct Node {
    runtime: Runtime,
    server: Server,
    config: Config,
    _wished: mpsc::Receiver<ShutdownMode>,
    _folder: tempfile::TempDir,
}

impl Node {
    async fn start(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::locate(Some(&folder.path().join("home"))).unwrap();
        home.create().unwrap();
        let flags = Overrides {
            name: Some(name.to_owned()),
            slots: Some(2),
            listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
            mdns: Some(false),
            log: None,
        };
        let mut config = Config::resolve(home, flags).unwrap();
        // Started again, this program would be a test and no worker.
        (config.sandbox, config.isolation.members) = (false, jobmesh_protocol::Isolation::Contained);
        let (wishes, wished) = mpsc::channel(WISHES_MAX);
        let runtime = Box::pin(Runtime::start(&config)).await.unwrap();
        let server = Server::start(&config.home, runtime.handle().clone(), wishes).unwrap();
        Self { runtime, server, config, _wished: wished, _folder: folder }
    }

    async fn stop(self) {
        let (_wishes, wished) = mpsc::channel(WISHES_MAX);
        let mut stops = Stops::new(wished).unwrap();
        drain(&self.runtime, &self.config, ShutdownMode::Now, &mut stops).await;
        self.server.stop().await;
        Box::pin(self.runtime.stop()).await;
        assert!(!self.config.home.socket().exists());
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        let asked = async {
            let stream = UnixStream::connect(self.config.home.socket()).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            let mut tasks = JoinSet::new();
            tasks.spawn(connection);
            let request = Request::builder().method(method).uri(path).header("host", "jobmesh");
            let request = request.header("content-type", "application/json").body(Full::new(body.into())).unwrap();
            let response = sender.send_request(request).await.unwrap();
            let status = response.status();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        };
        tokio::time::timeout(LIMIT, asked).await.unwrap()
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, body: &Value) -> T {
        let (status, answer) = self.ask(Method::POST, path, body.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{path}: {}", String::from_utf8_lossy(&answer));
        serde_json::from_slice(&answer).unwrap()
    }

    async fn refusal(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let (status, answer) = self.ask(method, path, body.to_owned()).await;
        (status, serde_json::from_slice::<Value>(&answer).unwrap()["error"].clone())
    }
}

fn shell(line: &str) -> Value {
    json!({ "spec": { "job_type": "sh", "scope": "local", "task": { "process": { "argv": ["sh", "-c", line] } } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_job_runs_to_its_end_and_leaves_its_output() {
    let node = Node::start("solo").await;
    let submitted: Submitted = node.post("/v1/jobs", &shell("echo out; echo err >&2; exit 7")).await;
    let detail: JobDetail = node.get(&format!("/v1/jobs/{}/wait?timeout_ms=15000", submitted.number)).await;
    assert!(detail.job.state.is_final());
    assert_eq!(detail.job.exit.code, Some(7));
    assert_eq!(detail.job.node.map(|node| node.name).as_deref(), Some("solo"));
    assert_eq!(detail.attempts.len(), 1);
    let (_, out) = node.ask(Method::GET, "/v1/jobs/last/logs?follow=true", "").await;
    let (_, err) = node.ask(Method::GET, "/v1/jobs/last/logs?stream=stderr&offset=1", "").await;
    assert_eq!((out.as_ref(), err.as_ref()), (b"out\n".as_slice(), b"rr\n".as_slice()));
    let list: JobList = node.get(&format!("/v1/jobs?limit=5&state={}", detail.job.state)).await;
    assert_eq!(list.jobs.len(), 1);
    let (_, watched) = node.ask(Method::GET, &format!("/v1/jobs/{}/watch", submitted.id), "").await;
    let watched = String::from_utf8_lossy(&watched).into_owned();
    assert_eq!(watched.matches("event: change").count(), 1, "{watched}");
    let status: Status = node.get("/v1/status").await;
    assert_eq!((status.running, status.slots, status.jobs.values().sum::<u64>()), (0, 2, 1));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_followed_while_it_is_written_and_input_is_read() {
    let node = Node::start("solo").await;
    let (_, blob) = node.ask(Method::POST, "/v1/blobs", "given").await;
    let blob: Value = serde_json::from_slice(&blob).unwrap();
    let mut spec = shell("cat; while [ ! -e go ]; do sleep 0.02; done; echo done");
    spec["spec"]["task"]["process"]["stdin"] = blob;
    let submitted: Submitted = node.post("/v1/jobs", &spec).await;
    let follow = node.ask(Method::GET, "/v1/jobs/last/logs?follow=true", "");
    let release = async {
        let handle = node.runtime.handle();
        let run = jobmesh_protocol::RunId { job: submitted.id, epoch: jobmesh_protocol::Epoch(1) };
        let mut changes = handle.subscribe();
        while !handle.home().run(run).join("work").is_dir() {
            let _ = tokio::time::timeout(Duration::from_millis(20), changes.recv()).await;
        }
        std::fs::write(handle.home().run(run).join("work/go"), "").unwrap();
    };
    let ((_, output), ()) = tokio::join!(follow, release);
    assert_eq!(output.as_ref(), b"givendone\n");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_done_is_refused_in_one_form() {
    let node = Node::start("solo").await;
    let (status, error) = node.refusal(Method::GET, "/v1/jobs/9", "").await;
    assert_eq!((status, error["code"].as_str()), (StatusCode::NOT_FOUND, Some("not_found")));
    assert!(error["hint"].as_str().unwrap().contains("jobmesh ls"));
    for (method, path, body) in [
        (Method::GET, "/v1/jobs/what", ""),
        (Method::GET, "/v1/jobs?colour=red", ""),
        (Method::POST, "/v1/jobs", "{\"spec\":{}}"),
        (Method::POST, "/v1/jobs", "not json"),
        (Method::POST, "/v1/join", "{\"invite\":\"jm1nonsense\"}"),
        (Method::DELETE, "/v1/capabilities", "{\"tags\":[]}"),
    ] {
        let (status, error) = node.refusal(method, path, body).await;
        assert_eq!((status, error["code"].as_str()), (StatusCode::BAD_REQUEST, Some("bad_request")), "{path} {body}");
    }
    let mut spec = shell("true");
    spec["spec"]["task"]["process"]["stdin"] = json!({ "hash": "00".repeat(32), "size": 1 });
    let (_, error) = node.refusal(Method::POST, "/v1/jobs", &spec.to_string()).await;
    assert!(error["message"].as_str().unwrap().contains("is not on this node"), "{error}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capabilities_are_added_removed_and_remembered() {
    let node = Node::start("solo").await;
    let tags = json!({ "tags": ["tool:plotter"] });
    let added: Value = node.post("/v1/capabilities", &tags).await;
    assert_eq!(added["changed"], json!(["tool:plotter"]));
    let again: Value = node.post("/v1/capabilities", &tags).await;
    assert_eq!(again["unchanged"], json!(["tool:plotter"]));
    let (status, _) = node.ask(Method::DELETE, "/v1/capabilities", tags.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let listed: Capabilities = node.get("/v1/capabilities").await;
    let plotter = listed.tags.iter().find(|tag| tag.tag.as_str() == "tool:plotter").unwrap();
    assert_eq!((plotter.source, plotter.is_advertised), (TagSource::Removed, false));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_by_invite_and_its_job_runs_on_the_other_one() {
    let (a, b) = (Node::start("laptop").await, Node::start("server").await);
    let _: Value = b.post("/v1/capabilities", &json!({ "tags": ["tool:special"] })).await;
    let invite: InviteView = b.post("/v1/invites", &json!({ "ttl_ms": 60_000, "role": "member" })).await;
    let joined: Joined = a.post("/v1/join", &json!({ "invite": invite.invite })).await;
    assert_eq!((joined.mesh, joined.words.len()), (invite.mesh, 4));
    let (status, error) = a.refusal(Method::POST, "/v1/join", &json!({ "invite": invite.invite }).to_string()).await;
    assert_eq!((status, error["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")));
    let mut spec = shell("printf remote");
    spec["spec"]["scope"] = json!("hybrid");
    spec["spec"]["requirements"] = json!([{ "has": "tool:special" }]);
    let submitted: Submitted = a.post("/v1/jobs", &spec).await;
    let detail: JobDetail = a.get(&format!("/v1/jobs/{}/wait?timeout_ms=15000", submitted.number)).await;
    assert_eq!(detail.job.node.map(|node| node.name).as_deref(), Some("server"), "{:?}", detail.events);
    let (_, out) = a.ask(Method::GET, "/v1/jobs/last/logs", "").await;
    assert_eq!(out.as_ref(), b"remote");
    let receipt: crate::api::ReceiptView = a.get("/v1/jobs/last/receipt").await;
    assert_eq!(receipt.signer, receipt.expected.awardee);
    let peers: Peers = a.get("/v1/peers").await;
    assert!(peers.peers.iter().any(|peer| peer.is_connected && peer.name == "server"));
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_counted_only_as_far_as_it_would_be_carried_out() {
    let node = Node::start("solo").await;
    let schedule = json!({ "timing": { "text": "0 * * * *" }, "submission": shell("true") });
    let (status, answer) = node.ask(Method::PUT, "/v1/schedules/hourly", schedule.to_string()).await;
    assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
    let now = chrono::Utc::now().timestamp_millis();
    for (hours, is_too_many) in [(3, false), (20_000, true)] {
        let body = json!({ "from": now - hours * 3_600_000, "to": now, "dry_run": true }).to_string();
        let (status, answer) = node.ask(Method::POST, "/v1/schedules/hourly/backfill", body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        if is_too_many {
            assert_eq!((status, answer["error"]["code"].as_str()), (StatusCode::CONFLICT, Some("conflict")));
        } else {
            assert_eq!(answer["jobs"], 3);
        }
    }
    let (status, _) = node.refusal(Method::GET, "/v1/schedules/daily", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    node.stop().await;
}

#[test]
fn a_full_disk_ends_the_daemon_with_its_own_code() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let denied = || std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let of = |error| ServeError::from(StartError::Blobs(error)).exit_code();
    assert_eq!((of(full()), of(denied())), (75, 78));
    let socket = ServeError::from(StartError::TaskSocket(full())).exit_code();
    let home = ServeError::from(HomeError::Create { path: "/x".into(), source: full() }).exit_code();
    assert_eq!((socket, home), (75, 75));
    let log = |source| DetachError::Log { path: "/x".into(), source }.exit_code();
    let home = DetachError::from(HomeError::Create { path: "/x".into(), source: full() }).exit_code();
    assert_eq!((log(full()), log(denied()), home), (Some(75), Some(78), Some(75)));
}
