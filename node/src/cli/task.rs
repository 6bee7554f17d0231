//! `jobmesh task`: what a job says of itself while it runs.
//!
//! How far it is and what the next attempt needs to know goes through the socket in `$JOBMESH_SOCKET`; its outcome
//! and its result are files, which are read when it has ended.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jobmesh::api::{Checkpoints, ErrorBody};
use jobmesh_executors::{OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE, SOCKET_VARIABLE, TOKEN_VARIABLE};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::retry::WAIT_MAX;
use serde_json::{Value, json};

use crate::cli::time_words::parse_length;
use crate::cli::{Context, Exit, Failure, Kind};

/// All of it, in ten-thousandths.
const WHOLE: f64 = 10_000.0;
/// How long the node may take for an answer: a commit on a slow disk, and to spare.
const ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Args, Debug)]
#[command(after_help = "For use inside a job, which finds in its environment:
  JOBMESH_JOB, JOBMESH_ATTEMPT      its number, and which of its attempts this is
  JOBMESH_SOCKET, JOBMESH_RUN, JOBMESH_TOKEN
                                    where it reports, and what proves who it is
  JOBMESH_OUTCOME, JOBMESH_RESULT   the files that say how it ends and what came out
  JOBMESH_RESULTS                   with --reduce: the results of the jobs before it
  JOBMESH_ARRAY_JOB, JOBMESH_ARRAY_INDEX, JOBMESH_ITEM
                                    which task of an array it is
  JOBMESH_SCHEDULE, JOBMESH_INSTANT its schedule, and which instant of it this is, such as 2026-03-01T08:00:00.000Z
  JOBMESH_HOME                      the data directory of its node, unless another node sent it")]
