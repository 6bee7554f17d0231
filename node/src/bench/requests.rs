//! Everything that is asked of the daemon, and what is read from its answers: the one file that follows the API.

use jobmesh::api::{
    InviteRequest, InviteView, JobDetail, JoinRequest, ShutdownMode, ShutdownRequest, Status, Submitted,
};
use jobmesh_keys::Role;
use jobmesh_protocol::{DurationMillis, JobState};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::BenchError;

/// The queue that is paused while it is filled. A queue of its own, so that others go on.
pub(super) const QUEUE: &str = "bench";
/// Jobs of one request of [`batch`].
pub(super) const BATCH: usize = 1000;

/// A question, written out: asked a thousand times, it costs its bytes only.
#[derive(Clone, Debug)]
pub(super) struct Request {
    /// What to call it in errors.
    pub(super) question: String,
    /// The whole HTTP request.
    pub(super) bytes: Vec<u8>,
}

impl Request {
    fn new(method: &str, path: &str, kind: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: jobmesh\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
        );
        Self { question: format!("{method} {path}"), bytes: (head + body).into_bytes() }
    }

    fn get(path: &str) -> Self {
        Self::new("GET", path, "application/json", "")
    }

    fn post(path: &str, body: &Value) -> Self {
        Self::new("POST", path, "application/json", &body.to_string())
    }
}

/// What a job of the measurement does.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// Nothing, without a process.
    Noop,
    /// A command, in a slot that it has for itself.
    Command(Vec<String>),
    /// A command that takes no processor, so that many can run at once.
    Sleeper(Vec<String>),
}

/// A job of the measurement. It stays on this node and waits in [`QUEUE`] unless said otherwise.
#[derive(Clone, Debug)]
pub(super) struct Job {
    work: Work,
    queue: &'static str,
    scope: &'static str,
    needs: Option<String>,
}

impl Job {
    /// A job that waits in [`QUEUE`].
    pub(super) const fn new(work: Work) -> Self {
        Self { work, queue: QUEUE, scope: "local", needs: None }
    }

    /// A job that only another node may run.
    pub(super) const fn elsewhere(work: Work) -> Self {
        Self { work, queue: QUEUE, scope: "network", needs: None }
    }

    /// The same job, for a node with this tag.
    pub(super) fn needing(self, tag: &str) -> Self {
        Self { needs: Some(tag.to_owned()), ..self }
    }

    fn spec(&self) -> Value {
        let (kind, task) = match &self.work {
            Work::Noop => ("noop", json!({"noop": {}})),
            Work::Command(argv) | Work::Sleeper(argv) => ("bench", json!({"process": {"argv": argv}})),
        };
        let mut spec = json!({"job_type": kind, "task": task, "scope": self.scope, "queue": self.queue});
        let Some(fields) = spec.as_object_mut() else { return spec };
        if let Work::Sleeper(_) = &self.work {
            fields.insert("resources".to_owned(), json!(["none"]));
        }
        if let Some(tag) = &self.needs {
            fields.insert("requirements".to_owned(), json!([{"has": tag}]));
        }
        spec
    }
}

/// Submits one job.
pub(super) fn submit(job: &Job) -> Request {
    Request::post("/v1/jobs", &json!({"spec": job.spec()}))
}

/// Submits one job that stands for `count` tasks.
pub(super) fn array(job: &Job, count: usize) -> Request {
    Request::post(
        "/v1/jobs",
        &json!({"spec": job.spec(), "array": {"tasks": {"ranges": [{"first": 1, "last": count}]}}}),
    )
}

/// Submits `count` jobs of the same kind in one request.
pub(super) fn batch(job: &Job, count: usize) -> Request {
    let line = json!({"spec": job.spec()}).to_string() + "\n";
    Request::new("POST", "/v1/jobs/batch", "application/x-ndjson", &line.repeat(count))
}

/// Lets no job of [`QUEUE`] start.
pub(super) fn pause() -> Request {
    Request::post(&format!("/v1/queues/{QUEUE}/pause"), &json!({}))
}

/// Lets the jobs of [`QUEUE`] start.
pub(super) fn resume() -> Request {
    Request::post(&format!("/v1/queues/{QUEUE}/resume"), &json!({}))
}

/// Asks how the node is.
pub(super) fn status() -> Request {
    Request::get("/v1/status")
}

/// Asks for a job once it has ended.
pub(super) fn wait(number: u64) -> Request {
    Request::get(&format!("/v1/jobs/{number}/wait"))
}

/// Asks the daemon to stop at once.
pub(super) fn shutdown() -> Request {
    let body = ShutdownRequest { mode: ShutdownMode::Now };
    // Our own type always serialises; without a body the daemon says what is wrong.
    Request::post("/v1/shutdown", &serde_json::to_value(body).unwrap_or_default())
}

