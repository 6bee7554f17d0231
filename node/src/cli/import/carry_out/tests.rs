//! What an import asks of a node, against a node that only writes down what it is asked.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::routing::any;
use axum::{Json, Router};
use jobmesh::api::Pick;
use jobmesh::import::pueue::Environment;
use jobmesh::import::{Finished, Release, Report, crontab, pueue};
use jobmesh_protocol::{JobNumber, Submission, UnixMillis};
use serde_json::json;
use tokio::task::JoinSet;

use super::*;

/// What the node has, and what it was asked.
#[derive(Debug, Default)]
struct Node {
    asked: Vec<String>,
    /// Most jobs of a list.
    list_max: usize,
    jobs: Vec<Submission>,
    schedules: BTreeMap<String, Value>,
    queues: BTreeMap<String, Value>,
}

impl Node {
    fn answer(&mut self, method: &str, path: &str, body: &[u8]) -> Value {
        let name = path.split('/').nth(3).unwrap_or_default().to_owned();
        match (method, path) {
            ("GET", "/v1/schedules") => json!({"schedules": self.schedules.values().collect::<Vec<_>>()}),
            ("GET", "/v1/queues") => json!({"queues": self.queues.values().collect::<Vec<_>>()}),
            ("POST", "/v1/select") => self.select(&serde_json::from_slice(body).unwrap()),
            ("POST", "/v1/jobs/batch") => self.take(body),
            ("PUT", _) if path.starts_with("/v1/queues/") => {
                let queue = json!({"name": name, "mode": "open", "is_set_by_hand": true, "jobs": {}});
                self.queues.insert(name, queue);
                json!({"changed": true})
            }
            ("PUT", _) => {
                let schedule: Value = serde_json::from_slice(body).unwrap();
                let is_held = schedule["submission"]["held"].as_bool().unwrap();
                self.asked.push(format!("{name} held: {is_held}"));
                let view =
                    json!({"name": name, "schedule": schedule, "words": "", "is_paused": false, "is_declared": false});
                self.schedules.insert(name, view);
                json!({"changed": true})
            }
            _ => json!({"changed": true}),
        }
    }

    fn take(&mut self, body: &[u8]) -> Value {
        let first = self.jobs.len() + 1;
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        self.jobs.extend(lines.map(|line| serde_json::from_slice::<Submission>(line).unwrap()));
        let numbers = (first..=self.jobs.len()).map(|number| u64::try_from(number).unwrap());
        serde_json::to_value(Batch::of(numbers)).unwrap()
    }

    /// Every job, whatever was asked for: the labels say which is which.
    fn select(&self, request: &SelectRequest) -> Value {
        assert!(!request.jobs.is_empty() || request.filter.labels.contains_key(LABEL_SOURCE));
        let view = |(place, job): (usize, &Submission)| {
            json!({
                "id": id(place), "number": place + 1, "state": "pending", "state_since": 0, "job_type": "x",
                "labels": job.spec.labels, "command": [], "epoch": 0, "failures": 0, "crashes": 0,
                "exit": {"code": null, "signal": null}, "created_at": 0,
            })
        };
        let wanted = |place: usize| match request.jobs.as_slice() {
            [Pick::Numbers(spans)] => spans.iter().any(|span| {
                let number = JobNumber::new(u32::try_from(place + 1).unwrap());
                span.first <= number && number <= span.last
            }),
            _ => true,
        };
        let mut found: Vec<_> = self.jobs.iter().enumerate().rev().filter(|(place, _)| wanted(*place)).collect();
        let more = found.len() > self.list_max;
        found.truncate(self.list_max);
        json!({"jobs": found.into_iter().map(view).collect::<Vec<_>>(), "more": more})
    }
}

fn id(place: usize) -> JobId {
    JobId::from_bytes([u8::try_from(place).unwrap(); 16])
}

type Shared = Arc<Mutex<Node>>;

async fn answer(State(node): State<Shared>, request: Request) -> Json<Value> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 16 << 20).await.unwrap();
    let mut node = node.lock().unwrap_or_else(PoisonError::into_inner);
    node.asked.push(format!("{} {}", parts.method, parts.uri.path()));
    Json(node.answer(parts.method.as_str(), parts.uri.path(), &body))
}

