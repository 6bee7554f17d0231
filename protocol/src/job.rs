//! What a person or a program asks for: the job spec.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::BlobRef;
use crate::isolation::Isolation;
use crate::requirement::{Requirement, RequirementError};
use crate::resource::{Amount, Name, Quantity, Request, Requests};
use crate::retry::{Retry, RetryError};
use crate::task::{Task, TaskError};
use crate::time::{DurationMillis, LENGTH_MAX};

/// Largest encoded spec: it must fit into one award frame.
pub const SPEC_BYTES_MAX: usize = 64 * 1024;
/// Most requirements of one job: matching is linear in them.
pub const REQUIREMENTS_MAX: usize = 32;
/// Most labels of one job.
pub const LABELS_MAX: usize = 16;
/// Longest name, queue, type or label in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most rates of one job.
pub const RATES_MAX: usize = 8;
/// Most patterns of output files of one job.
pub const OUTPUT_PATTERNS_MAX: usize = 64;
/// Most secrets of one job.
pub const SECRETS_MAX: usize = 32;
/// Least memory that a job may ask for: 6 MiB, which is also the least that Docker gives a container.
///
/// What starts a run is charged to it, so that less than the kernel itself needs breaks the start and not the run: of 20
/// sandboxed `true` all ran with 2 MiB and none with 1 MiB, and with 32 KiB one neither started nor ended (Linux 6.18).
pub const MEMORY_BYTES_MIN: u64 = 6 << 20;
/// Longest period of a rate.
const PERIOD_MAX: DurationMillis = DurationMillis::from_secs(366 * 86_400);

/// A job as it was asked for. Never changes after submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// A name for people; need not be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The type that learning groups by. Ad-hoc commands use the command's own name.
    pub job_type: String,
    /// What runs.
    pub task: Task,
    /// What a node must have to run it. All must hold.
    #[serde(default)]
    pub requirements: Vec<Requirement>,
    /// What it takes while it runs: the first of these that fits.
    #[serde(default, skip_serializing_if = "Requests::is_default")]
    pub resources: Requests,
    /// Where it may run.
    #[serde(default)]
    pub scope: Scope,
    /// What running it twice would do.
    #[serde(default)]
    pub effects: Effects,
    /// The queue it waits in.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// Higher runs first.
    #[serde(default)]
    pub priority: i32,
    /// Longest execution of one attempt; none is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<DurationMillis>,
    /// How long a process may take to end after TERM before it is killed.
    #[serde(default = "default_kill_grace")]
    pub kill_grace_ms: DurationMillis,
    /// Longest silence of an attempt that promised to report; then it is ended as timed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<DurationMillis>,
    /// Whether and when it is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// How many jobs of the same key may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// How many jobs of the same key may start in a time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rates: Vec<Rate>,
    /// Most bytes that it may write to standard output and error together; none is the node's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes_max: Option<u64>,
    /// The files that its working directory begins with, as a [`Tree`](crate::tree::Tree); none is an empty directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<BlobRef>,
    /// Patterns of the files in its working directory that are kept as its output, such as `out/*.png`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// Names of secrets by the variable in which the task finds each. Their values never become part of a job.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// Whether it needs the network also where a node would keep it off: what comes from peers has none by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
    /// How well it must be kept apart at least; the node that runs it may ask for more, never for less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// How long it is kept after its end; none is up to the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_ms: Option<DurationMillis>,
    /// Free pairs for selection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn default_queue() -> String {
    "default".to_owned()
}

const fn default_kill_grace() -> DurationMillis {
    DurationMillis::from_secs(5)
}

impl JobSpec {
    /// A spec with every default, running `task`.
    #[must_use]
    pub fn new(job_type: impl Into<String>, task: Task) -> Self {
        Self {
            name: None,
            job_type: job_type.into(),
            task,
            requirements: Vec::new(),
            resources: Requests::default(),
            scope: Scope::default(),
            effects: Effects::default(),
            queue: default_queue(),
            priority: 0,
            timeout_ms: None,
            kill_grace_ms: default_kill_grace(),
            heartbeat_ms: None,
            retry: Retry::default(),
            concurrency: None,
            rates: Vec::new(),
            log_bytes_max: None,
            inputs: None,
            outputs: Vec::new(),
            secrets: BTreeMap::new(),
            network: false,
            isolation: None,
            keep_ms: None,
            labels: BTreeMap::new(),
        }
    }