/// Asks for a string that lets one node join.
pub(super) fn invite() -> Request {
    let body = InviteRequest { ttl_ms: DurationMillis::from_secs(600), role: Role::Member };
    Request::post("/v1/invites", &serde_json::to_value(body).unwrap_or_default())
}

/// Has a node join.
pub(super) fn join(invite: &str) -> Request {
    let body = JoinRequest { invite: invite.to_owned() };
    Request::post("/v1/join", &serde_json::to_value(body).unwrap_or_default())
}

/// Has a node advertise a tag.
pub(super) fn can(tag: &str) -> Request {
    Request::post("/v1/capabilities", &json!({"tags": [tag]}))
}

/// What a batch is answered with: the numbers of its jobs, as ranges of first and last.
#[derive(Debug, Deserialize)]
struct Numbers {
    numbers: Vec<(u64, u64)>,
}

/// Counts of jobs by what is still to be expected of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Not ended.
    pub(super) live: u64,
    /// Ended otherwise than well.
    pub(super) failed: u64,
    /// In a slot.
    pub(super) running: usize,
}

fn read<T: DeserializeOwned>(request: &Request, body: &[u8]) -> Result<T, BenchError> {
    serde_json::from_slice(body)
        .map_err(|error| BenchError::Answer { question: request.question.clone(), problem: error.to_string() })
}

/// Reads the answer to [`submit`] or [`array`].
pub(super) fn submitted(request: &Request, body: &[u8]) -> Result<Submitted, BenchError> {
    read(request, body)
}

/// Reads the answer to [`batch`]: the number of its last job.
pub(super) fn last_of_batch(request: &Request, body: &[u8]) -> Result<u64, BenchError> {
    let numbers: Numbers = read(request, body)?;
    numbers
        .numbers
        .iter()
        .map(|(_, last)| *last)
        .max()
        .ok_or_else(|| BenchError::Answer { question: request.question.clone(), problem: "it names no job".to_owned() })
}

/// Reads the answer to [`wait`]: a job that did not complete did not take the time that a good one takes.
pub(super) fn completed(request: &Request, body: &[u8]) -> Result<(), BenchError> {
    let detail: JobDetail = read(request, body)?;
    if detail.job.state == JobState::Completed { Ok(()) } else { Err(BenchError::Failed { failed: 1, jobs: 1 }) }
}

/// Reads the answer to [`invite`].
pub(super) fn invited(request: &Request, body: &[u8]) -> Result<String, BenchError> {
    read(request, body).map(|view: InviteView| view.invite)
}

/// Reads the answer to [`status`].
pub(super) fn counts(request: &Request, body: &[u8]) -> Result<Counts, BenchError> {
    let status: Status = read(request, body)?;
    let mut counts = Counts { running: usize::try_from(status.running).unwrap_or(usize::MAX), ..Counts::default() };
    for (state, jobs) in status.jobs {
        if !state.is_final() {
            counts.live += jobs;
        } else if state != JobState::Completed {
            counts.failed += jobs;
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use jobmesh::api::SubmitRequest;

    use super::*;

    fn body(request: &Request) -> &[u8] {
        let end = request.bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        request.bytes.get(end..).unwrap_or_default()
    }

    #[test]
    fn the_daemon_understands_a_submit() {
        for work in [Work::Command(vec!["true".to_owned()]), Work::Sleeper(vec!["sleep".to_owned(), "9".to_owned()])] {
            let request = submit(&Job::new(work));
            let asked: Result<SubmitRequest, _> = serde_json::from_slice(body(&request));
            assert!(asked.as_ref().is_ok_and(|asked| asked.spec.check().is_ok()), "{asked:?}");
        }
        let request = submit(&Job::elsewhere(Work::Noop).needing("tool:bench-1"));
        let asked: Result<SubmitRequest, _> = serde_json::from_slice(body(&request));
        assert!(asked.as_ref().is_ok_and(|asked| asked.spec.requirements.len() == 1), "{asked:?}");
    }

    #[test]
    fn a_batch_is_one_submit_a_line() {
        let request = batch(&Job::new(Work::Command(vec!["true".to_owned()])), 3);
        let lines: Vec<_> = body(&request).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| serde_json::from_slice::<SubmitRequest>(line).is_ok()));
        assert_eq!(last_of_batch(&request, br#"{"numbers":[[1,2],[7,9]]}"#).ok(), Some(9));
        assert!(last_of_batch(&request, br#"{"numbers":[]}"#).is_err());
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let text = String::from_utf8(shutdown().bytes).unwrap_or_default();
        assert!(text.starts_with("POST /v1/shutdown HTTP/1.1\r\n"), "{text}");
        assert!(text.ends_with("content-length: 14\r\n\r\n{\"mode\":\"now\"}"), "{text}");
    }
}
