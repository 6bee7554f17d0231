//! What the workers of Oban are here: a TOML file with an entry for each.
//!
//! ```toml
//! ["MyApp.Download"]
//! type = "download"
//! parameters = { url = "{{args.url}}" }
//!
//! ["MyApp.Report"]
//! command = ["make-report", "--month", "{{args.month}}", "{{args}}"]
//! timeout = "10m"
//! ```
//!
//! `{{…}}` names a value of the row: `args`, `meta`, or one of their fields by its path, `worker`, `queue` or `id`. A
//! value goes into one argument as it is; no shell reads it, so that nothing in it can become a command.

use std::collections::BTreeMap;
use std::path::Path;

use jobmesh_protocol::schedule::parse_length;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{JobSpec, Submission};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::JobTypes;
use super::record::Row;
use crate::import::{ImportError, name_of, program_of};

/// The entry of the workers that have none of their own.
const ANY: &str = "*";

/// What the workers are here. Without entries, every worker needs a mapping.
#[derive(Clone, Debug, Default)]
pub struct WorkerMap(BTreeMap<String, Entry>);

/// What one worker is here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Program and arguments.
    command: Option<Vec<String>>,
    /// The job type that does its work.
    #[serde(rename = "type")]
    job_type: Option<String>,
    /// What the job type is given.
    #[serde(default)]
    parameters: BTreeMap<String, String>,
    /// The queue; none is the one that it has there.
    queue: Option<String>,
    /// Variables of a command.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// Where a command runs.
    directory: Option<String>,
    /// Longest execution of one attempt.
    timeout: Option<String>,
    /// Whether its jobs are left out.
    #[serde(default)]
    skip: bool,
}

/// Why a job type makes no job of its parameters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TypeError {
    /// What is wrong, naming the type or the parameter.
    pub message: String,
}

/// Why a row has no submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unmapped {
    /// The map says nothing about its worker.
    Needed,
    /// The map says to leave it out.
    Skipped,
    /// The map asks for what the row does not have.
    Impossible(String),
}

impl WorkerMap {
    /// Reads a map.
    ///
    /// # Errors
    /// [`ImportError::Map`] says where it is no map, [`ImportError::MapEntry`] which entry makes no sense.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ImportError> {
        let map_error = |source| ImportError::Map { path: path.to_owned(), source };
        let entries: BTreeMap<String, Entry> = toml::from_str(text).map_err(map_error)?;
        for (worker, entry) in &entries {
            if let Err(problem) = entry.check() {
                return Err(ImportError::MapEntry { worker: worker.clone(), problem });
            }
        }
        let plain = |worker: String| worker.strip_prefix("Elixir.").map(str::to_owned).unwrap_or(worker);
        Ok(Self(entries.into_iter().map(|(worker, entry)| (plain(worker), entry)).collect()))
    }

    /// The submission that does the work of `row`, without what the row says beside it.
    pub(super) fn submission(&self, row: &Row, types: JobTypes<'_>) -> Result<Submission, Unmapped> {
        let entry = self.0.get(&row.worker).or_else(|| self.0.get(ANY)).ok_or(Unmapped::Needed)?;
        if entry.skip {
            return Err(Unmapped::Skipped);
        }
        entry.submission(row, types).map_err(Unmapped::Impossible)
    }
}

impl Entry {
    fn check(&self) -> Result<(), String> {
        match (&self.command, &self.job_type, self.skip) {
            (None, None, false) => return Err("needs a command, a type, or skip = true".to_owned()),
            (Some(_), Some(_), _) => return Err("has both a command and a type; keep one".to_owned()),
            (Some(command), None, _) if command.first().is_none_or(String::is_empty) => {
                return Err("has an empty command".to_owned());
            }
            (Some(_), None, _) if !self.parameters.is_empty() => {
                return Err("has parameters, which only a type takes; put {{args.NAME}} into the command".to_owned());
            }
            (None, Some(_), _) if !self.environment.is_empty() || self.directory.is_some() => {
                return Err("has an environment or a directory, which only a command takes".to_owned());
            }
            (Some(_) | None, Some(_) | None, _) => {}
        }
        if let Some(length) = self.timeout.as_deref().filter(|text| parse_length(text).is_none()) {
            return Err(format!("has the timeout {length:?}; write it like 90s or 10m"));
        }
        let texts = self.command.iter().flatten().chain(self.parameters.values()).chain(self.environment.values());
        texts.chain(&self.directory).try_for_each(|text| pieces(text).map(|_| ()))
    }

