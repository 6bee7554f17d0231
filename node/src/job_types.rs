//! Job types: templates with typed parameters that make jobs.
//!
//! Some are built in (`job_types/builtin.toml`, read by the same code as the file of a person), more are declared in
//! `config.toml`. A declaration of a known name is laid over the built-in type key by key, one with `extends` over
//! the type that it names. The hard case is the value that wants to be more than a value: an argument stays one
//! argument, a shell reads it from a variable, and everything is checked against the parameter's type first.
//!
//! What can be judged without values is judged when the file is read: a hole for a parameter that is not declared,
//! a limit whose key might be missing, a schedule whose jobs would be refused.

mod declaration;
mod demands;
mod files;
mod grants;
mod inputs;
mod other;
mod parameter;
mod plan;
mod policy;
mod sharing;
mod shell;
mod template;
mod tools;
mod view;
mod work;

use std::collections::BTreeMap;

use jobmesh_engine::Schedule;
use jobmesh_protocol::JobSpec;
use jobmesh_protocol::requirement::RequirementError;
use jobmesh_protocol::resource::RequestError;
use jobmesh_protocol::submission::{Submission, SubmissionError};
use serde_json::Value;

use crate::causes::causes;
use crate::config::nearest::nearest;
use crate::config::table::{Document, Entry, Fault, Lined, Origin, Place};
use crate::job_types::declaration::Declaration;
use crate::job_types::other::Files;
use crate::job_types::template::{Template, Values};
use crate::job_types::work::Executor;

pub(crate) use crate::job_types::declaration::{Declarations, read_declarations};
pub use crate::job_types::inputs::Input;
pub use crate::job_types::parameter::{Kind, Parameter};
pub use crate::job_types::plan::Plan;
pub use crate::job_types::view::{ParameterView, TypeView};

const BUILT_IN: &str = include_str!("job_types/builtin.toml");
/// Longest chain of types that extend each other.
const EXTENDS_MAX: usize = 8;

/// All job types of a node, by name.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTypes(BTreeMap<String, JobType>);

/// One job type: what its jobs do, with holes for its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct JobType {
    name: String,
    source: Source,
    is_enabled: bool,
    parameters: Vec<Parameter>,
    declaration: Declaration,
    /// What is in the files that it names, once they have been read.
    files: Files,
}

/// Where a job type comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is built in.
    BuiltIn,
    /// It is built in, and the file changes it.
    Changed,
    /// It is declared in the file.
    Declared,
}

/// No job type of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no job type {name:?}{}; `jobmesh types ls` shows them all", did_you_mean(nearest.as_deref()))]
pub struct UnknownType {
    /// What was asked for.
    pub name: String,
    /// The one that was probably meant.
    pub nearest: Option<String>,
}

