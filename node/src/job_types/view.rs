//! A job type as it is shown: by `jobmesh types show`, as text, and by the control API, as JSON.

use std::collections::BTreeMap;
use std::fmt;

use jobmesh_protocol::schedule::format_length;
use serde::{Deserialize, Serialize};

use crate::job_types::other::Other;
use crate::job_types::work::{Argument, Executor};
use crate::job_types::{JobType, Parameter, Source};

/// Everything about a job type that people look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeView {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `built-in`, `built-in, changed` or `declared`.
    pub source: String,
    /// Whether jobs of it can be submitted.
    pub enabled: bool,
    /// What runs it.
    pub executor: String,
    /// What the node does itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// What other work than a command is about, as it is written: `url`, `prompt` and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub work: BTreeMap<String, String>,
    /// The arguments as they are written. Those in one element are left out together if a value is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<Vec<String>>,
    /// The shell text as it is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// The queue of its jobs.
    pub queue: String,
    /// Their priority.
    pub priority: i32,
    /// How often a failed one is tried again.
    pub retries: u32,
    /// How long an attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// What they take while they run, if that is said; else it is one processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes: Option<String>,
    /// What a node must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    /// The files of this machine that its jobs begin with, as they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Which files of its jobs are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<String>,
    /// When it is submitted by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<ParameterView>,
}

/// Everything about a parameter that people look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterView {
    /// Its name.
    pub name: String,
    /// The word for its kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its value must be, for people.
    pub wanted: String,
    /// Whether a job must give it.
    pub required: bool,
    /// Its value where a job gives none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// A value that shows what is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl JobType {
    /// The type as it is shown.
    #[must_use]
    pub fn view(&self) -> TypeView {
        let (work, policy) = (&self.declaration.work, &self.declaration.policy);
        let executor = work.executor();
        let builtin = work.builtin.as_ref().filter(|_| executor == Executor::Builtin);
        let other = work.other.as_ref().map(|other| &other.value);
        let written = |argument: &Argument| {
            let texts = argument.templates().iter().map(|template| template.written().to_owned());
            texts.collect::<Vec<String>>()
        };
        let arguments = work.command.iter().flat_map(|command| &command.value);
        let arguments = arguments.chain(other.into_iter().flat_map(Other::arguments)).map(written);
        let requirements = policy.requirements.iter().flat_map(|list| &list.value);
        TypeView {
            name: self.name.clone(),
            description: self.declaration.description.as_ref().map(|text| text.value.clone()),
            source: self.source.words().to_owned(),
            enabled: self.is_enabled,
            executor: executor.word().to_owned(),
            builtin: builtin.map(|builtin| builtin.value.word().to_owned()),
            work: other.map(Other::words).unwrap_or_default(),
            command: arguments.collect(),
            shell: work.shell.as_ref().map(|shell| shell.value.written().to_owned()),
            queue: policy.queue.as_ref().map_or_else(|| "default".to_owned(), |queue| queue.value.clone()),
            priority: policy.priority.as_ref().map_or(0, |priority| priority.value),
            retries: policy.retries.as_ref().map_or(0, |retries| retries.value),
            timeout: policy.timeout.as_ref().and_then(|timeout| timeout.value).map(format_length),
            takes: self.declaration.demands.words(),
            requirements: requirements.map(|template| template.written().to_owned()).collect(),
            inputs: self.declaration.inputs.written(),
            outputs: self.declaration.grants.outputs().to_vec(),
            schedule: self.plan().map(plan_words),
            parameters: self.parameters.iter().map(ParameterView::of).collect(),
        }
    }
}

impl Source {
    const fn words(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Changed => "built-in, changed",
            Self::Declared => "declared",
        }
    }
}

fn plan_words(plan: &super::Plan) -> String {
    let timing = &plan.timing;
    let zone = if timing.zone == "UTC" { String::new() } else { format!(" in {}", timing.zone) };
    format!("{}{zone}, overlap {}, catch-up {}", timing.text, plan.overlap.word(), plan.catch_up)
}