pub(crate) struct Task {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say how far the job is, in per cent, and what it does
    Progress {
        /// How much is done, from 0 to 100
        #[arg(value_parser = parse_percent, allow_negative_numbers = true)]
        percent: u16,
        /// What it does, for people
        #[arg(allow_hyphen_values = true)]
        message: Option<String>,
    },
    /// Say what the job does
    Notify {
        /// What, for people
        #[arg(allow_hyphen_values = true)]
        message: String,
    },
    /// Say that the job lives, which it must do in time if it was submitted with --heartbeat
    Heartbeat {},
    /// Say what the result of the job is
    Result {
        /// The result, or `-` for what we read
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Remember something for the next attempt
    Checkpoint {
        #[command(subcommand)]
        action: Checkpoint,
    },
    /// Say what the end of this attempt means; the job has to end by itself then
    #[command(after_help = "The worse of what is said and what happens is believed: `error` and `permanent` count \
                            whatever the exit code, `ok` beside exit code 0 only, `snooze`, `cancel` and `release` \
                            beside 0 or 75. After another exit code, or a signal, the attempt has failed. Of several \
                            words the worst counts: `permanent`, `error`, `cancel`, `snooze`, `release`, `ok`.")]
    Outcome {
        #[command(subcommand)]
        outcome: Outcome,
    },
}

#[derive(Debug, Subcommand)]
enum Checkpoint {
    /// Write what was remembered; ends with 1 if that is nothing
    Get {
        /// Under which name
        name: String,
    },
    /// Remember this; an empty value forgets
    Set {
        /// Under which name
        name: String,
        /// What, or `-` for what we read
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
}

#[derive(Debug, Subcommand)]
enum Outcome {
    /// It did what it was asked
    Ok {},
    /// It failed, and may work another time
    Error {
        /// What went wrong
        #[arg(allow_hyphen_values = true)]
        message: String,
        /// How long to wait at least before the next attempt
        #[arg(long, value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
        retry_after: Option<DurationMillis>,
    },
    /// It failed, and would fail again
    Permanent {
        /// What went wrong
        #[arg(allow_hyphen_values = true)]
        message: String,
    },
    /// It goes on later; that costs no attempt
    Snooze {
        /// How much later: from 1 s to 366 days
        #[arg(value_name = "TIME", value_parser = parse_wait, allow_hyphen_values = true)]
        time: DurationMillis,
        /// Why
        #[arg(allow_hyphen_values = true)]
        reason: Option<String>,
    },
    /// It found that it is not wanted any more
    Cancel {
        /// Why
        #[arg(allow_hyphen_values = true)]
        reason: String,
    },
    /// It gives itself back, to be started again a second later, perhaps elsewhere; that costs no attempt
    Release {
        /// Why
        #[arg(allow_hyphen_values = true)]
        reason: Option<String>,
    },
}

impl Task {
    pub(crate) fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.action {
            Action::Progress { percent, message } => {
                say(json!({ "progress": f64::from(percent) / WHOLE, "message": message }))
            }
            Action::Notify { message } => say(json!({ "message": message })),
            Action::Heartbeat {} => say(json!({ "heartbeat": true })),
            Action::Result { value } => write(RESULT_VARIABLE, &given(value)?),
            Action::Checkpoint { action: Checkpoint::Get { name } } => recall(context, &name),
            Action::Checkpoint { action: Checkpoint::Set { name, value } } => {
                let value = String::from_utf8(given(value)?);
                let value = value.map_err(|_| Failure::new(Kind::Usage, "a checkpoint must be UTF-8"))?;
                say(json!({ "checkpoint": { "name": name, "value": value } }))
            }
            Action::Outcome { outcome } => say_outcome(&document(outcome)),
        }
    }
}

/// Writes what the end means, unless something worse was said before: a script goes on after what fails in it.
fn say_outcome(document: &Value) -> Result<Exit, Failure> {
    let path = variable(OUTCOME_VARIABLE)?;
    let said = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if said.is_some_and(|said| badness(&said) > badness(document)) {
        return Ok(Exit::OK);
    }
    write(OUTCOME_VARIABLE, document.to_string().as_bytes())
}

/// How bad it is what a document says; 0 for one that says nothing.
fn badness(document: &Value) -> usize {
    let word = document.get("outcome").and_then(Value::as_str);
    let known = ["ok", "release", "snooze", "cancel", "error", "permanent"];
    known.iter().position(|known| Some(*known) == word).map_or(0, |place| place + 1)
}

/// The document that `$JOBMESH_OUTCOME` takes.
fn document(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Ok {} => json!({ "outcome": "ok" }),
        Outcome::Error { message, retry_after: None } => json!({ "outcome": "error", "message": message }),
        Outcome::Error { message, retry_after: Some(time) } => {
            json!({ "outcome": "error", "message": message, "retry_after": time.0 })
        }
        Outcome::Permanent { message } => json!({ "outcome": "permanent", "message": message }),
        Outcome::Snooze { time, reason } => json!({ "outcome": "snooze", "for": time.0, "message": reason }),
        Outcome::Cancel { reason } => json!({ "outcome": "cancel", "message": reason }),
        Outcome::Release { reason } => json!({ "outcome": "release", "message": reason }),
    }
}

fn variable(name: &'static str) -> Result<PathBuf, Failure> {
    let missing = || {
        Failure::new(Kind::Usage, format!("{name} is not set; `jobmesh task` works inside a job only"))
            .hint("try it with `jobmesh run -- jobmesh task progress 50`")
    };
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from).ok_or_else(missing)
}

/// Says one line to the node that runs us, and reads its answer.
fn talk(mut line: Value) -> Result<String, Failure> {
    let text = |name: &'static str| Ok::<_, Failure>(variable(name)?.display().to_string());
    if let Some(fields) = line.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        fields.insert("run".to_owned(), text(RUN_VARIABLE)?.into());
        fields.insert("token".to_owned(), text(TOKEN_VARIABLE)?.into());
    }
    let socket = variable(SOCKET_VARIABLE)?;
    let answer = exchange(&socket, &line.to_string()).map_err(|error| {
        let message = format!("failed to talk to the node at {}: {error}", socket.display());
        Failure::new(Kind::Unreachable, message).hint("is the node that runs this job up?")
    })?;
    match serde_json::from_str::<ErrorBody>(&answer) {
        Ok(ErrorBody { error }) => Err(Failure::from(error)),
        Err(_) => Ok(answer),
    }
}

