//! What a node is told from outside, resolved once, before any work starts, and again when it is told to reload.
//!
//! Four layers, the first that says something wins: flags, environment (`JOBMESH_NAME`, `JOBMESH_SLOTS`,
//! `JOBMESH_LISTEN`, `JOBMESH_MDNS`, `JOBMESH_LOG`), `config.toml` in the data directory, and the `default.toml` that is
//! compiled in. The hard case is the typing error: a key that is not known is never skipped over, because a limit
//! that silently does not hold is worse than a daemon that does not start. Every complaint about the file names the
//! line, also when the fault shows only once all layers have been put together.

mod containers;
mod document;
mod file;
mod isolation;
mod models;
pub(crate) mod nearest;
pub(crate) mod queues;
mod reload;
mod secrets;
mod settings;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jobmesh_engine::{Declared, Policy, QueueLimits, Quotas, Retention, Timing};
use jobmesh_executors::Containers;
use jobmesh_executors::http::settings::Settings as HttpSettings;
use jobmesh_executors::model::settings::Settings as ModelSettings;
use jobmesh_mesh::{NAME_BYTES_MAX, is_name};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::schedule::format_length;

use crate::config::file::ConfigFile;
use crate::config::settings::Sources;
use crate::config::table::{Fault, Lined, Origin};
use crate::home::Home;
use crate::job_types::JobTypes;
use crate::secrets::Vault;

pub use crate::config::reload::{Pending, Reload};
pub use crate::config::settings::{Layer, Setting};

const DEFAULT: &str = include_str!("default.toml");

/// Most jobs that may be set to run at once: each has a thread and two open files.
const SLOTS_MAX: u32 = 4096;
/// Most addresses to listen on.
const LISTEN_MAX: usize = 16;

/// Everything that the daemon is told from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The data directory.
    pub home: Home,
    /// The node's name for people.
    pub name: String,
    /// How many jobs run at once.
    pub slots: u32,
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Whether to look for members on the local network.
    pub mdns: bool,
    /// What to log, as `tracing` directives.
    pub log: String,
    /// How long things between nodes may take.
    pub timing: Timing,
    /// How long running jobs get to end when the daemon stops.
    pub drain_wait: DurationMillis,
    /// What one run may take before it is ended.
    pub limits: Limits,
    /// Most bytes of all blobs together; none is half of the disk that they are on.
    pub blob_quota: Option<u64>,
    /// What one peer may take of this node at most.
    pub quotas: Quotas,
    /// How well jobs are kept apart from this machine.
    pub isolation: Policy,
    /// Whether sandboxes of processes may be made.
    pub sandbox: bool,
    /// How long ended jobs are kept.
    pub retention: Retention,
    /// The limits of queues, by name.
    pub queues: BTreeMap<String, QueueLimits>,
    /// Pools of resources as they were written, by name: `cpus`, `mem`, `gpus/nvidia`, any other. Those that are not
    /// named here are up to what the machine has.
    pub resources: BTreeMap<String, String>,
    /// Where the values of secrets are, by name.
    pub secrets: Vault,
    /// Which engine runs containers, and of which images.
    pub containers: Containers,
    /// The job types, built-in ones included.
    pub job_types: JobTypes,
    /// What is said of requests to web servers.
    pub http: HttpSettings,
    /// Who provides models, and which there are.
    pub models: ModelSettings,
    /// What the flags and the environment said: they go on winning when the file is read again.
    flags: Overrides,
    environment: Overrides,
    sources: Sources,
}

/// Room on the disk where nothing else is said: 16 GiB, a part of what most disks have free.
const DISK_BYTES: u64 = 16 << 30;

/// What one run may take before it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of standard output and error together. A job may set its own.
    pub log_bytes: u64,
    /// Most processes.
    pub processes: u32,
    /// Most bytes of the files that it begins with, and of those that are kept of it.
    pub file_bytes: u64,
    /// Most room on the disk for what a sandboxed run, or one of a peer, writes beside its logs.
    pub disk_bytes: u64,
}

/// What one layer says; `None` where it is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The node's name.
    pub name: Option<String>,
    /// How many jobs run at once.
    pub slots: Option<u32>,
    /// Multiaddresses to listen on.
    pub listen: Option<Vec<String>>,
    /// Whether to look for members on the local network.
    pub mdns: Option<bool>,
    /// What to log.
    pub log: Option<String>,
}

