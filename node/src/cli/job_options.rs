//! The options of `run` and `submit`, and the job spec that they make.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jobmesh_protocol::job::{Backoff, Effects, ProcessTask, Scope, Task};
use jobmesh_protocol::requirement::parse_size;
use jobmesh_protocol::{BlobRef, DurationMillis, JobSpec, Requirement};

use crate::cli::failure::{Failure, Kind};
use crate::cli::output::note;
use crate::cli::time_words::parse_length;
use crate::client::Client;

/// What to run and how.
#[derive(Args, Debug)]
pub(crate) struct JobOptions {
    /// A name for people; need not be unique
    #[arg(long)]
    name: Option<String>,
    /// The kind of work that learning groups by [default: the name of the program]
    #[arg(long = "type", value_name = "TYPE")]
    job_type: Option<String>,
    /// The queue it waits in
    #[arg(long, default_value = "default")]
    queue: String,
    /// Higher runs first
    #[arg(long, short, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A label, to find it by (may be repeated)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    labels: Vec<(String, String)>,
    /// A variable for the command; without `=VALUE`, with the value that it has here (may be repeated)
    #[arg(long = "env", value_name = "KEY[=VALUE]", value_parser = parse_variable)]
    environment: Vec<(String, String)>,
    /// The directory to run in, on this machine only [default: an empty one of its own]
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// What the command reads on standard input; `-` is what we read [default: nothing]
    #[arg(long, value_name = "FILE|-")]
    stdin: Option<PathBuf>,
    /// Give the words after `--` to `sh -c` as one line
    #[arg(long)]
    shell: bool,
    /// What a node must have to run it, such as `tool:gzip`, `os=linux` or `memory>=8GiB` (may be repeated)
    #[arg(long = "require", value_name = "REQUIREMENT")]
    requirements: Vec<Requirement>,
    /// How many processors it takes, such as 4 or 0.5 [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<u32>,
    /// How much memory it takes, such as 512MiB or 8G [default: not stated]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    mem: Option<u64>,
    /// Where it may run [default: any with --require, else local]
    #[arg(long = "where", value_name = "PLACE")]
    place: Option<Place>,
    /// What running it twice would do: decides whether it is run again after its node was lost
    #[arg(long, default_value = "idempotent")]
    effects: EffectsWord,
    /// Stop an attempt that runs longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    timeout: Option<DurationMillis>,
    /// How long it may take to end by itself before it is killed
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_length)]
    kill_grace: DurationMillis,
    /// How often to try again after it failed
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// How long to wait before a retry: doubles from BASE up to MAX
    #[arg(long, value_name = "BASE[..MAX]", value_parser = parse_backoff)]
    backoff: Option<Backoff>,
    /// The command and its arguments; no shell reads them
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Where a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Place {
    /// On this node only
    Local,
    /// On another node of the mesh
    Mesh,
    /// Here if this node can and is free, else on another one
    Any,
}

/// What running a job a second time would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EffectsWord {
    /// Nothing but its output depends on it
    Pure,
    /// Twice is as good as once
    Idempotent,
    /// It must not run again once it may have started
    Once,
}

impl JobOptions {
    /// Whether a failed attempt may be followed by another.
    pub(crate) const fn may_retry(&self) -> bool {
        self.retries > 0
    }

    /// Uploads the input, if there is one, and makes the spec.
    ///
    /// # Errors
    /// [`Failure`] if a value is out of bounds, or the input can't be read or uploaded.
    pub(crate) async fn into_spec(self, client: &Client) -> Result<JobSpec, Failure> {
        // Everything else is judged first, so that a large input is not sent for nothing.
        let stdin = self.stdin.clone();
        if stdin.is_none() && is_piped() {
            note("what is piped in is not passed on to the job; add `--stdin -` if it should be");
        }
        let mut spec = self.into_spec_without_input()?;
        let input = match stdin {
            Some(path) => Some(upload(client, path).await?),
            None => None,
        };
        let Task::Process(process) = &mut spec.task;
        process.stdin = input;
        Ok(spec)
    }