    /// The bytes that must be at the executor before the job can start.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        self.task.blobs().into_iter().chain(self.inputs)
    }

    /// Checks every bound on a spec.
    ///
    /// # Errors
    /// [`SpecError`] names the field and its range.
    pub fn check(&self) -> Result<(), SpecError> {
        check_name("job type", &self.job_type)?;
        check_name("queue", &self.queue)?;
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        for (what, length) in [("timeout", self.timeout_ms), ("heartbeat", self.heartbeat_ms)] {
            if length == Some(DurationMillis(0)) {
                return Err(SpecError::Zero { what });
            }
        }
        for (what, length) in [
            ("timeout", self.timeout_ms),
            ("time between TERM and KILL", Some(self.kill_grace_ms)),
            ("heartbeat", self.heartbeat_ms),
            ("time to be kept", self.keep_ms),
        ] {
            if length.is_some_and(|length| length > LENGTH_MAX) {
                return Err(SpecError::TooLong { what });
            }
        }
        if self.log_bytes_max == Some(0) {
            return Err(SpecError::Zero { what: "log limit" });
        }
        self.check_limits()?;
        if matches!(self.task, Task::Builtin(_)) && self.scope != Scope::Local {
            return Err(SpecError::Builtin);
        }
        if self.requirements.len() > REQUIREMENTS_MAX {
            return Err(SpecError::TooMany {
                what: "requirements",
                found: self.requirements.len(),
                limit: REQUIREMENTS_MAX,
            });
        }
        if self.labels.len() > LABELS_MAX {
            return Err(SpecError::TooMany { what: "labels", found: self.labels.len(), limit: LABELS_MAX });
        }
        for requirement in &self.requirements {
            requirement.check()?;
        }
        self.retry.check()?;
        self.check_data()?;
        self.task.check()?;
        let size = crate::cbor::encode(self).len();
        if size > SPEC_BYTES_MAX {
            return Err(SpecError::TooLarge { size });
        }
        Ok(())
    }

    fn check_data(&self) -> Result<(), SpecError> {
        if self.outputs.len() > OUTPUT_PATTERNS_MAX {
            let found = self.outputs.len();
            return Err(SpecError::TooMany { what: "patterns of outputs", found, limit: OUTPUT_PATTERNS_MAX });
        }
        for pattern in &self.outputs {
            let has_bad_part = pattern.split('/').any(|part| matches!(part, "" | "." | ".."));
            if has_bad_part || pattern.len() > crate::tree::PATH_BYTES_MAX || pattern.contains('\0') {
                return Err(SpecError::Pattern { pattern: cut(pattern) });
            }
        }
        if self.secrets.len() > SECRETS_MAX {
            return Err(SpecError::TooMany { what: "secrets", found: self.secrets.len(), limit: SECRETS_MAX });
        }
        for (variable, name) in &self.secrets {
            check_name("name of a secret", name)?;
            crate::task::check_variable(variable)?;
            if is_set_by_nodes(variable) {
                return Err(SpecError::SecretVariable { variable: cut(variable) });
            }
            if self.task.environment().is_some_and(|own| own.contains_key(variable)) {
                return Err(SpecError::SecretClash { variable: cut(variable) });
            }
        }
        self.check_holes()
    }

    /// A hole for a secret that the job doesn't have would be sent as it stands.
    fn check_holes(&self) -> Result<(), SpecError> {
        let Task::Http(http) = &self.task else { return Ok(()) };
        let unknown = http.secret_holes().find(|variable| !self.secrets.contains_key(*variable));
        unknown.map_or(Ok(()), |variable| Err(SpecError::SecretHole { variable: cut(variable) }))
    }

    fn check_limits(&self) -> Result<(), SpecError> {
        if let Some(concurrency) = &self.concurrency {
            check_name("concurrency key", &concurrency.key)?;
            if concurrency.limit == 0 {
                return Err(SpecError::Zero { what: "concurrency limit" });
            }
        }
        if self.rates.len() > RATES_MAX {
            return Err(SpecError::TooMany { what: "rates", found: self.rates.len(), limit: RATES_MAX });
        }
        for rate in &self.rates {
            check_name("rate key", &rate.key)?;
            rate.limit.check()?;
        }
        self.check_memory()
    }

    /// Checks that whatever variant it runs with is enough to start it.
    fn check_memory(&self) -> Result<(), SpecError> {
        for demand in self.resources.variants().iter().flat_map(Request::demands) {
            if let Quantity::Amount(asked) = demand.quantity
                && demand.name == Name::MEM
                && asked < Amount::whole(MEMORY_BYTES_MIN)
            {
                return Err(SpecError::Memory { asked: asked.memory_text() });
            }
        }
        Ok(())
    }
}