impl ParameterView {
    fn of(parameter: &Parameter) -> Self {
        Self {
            name: parameter.name.clone(),
            kind: parameter.kind.word().to_owned(),
            wanted: parameter.kind.words(),
            required: parameter.is_required && parameter.default.is_none(),
            default: parameter.default.clone(),
            example: parameter.example.clone(),
            description: parameter.description.clone(),
        }
    }
}

impl TypeView {
    /// The command in one line: arguments with spaces in quotes, those that belong together in brackets.
    fn command_words(&self) -> String {
        let quoted = |text: &String| {
            let is_plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "'\"[]".contains(c));
            if is_plain { text.clone() } else { format!("{text:?}") }
        };
        let group = |group: &Vec<String>| {
            let words = group.iter().map(quoted).collect::<Vec<_>>().join(" ");
            if group.len() == 1 { words } else { format!("[{words}]") }
        };
        self.command.iter().map(group).collect::<Vec<_>>().join(" ")
    }

    /// A command that submits a job of it, with the examples of its parameters; `None` if the node does it by itself.
    #[must_use]
    pub fn usage(&self) -> Option<String> {
        if self.executor == "builtin" {
            return None;
        }
        let given = self.parameters.iter().filter(|parameter| parameter.required);
        let pairs = given.map(|parameter| {
            let value = parameter.example.clone().unwrap_or_else(|| parameter.kind.to_uppercase());
            let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "/.:_-".contains(c));
            let quote = if is_plain { "" } else { "'" };
            format!(" -P {}={quote}{}{quote}", parameter.name, value.replace('\'', "'\\''"))
        });
        Some(format!("jobmesh submit --type {}{}", self.name, pairs.collect::<String>()))
    }
}

impl fmt::Display for TypeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}{}", self.name, if self.enabled { "" } else { " (disabled)" })?;
        if let Some(description) = &self.description {
            writeln!(f, "  {description}.")?;
        }
        let lines = [
            ("source", Some(self.source.clone())),
            ("executor", Some(self.executor.clone())),
            ("queue", Some(self.queue.clone())),
            ("priority", (self.priority != 0).then(|| self.priority.to_string())),
            ("timeout", self.timeout.clone()),
            ("retries", (self.retries != 0).then(|| self.retries.to_string())),
            ("takes", self.takes.clone()),
            ("requires", (!self.requirements.is_empty()).then(|| self.requirements.join(", "))),
            ("inputs", (!self.inputs.is_empty()).then(|| self.inputs.join(", "))),
            ("outputs", (!self.outputs.is_empty()).then(|| self.outputs.join(", "))),
            ("schedule", self.schedule.clone()),
            ("does", self.builtin.clone()),
            ("command", (!self.command.is_empty()).then(|| self.command_words())),
        ];
        writeln!(f)?;
        for (label, text) in lines {
            if let Some(text) = text {
                writeln!(f, "  {label:<10}{text}")?;
            }
        }
        for (label, text) in &self.work {
            writeln!(f, "  {label:<10}{}", text.trim_end().replace('\n', "\n            "))?;
        }
        if let Some(shell) = &self.shell {
            writeln!(f, "\nShell:")?;
            for line in shell.trim_end().lines() {
                writeln!(f, "{}", format!("  {line}").trim_end())?;
            }
        }
        if !self.parameters.is_empty() {
            writeln!(f, "\nParameters:")?;
        }
        for parameter in &self.parameters {
            parameter.fmt(f)?;
        }
        self.usage().map_or(Ok(()), |usage| writeln!(f, "\nExample:\n  {usage}"))
    }
}

impl fmt::Display for ParameterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<14}{}", self.name, self.wanted)?;
        match &self.default {
            Some(default) => writeln!(f, "; {default:?} unless given")?,
            None if self.required => writeln!(f, "; required")?,
            None => writeln!(f)?,
        }
        self.description.as_ref().map_or(Ok(()), |text| writeln!(f, "  {:<14}{text}", ""))
    }
}