    fn into_spec_without_input(self) -> Result<JobSpec, Failure> {
        let job_type = self.job_type.unwrap_or_else(|| program_name(&self.command, self.shell));
        let argv = if self.shell { shell_line(&self.command) } else { self.command };
        let default = if self.requirements.is_empty() { Place::Local } else { Place::Any };
        let place = self.place.unwrap_or(default);
        let mut process = ProcessTask::new(argv);
        process.environment = self.environment.into_iter().collect();
        process.directory = self.cwd.map(|path| directory(path, place)).transpose()?;
        let mut spec = JobSpec::new(job_type, Task::Process(process));
        spec.name = self.name;
        spec.queue = self.queue;
        spec.priority = self.priority;
        spec.labels = self.labels.into_iter().collect::<BTreeMap<_, _>>();
        spec.requirements = self.requirements;
        spec.resources.cpu_milli = self.cpus.unwrap_or(spec.resources.cpu_milli);
        spec.resources.memory_bytes = self.mem.unwrap_or(spec.resources.memory_bytes);
        spec.scope = place.into();
        spec.effects = self.effects.into();
        spec.timeout_ms = self.timeout;
        spec.kill_grace_ms = self.kill_grace;
        spec.max_attempts = self.retries.saturating_add(1);
        spec.backoff = self.backoff.unwrap_or_default();
        spec.check().map_err(|error| Failure::of(Kind::Usage, &error))?;
        Ok(spec)
    }
}

impl From<Place> for Scope {
    fn from(place: Place) -> Self {
        match place {
            Place::Local => Self::Local,
            Place::Mesh => Self::Network,
            Place::Any => Self::Hybrid,
        }
    }
}

impl From<EffectsWord> for Effects {
    fn from(word: EffectsWord) -> Self {
        match word {
            EffectsWord::Pure => Self::Pure,
            EffectsWord::Idempotent => Self::Idempotent,
            EffectsWord::Once => Self::Once,
        }
    }
}

async fn upload(client: &Client, path: PathBuf) -> Result<BlobRef, Failure> {
    if path.as_os_str() == "-" {
        return Ok(client.upload(tokio::io::stdin()).await?);
    }
    let failed = |error| Failure::new(Kind::File, format!("failed to read {}: {error}", path.display()));
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    Ok(client.upload(file).await?)
}

fn directory(path: PathBuf, place: Place) -> Result<String, Failure> {
    if place != Place::Local {
        let message = "--cwd names a directory of this machine, but the job may run on another one";
        return Err(Failure::new(Kind::Usage, message).hint("add --where local, or leave --cwd out"));
    }
    let found = path.canonicalize().ok().filter(|found| found.is_dir());
    let missing = || Failure::new(Kind::File, format!("{} is no directory", path.display()));
    let text = found.ok_or_else(missing)?.into_os_string().into_string();
    text.map_err(|path| Failure::new(Kind::Usage, format!("{} is not UTF-8", path.display())))
}

fn shell_line(words: &[String]) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), words.join(" ")]
}

/// The base name of the program: what ad-hoc work is grouped by. Of a shell line, that of its first word.
fn program_name(command: &[String], is_shell_line: bool) -> String {
    let first = command.first().map(String::as_str).unwrap_or_default();
    let program = if is_shell_line { first.split_whitespace().next().unwrap_or(first) } else { first };
    let name = program.rsplit('/').next().unwrap_or(program);
    let is_plain = !name.is_empty() && name.chars().all(|c| !c.is_control());
    if is_plain { name.to_owned() } else { "command".to_owned() }
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    if text.contains('=') {
        return parse_pair(text);
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(_) => Err(format!("{text} is not set here; write it as {text}=VALUE")),
    }
}

