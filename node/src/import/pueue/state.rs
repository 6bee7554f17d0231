//! The document in which pueue keeps its state, as its versions 2 to 4 write it.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::UnixMillis;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::import::{ImportError, check_lines, order, parse_time};

/// All that is read of a state, checked.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) tasks: BTreeMap<u64, StoredTask>,
    pub(super) groups: BTreeMap<String, Group>,
    statuses: BTreeMap<u64, Status>,
}

/// The document. What is not named is not needed. Its tasks are read one by one, so that a fault is that of a task.
#[derive(Debug, Deserialize)]
struct Document {
    tasks: BTreeMap<u64, Value>,
    #[serde(default)]
    groups: BTreeMap<String, Group>,
}

/// A task of the document.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StoredTask {
    pub(super) command: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) envs: BTreeMap<String, String>,
    #[serde(default = "default_group")]
    pub(super) group: String,
    #[serde(default)]
    pub(super) dependencies: Vec<u64>,
    #[serde(default, deserialize_with = "priority")]
    pub(super) priority: i32,
    #[serde(default)]
    pub(super) label: Option<String>,
    #[serde(default)]
    pub(super) created_at: Option<String>,
    status: Value,
}

fn priority<'d, D: Deserializer<'d>>(from: D) -> Result<i32, D::Error> {
    let value = Value::deserialize(from)?;
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    let wrong = || format!("its priority is {value}; it must be a whole number from {} to {}", i32::MIN, i32::MAX);
    number.ok_or_else(|| D::Error::custom(wrong()))
}

fn default_group() -> String {
    "default".to_owned()
}

impl StoredTask {
    /// When it was added, if the version of pueue wrote that down.
    pub(super) fn made_at(&self) -> Option<UnixMillis> {
        parse_time(self.created_at.as_deref()?)
    }
}

/// A group of the document.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Group {
    #[serde(default)]
    pub(super) status: GroupStatus,
    #[serde(default = "one")]
    pub(super) parallel_tasks: u32,
}

const fn one() -> u32 {
    1
}

/// What a group does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) enum GroupStatus {
    /// It starts tasks.
    #[default]
    Running,
    /// It starts none.
    Paused,
    /// It is being emptied.
    Reset,
}

/// Where a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It waits for its turn.
    Queued,
    /// It waits for a person, or for a time.
    Stashed { enqueue_at: Option<UnixMillis> },
    /// It is being edited.
    Locked,
    /// It runs.
    Running,
    /// It was stopped in the middle.
    Paused,
    /// It has ended.
    Done { is_success: bool, words: String },
}

impl State {
    /// Reads the document.
    pub(super) fn parse(text: &str) -> Result<Self, ImportError> {
        check_nul(text)?;
        let wrong = |source| ImportError::Json { what: "state of pueue".to_owned(), source };
        let document: Document = serde_json::from_str(text).map_err(wrong)?;
        let (mut tasks, mut statuses) = (BTreeMap::new(), BTreeMap::new());
        for (id, task) in document.tasks {
            let wrong = |problem: String| ImportError::Form { place: format!("task {id}"), problem };
            let task = StoredTask::deserialize(task).map_err(|error| wrong(error.to_string()))?;
            statuses.insert(id, status(&task.status).map_err(wrong)?);
            tasks.insert(id, task);
        }
        Ok(Self { tasks, groups: document.groups, statuses })
    }

    /// Where a task is; none if there is no such task.
    pub(super) fn status(&self, id: u64) -> Option<&Status> {
        self.statuses.get(&id)
    }

    /// The tasks that wait, through others, for themselves, and those that wait for them.
    pub(super) fn circular(&self) -> BTreeSet<u64> {
        let waits = self.tasks.iter().map(|(id, task)| (*id, task.dependencies.clone())).collect();
        let settled: BTreeSet<u64> = order::rounds(&waits).into_iter().flatten().collect();
        self.tasks.keys().copied().filter(|id| !settled.contains(id)).collect()
    }
}

/// The document is one long line or many short ones: only the NUL bytes matter.
fn check_nul(text: &str) -> Result<(), ImportError> {
    match text.find('\0') {
        None => Ok(()),
        Some(_) => check_lines(text).and(Err(ImportError::Nul { line: 1 })),
    }
}

/// Reads a status: a word, or a word with its details. `Err` says what is wrong with it.
fn status(value: &Value) -> Result<Status, String> {
    let (word, details) = word_and_details(value).ok_or_else(|| format!("{value} is no status"))?;
    match word {
        "Queued" => Ok(Status::Queued),
        "Locked" => Ok(Status::Locked),
        "Running" => Ok(Status::Running),
        "Paused" => Ok(Status::Paused),
        "Stashed" => {
            let at = details.get("enqueue_at").filter(|at| !at.is_null());
            let time = |at: &Value| at.as_str().and_then(parse_time).ok_or_else(|| format!("{at} is no time"));
            Ok(Status::Stashed { enqueue_at: at.map(time).transpose()? })
        }
        // Version 4 has the result among other details, the versions before have nothing else.
        "Done" => done(details.get("result").unwrap_or(details)),
        other => Err(format!("{other:?} is no status")),
    }
}

fn done(result: &Value) -> Result<Status, String> {
    let (word, details) = word_and_details(result).ok_or_else(|| format!("{result} is no result"))?;
    let words = match (word, details) {
        ("Success", _) => "it succeeded".to_owned(),
        ("Failed", code) => format!("it failed with exit code {code}"),
        ("FailedToSpawn", why) => format!("it could not be started: {}", why.as_str().unwrap_or("no reason given")),
        ("Killed", _) => "it was killed".to_owned(),
        ("Errored", _) => "pueue lost track of it".to_owned(),
        ("DependencyFailed", _) => "what it waited for failed".to_owned(),
        (other, _) => return Err(format!("{other:?} is no result")),
    };
    Ok(Status::Done { is_success: word == "Success", words })
}

/// The two forms in which the name of a variant is written.
fn word_and_details(value: &Value) -> Option<(&str, &Value)> {
    match value {
        Value::String(word) => Some((word, &Value::Null)),
        Value::Object(fields) if fields.len() == 1 => {
            fields.iter().next().map(|(word, details)| (word.as_str(), details))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