/// Why a configuration does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("failed to read {}; the node's user must be able to", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has the file's name.
    #[error("{} is a {what}, not a file; move it away, or write the configuration there", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The file is no text or no TOML, has a key that is not known, or a value that can't be.
    #[error("{} line {line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what may have been meant.
        problem: String,
    },
    /// A variable's value can't be.
    #[error("{variable} is {value:?}; it must be {wanted}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: String,
    },
    /// A flag's value can't be.
    #[error("{flag} is {found}; it must be {wanted}")]
    Flag {
        /// The flag.
        flag: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        wanted: String,
    },
}

impl ConfigError {
    fn at(path: &Path, fault: Fault) -> Self {
        // A fault of what is compiled in would be ours; its tests keep it from shipping.
        let path = match fault.place.origin {
            Origin::File => path.to_owned(),
            Origin::BuiltIn => PathBuf::from("the built-in configuration"),
        };
        Self::File { path, line: fault.place.line, problem: fault.problem }
    }
}

impl Config {
    /// Resolves the four layers into one configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the file and line, variable or flag, and what would be right.
    pub fn resolve(home: Home, flags: Overrides) -> Result<Self, ConfigError> {
        let environment = Overrides::from_environment(|variable| std::env::var(variable).ok())?;
        Self::resolve_with(home, flags, environment)
    }

    fn resolve_with(home: Home, flags: Overrides, environment: Overrides) -> Result<Self, ConfigError> {
        flags.check_flags()?;
        environment.check_environment()?;
        let path = home.config();
        let text = document::read(&path)?.unwrap_or_default();
        let at = |fault| ConfigError::at(&path, fault);
        let mut config = Self::layered(home, flags, environment, &text).map_err(at)?;
        config.job_types.read_files().map_err(at)?;
        Ok(config)
    }

    fn layered(home: Home, flags: Overrides, environment: Overrides, text: &str) -> Result<Self, Fault> {
        let file = ConfigFile::parse(text, Origin::File)?;
        let default = ConfigFile::parse(DEFAULT, Origin::BuiltIn)?;
        check_bids(&file, &default)?;
        let mut sources = Sources::default();
        let (f, e) = (&flags, &environment);
        let name = sources.pick("name", [&f.name, &e.name], &file.name, &default.name).unwrap_or_else(host_name);
        let slots = sources.pick("slots", [&f.slots, &e.slots], &file.slots, &default.slots);
        let listen = sources.pick("listen", [&f.listen, &e.listen], &file.listen, &default.listen);
        let mdns = sources.pick("mdns", [&f.mdns, &e.mdns], &file.mdns, &default.mdns);
        let log = sources.pick("log", [&f.log, &e.log], &file.log, &default.log);
        let timing = timing(&mut sources, &file, &default);
        let drain_wait = sources.pick("drain.wait", [&None, &None], &file.drain_wait, &default.drain_wait);
        let limits = limits(&mut sources, &file, &default);
        let blob_quota = sources.pick("blobs.quota", [&None, &None], &file.blob_quota, &default.blob_quota);
        let (isolation, sandbox) = file.isolation.resolve(&mut sources, &default.isolation);
        let quotas = quotas(&mut sources, &file, &default);
        let http = http(&mut sources, &file, &default);
        Ok(Self {
            home,
            name,
            slots: slots.unwrap_or_else(processors),
            listen: listen.unwrap_or_default(),
            mdns: mdns.unwrap_or(true),
            log: log.unwrap_or_default(),
            timing,
            drain_wait: drain_wait.unwrap_or_default(),
            limits,
            blob_quota,
            quotas,
            isolation,
            sandbox,
            retention: file.retention.resolve(&default.retention),
            queues: merged(file.queues, default.queues),
            resources: file.resources,
            secrets: Vault::new(file.secrets),
            containers: file.containers.resolve(),
            job_types: JobTypes::resolve(file.job_types)?,
            http,
            models: models::merged(file.models, default.models),
            flags,
            environment,
            sources,
        })
    }

    /// What the engine is told of it.
    #[must_use]
    pub fn declared(&self) -> Declared {
        Declared {
            queues: self.queues.clone(),
            schedules: self.job_types.schedules(),
            retention: self.retention,
            quotas: self.quotas,
            isolation: self.isolation.clone(),
            entrusted: self.secrets.entrusted(),
        }
    }
}

