//! What runs: the command, the shell text, the housekeeping or the other work of a job type.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jobmesh_protocol::task::{ARGV_MAX, Builtin, ProcessTask, Task};

use crate::config::table::{Entry, Fault, Lined, Table};
use crate::job_types::other::{Files, Other};
use crate::job_types::shell::ShellText;
use crate::job_types::template::{Template, Values};
use crate::job_types::{Names, ParameterError, read_template};

/// Most variables of one type.
const VARIABLES_MAX: usize = 256;

/// The keys of this part.
pub(super) const KEYS: &[&str] = &["executor", "command", "shell", "builtin", "environment", "directory"];

/// Executors that job types can name. Those of the plan that are not here get a message of their own.
const EXECUTORS: &[(&str, Executor)] = &[
    ("process", Executor::Process),
    ("builtin", Executor::Builtin),
    ("noop", Executor::Noop),
    ("container", Executor::Container),
    ("wasm", Executor::Wasm),
    ("lua", Executor::Lua),
    ("http", Executor::Http),
    ("llm", Executor::Llm),
    ("embedding", Executor::Embedding),
];
const PLANNED: &[&str] = &["workflow"];

/// What a type's jobs are run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executor {
    /// A process of the operating system.
    Process,
    /// The node itself.
    Builtin,
    /// Nothing.
    Noop,
    /// A container engine.
    Container,
    /// An interpreter of modules.
    Wasm,
    /// An interpreter of scripts.
    Lua,
    /// A web server.
    Http,
    /// A language model.
    Llm,
    /// An embedding model.
    Embedding,
}

impl Executor {
    /// Its name, as in the key of its work.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Builtin => "builtin",
            Self::Noop => "noop",
            Self::Container => "container",
            Self::Wasm => "wasm",
            Self::Lua => "lua",
            Self::Http => "http",
            Self::Llm => "llm",
            Self::Embedding => "embedding",
        }
    }
}

/// A part of a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Argument {
    /// One argument. Left out if it has a hole for a parameter without a value.
    One(Template),
    /// Several that belong together, such as an option and its value. Left out together.
    Group(Vec<Template>),
}

impl Argument {
    pub(super) fn templates(&self) -> &[Template] {
        match self {
            Self::One(template) => std::slice::from_ref(template),
            Self::Group(templates) => templates,
        }
    }
}

/// What one file says runs; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Work {
    pub(super) executor: Option<Lined<Executor>>,
    pub(super) command: Option<Lined<Vec<Argument>>>,
    pub(super) shell: Option<Lined<ShellText>>,
    pub(super) builtin: Option<Lined<Builtin>>,
    pub(super) other: Option<Lined<Other>>,
    pub(super) environment: BTreeMap<String, Lined<Template>>,
    pub(super) directory: Option<Lined<Template>>,
}

