//! `jobmesh import`: take over what another program's queue holds.
//!
//! The plan is made before anything else, and shown whether it is carried out or not; so what `--dry-run` shows is what
//! is done. Reading and planning run on a thread of their own, since a source may be large.

mod carry_out;
mod machine;
mod text;

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use jobmesh::config::{Config, Overrides};
use jobmesh::home::Home;
use jobmesh::import::pueue::Environment;
use jobmesh::import::report::{Line, Totals, Verdict};
use jobmesh::import::source::{self, SourceError};
use jobmesh::import::{Finished, ImportError, Plan, Release, Report, crontab, oban, pueue};
use jobmesh::job_types::JobTypes;
use jobmesh_protocol::{Submission, UnixMillis};
use serde_json::{Map, Value};

use crate::cli::failure::Kind;
use crate::cli::time_words::{now, parse_since};
use crate::cli::{Context, Exit, Failure, clean, note};
use crate::client::ClientError;

#[derive(Args, Debug)]
#[command(
    after_help = "What is imported does not run until you let it: jobs are held and schedules are paused, unless \
                        --enqueue is given. Importing the same source twice changes nothing."
)]
pub(crate) struct Import {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// Make schedules of the lines of a crontab
    Crontab(Crontab),
    /// Make jobs of the tasks of a pueue daemon
    Pueue(Pueue),
    /// Make jobs of the rows of Oban's table
    Oban(Oban),
}

#[derive(Args, Clone, Copy, Debug)]
#[command(group = ArgGroup::new("release").args(["hold", "enqueue"]))]
struct Shared {
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Hold every job and pause every schedule; this is the default
    #[arg(long)]
    hold: bool,
    /// Let jobs and schedules run as soon as it is their time
    #[arg(long)]
    enqueue: bool,
}

impl Shared {
    const fn release(self) -> Release {
        if self.enqueue { Release::Enqueue } else { Release::Hold }
    }
}

#[derive(Args, Debug)]
struct Crontab {
    /// The crontab; `-` reads it from standard input [default: what `crontab -l` shows]
    file: Option<PathBuf>,
    /// It has a user before each command, as /etc/crontab and the files of /etc/cron.d do; those are known by their path
    #[arg(long)]
    system: bool,
    /// The zone of the times, where the crontab sets no CRON_TZ; schedules of an earlier import get it, too
    /// [default: that of this machine]
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// Write the crontab with the imported lines switched off to this new file, to be installed instead of the old one
    #[arg(long, value_name = "FILE")]
    commented_out: Option<PathBuf>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Args, Debug)]
struct Pueue {
    /// `state.json` or `state.json.gz`, or the directory that has it [default: that of pueue]
    state: Option<PathBuf>,
    /// Give each job the variables that pueue kept with its task; they may hold secrets
    #[arg(long)]
    with_env: bool,
    /// List the tasks that have ended, too
    #[arg(long)]
    with_done: bool,
    /// Only tasks that were added since then: a length of time such as 7d, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_since, allow_hyphen_values = true)]
    since: Option<UnixMillis>,
    #[command(flatten)]
    shared: Shared,
}

#[derive(Args, Debug)]
#[command(after_help = "A table of Postgres is dumped with\n  \
                        psql -c \"COPY (SELECT * FROM oban_jobs) TO STDOUT WITH (FORMAT csv, HEADER)\" > oban.csv\n\
                        or\n  psql -At -c 'SELECT row_to_json(j) FROM oban_jobs j' > oban.jsonl\n\n\
                        The map has an entry for each worker:\n  [\"MyApp.Download\"]\n  \
                        command = [\"curl\", \"-fLO\", \"{{args.url}}\"]")]
struct Oban {
    /// The SQLite file, or a dump as CSV or JSON lines; `-` reads a dump from standard input
    file: PathBuf,
    /// What each worker is here, in TOML
    #[arg(long, value_name = "FILE")]
    map: Option<PathBuf>,
    /// List completed and cancelled jobs, and take over discarded ones as held jobs
    #[arg(long)]
    with_done: bool,
    /// Only jobs that were inserted since then: a length of time such as 7d, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_since, allow_hyphen_values = true)]
    since: Option<UnixMillis>,
    #[command(flatten)]
    shared: Shared,
}

