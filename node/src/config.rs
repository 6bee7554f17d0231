//! What a node is told from outside, resolved once, before any work starts.
//!
//! Four layers, the first that says something wins: flags, environment (`JOBMESH_NAME`, `JOBMESH_SLOTS`,
//! `JOBMESH_LISTEN`, `JOBMESH_MDNS`, `JOBMESH_LOG`), `config.toml` in the data directory, and the `default.toml` that is
//! compiled in. The hard case is the typing error: a key that is not known is never skipped over, because a limit
//! that silently does not hold is worse than a daemon that does not start.

use std::io;
use std::path::{Path, PathBuf};

use jobmesh_engine::Timing;
use jobmesh_protocol::DurationMillis;
use serde::Deserialize;

use crate::home::Home;

const DEFAULT: &str = include_str!("default.toml");

/// Most jobs that may be set to run at once: each has a thread and two open files.
const SLOTS_MAX: u32 = 4096;
/// Longest name: what a host's name may have, and what peers take in a greeting.
const NAME_BYTES_MAX: usize = 64;
/// Most addresses to listen on.
const LISTEN_MAX: usize = 16;
/// Every key that the file may have, to find the one that was meant.
const KEYS: &[&str] = &[
    "name",
    "slots",
    "listen",
    "mdns",
    "log",
    "lease",
    "learning",
    "drain",
    "ttl",
    "grace",
    "bid_window",
    "bid_hold",
    "publish_after",
    "wait",
];

/// Everything that the daemon is told from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not parse, or has a key that is not known.
    #[error("{} line {line}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what may have been meant.
        problem: String,
    },
    /// A variable does not parse.
    #[error("{variable} is {value:?}; it must be {wanted}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// A value is out of range.
    #[error("{key} is {found}; it must be {wanted}")]
    Range {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        wanted: String,
    },
}

/// One configuration file. The compiled-in one is read by the same code.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    slots: Option<u32>,
    listen: Option<Vec<String>>,
    mdns: Option<bool>,
    log: Option<String>,
    #[serde(default)]
    lease: LeaseTable,
    #[serde(default)]
    learning: LearningTable,
    #[serde(default)]
    drain: DrainTable,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeaseTable {
    ttl: Option<Span>,
    grace: Option<Span>,
    bid_window: Option<Span>,
    bid_hold: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LearningTable {
    publish_after: Option<Span>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainTable {
    wait: Option<Span>,
}

/// A length of time as people write it: `30s`, `2m 10s`, `800ms`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Span(DurationMillis);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = |_| format!("{text:?} is no length of time; write it like \"30s\", \"800ms\" or \"2m 10s\"");
        let duration = humantime::parse_duration(&text).map_err(wrong)?;
        Ok(Self(DurationMillis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))))
    }
}

impl Config {
    /// Resolves the four layers into one configuration.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, line or variable, and what would be right.
    pub fn resolve(home: Home, flags: Overrides) -> Result<Self, ConfigError> {
        let environment = Overrides::from_environment(|variable| std::env::var(variable).ok())?;
        Self::resolve_with(home, flags, environment)
    }

