//! What a person or a program asks for: the job spec.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::BlobRef;
use crate::requirement::{Requirement, RequirementError};
use crate::resources::Resources;
use crate::time::DurationMillis;

/// Largest encoded spec: it must fit into one award frame.
pub const SPEC_BYTES_MAX: usize = 64 * 1024;
/// Most arguments of a command.
pub const ARGV_MAX: usize = 4096;
/// Most requirements of one job: matching is linear in them.
pub const REQUIREMENTS_MAX: usize = 32;
/// Most labels of one job.
pub const LABELS_MAX: usize = 16;
/// Longest name, queue, type or label in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Most attempts that a job may ask for.
pub const ATTEMPTS_MAX: u32 = 1000;

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
    /// What it takes while it runs.
    #[serde(default)]
    pub resources: Resources,
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
    /// How many attempts may fail in all; 1 never retries.
    #[serde(default = "default_max_attempts")]
    pub max_attempts: u32,
    /// How long to wait before a retry.
    #[serde(default)]
    pub backoff: Backoff,
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

const fn default_max_attempts() -> u32 {
    1
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
            resources: Resources::default(),
            scope: Scope::default(),
            effects: Effects::default(),
            queue: default_queue(),
            priority: 0,
            timeout_ms: None,
            kill_grace_ms: default_kill_grace(),
            max_attempts: default_max_attempts(),
            backoff: Backoff::default(),
            labels: BTreeMap::new(),
        }
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
        if self.max_attempts == 0 || self.max_attempts > ATTEMPTS_MAX {
            return Err(SpecError::Attempts { found: self.max_attempts });
        }
        if self.timeout_ms == Some(DurationMillis(0)) {
            return Err(SpecError::Timeout);
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
        self.backoff.check()?;
        self.task.check()?;
        let size = crate::cbor::encode(self).len();
        if size > SPEC_BYTES_MAX {
            return Err(SpecError::TooLarge { size });
        }
        Ok(())
    }
}

fn check_name(what: &'static str, text: &str) -> Result<(), SpecError> {
    let printable = text.chars().all(|c| !c.is_control());
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !printable {
        return Err(SpecError::Name { what });
    }
    Ok(())
}

/// What runs: one variant per executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A process of the operating system.
    Process(ProcessTask),
}

impl Task {
    /// The executor's name, as in its capability tag `executor:NAME`.
    #[must_use]
    pub const fn executor(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
        }
    }

    /// The bytes that must be at the executor before the task can start.
    #[must_use]
    pub const fn input(&self) -> Option<BlobRef> {
        match self {
            Self::Process(process) => process.stdin,
        }
    }

    fn check(&self) -> Result<(), SpecError> {
        match self {
            Self::Process(process) => process.check(),
        }
    }
}

/// A command: its arguments are passed as they are, no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTask {
    /// Program and arguments. The program is looked up in the PATH of the node that runs it.
    pub argv: Vec<String>,
    /// The directory to run in; none is a fresh directory of the attempt. Only for local jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables added to the cleared environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What the process reads on standard input; none is an empty input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<BlobRef>,
}

impl ProcessTask {
    /// Runs `argv` in a fresh directory with an empty input.
    #[must_use]
    pub const fn new(argv: Vec<String>) -> Self {
        Self { argv, directory: None, environment: BTreeMap::new(), stdin: None }
    }

    fn check(&self) -> Result<(), SpecError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(SpecError::NoCommand);
        }
        if self.argv.len() > ARGV_MAX {
            return Err(SpecError::TooMany { what: "arguments", found: self.argv.len(), limit: ARGV_MAX });
        }
        let has_nul = |text: &String| text.contains('\0');
        if self.argv.iter().chain(&self.directory).chain(self.environment.values()).any(has_nul) {
            return Err(SpecError::Nul);
        }
        let bad_key = |key: &&String| key.is_empty() || key.contains(['=', '\0']);
        match self.environment.keys().find(bad_key) {
            Some(key) => Err(SpecError::Variable { name: key.clone() }),
            None => Ok(()),
        }
    }
}

/// Where a job may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// How the wait before a retry grows: `base × 2^(failures − 1)`, at most `max`, then jittered.
///
/// The jitter is "full" (AWS Architecture Blog, *Exponential Backoff And Jitter*) over the upper half, so that a
/// retry never comes at once: the wait is drawn from `[half, whole]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backoff {
    /// The wait after the first failure.
    pub base_ms: DurationMillis,
    /// The longest wait.
    pub max_ms: DurationMillis,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base_ms: DurationMillis::from_secs(2), max_ms: DurationMillis::from_secs(600) }
    }
}

impl Backoff {
    /// The wait after `failures` failures (≥ 1), jittered by `random`.
    #[must_use]
    pub fn wait(&self, failures: u32, random: u64) -> DurationMillis {
        let doublings = failures.saturating_sub(1).min(40);
        let whole = self.base_ms.0.saturating_mul(1 << doublings).min(self.max_ms.0);
        let half = whole / 2;
        DurationMillis(half + random % (whole - half + 1))
    }

    const fn check(&self) -> Result<(), SpecError> {
        if self.max_ms.0 < self.base_ms.0 {
            return Err(SpecError::Backoff);
        }
        Ok(())
    }
}

/// What is wrong with a job spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A name is empty, too long or not printable.
    #[error("the {what} must be 1 to {NAME_BYTES_MAX} printable bytes")]
    Name {
        /// Which name.
        what: &'static str,
    },
    /// No command to run.
    #[error("the job has no command; give one after `--`")]
    NoCommand,
    /// A NUL byte in an argument, variable or the directory.
    #[error("an argument, variable or the directory contains a NUL byte")]
    Nul,
    /// A variable's name can't be one.
    #[error("{name:?} can't be the name of an environment variable")]
    Variable {
        /// The name.
        name: String,
    },
    /// Attempts out of range.
    #[error("max_attempts is {found}; it must be 1 to {ATTEMPTS_MAX}")]
    Attempts {
        /// The number found.
        found: u32,
    },
    /// A timeout of zero.
    #[error("the timeout is 0; leave it out for no limit")]
    Timeout,
    /// The longest wait is below the first one.
    #[error("the longest backoff is shorter than the first one")]
    Backoff,
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

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_stays_in_the_upper_half() {
        let backoff = Backoff { base_ms: DurationMillis(100), max_ms: DurationMillis(1000) };
        assert_eq!(backoff.wait(1, 0), DurationMillis(50));
        assert_eq!(backoff.wait(1, 50), DurationMillis(100));
        assert_eq!(backoff.wait(3, 0), DurationMillis(200));
        assert_eq!(backoff.wait(u32::MAX, 500), DurationMillis(1000));
    }

    #[test]
    fn a_spec_without_a_command_is_refused() {
        let spec = JobSpec::new("x", Task::Process(ProcessTask::new(Vec::new())));
        assert_eq!(spec.check(), Err(SpecError::NoCommand));
    }

    #[test]
    fn a_spec_too_large_for_an_award_is_refused() {
        let spec = JobSpec::new("x", Task::Process(ProcessTask::new(vec!["a".repeat(SPEC_BYTES_MAX)])));
        assert!(matches!(spec.check(), Err(SpecError::TooLarge { .. })));
    }
}
