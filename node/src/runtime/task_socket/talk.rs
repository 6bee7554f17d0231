//! What the lines on the socket of tasks mean, and their answers.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::BASE64;
use jobmesh_engine::{Command, Reach, Refusal, Report, Response, Taken};
use jobmesh_executors::Redaction;
use jobmesh_executors::http::{Fetched, Fetcher};
use jobmesh_protocol::task::{Content, HttpTask};
use jobmesh_protocol::{RunId, Submission};
use serde::{Deserialize, Serialize};

use super::super::guarded;
use super::super::handle::{CommandError, Handle};
use crate::api::{ApiError, ErrorBody, ErrorCode, Submitted, number_parts};
use crate::causes::causes;

/// All of it, in the engine's measure.
const WHOLE: f64 = 10_000.0;

/// How much is quoted of why a line can't be read.
const QUOTE_CHARS_MAX: usize = 200;

/// One line from a job.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    run: Option<String>,
    token: Option<String>,
    progress: Option<f64>,
    message: Option<String>,
    #[serde(default)]
    heartbeat: bool,
    checkpoint: Option<CheckpointLine>,
    #[serde(default)]
    checkpoints: bool,
    submit: Option<Box<Submission>>,
    http: Option<Box<RequestLine>>,
}

/// A request that a script wants to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLine {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    redirects: Option<u8>,
}

impl RequestLine {
    fn task(self) -> HttpTask {
        let usual = if self.body.is_some() { "POST" } else { "GET" };
        let mut task = HttpTask::new(self.url);
        task.method = self.method.map_or_else(|| usual.to_owned(), |method| method.to_ascii_uppercase());
        task.headers = self.headers;
        task.body = self.body.map(Content::Text);
        task.redirects = self.redirects.unwrap_or(task.redirects);
        task
    }
}

/// Something for the next attempt; an empty value forgets it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    name: String,
    value: String,
}

/// One line to a job.
#[derive(Debug)]
pub(super) enum Reply {
    Done(Done),
    Error(ApiError),
}

/// What was said is the engine's.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    ok: bool,
    /// What attempts of the job have left, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoints: Option<BTreeMap<String, String>>,
    /// The job that was taken on, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted: Option<Submitted>,
    /// What a web server answered, if one was to be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<AnswerLine>,
}

/// What a web server answered.
#[derive(Debug, Serialize)]
struct AnswerLine {
    status: u16,
    url: String,
    headers: BTreeMap<String, String>,
    /// In base64: it need be no text.
    body: String,
}