impl Work {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        let builtins: Vec<(&str, Builtin)> = Builtin::ALL.iter().map(|builtin| (builtin.word(), *builtin)).collect();
        let work = Self {
            executor: table.read("executor", read_executor)?,
            command: table.read("command", read_command)?,
            shell: table.read("shell", |entry| entry.parsed(ShellText::parse))?,
            builtin: table.read("builtin", |entry| entry.word(&builtins))?,
            other: Other::read(table)?,
            environment: table.read("environment", read_environment)?.unwrap_or_default(),
            directory: table.read("directory", read_template)?,
        };
        let command = work.command.as_ref().map(|it| (it.place, "command"));
        let shell = work.shell.as_ref().map(|it| (it.place, "shell"));
        let other = work.other.as_ref().map(|it| (it.place, it.value.executor().word()));
        let mut said = [command, shell, other].into_iter().flatten();
        match (said.next(), said.next()) {
            (Some((_, first)), Some((place, second))) => {
                Err(Fault::new(place, format!("{}.{second} stands beside {first}; keep one of them", table.path())))
            }
            (Some(_) | None, _) => Ok(work),
        }
    }

    /// What `self` says, else what `base` says. A new command takes the place of the old shell text or other work, and the
    /// other way round.
    pub(super) fn over(self, base: Self) -> Self {
        let is_new = self.command.is_some() || self.shell.is_some() || self.other.is_some();
        let mut environment = base.environment;
        environment.extend(self.environment);
        Self {
            // What is run by another executor is not run by that of the work whose place it takes.
            executor: self.executor.or(base.executor.filter(|_| !is_new)),
            command: if is_new { self.command } else { base.command },
            shell: if is_new { self.shell } else { base.shell },
            builtin: self.builtin.or(base.builtin),
            other: if is_new { self.other } else { base.other },
            environment,
            directory: self.directory.or(base.directory),
        }
    }

    /// What the jobs are run by: said, or told by what else is said.
    pub(super) fn executor(&self) -> Executor {
        let usual = if self.builtin.is_some() { Executor::Builtin } else { Executor::Process };
        let told = || self.other.as_ref().map_or(usual, |other| other.value.executor());
        self.executor.as_ref().map_or_else(told, |executor| executor.value)
    }

    /// Checks that there is exactly one thing to run, with holes for known parameters only.
    pub(super) fn check(&self, table: &Lined<String>, names: &Names<'_>) -> Result<(), Fault> {
        let path = &table.value;
        if let Some(other) = &self.other {
            return self.check_other(path, other, names);
        }
        let has_text = self.command.as_ref().map(|it| it.place).or(self.shell.as_ref().map(|it| it.place));
        match (self.executor(), has_text, &self.builtin) {
            (Executor::Process, None, _) => {
                let remedy = "add command = [\"program\", \"argument\"] or shell = \"text\"";
                return Err(Fault::new(table.place, format!("{path} has nothing to run; {remedy}")));
            }
            (Executor::Process, Some(_), Some(builtin)) => {
                return Err(Fault::new(builtin.place, format!("{path}.builtin needs executor = \"builtin\"")));
            }
            (Executor::Builtin | Executor::Noop, Some(place), _) => {
                let problem = format!("{path} is run by the node itself, so it has no command or shell text");
                return Err(Fault::new(place, problem).hint("leave it out, or declare a type of another name"));
            }
            (Executor::Builtin, None, None) => {
                let words: Vec<&str> = Builtin::ALL.iter().map(|builtin| builtin.word()).collect();
                let remedy = format!("add builtin = one of {}", words.join(", "));
                return Err(Fault::new(table.place, format!("{path} does not say what the node is to do; {remedy}")));
            }
            (Executor::Process | Executor::Builtin | Executor::Noop, _, _) => {}
            (other, ..) => {
                let word = other.word();
                let problem = format!("{path} is run by {word}, but does not say what; add {word} = {{ … }}");
                return Err(Fault::new(self.executor.as_ref().map_or(table.place, |it| it.place), problem));
            }
        }
        self.check_holes(path, names)
    }

    /// Checks other work than a command, and that nothing stands beside it that is for commands.
    fn check_other(&self, path: &str, other: &Lined<Other>, names: &Names<'_>) -> Result<(), Fault> {
        let word = other.value.executor().word();
        if let Some(executor) = self.executor.as_ref().filter(|it| it.value != other.value.executor()) {
            let problem = format!("{path}.executor is {:?}, but {path}.{word} is what runs", executor.value.word());
            return Err(Fault::new(executor.place, problem).hint("leave the executor out"));
        }
        if let Some(builtin) = &self.builtin {
            return Err(Fault::new(builtin.place, format!("{path}.builtin stands beside {word}; keep one of them")));
        }
        if let Some(directory) = &self.directory {
            let problem = format!("{path}.directory is for commands of this machine; {word} has none");
            return Err(Fault::new(directory.place, problem));
        }
        let is_code = matches!(other.value.executor(), Executor::Container | Executor::Wasm | Executor::Lua);
        for (variable, Lined { value: template, place }) in &self.environment {
            if !is_code {
                return Err(Fault::new(*place, format!("{path}.environment is for code that runs; {word} has none")));
            }
            names.check(&format!("{path}.environment.{variable}"), template, *place)?;
        }
        other.value.check(path, names, other.place)
    }

    /// The parameters that what runs has holes for.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let arguments = self.command.iter().flat_map(|command| &command.value);
        let others = self.other.iter().flat_map(|other| other.value.holes());
        let own = self.environment.values().chain(&self.directory).map(|lined| &lined.value);
        let templates = arguments.flat_map(Argument::templates).chain(own).chain(others);
        let shell = self.shell.iter().flat_map(|shell| shell.value.names());
        templates.flat_map(Template::names).chain(shell).collect()
    }

    /// The file that is read with the configuration, if there is one.
    pub(super) fn file(&self) -> Option<&Lined<PathBuf>> {
        self.other.as_ref().and_then(|other| other.value.file())
    }

    fn check_holes(&self, path: &str, names: &Names<'_>) -> Result<(), Fault> {
        if let Some(Lined { value: arguments, place }) = &self.command {
            for (index, template) in arguments.iter().flat_map(Argument::templates).enumerate() {
                // A command without its program would be another command.
                let key = format!("{path}.command");
                if index == 0 {
                    names.check_certain(&key, template, *place)?
                } else {
                    names.check(&key, template, *place)?
                }
            }
        }
        self.check_places(path, names)?;
        if let Some(Lined { value: shell, place }) = &self.shell {
            for name in shell.names() {
                names.check_name(&format!("{path}.shell"), name, *place)?;
            }
        }
        for (variable, Lined { value: template, place }) in &self.environment {
            names.check(&format!("{path}.environment.{variable}"), template, *place)?;
        }
        if let Some(Lined { value: template, place }) = &self.directory {
            names.check_certain(&format!("{path}.directory"), template, *place)?;
            if !template.written().starts_with(['/', '{']) {
                let found = format!("{path}.directory is {:?}", template.written());
                return Err(Fault::new(*place, format!("{found}; it must be an absolute path")));
            }
        }
        Ok(())
    }

    /// Refuses an argument that may be left out where the next one would be taken for it.
    fn check_places(&self, path: &str, names: &Names<'_>) -> Result<(), Fault> {
        let Some(Lined { value: arguments, place }) = &self.command else { return Ok(()) };
        // What begins with a hyphen is told by its name, not by its place.
        let by_place = |argument: &Argument| match argument {
            Argument::One(template) if !template.written().starts_with('-') => Some(template.clone()),
            Argument::One(_) | Argument::Group(_) => None,
        };
        let in_place: Vec<Template> = arguments.iter().skip(1).filter_map(by_place).collect();
        let Some((_, all_but_last)) = in_place.split_last() else { return Ok(()) };
        for template in all_but_last {
            names.check_certain(&format!("{path}.command"), template, *place).map_err(|fault| {
                fault.hint("or put it behind its option in a list of their own: the next argument would take its place")
            })?;
        }
        Ok(())
    }

    /// The task of a job with these values.
    pub(super) fn task(&self, job_type: &str, values: &Values, files: &Files) -> Result<Task, ParameterError> {
        let missing = |name: &str| ParameterError::missing(job_type, name);
        if let Some(other) = &self.other {
            let mut task = other.value.task(values, files).map_err(missing)?;
            if let Some(environment) = task.environment_mut() {
                environment.extend(self.variables(values));
            }
            return Ok(task);
        }
        if self.executor() == Executor::Noop {
            return Ok(Task::Noop {});
        }
        if let (Executor::Builtin, Some(builtin)) = (self.executor(), &self.builtin) {
            return Ok(Task::Builtin(builtin.value));
        }
        let mut task = ProcessTask::new(self.argv(job_type, values));
        task.environment.extend(self.variables(values));
        if self.shell.is_some() {
            task.environment.extend(ShellText::variables(values));
        }
        let directory = self.directory.as_ref().map(|template| template.value.fill(values));
        task.directory = directory.transpose().map_err(missing)?;
        Ok(Task::Process(task))
    }

    /// The variables that have a value.
    fn variables(&self, values: &Values) -> BTreeMap<String, String> {
        let filled =
            |(name, template): (&String, &Lined<Template>)| Some((name.clone(), template.value.fill(values).ok()?));
        self.environment.iter().filter_map(filled).collect()
    }

    fn argv(&self, job_type: &str, values: &Values) -> Vec<String> {
        if let Some(shell) = &self.shell {
            // The last word is what the shell calls itself in its complaints.
            return ["sh", "-c", shell.value.text(), job_type].map(str::to_owned).to_vec();
        }
        fill_arguments(self.command.as_ref().map_or(&[], |command| &command.value), values)
    }
}