    fn submission(&self, row: &Row, types: JobTypes<'_>) -> Result<Submission, String> {
        let mut submission = match &self.job_type {
            Some(name) => {
                let parameters = self.parameters.iter().map(|(name, text)| Ok((name.clone(), parameter(text, row)?)));
                let parameters = parameters.collect::<Result<Map<String, Value>, String>>()?;
                types(name, &parameters).map_err(|error| error.to_string())?
            }
            None => Submission::new(self.command_spec(row)?),
        };
        submission.spec.queue = name_of(self.queue.as_deref().unwrap_or(&row.queue));
        if let Some(timeout) = self.timeout.as_deref().and_then(parse_length) {
            submission.spec.timeout_ms = Some(timeout);
        }
        Ok(submission)
    }

    fn command_spec(&self, row: &Row) -> Result<JobSpec, String> {
        let argv = self.command.iter().flatten().map(|text| fill(text, row)).collect::<Result<Vec<_>, _>>()?;
        let job_type = program_of(argv.first().map(String::as_str).unwrap_or_default());
        let mut process = ProcessTask::new(argv);
        process.directory = self.directory.as_deref().map(|text| fill(text, row)).transpose()?;
        for (name, text) in &self.environment {
            process.environment.insert(name.clone(), fill(text, row)?);
        }
        Ok(JobSpec::new(job_type, Task::Process(process)))
    }
}

/// A piece of a text with places.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece<'t> {
    Text(&'t str),
    Place(&'t str),
}

/// Takes a text with places apart. `Err` says what is wrong with one.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((path, next)) = after.split_once("}}") else {
            return Err(format!("has an open {{{{ in {text:?}"));
        };
        let path = path.trim();
        let first = path.split('.').next().unwrap_or_default();
        let is_whole = path == first;
        match first {
            "args" | "meta" => {}
            "worker" | "queue" | "id" if is_whole => {}
            _ => return Err(format!("asks for {{{{{path}}}}}; there are args, meta, worker, queue and id")),
        }
        found.push(Piece::Text(before));
        found.push(Piece::Place(path));
        rest = next;
    }
    found.push(Piece::Text(rest));
    found.retain(|piece| *piece != Piece::Text(""));
    Ok(found)
}

/// The text with the row's values in its places.
fn fill(text: &str, row: &Row) -> Result<String, String> {
    let mut filled = String::new();
    for piece in pieces(text)? {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Place(path) => {
                let value = value(path, row)?;
                filled.push_str(&value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
        }
    }
    Ok(filled)
}

/// The value of a parameter: a text that is one place keeps the type that the value has.
fn parameter(text: &str, row: &Row) -> Result<Value, String> {
    match pieces(text)?.as_slice() {
        [Piece::Place(path)] => value(path, row),
        _ => fill(text, row).map(Value::String),
    }
}

/// The value of a place. One that the row lacks, or null, is an error: an empty argument could mean anything.
fn value(path: &str, row: &Row) -> Result<Value, String> {
    let mut steps = path.split('.');
    let whole = match steps.next().unwrap_or_default() {
        "args" => Value::Object(row.args.clone()),
        "meta" => Value::Object(row.meta.clone()),
        "worker" => Value::from(row.worker.as_str()),
        "queue" => Value::from(row.queue.as_str()),
        _ => Value::from(row.id),
    };
    let found = steps.try_fold(&whole, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(fields) => fields.get(step),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    });
    found
        .filter(|value| !value.is_null())
        .cloned()
        .ok_or_else(|| format!("the map asks for {path}, which it does not have"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        match WorkerMap::parse(Path::new("map.toml"), text) {
            Ok(_) => String::new(),
            Err(ImportError::MapEntry { worker, problem }) => format!("{worker} {problem}"),
            Err(other) => format!("{other:?}").lines().next().unwrap_or_default().chars().take(9).collect(),
        }
    }

    #[test]
    fn an_entry_says_one_thing() {
        assert_eq!(problem("[A]\ncommand = ['x', '{{args.a.0}}-{{ id }}']"), "");
        assert_eq!(problem("[A]\ntype = 'download'\nparameters = { url = '{{args.url}}' }"), "");
        assert_eq!(problem("[A]"), "A needs a command, a type, or skip = true");
        assert_eq!(problem("[A]\ncommand = []"), "A has an empty command");
        assert_eq!(problem("[A]\ncommand = ['x']\ntype = 'y'"), "A has both a command and a type; keep one");
        assert_eq!(
            problem("[A]\ncommand = ['{{arg.url}}']"),
            "A asks for {{arg.url}}; there are args, meta, worker, queue and id"
        );
        assert_eq!(problem("[A]\ncommand = ['{{args']"), "A has an open {{ in \"{{args\"");
        assert_eq!(problem("[A]\ncommand = ['x']\ntimeout = '5'"), "A has the timeout \"5\"; write it like 90s or 10m");
        assert!(problem("[A]\ncomand = ['x']").starts_with("Map {"));
    }
}