    fn resolve_with(home: Home, flags: Overrides, environment: Overrides) -> Result<Self, ConfigError> {
        let path = home.config();
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => parse(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::default(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let default = parse(Path::new("default.toml"), DEFAULT)?;
        let config = Self {
            home,
            name: flags.name.or(environment.name).or(file.name).unwrap_or_else(host_name),
            slots: flags.slots.or(environment.slots).or(file.slots).unwrap_or_else(processors),
            listen: flags.listen.or(environment.listen).or(file.listen).or(default.listen).unwrap_or_default(),
            mdns: flags.mdns.or(environment.mdns).or(file.mdns).or(default.mdns).unwrap_or(true),
            log: flags.log.or(environment.log).or(file.log).or(default.log).unwrap_or_default(),
            timing: timing(
                &file.lease.or(&default.lease),
                file.learning.publish_after.or(default.learning.publish_after),
            ),
            drain_wait: file.drain.wait.or(default.drain.wait).map_or(DurationMillis(0), |span| span.0),
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let printable = self.name.chars().all(|c| !c.is_control());
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !printable {
            return Err(range("name", &format!("{:?}", self.name), format!("1 to {NAME_BYTES_MAX} printable bytes")));
        }
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return Err(range("slots", &self.slots, format!("1 to {SLOTS_MAX}")));
        }
        let is_bad = |address: &&String| {
            !address.starts_with('/') || address.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        if let Some(address) = self.listen.iter().find(is_bad) {
            return Err(range(
                "listen",
                &format!("{address:?}"),
                "a multiaddress such as /ip4/0.0.0.0/tcp/0".to_owned(),
            ));
        }
        if self.listen.is_empty() || self.listen.len() > LISTEN_MAX {
            return Err(range(
                "listen",
                &format!("{} addresses", self.listen.len()),
                format!("1 to {LISTEN_MAX} addresses"),
            ));
        }
        let timing = &self.timing;
        check_span("lease.ttl", timing.lease, (1_000, 3_600_000))?;
        check_span("lease.grace", timing.lease_grace, (500, 3_600_000))?;
        check_span("lease.bid_window", timing.bid_window, (50, 60_000))?;
        check_span("lease.bid_hold", timing.bid_hold, (100, 60_000))?;
        check_span("learning.publish_after", timing.summary_delay, (100, 3_600_000))?;
        check_span("drain.wait", self.drain_wait, (0, 3_600_000))?;
        if timing.bid_hold < timing.bid_window {
            let found = words(timing.bid_hold);
            return Err(range(
                "lease.bid_hold",
                &found,
                format!("at least lease.bid_window, {}", words(timing.bid_window)),
            ));
        }
        Ok(())
    }
}

impl LeaseTable {
    fn or(&self, other: &Self) -> Self {
        Self {
            ttl: self.ttl.or(other.ttl),
            grace: self.grace.or(other.grace),
            bid_window: self.bid_window.or(other.bid_window),
            bid_hold: self.bid_hold.or(other.bid_hold),
        }
    }
}

fn timing(lease: &LeaseTable, publish_after: Option<Span>) -> Timing {
    let built_in = Timing::default();
    let or = |span: Option<Span>, default: DurationMillis| span.map_or(default, |span| span.0);
    Timing {
        lease: or(lease.ttl, built_in.lease),
        lease_grace: or(lease.grace, built_in.lease_grace),
        bid_window: or(lease.bid_window, built_in.bid_window),
        bid_hold: or(lease.bid_hold, built_in.bid_hold),
        summary_delay: or(publish_after, built_in.summary_delay),
        fetch_limit: built_in.fetch_limit,
    }
}

fn range(key: &'static str, found: &impl ToString, wanted: String) -> ConfigError {
    ConfigError::Range { key, found: found.to_string(), wanted }
}

fn check_span(key: &'static str, span: DurationMillis, (least, most): (u64, u64)) -> Result<(), ConfigError> {
    if (least..=most).contains(&span.0) {
        return Ok(());
    }
    let wanted = format!("{} to {}", words(DurationMillis(least)), words(DurationMillis(most)));
    Err(range(key, &words(span), wanted))
}

fn words(span: DurationMillis) -> String {
    humantime::format_duration(std::time::Duration::from_millis(span.0)).to_string()
}

impl Overrides {
    /// Reads the layer of the environment through `variable`.
    ///
    /// # Errors
    /// [`ConfigError::Environment`] if a variable does not parse.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let slots = given("JOBMESH_SLOTS").map(|value| {
            let wanted = "a whole number";
            value.parse().map_err(|_| ConfigError::Environment { variable: "JOBMESH_SLOTS", value, wanted })
        });
        let mdns = given("JOBMESH_MDNS").map(|value| match value.as_str() {
            "true" | "1" | "on" => Ok(true),
            "false" | "0" | "off" => Ok(false),
            _ => Err(ConfigError::Environment { variable: "JOBMESH_MDNS", value, wanted: "true or false" }),
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
}

fn parse(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        ConfigError::File { path: path.to_owned(), line, problem: problem(error.message()) }
    })
}

/// Rewords the parser's complaint about an unknown key to name the one that was probably meant.
fn problem(message: &str) -> String {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let Some(key) = unknown else { return message.trim_end().to_owned() };
    let nearest = KEYS.iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        Some((steps, known)) if steps <= 2 => format!("unknown key `{key}`; did you mean `{known}`?"),
        Some(_) | None => format!("unknown key `{key}`; it may have moved or be misspelt"),
    }
}

/// How many letters must be added, dropped or changed to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (done, letter) in from.chars().enumerate() {
        let mut next = vec![done + 1];
        for (column, other) in to.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
            let changed = cell(&row, column) + usize::from(letter != *other);
            next.push(changed.min(cell(&row, column + 1) + 1).min(cell(&next, column) + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() { "node".to_owned() } else { short.to_owned() }
}

fn processors() -> u32 {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(count).unwrap_or(SLOTS_MAX).min(SLOTS_MAX)
}

#[cfg(test)]
mod tests;