/// Why parameters make no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The type is switched off.
    #[error("the job type {job_type} is disabled; set `enabled = true` in [job_types.{job_type}] of config.toml")]
    Disabled {
        /// The type.
        job_type: String,
    },
    /// The type has no such parameter.
    #[error("{job_type} has no parameter {name:?}{}; it has {known}", did_you_mean(nearest.as_deref()))]
    Unknown {
        /// The type.
        job_type: String,
        /// What was given.
        name: String,
        /// The one that was probably meant.
        nearest: Option<String>,
        /// Those that there are, in words.
        known: String,
    },
    /// A parameter that must be given is not.
    #[error("{job_type} needs the parameter {name}; `jobmesh types show {job_type}` says what for")]
    Missing {
        /// The type.
        job_type: String,
        /// The parameter.
        name: String,
    },
    /// A value that can't be.
    #[error("the parameter {name} of {job_type} is {found}; it must be {wanted}")]
    Wrong {
        /// The type.
        job_type: String,
        /// The parameter.
        name: String,
        /// The value, cut to size.
        found: String,
        /// What it must be.
        wanted: String,
    },
    /// With these values, something that its jobs begin with is no file of this machine, or has no name for them.
    #[error("with these parameters, a job can't begin with {path:?}: {problem}")]
    Input {
        /// Where it would be.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Its jobs begin with files, and nobody is there who would read them.
    #[error("jobs of {job_type} begin with files, which are read when one is submitted with `--type {job_type}`")]
    Files {
        /// The type.
        job_type: String,
    },
    /// With these values, something that the type requires is no requirement.
    #[error("with these parameters, {text:?} is no requirement")]
    Requirement {
        /// The text.
        text: String,
        /// What is wrong with it.
        source: RequirementError,
    },
    /// What the type takes is no request. Its check keeps this from happening.
    #[error("what the job type takes is no request")]
    Resources(#[from] RequestError),
    /// With these values, the job is out of bounds.
    #[error("with these parameters, the job can't be queued")]
    Submission(#[from] SubmissionError),
}

impl ParameterError {
    fn missing(job_type: &str, name: &str) -> Self {
        Self::Missing { job_type: job_type.to_owned(), name: name.to_owned() }
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("; did you mean {nearest:?}?")).unwrap_or_default()
}

impl JobTypes {
    /// Lays what a file declares over what is built in.
    pub(crate) fn resolve(declared: Declarations) -> Result<Self, Fault> {
        let document = Document::parse(BUILT_IN, Origin::BuiltIn)?;
        let built_in = document.table()?.read("job_types", read_declarations)?.unwrap_or_default();
        let mut names: Vec<&String> = built_in.keys().chain(declared.keys()).collect();
        names.sort();
        names.dedup();
        let stack = Stack { built_in: &built_in, declared: &declared };
        let mut types = BTreeMap::new();
        for name in names {
            let source = match (built_in.contains_key(name), declared.contains_key(name)) {
                (true, true) => Source::Changed,
                (true, false) => Source::BuiltIn,
                (false, _) => Source::Declared,
            };
            let declaration = stack.flatten(name, 0)?;
            types.insert(name.clone(), JobType::new(name, source, declaration)?);
        }
        Ok(Self(types))
    }

    /// Every type, sorted by name, those that are disabled included.
    pub fn all(&self) -> impl ExactSizeIterator<Item = &JobType> {
        self.0.values()
    }

    /// The type of this name.
    ///
    /// # Errors
    /// [`UnknownType`] names the one that was probably meant.
    pub fn find(&self, name: &str) -> Result<&JobType, UnknownType> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
            UnknownType { name: name.chars().take(128).collect(), nearest: nearest(name, &known).map(str::to_owned) }
        })
    }

    /// The schedules of the enabled types, by the type's name.
    #[must_use]
    pub fn schedules(&self) -> BTreeMap<String, Schedule> {
        let schedule = |it: &JobType| Some((it.name.clone(), it.schedule()?));
        self.all().filter(|it| it.is_enabled).filter_map(schedule).collect()
    }
}

/// The declarations of both documents.
struct Stack<'d> {
    built_in: &'d Declarations,
    declared: &'d Declarations,
}

impl Stack<'_> {
    /// Everything that is said of a type, laid over each other: the file over what is built in, and both over what
    /// they extend.
    fn flatten(&self, name: &str, depth: usize) -> Result<Declaration, Fault> {
        let layers = [self.declared.get(name), self.built_in.get(name)].into_iter().flatten().cloned();
        // Only called with names that one of the two has.
        let Some(own) = layers.reduce(Declaration::over) else {
            return Err(Fault::new(Place { line: 1, origin: Origin::File }, format!("there is no job type {name:?}")));
        };
        let Some(Lined { value: base, place }) = own.extends.clone() else { return Ok(own) };
        let known: Vec<&str> = self.built_in.keys().chain(self.declared.keys()).map(String::as_str).collect();
        if !known.contains(&base.as_str()) {
            let meant = did_you_mean(nearest(&base, &known));
            return Err(Fault::new(
                place,
                format!("job_types.{name}.extends is {base:?}, which is no job type{meant}"),
            ));
        }
        if depth == EXTENDS_MAX || base == name {
            let problem =
                format!("job_types.{name} extends itself, or more than {EXTENDS_MAX} types one after the other");
            return Err(Fault::new(place, problem));
        }
        let extends = own.extends.clone();
        let mut flat = own.over(self.flatten(&base, depth + 1)?.without_schedule());
        flat.extends = extends;
        Ok(flat)
    }
}