impl Reply {
    /// The bytes, with the end of the line.
    pub(super) fn line(self) -> Vec<u8> {
        let json = match self {
            Self::Done(done) => serde_json::to_vec(&done),
            Self::Error(error) => serde_json::to_vec(&ErrorBody { error }),
        };
        // Texts and truth values always have a form in JSON.
        let mut line = json.unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// An error as it is told.
pub(super) fn failure(code: ErrorCode, message: impl Into<String>, hint: Option<&str>) -> ApiError {
    ApiError { code, message: message.into(), hint: hint.map(str::to_owned) }
}

/// The talk with one job.
pub(super) struct Talk {
    handle: Handle,
    fetcher: Fetcher,
    /// Whom a good token has proved the other one to be.
    run: Option<RunId>,
}

impl Talk {
    pub(super) const fn new(handle: Handle, fetcher: Fetcher) -> Self {
        Self { handle, fetcher, run: None }
    }

    /// Whose talk it is, once that is known.
    pub(super) const fn run(&self) -> Option<RunId> {
        self.run
    }

    /// Hears whose line it is and does nothing of what it says. If that can't be told, the answer will say why.
    pub(super) fn meet(&mut self, line: &[u8]) -> Option<RunId> {
        let line = serde_json::from_slice(line).ok()?;
        self.introduce(&line).ok()
    }

    /// Whether the run whose talk it is goes on, as far as can be told: a database that can't be read for once is no reason
    /// to cut it off.
    pub(super) async fn is_of_live_run(&self) -> bool {
        let Some(run) = self.run else { return false };
        let attempt = self.handle.read(move |view| view.attempt(run)).await;
        attempt.map_or(true, |attempt| attempt.is_some_and(|attempt| attempt.finished_at.is_none()))
    }

    /// Does what a line says. While a web server is asked, `gone` is listened to: nobody wants the answer any more, and
    /// there is none.
    pub(super) async fn answer(&mut self, line: &[u8], gone: impl Future<Output = ()>) -> Option<Reply> {
        let done = match self.perform(line).await {
            Ok((done, None)) => Ok(done),
            Ok((done, Some(wanted))) => tokio::select! {
                biased;
                fetched = self.fetch(*wanted) => fetched.map(|answer| Done { http: Some(answer), ..done }),
                () = gone => return None,
            },
            Err(error) => Err(error),
        };
        Some(done.map_or_else(Reply::Error, Reply::Done))
    }

    /// What a line says, but for a request to a web server, which is given back: what a server is told, secrets included,
    /// is nothing that is kept.
    async fn perform(&mut self, line: &[u8]) -> Result<(Done, Option<Box<RequestLine>>), ApiError> {
        let bytes = line;
        let mut line: Line = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        let run = self.introduce(&line)?;
        let http = line.http.take();
        let line = match self.handle.shared().guarded.of(run) {
            Some(redaction) => clean(&redaction, bytes).map_err(|error| unreadable(&error))?,
            None => line,
        };
        for report in reports(&line)? {
            self.handle.command(Command::Report(run, report)).await.map_err(|error| refused(&error))?;
        }
        let checkpoints = if line.checkpoints { Some(self.checkpoints(run).await?) } else { None };
        let submitted = match line.submit {
            Some(submission) => Some(self.submit(run, *submission).await?),
            None => None,
        };
        Ok((Done { ok: true, checkpoints, submitted, http: None }, http))
    }

    /// Makes a request for a script that was granted the network. Whose run is over has nothing to ask for.
    async fn fetch(&self, wanted: RequestLine) -> Result<AnswerLine, ApiError> {
        let run = self.run.ok_or_else(|| failure(ErrorCode::BadRequest, "nobody said whose request it is", None))?;
        let granted = self.handle.command(Command::GrantRequest(run)).await.map_err(|error| refused(&error))?;
        let is_guarded = !matches!(granted, Response::Granted(Reach::Open));
        let fetched = self.fetcher.fetch(wanted.task(), is_guarded).await;
        let Fetched { status, url, headers, body } =
            fetched.map_err(|error| failure(ErrorCode::BadRequest, error.to_string(), None))?;
        Ok(AnswerLine { status, url, headers, body: BASE64.encode(&body) })
    }

    /// Takes on a job for a job, as far as that one may: the engine knows, and is asked before any file is looked for. Who
    /// may not submit is not told what is here.
    async fn submit(&self, run: RunId, submission: Submission) -> Result<Submitted, ApiError> {
        let judge = Command::JudgeChild(run, Box::new(submission.clone()));
        self.handle.command(judge).await.map_err(|error| refused(&error))?;
        let checked = self.handle.blobs().check(&submission.spec, &mut BTreeSet::new()).await;
        checked.map_err(|error| failure(ErrorCode::BadRequest, causes(&error), error.hint()))?;
        let command = Command::SubmitChild(run, Box::new(submission));
        let answer = self.handle.command(command).await.map_err(|error| refused(&error))?;
        let taken = if let Response::Submitted(taken) = answer { taken.into_iter().next() } else { None };
        let odd = || failure(ErrorCode::Internal, "the submission was answered by something else", None);
        let Taken { job, number, is_new, is_merged, .. } = taken.ok_or_else(odd)?;
        let (number, task) = number_parts(number);
        Ok(Submitted { id: job, number, task, is_new, is_merged })
    }

    /// Whose line it is.
    fn introduce(&mut self, line: &Line) -> Result<RunId, ApiError> {
        let hint = Some("a job finds its own in $JOBMESH_RUN and $JOBMESH_TOKEN");
        let bad = |message: &str| failure(ErrorCode::BadRequest, message, hint);
        match (&line.run, &line.token) {
            (Some(run), Some(token)) => {
                let run = RunId::parse(run).ok_or_else(|| bad("`run` names no run"))?;
                if !self.handle.tokens().is_of(run, token) {
                    return Err(bad("`token` is not the one of that run"));
                }
                self.run = Some(run);
                Ok(run)
            }
            (None, None) => self.run.ok_or_else(|| bad("the first line must say whose it is: `run` and `token`")),
            (Some(_), None) | (None, Some(_)) => Err(bad("`run` and `token` go together")),
        }
    }

    /// What the attempts of the run's job have left.
    async fn checkpoints(&self, run: RunId) -> Result<BTreeMap<String, String>, ApiError> {
        let read = self.handle.read(move |view| {
            let Some(number) = view.job_number(run.job)? else { return Ok(None) };
            Ok(Some(view.checkpoints(number)?))
        });
        let found = read.await.map_err(|error| failure(ErrorCode::Internal, error.to_string(), None))?;
        let found = found.ok_or_else(|| refused(&CommandError::Refused(Refusal::NotRunning)))?;
        Ok(found.into_iter().map(|checkpoint| (checkpoint.name, checkpoint.value)).collect())
    }
}

/// A line of a job that has secrets, without them: what it says is kept and shown.
fn clean(redaction: &Redaction, line: &[u8]) -> serde_json::Result<Line> {
    serde_json::from_value(guarded::clean(redaction, serde_json::from_slice(line)?))
}

/// Whether a line wants a job to be taken on.
pub(super) fn is_submission(line: &[u8]) -> bool {
    serde_json::from_slice::<Line>(line).is_ok_and(|line| line.submit.is_some())
}

pub(super) fn unreadable(error: &serde_json::Error) -> ApiError {
    let known = "a line is one JSON object of run, token, progress, message, heartbeat, checkpoint, checkpoints, submit, \
         http";
    // It may quote the line, which is as long as its sender likes.
    let error: String = error.to_string().chars().take(QUOTE_CHARS_MAX).collect();
    failure(ErrorCode::BadRequest, format!("the line can't be read: {error}"), Some(known))
}

/// What a line reports, in its order of weight.
fn reports(line: &Line) -> Result<Vec<Report>, ApiError> {
    let mut reports = Vec::new();
    if line.progress.is_some() || line.message.is_some() {
        let done = line.progress.map(ten_thousandths).transpose()?;
        reports.push(Report::Progress { done, message: line.message.clone() });
    }
    if let Some(CheckpointLine { name, value }) = &line.checkpoint {
        if name.chars().any(char::is_control) {
            let message = "the name of a checkpoint must be printable";
            return Err(failure(ErrorCode::BadRequest, message, None));
        }
        reports.push(Report::Checkpoint { key: name.clone(), value: value.clone() });
    }
    // Whatever else it says shows that it lives, too.
    if line.heartbeat && reports.is_empty() {
        reports.push(Report::Heartbeat);
    }
    Ok(reports)
}

fn ten_thousandths(progress: f64) -> Result<u16, ApiError> {
    let wrong = || failure(ErrorCode::BadRequest, format!("progress is {progress}; it must be 0 to 1"), None);
    if !(0.0..=1.0).contains(&progress) {
        return Err(wrong());
    }
    // As text, since numbers with a point turn into whole ones by a cast only, and casts don't say when they fail.
    format!("{:.0}", progress * WHOLE).parse().map_err(|_| wrong())
}

fn refused(error: &CommandError) -> ApiError {
    let message = error.to_string();
    match error {
        CommandError::Refused(Refusal::NotRunning) => failure(ErrorCode::NotFound, message, None),
        CommandError::Refused(Refusal::TooMany { .. }) => {
            failure(ErrorCode::Conflict, message, Some("an empty value forgets a checkpoint"))
        }
        CommandError::Refused(_) => failure(ErrorCode::BadRequest, message, None),
        CommandError::Busy => failure(ErrorCode::Busy, message, Some("try again in a moment")),
        CommandError::Full => failure(ErrorCode::DiskFull, message, Some("free some space on that disk")),
        CommandError::Store(_) => failure(ErrorCode::Internal, message, Some("see daemon.log in the data directory")),
        CommandError::Stopped => {
            failure(ErrorCode::Draining, message, Some("connect again: the run goes on when the node does"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_tests::fuzz::Target;

    use super::*;

    fn read(text: &str) -> Result<Vec<Report>, ApiError> {
        reports(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn fuzz_lines() {
        let samples = [
            r#"{"run":"01890a5d-ac96-774b-bcce-b302099a8057:3","token":"x","progress":0.25,"message":"half"}"#,
            r#"{"checkpoint":{"name":"page","value":"7"},"heartbeat":true}"#,
            r#"{"checkpoints":true}"#,
            r#"{"http":{"url":"http://a/","method":"PUT","headers":{"a":"b"},"body":"c","redirects":0}}"#,
            r#"{"submit":{"spec":{"job_type":"t","task":{"noop":{}}}}}"#,
        ];
        let target = samples.iter().fold(Target::text("task-line"), Target::sample);
        target.run(|bytes| -> Result<(), String> {
            let line: Line = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            let _ = line.run.as_deref().map(RunId::parse);
            reports(&line).map(drop).map_err(|error| error.message)
        });
    }

    #[test]
    fn a_secret_is_taken_out_of_whatever_a_line_says() {
        let mut secrets = jobmesh_executors::Secrets::default();
        let value = jobmesh_executors::Secret::new("hun\"ter2".to_owned());
        secrets.insert("TOKEN".to_owned(), "registry".to_owned(), value);
        let redaction = Redaction::of(&secrets).unwrap();
        let line = r#"{"message":"it is hun\u0022\u0074er2","checkpoint":{"name":"hun\"ter2","value":"hun\"ter2!"},
            "submit":{"spec":{"job_type":"t","labels":{"hun\"ter2":"hun\"ter2"},"task":{"process":{"argv":["echo","hun\"ter2"]}}}}}"#;
        let line = clean(&redaction, line.as_bytes()).unwrap();
        assert!(!format!("{line:?}").contains("ter2"), "{line:?}");
        let message = Some("it is [secret registry]".to_owned());
        let checkpoint =
            Report::Checkpoint { key: "[secret registry]".to_owned(), value: "[secret registry]!".to_owned() };
        assert_eq!(reports(&line).unwrap(), [Report::Progress { done: None, message }, checkpoint]);
    }

    #[test]
    fn a_line_may_say_several_things() {
        let message = Some("half".to_owned());
        let progress = Report::Progress { done: Some(5000), message: message.clone() };
        assert_eq!(read(r#"{"progress":0.5,"message":"half"}"#).unwrap(), [progress]);
        assert_eq!(read(r#"{"message":"half"}"#).unwrap(), [Report::Progress { done: None, message }]);
        assert_eq!(read(r#"{"heartbeat":true}"#).unwrap(), [Report::Heartbeat]);
        assert_eq!(read(r#"{"heartbeat":false}"#).unwrap(), []);
        let checkpoint = Report::Checkpoint { key: "a".to_owned(), value: "1".to_owned() };
        assert_eq!(read(r#"{"heartbeat":true,"checkpoint":{"name":"a","value":"1"}}"#).unwrap(), [checkpoint]);
        assert!(read(r#"{"checkpoint":{"name":"a\u0000","value":"1"}}"#).is_err());
    }

    #[test]
    fn progress_is_a_part_of_one() {
        for (text, done) in [("0", 0), ("1", 10_000), ("0.42", 4200), ("1e-5", 0), ("0.99999", 10_000)] {
            assert_eq!(ten_thousandths(text.parse().unwrap()).unwrap(), done, "{text}");
        }
        for text in ["-0.1", "1.0001", "42", "NaN", "inf"] {
            let error = ten_thousandths(text.parse().unwrap()).unwrap_err();
            assert!(error.message.contains("0 to 1"), "{}", error.message);
        }
    }
}