/// Arguments with their holes filled; those that have one for a parameter without a value are left out.
pub(super) fn fill_arguments(arguments: &[Argument], values: &Values) -> Vec<String> {
    let mut argv = Vec::new();
    for argument in arguments {
        let filled: Result<Vec<String>, &str> = argument.templates().iter().map(|it| it.fill(values)).collect();
        argv.extend(filled.unwrap_or_default());
    }
    argv
}

fn read_executor(entry: &Entry<'_>) -> Result<Lined<Executor>, Fault> {
    match entry.as_text() {
        Some(word) if PLANNED.contains(&word) => {
            let words: Vec<&str> = EXECUTORS.iter().map(|(word, _)| *word).collect();
            let problem =
                format!("is {word:?}, which this build of jobmesh does not have; it has {}", words.join(", "));
            Err(entry.fault(&problem))
        }
        Some(_) | None => entry.word(EXECUTORS),
    }
}

fn read_command(entry: &Entry<'_>) -> Result<Lined<Vec<Argument>>, Fault> {
    if entry.as_text().is_some() {
        let remedy = "a list such as [\"program\", \"argument\"]; for a line that a shell reads, use shell = \"…\"";
        return Err(entry.wrong(remedy));
    }
    let arguments = read_arguments(entry, ARGV_MAX)?;
    match arguments.first() {
        Some(Argument::One(program)) if !program.written().is_empty() => Ok(entry.lined(arguments)),
        Some(_) | None => Err(entry.wrong("a list that begins with the program")),
    }
}

