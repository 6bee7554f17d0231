//! `jobmesh doctor`: what this machine lets a node promise, and what stands in the way.

use std::path::Path;

use clap::Args;
use jobmesh::api::Status;
use jobmesh::causes::causes;
use jobmesh::config::{Config, Overrides};
use jobmesh::home::Home;
use jobmesh_executors::{Probe, Sandboxes};
use jobmesh_protocol::{DurationMillis, Isolation};
use jobmesh_store::{DATABASE_NAME, Reader, StoreError, find_database};
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use crate::cli::secrets::{Entry, look};
use crate::cli::words::size;
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table};
use crate::client::ClientError;

/// Free room below which a node may have to turn jobs away soon: some thousand jobs with their output.
const ROOM_LOW: u64 = 256 << 20;
/// Open files that a node with many jobs and peers needs.
const FILES_LOW: u64 = 1024;

/// Alarms this much older than the latest one are over.
const ALARM_KEPT: DurationMillis = DurationMillis::from_secs(7 * 86_400);

#[derive(Args, Debug)]
#[command(after_help = "Ends with 1 if something is bad.")]
pub(crate) struct Doctor {}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Health {
    Good,
    Poor,
    Bad,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    health: Health,
    text: String,
}

#[derive(Debug, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Doctor {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let mut findings = vec![durability(), config(context), node(context).await?, database(&context.home)];
        findings.extend(alarms(context).await);
        findings.extend(files_kept(context).await);
        findings.extend(disk(context.home.path()));
        findings.extend(secrets(context));
        findings.extend(network(context));
        findings.extend([files(), exits()]);
        findings.push(memory_limits());
        findings.extend(isolation(context).await);
        let all = Findings { findings };
        context.output.show(&all, |colour| table(&all.findings, colour))?;
        let is_bad = all.findings.iter().any(|finding| finding.health == Health::Bad);
        Ok(if is_bad { Exit::FAILED } else { Exit::OK })
    }
}

fn finding(what: &'static str, health: Health, text: impl Into<String>) -> Finding {
    Finding { what, health, text: text.into() }
}

fn durability() -> Finding {
    let text = "what was acknowledged survives kill -9 and a power cut: every commit is synced before it is answered \
                (SQLite, WAL, synchronous=FULL)";
    finding("durability", Health::Good, text)
}

fn config(context: &Context) -> Finding {
    match Config::resolve(context.home.clone(), Overrides::default()) {
        Ok(_) => finding("config", Health::Good, format!("{} makes sense", context.home.config().display())),
        Err(error) => finding("config", Health::Bad, Failure::of(crate::cli::Kind::Config, &error).message()),
    }
}

/// Whether the secrets that are declared are there.
fn secrets(context: &Context) -> Option<Finding> {
    let config = Config::resolve(context.home.clone(), Overrides::default()).ok()?;
    let entries = look(&config.secrets);
    if entries.is_empty() {
        return None;
    }
    let complaints: Vec<String> = entries.iter().filter_map(Entry::complaint).collect();
    if complaints.is_empty() {
        return Some(finding(
            "secrets",
            Health::Good,
            format!("{} are declared, see `jobmesh secrets`", entries.len()),
        ));
    }
    Some(finding("secrets", Health::Poor, complaints.join("; ")))
}

/// What the code of members reaches of this machine's network.
fn network(context: &Context) -> Option<Finding> {
    let config = Config::resolve(context.home.clone(), Overrides::default()).ok()?;
    let policy = &config.isolation;
    let is_open = |level: &Isolation| *level < Isolation::Sandboxed;
    Some(if is_open(&policy.members) || policy.peers.values().any(is_open) {
        let text = "code of members that is not sandboxed has all of this machine's network; `[isolation] members = \
                    \"sandboxed\"`, without exceptions in [isolation.peers], takes it away";
        finding("network", Health::Poor, text)
    } else if policy.network {
        let text = "code of members that asks for it has all of this machine's network: also loopback, private \
                    addresses, and what clouds tell their machines; `isolation.network = false` takes it away";
        finding("network", Health::Poor, text)
    } else {
        let text =
            "code of members has no network (isolation.network is false); what their requests reach, [http] says";
        finding("network", Health::Good, text)
    })
}

async fn node(context: &Context) -> Result<Finding, Failure> {
    let status: Result<Status, ClientError> = context.client()?.get("/v1/status").await;
    let ours = env!("CARGO_PKG_VERSION");
    Ok(match status {
        Ok(status) if status.version != ours => {
            let text = format!("runs version {}, but this is {ours}; restart it", status.version);
            finding("node", Health::Poor, text)
        }
        Ok(status) => finding("node", Health::Good, format!("{} runs, pid {}", status.name, status.pid)),
        Err(ClientError::Unreachable { .. }) => {
            finding("node", Health::Poor, "does not run; `jobmesh up -d` or any `jobmesh run` starts it")
        }
        Err(error) => finding("node", Health::Bad, Failure::from(error).message()),
    })
}