/// The beginning of a text that a message can show.
fn cut(text: &str) -> String {
    text.chars().take(NAME_BYTES_MAX).collect()
}

/// Whether every node gives its jobs a variable of this name, so that one of the two values would be lost.
fn is_set_by_nodes(variable: &str) -> bool {
    matches!(variable, "PATH" | "HOME" | "USER" | "LOGNAME" | "SHELL" | "TMPDIR") || variable.starts_with("JOBMESH_")
}

/// Checks that a name is printable and neither empty, blank nor too long.
///
/// # Errors
/// [`SpecError::Name`] if it is.
pub fn check_name(what: &'static str, text: &str) -> Result<(), SpecError> {
    let printable = text.chars().all(|c| !c.is_control());
    if text.trim().is_empty() || text.len() > NAME_BYTES_MAX || !printable {
        return Err(SpecError::Name { what });
    }
    Ok(())
}

/// How many jobs of one key may run at once. Jobs that share a key should name the same limit; each keeps its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concurrency {
    /// The key.
    pub key: String,
    /// Most jobs of this key that run at once.
    pub limit: u32,
}

/// How many jobs of one key may start in a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The key.
    pub key: String,
    /// The limit.
    pub limit: RateLimit,
}

/// At most `count` starts in any `period`, written like `60/1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// How many.
    pub count: u32,
    /// In which time.
    pub period_ms: DurationMillis,
}

impl RateLimit {
    /// Checks the range of both numbers.
    ///
    /// # Errors
    /// [`SpecError::Rate`] if either is out of range.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.count == 0 || self.period_ms.0 == 0 || self.period_ms > PERIOD_MAX {
            return Err(SpecError::Rate);
        }
        Ok(())
    }
}

/// Where a job may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// On the node where it was submitted only.
    Local,
    /// On a peer only.
    Network,
    /// Here if this node can and is free, else on a peer.
    #[default]
    Hybrid,
}

/// What running a job a second time would do. Decides what may be run again after a node was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effects {
    /// Nothing but its output depends on it.
    Pure,
    /// Running it again leaves the world as running it once.
    #[default]
    Idempotent,
    /// Must not run again once it may have started; a lost attempt ends the job.
    Once,
}