/// Starts such a node. It ends with the set of tasks.
fn start(directory: &Path) -> (Client, Shared, JoinSet<()>) {
    let socket = directory.join("control.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let node = Arc::new(Mutex::new(Node { list_max: 100, ..Node::default() }));
    let router = Router::new().fallback(any(answer)).with_state(Arc::clone(&node));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (Client::new(socket), node, tasks)
}

fn asked(node: &Shared) -> Vec<String> {
    std::mem::take(&mut node.lock().unwrap_or_else(PoisonError::into_inner).asked)
}

#[tokio::test]
async fn jobs_come_after_those_that_they_wait_for_and_only_once() {
    let directory = tempfile::tempdir().unwrap();
    let (client, node, _tasks) = start(directory.path());
    let text = include_str!("../../../import/fixtures/pueue-3.json");
    let finished = Finished::Count;
    let options = pueue::Options { since: None, environment: Environment::Drop, finished, release: Release::Hold };
    let plan = pueue::read("state.json", text, &options).unwrap();
    let before = present(&client, &plan).await.unwrap();
    let promised = Report::new(&plan, Some(&before)).totals;
    carry_out(&client, &plan, &before).await.unwrap();
    let writes = |asked: Vec<String>| asked.into_iter().filter(|it| !it.contains("select") && !it.starts_with("GET"));
    let first: Vec<String> = writes(asked(&node)).collect();
    let queues = ["PUT /v1/queues/pueue", "PUT /v1/queues/night", "PUT /v1/queues/video"].map(str::to_owned);
    assert_eq!(first, [queues.as_slice(), &["POST /v1/jobs/batch", "POST /v1/jobs/batch"].map(str::to_owned)].concat());
    {
        let node = node.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((node.jobs.len(), node.queues.len()), (promised.jobs, promised.queues));
        let film = node.jobs.iter().position(|job| job.spec.name.as_deref() == Some("film a")).unwrap();
        let last = node.jobs.last().unwrap();
        assert_eq!(last.after, [Dependency { job: id(film), on: None }]);
        assert!(node.jobs.iter().all(|job| job.held && job.unique.is_some()));
    }
    let after = present(&client, &plan).await.unwrap();
    let totals = Report::new(&plan, Some(&after)).totals;
    assert_eq!((totals.jobs, totals.queues, totals.already_there), (0, 0, promised.jobs));
    carry_out(&client, &plan, &after).await.unwrap();
    assert_eq!(writes(asked(&node)).count(), 0);
}

/// A list holds ten thousand jobs, an import ten times as many: the older ones were announced as new.
#[tokio::test]
async fn what_is_there_is_found_over_many_lists() {
    let directory = tempfile::tempdir().unwrap();
    let (client, node, _tasks) = start(directory.path());
    let text = include_str!("../../../import/fixtures/pueue-3.json");
    let (environment, finished) = (Environment::Drop, Finished::Count);
    let options = pueue::Options { since: None, environment, finished, release: Release::Hold };
    let plan = pueue::read("state.json", text, &options).unwrap();
    carry_out(&client, &plan, &Present::default()).await.unwrap();
    for list_max in [2, 3, 4] {
        node.lock().unwrap_or_else(PoisonError::into_inner).list_max = list_max;
        let there = present(&client, &plan).await.unwrap();
        assert_eq!(there.jobs.len(), plan.jobs().count(), "{list_max} in a list");
    }
}

#[tokio::test]
async fn a_schedule_can_not_fire_before_it_is_paused() {
    let directory = tempfile::tempdir().unwrap();
    let (client, node, _tasks) = start(directory.path());
    let options = |release| crontab::Options {
        layout: crontab::Layout::User,
        user: "me",
        home: None,
        zone: "UTC",
        is_zone_asked: false,
        now: UnixMillis(0),
        release,
    };
    let plan = crontab::read("crontab", "* * * * * tool\n", &options(Release::Hold)).unwrap();
    let name = plan.schedules().next().unwrap().name.clone();
    let path = format!("/v1/schedules/{name}");
    carry_out(&client, &plan, &Present::default()).await.unwrap();
    let steps = [
        format!("PUT {path}"),
        format!("{name} held: true"),
        format!("POST {path}/pause"),
        format!("PUT {path}"),
        format!("{name} held: false"),
        format!("POST {path}/pause"),
    ];
    assert_eq!(asked(&node), steps);
    let there = present(&client, &plan).await.unwrap();
    carry_out(&client, &plan, &there).await.unwrap();
    assert_eq!(asked(&node), ["GET /v1/schedules"]);
    let zoned = crontab::Options { zone: "Asia/Tokyo", is_zone_asked: true, ..options(Release::Hold) };
    let zoned = crontab::read("crontab", "* * * * * tool\n", &zoned).unwrap();
    carry_out(&client, &zoned, &there).await.unwrap();
    assert_eq!(asked(&node), [format!("PUT {path}"), format!("{name} held: false")], "as paused as it was");
    let released = crontab::read("crontab", "0 * * * * tool\n", &options(Release::Enqueue)).unwrap();
    carry_out(&client, &released, &there).await.unwrap();
    assert!(!asked(&node).iter().any(|it| it.ends_with("/pause") || it.ends_with("held: true")));
}
