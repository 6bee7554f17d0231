//! What runs: the command, the shell text or the housekeeping of a job type.

use std::collections::BTreeMap;

use jobmesh_protocol::task::{ARGV_MAX, Builtin, ProcessTask, Task};

use crate::config::table::{Entry, Fault, Lined, Table};
use crate::job_types::shell::ShellText;
use crate::job_types::template::{Template, Values};
use crate::job_types::{Names, ParameterError, read_template};

/// Most variables of one type.
const VARIABLES_MAX: usize = 256;

/// The keys of this part.
pub(super) const KEYS: &[&str] = &["executor", "command", "shell", "builtin", "environment", "directory"];

/// Executors that job types can name. Those of the plan that are not here get a message of their own.
const EXECUTORS: &[(&str, Executor)] =
    &[("process", Executor::Process), ("builtin", Executor::Builtin), ("noop", Executor::Noop)];
const PLANNED: &[&str] = &["container", "wasm", "lua", "http", "llm", "embedding", "workflow"];

/// What a type's jobs are run by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executor {
    /// A process of the operating system.
    Process,
    /// The node itself.
    Builtin,
    /// Nothing.
    Noop,
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
            environment: table.read("environment", read_environment)?.unwrap_or_default(),
            directory: table.read("directory", read_template)?,
        };
        match (&work.command, &work.shell) {
            (Some(_), Some(shell)) => {
                Err(Fault::new(shell.place, format!("{}.shell stands beside command; keep one of them", table.path())))
            }
            _ => Ok(work),
        }
    }

    /// What `self` says, else what `base` says. A new command takes the place of the old shell text, and the other
    /// way round.
    pub(super) fn over(self, base: Self) -> Self {
        let is_new = self.command.is_some() || self.shell.is_some();
        let mut environment = base.environment;
        environment.extend(self.environment);
        Self {
            executor: self.executor.or(base.executor),
            command: if is_new { self.command } else { base.command },
            shell: if is_new { self.shell } else { base.shell },
            builtin: self.builtin.or(base.builtin),
            environment,
            directory: self.directory.or(base.directory),
        }
    }

    /// What the jobs are run by: said, or told by what else is said.
    pub(super) fn executor(&self) -> Executor {
        let told = || if self.builtin.is_some() { Executor::Builtin } else { Executor::Process };
        self.executor.as_ref().map_or_else(told, |executor| executor.value)
    }

    /// Checks that there is exactly one thing to run, with holes for known parameters only.
    pub(super) fn check(&self, table: &Lined<String>, names: &Names<'_>) -> Result<(), Fault> {
        let path = &table.value;
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
        }
        self.check_holes(path, names)
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
    pub(super) fn task(&self, job_type: &str, values: &Values) -> Result<Task, ParameterError> {
        match (self.executor(), &self.builtin) {
            (Executor::Builtin, Some(builtin)) => return Ok(Task::Builtin(builtin.value)),
            (Executor::Noop, _) => return Ok(Task::Noop {}),
            (Executor::Builtin, None) | (Executor::Process, _) => {}
        }
        let missing = |name: &str| ParameterError::missing(job_type, name);
        let mut task = ProcessTask::new(self.argv(job_type, values));
        for (variable, template) in &self.environment {
            if let Ok(text) = template.value.fill(values) {
                task.environment.insert(variable.clone(), text);
            }
        }
        if self.shell.is_some() {
            task.environment.extend(ShellText::variables(values));
        }
        let directory = self.directory.as_ref().map(|template| template.value.fill(values));
        task.directory = directory.transpose().map_err(missing)?;
        Ok(Task::Process(task))
    }

    fn argv(&self, job_type: &str, values: &Values) -> Vec<String> {
        if let Some(shell) = &self.shell {
            // The last word is what the shell calls itself in its complaints.
            return ["sh", "-c", shell.value.text(), job_type].map(str::to_owned).to_vec();
        }
        let mut argv = Vec::new();
        for argument in self.command.iter().flat_map(|command| &command.value) {
            let filled: Result<Vec<String>, &str> = argument.templates().iter().map(|it| it.fill(values)).collect();
            argv.extend(filled.unwrap_or_default());
        }
        argv
    }
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
    let one = |entry: &Entry<'_>| {
        let text = entry.as_text().ok_or_else(|| entry.wrong("a text in quotes"))?;
        Template::parse(text).map_err(|wanted| entry.wrong(&wanted))
    };
    let mut arguments = Vec::new();
    for element in entry.elements(ARGV_MAX)? {
        arguments.push(if element.is_list() {
            let group = element.elements(ARGV_MAX)?;
            Argument::Group(group.iter().map(one).collect::<Result<_, _>>()?)
        } else {
            Argument::One(one(&element)?)
        });
    }
    match arguments.first() {
        Some(Argument::One(program)) if !program.written().is_empty() => Ok(entry.lined(arguments)),
        Some(_) | None => Err(entry.wrong("a list that begins with the program")),
    }
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
