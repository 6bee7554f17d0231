//! One configuration file, key by key. The compiled-in `default.toml` is read by the same code.

use std::collections::BTreeMap;

use jobmesh_engine::QueueLimits;
use jobmesh_engine::pool::PoolKind;
use jobmesh_executors::http::settings::{ALLOWED_MAX, Allowed, Reach};
use jobmesh_executors::model;
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::resource::{Name, NameError};

use crate::blobs::BLOB_BYTES_MAX;
use crate::config::containers::{self, ContainerTable};
use crate::config::isolation::{ISOLATION_KEYS, IsolationTable};
use crate::config::models;
use crate::config::queues::{RETENTION_KEYS, RetentionTable, read_queues};
use crate::config::secrets::read_secrets;
use crate::config::table::{Document, Entry, Fault, Lined, Origin, Table};
use crate::config::{LISTEN_MAX, SLOTS_MAX, judge_listen, judge_log, judge_name};
use crate::job_types::{Declarations, read_declarations};
use crate::secrets::Kept;

/// Most pools of resources.
const POOLS_MAX: usize = 64;
/// The range of `limits.log_bytes`: less than one line of output serves nobody.
const LOG_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;
/// The range of `limits.file_bytes`: up to the largest blob, since nothing larger could be kept.
const FILE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=BLOB_BYTES_MAX;
/// The range of `blobs.quota`: at least some logs.
const BLOB_QUOTA: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 60;
/// The range of `limits.disk_bytes`: a job that may write less than that can write nothing.
const DISK_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 50;
/// The range of `mesh.outbox_per_peer`: at least one result with its output.
const OUTBOX_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 36;
/// The range of `http.response_bytes`: at least one page.
const RESPONSE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;
/// Most processes of one run: as many as a Linux kernel numbers.
const PROCESSES_MAX: i128 = 4_194_304;

const ROOT_KEYS: &[&str] = &[
    "name",
    "slots",
    "listen",
    "mdns",
    "log",
    "lease",
    "learning",
    "drain",
    "queues",
    "retention",
    "limits",
    "blobs",
    "mesh",
    "isolation",
    "resources",
    "secrets",
    "container",
    "job_types",
    "http",
    "providers",
    "models",
];
const LEASE_KEYS: &[&str] = &["ttl", "grace", "bid_window", "bid_hold"];
const LEARNING_KEYS: &[&str] = &["publish_after"];
const DRAIN_KEYS: &[&str] = &["wait"];
const BLOB_KEYS: &[&str] = &["quota"];
const LIMIT_KEYS: &[&str] = &["log_bytes", "processes", "file_bytes", "disk_bytes"];
const MESH_KEYS: &[&str] = &["holds_per_peer", "leases_per_peer", "outbox_per_peer", "messages_per_second"];
const HTTP_KEYS: &[&str] = &["response_bytes", "peers", "allow"];

/// Every table with keys of its own, to tell where a key belongs that stands in the wrong one.
const SECTIONS: &[(&str, &[&str])] = &[
    ("", ROOT_KEYS),
    ("lease", LEASE_KEYS),
    ("learning", LEARNING_KEYS),
    ("drain", DRAIN_KEYS),
    ("retention", RETENTION_KEYS),
    ("limits", LIMIT_KEYS),
    ("blobs", BLOB_KEYS),
    ("mesh", MESH_KEYS),
    ("container", containers::KEYS),
    ("isolation", ISOLATION_KEYS),
    ("http", HTTP_KEYS),
];