/// Reads a list of at most so many arguments.
pub(super) fn read_arguments(entry: &Entry<'_>, most: usize) -> Result<Vec<Argument>, Fault> {
    let one = |entry: &Entry<'_>| {
        let text = entry.as_text().ok_or_else(|| entry.wrong("a text in quotes"))?;
        Template::parse(text).map_err(|wanted| entry.wrong(&wanted))
    };
    let mut arguments = Vec::new();
    for element in entry.elements(most)? {
        arguments.push(if element.is_list() {
            let group = element.elements(most)?;
            Argument::Group(group.iter().map(one).collect::<Result<_, _>>()?)
        } else {
            Argument::One(one(&element)?)
        });
    }
    Ok(arguments)
}

fn read_environment(entry: &Entry<'_>) -> Result<BTreeMap<String, Lined<Template>>, Fault> {
    let mut variables = BTreeMap::new();
    for (name, entry) in entry.table()?.entries() {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(entry.fault("is no name of a variable; it must not be empty or contain ="));
        }
        let text = entry.as_text().ok_or_else(|| entry.wrong("a text in quotes"))?;
        let template = Template::parse(text).map_err(|wanted| entry.wrong(&wanted))?;
        variables.insert(name.to_owned(), entry.lined(template));
    }
    if variables.len() > VARIABLES_MAX {
        return Err(entry.fault(&format!("has {} variables; the limit is {VARIABLES_MAX}", variables.len())));
    }
    Ok(variables)
}
