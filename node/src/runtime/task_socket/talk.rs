//! What the lines on the socket of tasks mean, and their answers.

use std::collections::BTreeMap;

use jobmesh_engine::{Command, Refusal, Report, Response, Taken};
use jobmesh_executors::Redaction;
use jobmesh_protocol::{RunId, Submission};
use serde::{Deserialize, Serialize};

use super::super::guarded;
use super::super::handle::{CommandError, Handle};
use crate::api::{ApiError, ErrorBody, ErrorCode, Submitted, number_parts};

/// All of it, in the engine's measure.
const WHOLE: f64 = 10_000.0;

/// One line from a job.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
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
    /// Whom a good token has proved the other one to be.
    run: Option<RunId>,
}

impl Talk {
    pub(super) const fn new(handle: Handle) -> Self {
        Self { handle, run: None }
    }

    /// Whether it is known whose talk it is.
    pub(super) const fn is_introduced(&self) -> bool {
        self.run.is_some()
    }

    /// Does what a line says.
    pub(super) async fn answer(&mut self, line: &[u8]) -> Reply {
        match self.perform(line).await {
            Ok(done) => Reply::Done(done),
            Err(error) => Reply::Error(error),
        }
    }

    async fn perform(&mut self, line: &[u8]) -> Result<Done, ApiError> {
        let bytes = line;
        let line: Line = serde_json::from_slice(bytes).map_err(|error| unreadable(&error))?;
        let run = self.introduce(&line)?;
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
        Ok(Done { ok: true, checkpoints, submitted })
    }

    /// Takes on a job for a job of this node. One that a peer sent has no business with our queue.
    async fn submit(&self, run: RunId, submission: Submission) -> Result<Submitted, ApiError> {
        let is_ours = self.handle.read(move |view| Ok(view.job(run.job)?.is_some_and(|job| job.origin.is_none())));
        if !is_ours.await.map_err(|error| failure(ErrorCode::Internal, error.to_string(), None))? {
            return Err(failure(ErrorCode::BadRequest, "only a job of this node may submit to its queue", None));
        }
        if let Some(blob) = submission.spec.blobs().find(|blob| !self.handle.blobs().has(*blob)) {
            let message = format!("the input {} is not on this node", blob.hash.short());
            return Err(failure(ErrorCode::BadRequest, message, Some("upload it first: POST /v1/blobs")));
        }
        let answer = self.handle.command(Command::Submit(vec![submission])).await.map_err(|error| refused(&error))?;
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

fn unreadable(error: &serde_json::Error) -> ApiError {
    let known =
        "a line is one JSON object of run, token, progress, message, heartbeat, checkpoint, checkpoints, submit";
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