/// What the node was alarmed by in the week up to the latest alarm.
async fn alarms(context: &Context) -> Vec<Finding> {
    let Ok(client) = context.client() else { return Vec::new() };
    // Whether the node can be asked at all was looked at before.
    let Ok(status) = client.get::<Status>("/v1/status").await else { return Vec::new() };
    let since = status.alarms.iter().map(|alarm| alarm.last_at).max();
    let is_recent = |at| since.is_some_and(|latest| latest.since(at) <= ALARM_KEPT);
    let recent = status.alarms.into_iter().filter(|alarm| is_recent(alarm.last_at));
    recent
        .map(|alarm| {
            let text = format!("{} ({} times, last {})", alarm.words, alarm.count, alarm.last_at.to_rfc3339());
            finding("alarm", Health::Poor, text)
        })
        .collect()
}

/// How much the node keeps of the files of jobs, and how much it may.
async fn files_kept(context: &Context) -> Option<Finding> {
    let status: Status = context.client().ok()?.get("/v1/status").await.ok()?;
    let (bytes, quota) = (status.blobs.bytes, status.blobs.quota);
    let text = format!("{} of {} taken by inputs and outputs", size(bytes), size(quota));
    if bytes < quota / 10 * 9 {
        return Some(finding("storage", Health::Good, text));
    }
    let remedy = "delete jobs that have ended with `jobmesh prune`, or raise quota under [blobs] in config.toml";
    Some(finding("storage", Health::Poor, format!("{text}; soon no more will be taken: {remedy}")))
}

/// Whether the job database is there, of our schema and whole. Takes about as long as reading it.
fn database(home: &Home) -> Finding {
    let path = home.path().join(DATABASE_NAME);
    let bytes = path.metadata().map_or(0, |found| found.len());
    let (health, text) = match find_database(home.path(), home.is_settled()) {
        Ok(false) => (Health::Good, "there is none yet; the first start makes it".to_owned()),
        Err(error) => (Health::Bad, causes(&error)),
        Ok(true) => match examine(home.path()) {
            Ok(Ok(())) => {
                (Health::Good, format!("every page of {DATABASE_NAME} makes sense ({} MiB)", bytes.div_ceil(1 << 20)))
            }
            Ok(Err(text)) => (Health::Bad, text),
            Err(error) => (Health::Bad, Failure::of(crate::cli::Kind::Database, &error).message().to_owned()),
        },
    };
    match unwritable(home.path()) {
        Some(text) if health == Health::Good => finding("database", Health::Bad, text),
        Some(_) | None => finding("database", health, text),
    }
}

/// Says which part of the database a node could not write. What is not there is made when the node starts.
fn unwritable(home: &Path) -> Option<String> {
    let files = ["", "-wal", "-shm"].map(|end| home.join(format!("{DATABASE_NAME}{end}")));
    std::iter::once(home.to_owned()).chain(files).filter(|path| path.exists()).find_map(|path| {
        let error = rustix::fs::access(&path, rustix::fs::Access::WRITE_OK).err()?;
        let remedy = match error {
            rustix::io::Errno::ROFS => "mount its file system for writing",
            rustix::io::Errno::PERM => "see `lsattr -d` for what forbids it",
            _ => "see its owner and mode with `ls -ld`",
        };
        Some(format!("{} can't be written: {}; {remedy}", path.display(), std::io::Error::from(error)))
    })
}

/// Says what is wrong with a database that can be read.
fn examine(home: &Path) -> Result<Result<(), String>, StoreError> {
    let reader = Reader::open(home)?;
    let (found, known) = reader.view().schema()?;
    if found > known {
        let text =
            format!("{DATABASE_NAME} has schema {found}, but this build knows up to {known}; run a newer jobmesh");
        return Ok(Err(text));
    }
    for table in reader.view().tables()? {
        if let Some(fault) = reader.view().faults(&table)?.first() {
            let text = format!(
                "{DATABASE_NAME} is damaged in {table}: {fault}; stop the node with `jobmesh down`, copy {} to a safe \
                 place, then restore a backup or save what still reads with `sqlite3 {DATABASE_NAME} .recover`; to begin \
                 anew without jobs, move {DATABASE_NAME} and the files {DATABASE_NAME}-wal and -shm beside it away and \
                 run `jobmesh up --new-database`",
                home.display()
            );
            return Ok(Err(text));
        }
    }
    Ok(Ok(()))
}

/// Whether a job that outlives the daemon still ends with its own exit code.
fn exits() -> Finding {
    match jobmesh_executors::tells_exits() {
        Some(true) => finding("exits", Health::Good, "of jobs that outlive the daemon are told by the kernel"),
        Some(false) => {
            let text = "of jobs that outlive the daemon are not told by the kernel (Linux 6.15 does, by PIDFD_GET_INFO): \
                        such a job is lost unless it writes $JOBMESH_OUTCOME";
            finding("exits", Health::Poor, text)
        }
        None => finding("exits", Health::Poor, "could not be tried: the program `true` does not start"),
    }
}