impl JobType {
    fn new(name: &str, source: Source, declaration: Declaration) -> Result<Self, Fault> {
        let path = Lined { value: format!("job_types.{name}"), place: declaration.place };
        let parameters = declaration.parameters.iter().map(|(name, it)| it.resolve(name));
        let parameters = parameters.collect::<Result<Vec<_>, Fault>>()?;
        let is_enabled = declaration.is_enabled.as_ref().is_none_or(|is| is.value);
        let files = Files::new();
        let it = Self { name: name.to_owned(), source, is_enabled, parameters, declaration, files };
        it.check(&path)?;
        Ok(it)
    }

    fn check(&self, path: &Lined<String>) -> Result<(), Fault> {
        let names = Names(&self.parameters);
        let Declaration { work, policy, sharing, demands, plan, inputs, grants, .. } = &self.declaration;
        work.check(path, &names)?;
        policy.check(&path.value, self.is_builtin(), &names)?;
        sharing.check(&path.value, &names)?;
        demands.check(path)?;
        inputs.check(&path.value, &names, self.plan().is_some())?;
        if let Some(directory) = work.directory.as_ref().filter(|_| !inputs.is_empty() || !grants.outputs().is_empty())
        {
            let problem = format!("{}.directory stands beside inputs or outputs", path.value);
            let hint = "they are about the directory that a job has for itself; leave one of the two out";
            return Err(Fault::new(directory.place, problem).hint(hint));
        }
        if let Some(Lined { value: Some(plan), place }) = plan {
            self.build(&plan.parameters)
                .map_err(|error| Fault::new(*place, format!("{}.schedule can't be: {}", path.value, causes(&error))))?;
        }
        Ok(())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it comes from.
    #[must_use]
    pub const fn source(&self) -> Source {
        self.source
    }

    /// Whether jobs of it can be submitted and its schedule fires.
    #[must_use]
    pub const fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Its parameters, in the order in which they were written.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// When its jobs are submitted by themselves.
    #[must_use]
    pub fn plan(&self) -> Option<&Plan> {
        self.declaration.plan.as_ref().and_then(|plan| plan.value.as_ref())
    }

    /// Makes the submission of a job with these parameters: texts, numbers and truths, each checked by its type.
    /// Numbers and truths may be given as texts.
    ///
    /// # Errors
    /// [`ParameterError`] names the parameter, and what its value must be; [`ParameterError::Files`] if the job would
    /// begin with some.
    pub fn submission(&self, parameters: &BTreeMap<String, Value>) -> Result<Submission, ParameterError> {
        match self.draft(parameters)? {
            (submission, inputs) if inputs.is_empty() => Ok(submission),
            _ => Err(ParameterError::Files { job_type: self.name.clone() }),
        }
    }

    /// The same, and the files that are to become the job's inputs.
    ///
    /// # Errors
    /// [`ParameterError`] names the parameter, and what its value must be.
    pub fn draft(&self, parameters: &BTreeMap<String, Value>) -> Result<(Submission, Vec<Input>), ParameterError> {
        if !self.is_enabled {
            return Err(ParameterError::Disabled { job_type: self.name.clone() });
        }
        Ok((self.build(parameters)?, self.declaration.inputs.fill(&self.values(parameters)?)?))
    }

    fn build(&self, parameters: &BTreeMap<String, Value>) -> Result<Submission, ParameterError> {
        let values = self.values(parameters)?;
        let task = self.declaration.work.task(&self.name, &values, &self.files)?;
        // A path binds a job to this machine, unless what is there goes with it.
        let (worked_with, brought) = (self.declaration.work.names(), self.declaration.inputs.names());
        let is_brought = |name: &str| brought.contains(name) && !worked_with.contains(name);
        let names_path = |it: &Parameter| {
            matches!(it.kind, Kind::Path { .. }) && values.contains_key(&it.name) && !is_brought(&it.name)
        };
        let is_elsewhere = task.directory().is_some();
        let is_bound = self.parameters.iter().any(names_path) || is_elsewhere;
        let mut spec = JobSpec::new(self.name.clone(), task);
        spec.resources = self.declaration.demands.requests()?;
        self.declaration.grants.apply(&mut spec);
        self.declaration.policy.apply(&mut spec, &values, is_bound)?;
        let mut submission = Submission::new(spec);
        submission.start_within_ms = self.declaration.policy.start_within();
        self.declaration.sharing.apply(&mut submission, &values)?;
        submission.check()?;
        Ok(submission)
    }

    /// The checked text of every parameter that has a value.
    fn values(&self, given: &BTreeMap<String, Value>) -> Result<Values, ParameterError> {
        let known: Vec<&str> = self.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ParameterError::Unknown {
                job_type: self.name.clone(),
                name: name.chars().take(128).collect(),
                nearest: nearest(name, &known).map(str::to_owned),
                known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
            });
        }
        let mut values = Values::new();
        for parameter in &self.parameters {
            let text = match given.get(&parameter.name) {
                Some(value) => parameter.accept(value).map_err(|wanted| ParameterError::Wrong {
                    job_type: self.name.clone(),
                    name: parameter.name.clone(),
                    found: value.to_string().chars().take(128).collect(),
                    wanted,
                })?,
                None => match &parameter.default {
                    Some(default) => default.clone(),
                    None if parameter.is_required => return Err(ParameterError::missing(&self.name, &parameter.name)),
                    None => continue,
                },
            };
            values.insert(parameter.name.clone(), text);
        }
        Ok(values)
    }

    /// Its schedule, whether it is enabled or not.
    fn schedule(&self) -> Option<Schedule> {
        let plan = self.plan()?;
        // Was built once when the type was made.
        let submission = self.build(&plan.parameters).ok()?;
        Some(Schedule { timing: plan.timing.clone(), overlap: plan.overlap, catch_up: plan.catch_up, submission })
    }

    fn is_builtin(&self) -> bool {
        self.declaration.work.executor() == Executor::Builtin
    }
}