/// Reads a number of processors with at most three decimals, exactly: `4`, `0.5`.
fn parse_cpus(text: &str) -> Result<u32, String> {
    let wrong = || "write it as a number of processors with at most three decimals, such as 4 or 0.5".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || decimals.len() > 3 || !is_number(whole) || !is_number(decimals) {
        return Err(wrong());
    }
    let milli = format!("{whole}{decimals:0<3}").parse::<u32>().map_err(|_| wrong())?;
    if milli == 0 { Err("a job takes at least 0.001 processors".to_owned()) } else { Ok(milli) }
}

fn parse_memory(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write it as a size such as 512MiB or 8G".to_owned())
}

fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let (base, max) = match text.split_once("..") {
        Some((base, max)) => (parse_length(base)?, parse_length(max)?),
        None => (parse_length(text)?, Backoff::default().max_ms.max(parse_length(text)?)),
    };
    if max < base {
        return Err("the longest wait is shorter than the first".to_owned());
    }
    Ok(Backoff { base_ms: base, max_ms: max })
}

/// Whether someone pipes something in. A file or a terminal says nothing about what was meant.
fn is_piped() -> bool {
    let status = rustix::fs::fstat(std::io::stdin());
    status.is_ok_and(|status| rustix::fs::FileType::from_raw_mode(status.st_mode) == rustix::fs::FileType::Fifo)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: JobOptions,
    }

    fn spec(line: &str) -> Result<JobSpec, Failure> {
        let words = std::iter::once("run").chain(line.split(' '));
        Line::try_parse_from(words).unwrap().options.into_spec_without_input()
    }

    #[test]
    fn a_job_that_says_nothing_of_its_needs_stays_here() {
        assert_eq!(spec("-- true").unwrap().scope, Scope::Local);
        assert_eq!(spec("--require tool:gzip -- gzip").unwrap().scope, Scope::Hybrid);
        assert_eq!(spec("--where mesh -- gzip").unwrap().scope, Scope::Network);
    }

    #[test]
    fn options_land_in_the_spec() {
        let line = "-p -3 --cpus 0.5 --mem 8G --retries 4 --backoff 1s..1m --label a=b=c --timeout 90s -- /bin/echo -n";
        let spec = spec(line).unwrap();
        assert_eq!((spec.priority, spec.max_attempts, spec.job_type.as_str()), (-3, 5, "echo"));
        assert_eq!((spec.resources.cpu_milli, spec.resources.memory_bytes), (500, 8 << 30));
        assert_eq!(spec.backoff, Backoff { base_ms: DurationMillis(1000), max_ms: DurationMillis(60_000) });
        assert_eq!(spec.labels.get("a").unwrap(), "b=c");
        assert_eq!(spec.timeout_ms, Some(DurationMillis(90_000)));
    }

    #[test]
    fn a_shell_line_is_one_argument() {
        let spec = spec("--shell -- sort|uniq >out").unwrap();
        let Task::Process(process) = spec.task;
        assert_eq!(process.argv, ["sh", "-c", "sort|uniq >out"]);
    }

    #[test]
    fn a_directory_of_this_machine_is_for_local_jobs() {
        let failure = spec("--require tool:x --cwd / -- x").unwrap_err();
        assert!(failure.text().contains("hint: add --where local"), "{}", failure.text());
    }

    #[test]
    fn processors_are_read_exactly() {
        for (text, milli) in [("4", 4000), ("0.5", 500), ("1.25", 1250), ("0.001", 1)] {
            assert_eq!(parse_cpus(text), Ok(milli));
        }
        for text in ["", ".5", "0", "1e3", "-1", "0.0001", "99999999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_backoff_may_leave_its_maximum_out() {
        assert_eq!(parse_backoff("1h").unwrap().max_ms, DurationMillis(3_600_000));
        assert!(parse_backoff("2m..1m").is_err());
    }
}