impl Import {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (shared, commented_out) = match &self.source {
            Source::Crontab(it) => (it.shared, it.commented_out.clone()),
            Source::Pueue(it) => (it.shared, None),
            Source::Oban(it) => (it.shared, None),
        };
        let home = context.home.clone();
        let planned = tokio::task::spawn_blocking(move || self.source.plan(&home)).await;
        let plan = planned.map_err(|error| Failure::of(Kind::Internal, &error))??;
        let client = context.client()?;
        let present = match carry_out::present(&client, &plan).await {
            Ok(present) => Some(present),
            // A dry run changes nothing, so it does not need the node.
            Err(ClientError::Unreachable { .. }) if shared.dry_run => None,
            Err(error) => return Err(error.into()),
        };
        let report = Report::new(&plan, present.as_ref());
        if let (Some(present), false) = (&present, shared.dry_run) {
            carry_out::carry_out(&client, &plan, present).await?;
        }
        if context.output.is_quiet() {
            let new = |line: &&Line| matches!(line.verdict, Verdict::Job | Verdict::Schedule);
            let names = report.items.iter().filter(new).filter_map(|line| line.becomes.as_deref());
            context.output.bytes(names.map(|name| format!("{}\n", clean(name))).collect::<String>().as_bytes())?;
        } else {
            context.output.show(&report, |colour| text::report(&report, colour))?;
        }
        if let (Some(path), Some(replacement)) =
            (&commented_out, plan.replacement.as_deref().filter(|_| !shared.dry_run))
        {
            write_new(path, replacement)?;
            note(&format!("install the changed crontab with `crontab {}`", path.display()));
        }
        note(&text::next_step(&report, shared.dry_run, shared.release()));
        unmapped(&report.totals, shared.dry_run).map_or(Ok(Exit::OK), Err)
    }
}

impl Source {
    fn plan(self, home: &Home) -> Result<Plan, Failure> {
        match self {
            Self::Crontab(it) => it.plan(),
            Self::Pueue(it) => it.plan(),
            Self::Oban(it) => it.plan(home),
        }
    }
}

impl Crontab {
    fn plan(self) -> Result<Plan, Failure> {
        let machine = machine::Machine::detect();
        let own = format!("crontab of {}", machine.user);
        let (name, bytes) = match self.file.as_deref() {
            None => (own, source::read_own_crontab()),
            // Most likely `crontab -l |`, so that it is the same source.
            Some(path) if is_stdin(path) => (own, source::read_input(&mut std::io::stdin(), "standard input")),
            Some(path) => (name_of(path), source::read_file(path)),
        };
        let content = source::text(bytes.map_err(|error| unreadable(&error))?).map_err(|error| malformed(&error))?;
        let is_system = self.system || self.file.as_deref().is_some_and(is_of_system);
        let options = crontab::Options {
            layout: if is_system { crontab::Layout::System } else { crontab::Layout::User },
            user: &machine.user,
            home: machine.home.as_deref(),
            zone: self.tz.as_deref().unwrap_or(&machine.zone),
            is_zone_asked: self.tz.is_some(),
            now: now(),
            release: self.shared.release(),
        };
        crontab::read(&name, &content, &options).map_err(|error| malformed(&error))
    }
}

impl Pueue {
    fn plan(self) -> Result<Plan, Failure> {
        let path = self.file()?;
        let content = content_of(&path)?;
        let options = pueue::Options {
            since: self.since,
            environment: if self.with_env { Environment::Keep } else { Environment::Drop },
            finished: if self.with_done { Finished::List } else { Finished::Count },
            release: self.shared.release(),
        };
        // Pueue may be told to pack its state at any time; that makes no other source of it.
        let name = name_of(&path);
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        pueue::read(name, &content, &options).map_err(|error| malformed(&error))
    }

    /// The file of the state.
    fn file(&self) -> Result<PathBuf, Failure> {
        let place = self.state.clone().or_else(machine::pueue_directory).ok_or_else(|| {
            Failure::new(Kind::File, "there is no home directory to find pueue in").hint("name its state.json")
        })?;
        if !place.is_dir() {
            return Ok(place);
        }
        let found = ["state.json", "state.json.gz"].map(|name| place.join(name)).into_iter().find(|file| file.exists());
        found.ok_or_else(|| {
            Failure::new(Kind::File, format!("there is no state.json in {}", place.display()))
                .hint("`pueue` keeps it in its `pueue_directory`; name the file")
        })
    }
}