/// The parameters that holes may name.
struct Names<'p>(&'p [Parameter]);

impl Names<'_> {
    /// Refuses a hole for a parameter that is not declared.
    fn check(&self, key: &str, template: &Template, place: Place) -> Result<(), Fault> {
        template.names().into_iter().try_for_each(|name| self.check_name(key, name, place))
    }

    /// Refuses a hole that might stay empty, too.
    fn check_certain(&self, key: &str, template: &Template, place: Place) -> Result<(), Fault> {
        self.check(key, template, place)?;
        let is_open = |name: &&str| self.0.iter().any(|it| it.name == *name && !it.is_certain());
        match template.names().into_iter().find(is_open) {
            Some(name) => {
                let problem = format!("{key} needs a value for {{{{{name}}}}} always");
                Err(Fault::new(place, problem).hint("make the parameter required, or give it a default"))
            }
            None => Ok(()),
        }
    }

    fn check_name(&self, key: &str, name: &str, place: Place) -> Result<(), Fault> {
        let known: Vec<&str> = self.0.iter().map(|parameter| parameter.name.as_str()).collect();
        if known.contains(&name) {
            return Ok(());
        }
        let meant = did_you_mean(nearest(name, &known));
        let problem = format!("{key} has {{{{{name}}}}}, but there is no parameter {name:?}{meant}");
        Err(Fault::new(place, problem))
    }
}

/// Reads a text that may have holes.
fn read_template(entry: &Entry<'_>) -> Result<Lined<Template>, Fault> {
    entry.text()?;
    entry.parsed(Template::parse)
}

#[cfg(test)]
mod tests;