fn exchange(socket: &Path, line: &str) -> std::io::Result<String> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    std::io::BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer)
}

fn say(line: Value) -> Result<Exit, Failure> {
    talk(line)?;
    Ok(Exit::OK)
}

fn recall(context: &Context, name: &str) -> Result<Exit, Failure> {
    let answer = talk(json!({ "checkpoints": true }))?;
    let all: Checkpoints = serde_json::from_str(&answer)
        .map_err(|error| Failure::new(Kind::Internal, format!("the node's answer does not parse: {error}")))?;
    let Some(value) = all.checkpoints.get(name) else { return Ok(Exit::FAILED) };
    context.output.show(&json!({ "name": name, "value": value }), |_| format!("{value}\n"))?;
    Ok(Exit::OK)
}

fn given(value: String) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    if value != "-" {
        return Ok(value.into_bytes());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(Kind::File, format!("failed to read the value: {error}")))?;
    Ok(bytes)
}

/// Writes the file that a variable names, whole or not at all.
fn write(name: &'static str, bytes: &[u8]) -> Result<Exit, Failure> {
    let path = variable(name)?;
    replace(&path, bytes)
        .map_err(|error| Failure::new(Kind::File, format!("failed to write {}: {error}", path.display())))?;
    Ok(Exit::OK)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(name);
    std::fs::write(&beside, bytes)?;
    std::fs::rename(&beside, path)
}

/// Reads how long the next attempt is put off.
fn parse_wait(text: &str) -> Result<DurationMillis, String> {
    let wait = parse_length(text)?;
    if wait > WAIT_MAX { Err("the longest wait is 366 days".to_owned()) } else { Ok(wait) }
}

/// Reads a part of a hundred as ten-thousandths, rounded to the nearest.
fn parse_percent(text: &str) -> Result<u16, String> {
    let wrong = || "write it as a number from 0 to 100, such as 40 or 99.5".to_owned();
    let number = text.strip_suffix('%').unwrap_or(text);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let mut digits = whole.bytes().chain(decimals.bytes());
    if (whole.is_empty() && decimals.is_empty()) || !digits.all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let (told, rest) = decimals.split_at_checked(2).unwrap_or((decimals, ""));
    let rounded = u16::from(rest.starts_with(['5', '6', '7', '8', '9']));
    let done = format!("{whole}{told:0<2}").parse::<u16>().ok().and_then(|done| done.checked_add(rounded));
    done.filter(|done| *done <= 10_000).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cents_are_read_exactly() {
        for (text, done) in [("0", 0), ("40", 4000), ("99.5", 9950), ("100%", 10_000), ("0.01", 1), (".5", 50)] {
            assert_eq!(parse_percent(text), Ok(done), "{text}");
        }
        for (text, done) in [("33.333", 3333), ("66.66666666666667", 6667), ("99.999", 10_000), ("0.001", 0)] {
            assert_eq!(parse_percent(text), Ok(done), "{text}");
        }
        for text in ["", "101", "100.01", "-1", "1e1", ".", "%", "1.2.3", "99999999999999999999"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wait_has_its_limit() {
        assert_eq!(parse_wait("366d"), Ok(WAIT_MAX));
        assert!(parse_wait("2y").is_err_and(|error| error.contains("366 days")));
    }

    #[test]
    fn an_outcome_is_a_document_that_the_executor_reads() {
        let snooze = Outcome::Snooze { time: DurationMillis(300_000), reason: None };
        assert_eq!(document(snooze), json!({ "outcome": "snooze", "for": 300_000, "message": null }));
        let error = Outcome::Error { message: "x".to_owned(), retry_after: None };
        assert_eq!(document(error), json!({ "outcome": "error", "message": "x" }));
    }
}