impl Oban {
    fn plan(self, home: &Home) -> Result<Plan, Failure> {
        let map = match &self.map {
            None => oban::WorkerMap::default(),
            Some(path) => oban::WorkerMap::parse(path, &content_of(path)?).map_err(|error| malformed(&error))?,
        };
        // Without a map no worker leads to a job type, and a broken configuration is no reason to stop.
        let types = match self.map {
            None => None,
            Some(_) => Some(job_types(home)?),
        };
        let options = oban::Options {
            map: &map,
            types: &|name, parameters| of_type(types.as_ref(), name, parameters),
            since: self.since,
            finished: if self.with_done { Finished::List } else { Finished::Count },
            release: self.shared.release(),
        };
        let plan = if is_stdin(&self.file) {
            let bytes =
                source::read_input(&mut std::io::stdin(), "standard input").map_err(|error| unreadable(&error))?;
            source::text(bytes).and_then(|content| oban::read("standard input", &content, &options))
        } else if is_sqlite(&self.file)? {
            oban::read_sqlite(&name_of(&self.file), &self.file, &options)
        } else {
            oban::read(&name_of(&self.file), &content_of(&self.file)?, &options)
        };
        plan.map_err(|error| malformed(&error))
    }
}

/// That nothing could be imported for want of a map. A dry run is how one finds out what the map must have.
fn unmapped(totals: &Totals, is_dry_run: bool) -> Option<Failure> {
    let Totals { jobs, schedules, already_there, needs_mapping, .. } = *totals;
    if is_dry_run || needs_mapping == 0 || jobs + schedules + already_there > 0 {
        return None;
    }
    let message = format!("nothing was imported: all {needs_mapping} items need a mapping");
    let hint = "say with --map FILE what each worker is here; `jobmesh import oban --help` shows such a file";
    Some(Failure::new(Kind::Usage, message).hint(hint))
}

/// The job types that the configuration file declares, and those that are built in.
fn job_types(home: &Home) -> Result<JobTypes, Failure> {
    let config = Config::resolve(home.clone(), Overrides::default());
    config.map(|config| config.job_types).map_err(|error| Failure::of(Kind::Config, &error))
}

/// What a job type makes of its parameters.
fn of_type(
    types: Option<&JobTypes>,
    name: &str,
    parameters: &Map<String, Value>,
) -> Result<Submission, oban::TypeError> {
    let refused = |error: &dyn std::error::Error| oban::TypeError { message: error.to_string() };
    let types = types.ok_or_else(|| oban::TypeError { message: format!("there is no job type {name:?}") })?;
    let parameters = parameters.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    types.find(name).map_err(|error| refused(&error))?.submission(&parameters).map_err(|error| refused(&error))
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Whether a path is one where crontabs of the system lie.
fn is_of_system(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path == Path::new("/etc/crontab") || path.starts_with("/etc/cron.d")
}

/// Looks at the first bytes only: a database may be larger than any dump that is read.
fn is_sqlite(path: &Path) -> Result<bool, Failure> {
    use std::io::Read as _;
    let mut start = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    read.map_err(|error| unreadable(&SourceError::File { path: path.to_owned(), source: error }))?;
    Ok(oban::Form::of(&start) == oban::Form::Sqlite)
}

fn content_of(path: &Path) -> Result<String, Failure> {
    let bytes = source::read_file(path).map_err(|error| unreadable(&error))?;
    source::text(bytes).map_err(|error| malformed(&error))
}

/// What a file is called: the same from every directory.
fn name_of(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn unreadable(error: &SourceError) -> Failure {
    Failure::of(Kind::File, error)
}

fn malformed(error: &ImportError) -> Failure {
    Failure::of(Kind::Usage, error)
}

fn write_new(path: &Path, content: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(content.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::new(Kind::File, format!("failed to write {}: {error}", path.display()))
            .hint("everything is imported; name a file that does not exist yet")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crontabs_of_the_system_are_known_by_their_path() {
        assert!(is_of_system(Path::new("/etc/crontab")));
        assert!(is_of_system(Path::new("/etc/cron.d/tool")));
        assert!(!is_of_system(Path::new("/home/me/crontab")));
    }

    #[test]
    fn an_import_that_brings_nothing_for_want_of_a_map_is_no_success() {
        let all = Totals { needs_mapping: 3, finished: 2, ..Totals::default() };
        let failure = unmapped(&all, false);
        assert!(failure.is_some_and(|failure| failure.text().contains("all 3 items") && failure.exit() == Exit::USAGE));
        assert_eq!(unmapped(&all, true), None);
        assert_eq!(unmapped(&Totals { jobs: 1, ..all }, false), None);
        assert_eq!(unmapped(&Totals { left_out: 1, ..Totals::default() }, false), None);
    }

    #[test]
    fn a_file_is_never_written_over() {
        let Ok(directory) = tempfile::tempdir() else { return };
        let path = directory.path().join("crontab");
        assert!(write_new(&path, "a").is_ok());
        assert!(write_new(&path, "b").is_err());
        assert!(std::fs::read_to_string(&path).is_ok_and(|content| content == "a"));
    }
}