/// The disk under the data directory, or under the nearest directory above it that is there.
fn disk(home: &Path) -> Vec<Finding> {
    let there = home.ancestors().find(|path| path.exists()).unwrap_or(home);
    let mut findings = Vec::new();
    match rustix::fs::statvfs(there) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let health = if free < ROOM_LOW { Health::Bad } else { Health::Good };
            findings.push(finding("room", health, format!("{} MiB free at {}", free >> 20, there.display())));
        }
        Err(error) => findings.push(finding("room", Health::Poor, format!("could not be measured: {error}"))),
    }
    findings.extend(file_system(there));
    findings
}

/// File systems that keep nothing, or whose locks and syncs can't be relied on.
#[cfg(target_os = "linux")]
fn file_system(path: &Path) -> Option<Finding> {
    // Magic numbers of linux/magic.h.
    let (health, text) = match rustix::fs::statfs(path).ok()?.f_type {
        0x0102_1994 | 0x8584_58f6 => (Health::Bad, "is kept in memory: all jobs are gone after a restart"),
        0x6969 => (Health::Bad, "is NFS, where SQLite's locks can't be relied on; choose a local disk"),
        0x6573_5546 => (Health::Poor, "is FUSE: whether it syncs is up to its program"),
        _ => (Health::Good, "is a local disk"),
    };
    Some(finding("disk", health, text))
}

#[cfg(not(target_os = "linux"))]
fn file_system(_path: &Path) -> Option<Finding> {
    None
}

fn files() -> Finding {
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES_LOW => {
            let text = format!("at most {limit} open files; raise it with `ulimit -n {FILES_LOW}` or more");
            finding("files", Health::Poor, text)
        }
        Some(limit) => finding("files", Health::Good, format!("at most {limit} open files")),
        None => finding("files", Health::Good, "any number of open files"),
    }
}

/// Whether the memory of jobs can be limited: by a control group of our own.
fn memory_limits() -> Finding {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = |line: &str| match line.splitn(3, ':').collect::<Vec<_>>().as_slice() {
        ["0", "", path] => Some(format!("/sys/fs/cgroup{path}")),
        [_, controllers, path] if controllers.split(',').any(|it| it == "memory") => {
            Some(format!("/sys/fs/cgroup/memory{path}"))
        }
        _ => None,
    };
    let found = groups.lines().filter_map(own).find(|path| can_limit(Path::new(path)));
    match found {
        Some(path) => {
            finding("memory", Health::Good, format!("limits of jobs are enforced by control groups in {path}"))
        }
        None => {
            finding("memory", Health::Poor, "limits of jobs are counted but not enforced: no control group is ours")
        }
    }
}

/// What each executor keeps apart how well, and what would let it do better.
async fn isolation(context: &Context) -> Vec<Finding> {
    // What is wrong with the configuration is a finding of its own.
    let Ok(config) = Config::resolve(context.home.clone(), Overrides::default()) else { return Vec::new() };
    let sandboxes = if config.sandbox { Sandboxes::Use } else { Sandboxes::Avoid };
    let surroundings = jobmesh::runtime::surroundings(&config);
    let looks = tokio::task::spawn_blocking(move || jobmesh_executors::probe(&surroundings, sandboxes));
    let Ok(probes) = looks.await else {
        return vec![finding("isolation", Health::Poor, "the look for executors failed")];
    };
    probes.iter().map(executor).collect()
}

fn executor(probe: &Probe) -> Finding {
    let facts = probe.facts.iter().map(|(name, value)| format!("{name} {value}"));
    let given = match probe.isolation {
        None => "not available".to_owned(),
        Some(level) => format!("at most {level}"),
    };
    let text = [given].into_iter().chain(facts).chain(probe.lacks.iter().cloned()).collect::<Vec<_>>().join("; ");
    let health = if probe.lacks.is_empty() { Health::Good } else { Health::Poor };
    finding(probe.executor, health, text)
}

/// Whether groups can be made there that limit memory.
fn can_limit(path: &Path) -> bool {
    let is_v1 = path.join("memory.limit_in_bytes").exists();
    let controllers = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
    let is_v2 = controllers.split_whitespace().any(|controller| controller == "memory");
    let is_ours = rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    (is_v1 || is_v2) && is_ours
}

fn table(findings: &[Finding], colour: Colour) -> String {
    let mut table = Table::new(["", "WHAT", "HOW"]);
    for Finding { what, health, text } in findings {
        let (style, mark) = match health {
            Health::Good => (Style::Good, "good"),
            Health::Poor => (Style::Busy, "poor"),
            Health::Bad => (Style::Bad, "bad"),
        };
        table.push([Cell::styled(style, mark), Cell::from(what), Cell::whole(text)]);
    }
    table.render(colour, 0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A database that could be read was called good, and no node started with it.
    #[test]
    fn a_database_that_can_not_be_written_is_found() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(unwritable(folder.path()), None, "what is not there yet is made");
        let database = folder.path().join(DATABASE_NAME);
        std::fs::write(&database, "").unwrap();
        assert_eq!(unwritable(folder.path()), None);
        std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o400)).unwrap();
        let found = unwritable(folder.path());
        // Root may write whatever its mode.
        let is_told = found.is_some_and(|text| text.contains("jobs.db can't be written") && text.contains("ls -ld"));
        assert!(is_told || rustix::process::geteuid().is_root());
    }
}