/// What one file says; `None` where it is silent.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    pub(super) name: Option<Lined<String>>,
    pub(super) slots: Option<Lined<u32>>,
    pub(super) listen: Option<Lined<Vec<String>>>,
    pub(super) mdns: Option<Lined<bool>>,
    pub(super) log: Option<Lined<String>>,
    pub(super) lease_ttl: Option<Lined<DurationMillis>>,
    pub(super) lease_grace: Option<Lined<DurationMillis>>,
    pub(super) bid_window: Option<Lined<DurationMillis>>,
    pub(super) bid_hold: Option<Lined<DurationMillis>>,
    pub(super) publish_after: Option<Lined<DurationMillis>>,
    pub(super) drain_wait: Option<Lined<DurationMillis>>,
    pub(super) log_bytes: Option<Lined<u64>>,
    pub(super) processes: Option<Lined<u32>>,
    pub(super) file_bytes: Option<Lined<u64>>,
    pub(super) blob_quota: Option<Lined<u64>>,
    pub(super) disk_bytes: Option<Lined<u64>>,
    pub(super) isolation: IsolationTable,
    pub(super) peer_holds: Option<Lined<u32>>,
    pub(super) peer_leases: Option<Lined<u32>>,
    pub(super) peer_outbox: Option<Lined<u64>>,
    pub(super) peer_messages: Option<Lined<u32>>,
    pub(super) retention: RetentionTable,
    pub(super) queues: BTreeMap<String, QueueLimits>,
    pub(super) resources: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, Kept>,
    pub(super) containers: ContainerTable,
    pub(super) job_types: Declarations,
    pub(super) response_bytes: Option<Lined<u64>>,
    pub(super) http_peers: Option<Lined<Reach>>,
    pub(super) http_allow: Option<Lined<Vec<Allowed>>>,
    pub(super) models: model::settings::Settings,
}

impl ConfigFile {
    /// Reads a whole file.
    pub(super) fn parse(text: &str, origin: Origin) -> Result<Self, Fault> {
        let document = Document::parse(text, origin)?;
        let root = document.table()?;
        root.check_keys(ROOT_KEYS, SECTIONS)?;
        let mut file = Self {
            name: root.read("name", |entry| judged(entry, judge_name))?,
            slots: root.read("slots", |entry| entry.whole(1..=i128::from(SLOTS_MAX)))?,
            listen: root.read("listen", read_listen)?,
            mdns: root.read("mdns", Entry::boolean)?,
            log: root.read("log", |entry| judged(entry, judge_log))?,
            ..Self::default()
        };
        file.read_times(&root)?;
        if let Some(limits) = section(&root, "limits", LIMIT_KEYS)? {
            file.log_bytes = limits.read("log_bytes", |entry| entry.size(LOG_BYTES))?;
            file.processes = limits.read("processes", |entry| entry.whole(1..=PROCESSES_MAX))?;
            file.file_bytes = limits.read("file_bytes", |entry| entry.size(FILE_BYTES))?;
            file.disk_bytes = limits.read("disk_bytes", |entry| entry.size(DISK_BYTES))?;
        }
        if let Some(blobs) = section(&root, "blobs", BLOB_KEYS)? {
            file.blob_quota = blobs.read("quota", |entry| entry.size(BLOB_QUOTA))?;
        }
        if let Some(isolation) = section(&root, "isolation", ISOLATION_KEYS)? {
            file.isolation = IsolationTable::read(&isolation)?;
        }
        if let Some(mesh) = section(&root, "mesh", MESH_KEYS)? {
            file.peer_holds = mesh.read("holds_per_peer", |entry| entry.whole(1..=64))?;
            file.peer_leases = mesh.read("leases_per_peer", |entry| entry.whole(1..=100_000))?;
            file.peer_outbox = mesh.read("outbox_per_peer", |entry| entry.size(OUTBOX_BYTES))?;
            file.peer_messages = mesh.read("messages_per_second", |entry| entry.whole(10..=1_000_000))?;
        }
        if let Some(entry) = root.entry("retention") {
            file.retention = RetentionTable::read(&entry.table()?)?;
        }
        if let Some(http) = section(&root, "http", HTTP_KEYS)? {
            file.response_bytes = http.read("response_bytes", |entry| entry.size(RESPONSE_BYTES))?;
            file.http_peers = http.read("peers", |entry| entry.word(&REACHES))?;
            file.http_allow = http.read("allow", |entry| entry.list(ALLOWED_MAX, Entry::spoken))?;
        }
        file.models = models::read(&root)?;
        file.queues = root.read("queues", read_queues)?.unwrap_or_default();
        file.resources = root.read("resources", read_resources)?.unwrap_or_default();
        file.secrets = root.read("secrets", read_secrets)?.unwrap_or_default();
        models::check_keys(&root, &file.models.providers, &file.secrets)?;
        file.containers = root.read("container", |entry| ContainerTable::read(&entry.table()?))?.unwrap_or_default();
        file.job_types = root.read("job_types", read_declarations)?.unwrap_or_default();
        Ok(file)
    }