/// The bid must be held as long as bids are waited for, whichever layer says how long either is.
fn check_bids(file: &ConfigFile, default: &ConfigFile) -> Result<(), Fault> {
    let (Some(hold), Some(window)) = (
        file.bid_hold.as_ref().or(default.bid_hold.as_ref()),
        file.bid_window.as_ref().or(default.bid_window.as_ref()),
    ) else {
        return Ok(());
    };
    if hold.value >= window.value {
        return Ok(());
    }
    let (hold_words, window_words) = (format_length(hold.value), format_length(window.value));
    let is_told = hold.place.origin == Origin::File;
    let problem = if is_told {
        format!("lease.bid_hold is {hold_words}; it must be at least lease.bid_window, {window_words}")
    } else {
        format!("lease.bid_window is {window_words}; it must be at most lease.bid_hold, {hold_words}")
    };
    Err(Fault::new(if is_told { hold.place } else { window.place }, problem))
}

fn timing(sources: &mut Sources, file: &ConfigFile, default: &ConfigFile) -> Timing {
    let built_in = Timing::default();
    let mut pick = |key, first: &Option<Lined<DurationMillis>>, second, last| {
        sources.pick(key, [&None, &None], first, second).unwrap_or(last)
    };
    Timing {
        lease: pick("lease.ttl", &file.lease_ttl, &default.lease_ttl, built_in.lease),
        lease_grace: pick("lease.grace", &file.lease_grace, &default.lease_grace, built_in.lease_grace),
        bid_window: pick("lease.bid_window", &file.bid_window, &default.bid_window, built_in.bid_window),
        bid_hold: pick("lease.bid_hold", &file.bid_hold, &default.bid_hold, built_in.bid_hold),
        summary_delay: pick(
            "learning.publish_after",
            &file.publish_after,
            &default.publish_after,
            built_in.summary_delay,
        ),
        fetch_limit: built_in.fetch_limit,
    }
}

/// The queues of both; a limit that both name is the first one's.
fn merged(
    first: BTreeMap<String, QueueLimits>,
    second: BTreeMap<String, QueueLimits>,
) -> BTreeMap<String, QueueLimits> {
    let mut queues = second;
    for (name, limits) in first {
        let queue = queues.entry(name).or_default();
        queue.concurrency = limits.concurrency.or(queue.concurrency);
        queue.rate = limits.rate.or(queue.rate);
    }
    queues
}

impl Overrides {
    /// Reads the layer of the environment through `variable`.
    ///
    /// # Errors
    /// [`ConfigError::Environment`] if a variable does not parse.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let wrong =
            |variable, value, wanted: &str| ConfigError::Environment { variable, value, wanted: wanted.to_owned() };
        let slots = given("JOBMESH_SLOTS").map(|value| {
            let wanted = format!("1 to {SLOTS_MAX}");
            value.parse().map_err(|_| wrong("JOBMESH_SLOTS", value, &wanted))
        });
        let mdns = given("JOBMESH_MDNS").map(|value| match value.as_str() {
            "true" | "1" | "on" => Ok(true),
            "false" | "0" | "off" => Ok(false),
            _ => Err(wrong("JOBMESH_MDNS", value, "true or false")),
        });
        let split = |list: String| list.split(',').map(|address| address.trim().to_owned()).collect();
        Ok(Self {
            name: given("JOBMESH_NAME"),
            slots: slots.transpose()?,
            listen: given("JOBMESH_LISTEN").map(split),
            mdns: mdns.transpose()?,
            log: given("JOBMESH_LOG"),
        })
    }

    fn check_flags(&self) -> Result<(), ConfigError> {
        let flag = |flag| move |(found, wanted)| ConfigError::Flag { flag, found, wanted };
        self.check_name().map_err(flag("--name"))?;
        self.check_slots().map_err(flag("--slots"))?;
        self.check_listen().map_err(flag("--listen"))?;
        self.check_log().map_err(flag("--log"))
    }

    fn check_environment(&self) -> Result<(), ConfigError> {
        let variable =
            |variable, value: String| move |(_, wanted)| ConfigError::Environment { variable, value, wanted };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let slots = self.slots.unwrap_or_default().to_string();
        let listen = self.listen.as_deref().unwrap_or_default().join(",");
        self.check_name().map_err(variable("JOBMESH_NAME", text(&self.name)))?;
        self.check_slots().map_err(variable("JOBMESH_SLOTS", slots))?;
        self.check_listen().map_err(variable("JOBMESH_LISTEN", listen))?;
        self.check_log().map_err(variable("JOBMESH_LOG", text(&self.log)))
    }

    fn check_name(&self) -> Result<(), (String, String)> {
        let Some(name) = &self.name else { return Ok(()) };
        judge_name(name).map_err(|wanted| (format!("{name:?}"), wanted))
    }

    fn check_slots(&self) -> Result<(), (String, String)> {
        match self.slots {
            Some(slots) if slots == 0 || slots > SLOTS_MAX => Err((slots.to_string(), format!("1 to {SLOTS_MAX}"))),
            Some(_) | None => Ok(()),
        }
    }

    fn check_listen(&self) -> Result<(), (String, String)> {
        self.listen.as_deref().map_or(Ok(()), judge_listen)
    }

    fn check_log(&self) -> Result<(), (String, String)> {
        let Some(log) = &self.log else { return Ok(()) };
        judge_log(log).map_err(|wanted| (format!("{log:?}"), wanted))
    }
}