/// What is wrong with a job spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A name is empty, blank, too long or not printable.
    #[error("the {what} must be 1 to {NAME_BYTES_MAX} printable bytes, not all of them blank")]
    Name {
        /// Which name.
        what: &'static str,
    },
    /// A task that can't be one.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A pattern of outputs that leads out of the working directory.
    #[error("{pattern:?} is no pattern of outputs: it must be a path inside the working directory, like out/*.png")]
    Pattern {
        /// The pattern, cut to size.
        pattern: String,
    },
    /// A secret for a variable that is not free.
    #[error("the variable {variable} is set by the node that runs the job; give the secret another, like TOKEN=NAME")]
    SecretVariable {
        /// The variable, cut to size.
        variable: String,
    },
    /// A variable with two values.
    #[error("the variable {variable} is given a value and a secret; one must go")]
    SecretClash {
        /// The variable, cut to size.
        variable: String,
    },
    /// A request that asks for a secret which the job doesn't have.
    #[error(
        "the request names the secret {variable:?}, which the job doesn't have; write it as {{{{secret:VARIABLE}}}}, with \
         --secret VARIABLE=NAME"
    )]
    SecretHole {
        /// The variable, cut to size.
        variable: String,
    },
    /// A limit of zero.
    #[error("the {what} is 0; leave it out for no limit")]
    Zero {
        /// Which limit.
        what: &'static str,
    },
    /// Too little memory to start anything with.
    #[error("mem={asked} is too little to start a job with; the least is {}M", MEMORY_BYTES_MIN >> 20)]
    Memory {
        /// What it asks for.
        asked: String,
    },
    /// A length of time beyond all sense.
    #[error("the {what} is longer than 100 years")]
    TooLong {
        /// Which one.
        what: &'static str,
    },
    /// A rate that makes no sense.
    #[error("a rate must allow at least 1 start in 1 ms to 366 days; write it like 60/1m")]
    Rate,
    /// A retry policy out of bounds.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// Housekeeping for another node.
    #[error("a builtin job keeps its own node in order; run it with the scope local")]
    Builtin,
    /// Too many of something.
    #[error("the job has {found} {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The whole spec is too large for a ticket.
    #[error("the job spec takes {size} bytes; the limit is {SPEC_BYTES_MAX}")]
    TooLarge {
        /// Its encoded size.
        size: usize,
    },
    /// A requirement is out of bounds.
    #[error("bad requirement")]
    Requirement(#[from] RequirementError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Content, HttpTask, ProcessTask};

    #[test]
    fn a_spec_without_a_command_is_refused() {
        let spec = JobSpec::new("x", Task::Process(ProcessTask::new(Vec::new())));
        assert_eq!(spec.check(), Err(SpecError::Task(TaskError::NoCommand)));
    }

    #[test]
    fn a_secret_for_a_variable_of_the_node_is_refused() {
        let check = |variable: &str| {
            let mut spec = JobSpec::new("x", Task::Noop {});
            spec.secrets.insert(variable.to_owned(), "key".to_owned());
            spec.check()
        };
        for variable in ["PATH", "HOME", "JOBMESH_TOKEN", "JOBMESH_"] {
            assert_eq!(check(variable), Err(SpecError::SecretVariable { variable: variable.to_owned() }));
        }
        assert_eq!((check("PATHS"), check("MY_JOBMESH_TOKEN")), (Ok(()), Ok(())));
    }

    /// One of the two won without a word.
    #[test]
    fn a_variable_with_a_value_and_a_secret_is_refused() {
        let mut task = ProcessTask::new(vec!["true".to_owned()]);
        task.environment.insert("TOKEN".to_owned(), "x".to_owned());
        let mut spec = JobSpec::new("x", Task::Process(task));
        spec.secrets.insert("KEY".to_owned(), "registry".to_owned());
        assert_eq!(spec.check(), Ok(()));
        spec.secrets.insert("TOKEN".to_owned(), "registry".to_owned());
        assert_eq!(spec.check(), Err(SpecError::SecretClash { variable: "TOKEN".to_owned() }));
    }

    /// A typing error was sent to the server as it stood.
    #[test]
    fn a_request_for_a_secret_that_the_job_does_not_have_is_refused() {
        let place = |at: usize, text: &str| {
            let mut http = HttpTask::new(format!("http://a/{}", if at == 0 { text } else { "" }));
            http.headers.insert("A".to_owned(), if at == 1 { text } else { "" }.to_owned());
            http.body = Some(Content::Text(if at == 2 { text } else { "" }.to_owned()));
            let mut spec = JobSpec::new("x", Task::Http(http));
            spec.secrets.insert("TOKEN".to_owned(), "registry".to_owned());
            spec.check()
        };
        let unknown = |variable: &str| Err(SpecError::SecretHole { variable: variable.to_owned() });
        for at in 0..3 {
            assert_eq!(place(at, "{{secret:TOKEN}}:{secret:x}{{x}}"), Ok(()));
            assert_eq!(place(at, "{{secret:TOKEN}}{{secret:nope}}"), unknown("nope"));
            assert_eq!(place(at, "{{secret: TOKEN }}"), unknown(" TOKEN "));
            assert_eq!(place(at, "{{secret:TOKEN}"), unknown("TOKEN}"));
        }
    }

    #[test]
    fn a_spec_with_too_little_memory_to_start_is_refused() {
        let check = |resources: &str| {
            let mut spec = JobSpec::new("x", Task::Noop {});
            spec.resources = resources.parse().unwrap_or_default();
            assert_eq!(spec.resources.to_string(), resources);
            spec.check().map_err(|error| error.to_string())
        };
        for (resources, asked) in
            [("mem=1", "1"), ("cpus=1,mem=64K", "64K"), ("cpus=1,mem=8M | mem=6291455", "6291455")]
        {
            let told = format!("mem={asked} is too little to start a job with; the least is 6M");
            assert_eq!(check(resources), Err(told));
        }
        for enough in ["mem=6M", "cpus=1,mem=8G", "mem=all", "cpus=1", "none", "x-mem=1"] {
            assert_eq!(check(enough), Ok(()), "{enough}");
        }
    }

    #[test]
    fn a_spec_too_large_for_an_award_is_refused() {
        let spec = JobSpec::new("x", Task::Process(ProcessTask::new(vec!["a".repeat(SPEC_BYTES_MAX)])));
        assert!(matches!(spec.check(), Err(SpecError::TooLarge { .. })));
    }
}