    fn read_times(&mut self, root: &Table<'_>) -> Result<(), Fault> {
        if let Some(lease) = section(root, "lease", LEASE_KEYS)? {
            self.lease_ttl = length(&lease, "ttl", (1_000, 3_600_000))?;
            self.lease_grace = length(&lease, "grace", (500, 3_600_000))?;
            self.bid_window = length(&lease, "bid_window", (50, 60_000))?;
            self.bid_hold = length(&lease, "bid_hold", (100, 60_000))?;
        }
        if let Some(learning) = section(root, "learning", LEARNING_KEYS)? {
            self.publish_after = length(&learning, "publish_after", (100, 3_600_000))?;
        }
        if let Some(drain) = section(root, "drain", DRAIN_KEYS)? {
            self.drain_wait = length(&drain, "wait", (0, 3_600_000))?;
        }
        Ok(())
    }
}

/// The words for where the jobs of peers may go.
pub(super) const REACHES: [(&str, Reach); 2] = [("public", Reach::Public), ("none", Reach::None)];

/// The table of this name, all of whose keys are known.
fn section<'d>(root: &Table<'d>, name: &str, known: &[&str]) -> Result<Option<Table<'d>>, Fault> {
    let Some(entry) = root.entry(name) else { return Ok(None) };
    let table = entry.table()?;
    table.check_keys(known, SECTIONS)?;
    Ok(Some(table))
}

fn length(table: &Table<'_>, key: &str, (least, most): (u64, u64)) -> Result<Option<Lined<DurationMillis>>, Fault> {
    table.read(key, |entry| entry.length(DurationMillis(least)..=DurationMillis(most)))
}

fn judged(entry: &Entry<'_>, judge: fn(&str) -> Result<(), String>) -> Result<Lined<String>, Fault> {
    let found = entry.as_text().ok_or_else(|| entry.wrong("a text in quotes"))?;
    judge(found).map_err(|wanted| entry.wrong(&wanted))?;
    Ok(entry.lined(found.to_owned()))
}

fn read_listen(entry: &Entry<'_>) -> Result<Lined<Vec<String>>, Fault> {
    let addresses = entry.list(LISTEN_MAX, Entry::text)?;
    match judge_listen(&addresses.value) {
        Ok(()) => Ok(addresses),
        Err((found, wanted)) => Err(entry.fault(&format!("is {found}; it must be {wanted}"))),
    }
}

/// Pools of resources stay text here, for the reader of the machine to lay over what it finds; they are checked.
fn read_resources(entry: &Entry<'_>) -> Result<BTreeMap<String, String>, Fault> {
    let mut pools = BTreeMap::new();
    for (key, entry) in entry.table()?.entries() {
        let name: Name = key.parse().map_err(|error: NameError| entry.refused(&error))?;
        let text = match entry.as_text() {
            Some(text) => text.trim().to_owned(),
            None if entry.is_number() => entry.shown(),
            None => return Err(entry.wrong("a pool such as \"4\", \"2x4\", \"[0,1]\" or \"sum(8G)\", in quotes")),
        };
        PoolKind::parse(&name, &text).map_err(|error| entry.refused(&error))?;
        pools.insert(key.to_owned(), text);
    }
    if pools.len() > POOLS_MAX {
        return Err(entry.fault(&format!("has {} pools; the limit is {POOLS_MAX}", pools.len())));
    }
    Ok(pools)
}