/// Says what a node's name must be, if this is none.
fn judge_name(name: &str) -> Result<(), String> {
    if is_name(name) { Ok(()) } else { Err(format!("1 to {NAME_BYTES_MAX} printable bytes")) }
}

/// Says what is wrong with addresses to listen on, and what they must be.
fn judge_listen(addresses: &[String]) -> Result<(), (String, String)> {
    let is_bad =
        |address: &&String| !address.starts_with('/') || address.chars().any(|c| c.is_whitespace() || c.is_control());
    if let Some(address) = addresses.iter().find(is_bad) {
        return Err((format!("{address:?}"), "a multiaddress such as /ip4/0.0.0.0/tcp/0".to_owned()));
    }
    if addresses.is_empty() || addresses.len() > LISTEN_MAX {
        return Err((format!("{} addresses", addresses.len()), format!("1 to {LISTEN_MAX} addresses")));
    }
    Ok(())
}

/// Says what log directives must be, if these are none.
fn judge_log(directives: &str) -> Result<(), String> {
    let wanted = |_| "log directives such as info or jobmesh=debug".to_owned();
    tracing_subscriber::EnvFilter::try_new(directives).map(drop).map_err(wanted)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    let is_name = judge_name(short).is_ok();
    if is_name { short.to_owned() } else { "node".to_owned() }
}

fn processors() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(count).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)
}

/// What one run may take, as file and defaults say it.
fn limits(sources: &mut Sources, file: &ConfigFile, default: &ConfigFile) -> Limits {
    let built_in = jobmesh_executors::Limits::default();
    Limits {
        log_bytes: sources
            .pick("limits.log_bytes", [&None, &None], &file.log_bytes, &default.log_bytes)
            .unwrap_or(built_in.log_bytes_max),
        processes: sources
            .pick("limits.processes", [&None, &None], &file.processes, &default.processes)
            .unwrap_or(built_in.processes_max),
        file_bytes: sources
            .pick("limits.file_bytes", [&None, &None], &file.file_bytes, &default.file_bytes)
            .unwrap_or(built_in.file_bytes_max),
        disk_bytes: sources
            .pick("limits.disk_bytes", [&None, &None], &file.disk_bytes, &default.disk_bytes)
            .unwrap_or(DISK_BYTES),
    }
}

/// What one peer may take of this node at most, as file and defaults say it.
fn quotas(sources: &mut Sources, file: &ConfigFile, default: &ConfigFile) -> Quotas {
    let built_in = Quotas::default();
    Quotas {
        holds: sources
            .pick("mesh.holds_per_peer", [&None, &None], &file.peer_holds, &default.peer_holds)
            .unwrap_or(built_in.holds),
        leases: sources
            .pick("mesh.leases_per_peer", [&None, &None], &file.peer_leases, &default.peer_leases)
            .unwrap_or(built_in.leases),
        outbox_bytes: sources
            .pick("mesh.outbox_per_peer", [&None, &None], &file.peer_outbox, &default.peer_outbox)
            .unwrap_or(built_in.outbox_bytes),
        messages: sources
            .pick("mesh.messages_per_second", [&None, &None], &file.peer_messages, &default.peer_messages)
            .unwrap_or(built_in.messages),
        // Only the runtime knows how large the disk is.
        input_bytes: built_in.input_bytes,
    }
}

/// What is said of requests to web servers, as file and defaults say it.
fn http(sources: &mut Sources, file: &ConfigFile, default: &ConfigFile) -> HttpSettings {
    let built_in = HttpSettings::default();
    HttpSettings {
        response_bytes_max: sources
            .pick("http.response_bytes", [&None, &None], &file.response_bytes, &default.response_bytes)
            .unwrap_or(built_in.response_bytes_max),
        peers: sources
            .pick("http.peers", [&None, &None], &file.http_peers, &default.http_peers)
            .unwrap_or(built_in.peers),
        allow: sources
            .pick("http.allow", [&None, &None], &file.http_allow, &default.http_allow)
            .unwrap_or(built_in.allow),
    }
}

#[cfg(test)]
mod tests;
