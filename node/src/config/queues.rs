//! The tables that the engine goes by: limits of queues, and how long ended jobs are kept.

use std::collections::BTreeMap;

use jobmesh_engine::{QueueLimits, Retention};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{NAME_BYTES_MAX, RateLimit, check_name};
use jobmesh_protocol::schedule::{format_length, parse_length};

use crate::config::table::{Entry, Fault, Lined, Table, value};

/// Most queues that may be declared.
const QUEUES_MAX: usize = 1000;
/// Most jobs of one queue at once. More than any node has slots, so that a typing error shows.
const CONCURRENCY_MAX: i128 = 1_000_000;
/// The word for a limit that does not hold.
const UNLIMITED: &str = "unlimited";
/// The word for keeping without end.
const NEVER: &str = "never";
/// Longest retention: beyond it people mean for ever.
const KEPT_MAX: DurationMillis = DurationMillis::from_secs(100 * 366 * 86_400);

const QUEUE_KEYS: &[&str] = &["concurrency", "rate"];
/// The keys of `[retention]`.
pub(super) const RETENTION_KEYS: &[&str] = &["completed", "cancelled", "discarded", "receipts"];

/// Reads `[queues]`.
pub(super) fn read_queues(entry: &Entry<'_>) -> Result<BTreeMap<String, QueueLimits>, Fault> {
    let table = entry.table()?;
    let mut queues = BTreeMap::new();
    for (name, entry) in table.entries() {
        check_queue_name(name).map_err(|wanted| entry.fault(&format!("is no name of a queue; it must be {wanted}")))?;
        let limits = entry.table()?;
        limits.check_keys(QUEUE_KEYS, &[])?;
        let concurrency = limits.read("concurrency", |entry| read_concurrency(entry, name))?;
        let rate = limits.read("rate", read_queue_rate)?;
        queues.insert(name.to_owned(), QueueLimits { concurrency, rate });
    }
    if queues.len() > QUEUES_MAX {
        return Err(entry.fault(&format!("has {} queues; the limit is {QUEUES_MAX}", queues.len())));
    }
    Ok(queues)
}

/// Says what the name of a queue must be, if this is none.
pub(crate) fn check_queue_name(name: &str) -> Result<(), String> {
    check_name("queue", name).map_err(|_| format!("1 to {NAME_BYTES_MAX} printable bytes"))
}

fn read_concurrency(entry: &Entry<'_>, queue: &str) -> Result<Option<u32>, Fault> {
    if entry.as_text() == Some(UNLIMITED) {
        return Ok(None);
    }
    let number = entry.whole(1..=CONCURRENCY_MAX).map_err(|fault| match entry.whole::<i128>(i128::MIN..=0) {
        Ok(Lined { value: 0, .. }) => fault.hint(&format!("to start nothing, run `jobmesh queue pause {queue}`")),
        Ok(_) => fault.hint(&format!("for no limit, write {UNLIMITED:?}")),
        Err(_) => fault,
    })?;
    Ok(Some(number.value))
}

fn read_queue_rate(entry: &Entry<'_>) -> Result<Option<RateLimit>, Fault> {
    if entry.as_text() == Some(UNLIMITED) {
        return Ok(None);
    }
    entry.parsed(parse_rate).map(|rate| Some(rate.value))
}

/// Reads a rate such as `60/1m`; the error is what it must be.
pub(crate) fn parse_rate(text: &str) -> Result<RateLimit, String> {
    let read = || {
        let (count, period) = text.split_once('/')?;
        Some(RateLimit { count: count.trim().parse().ok()?, period_ms: parse_length(period)? })
    };
    let rate = read().filter(|rate| rate.check().is_ok());
    rate.ok_or_else(|| "a number of starts in a time, such as \"60/1m\", in 1ms to 366d".to_owned())
}

/// Writes a rate the way it is read.
pub(crate) fn format_rate(rate: RateLimit) -> String {
    format!("{}/{}", rate.count, format_length(rate.period_ms))
}

/// What one file says of retention; the outer none where it is silent.
#[derive(Debug, Default)]
pub(super) struct RetentionTable {
    completed: Option<Lined<Option<DurationMillis>>>,
    cancelled: Option<Lined<Option<DurationMillis>>>,
    discarded: Option<Lined<Option<DurationMillis>>>,
    receipts: Option<Lined<Option<DurationMillis>>>,
}

impl RetentionTable {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(RETENTION_KEYS, &[])?;
        let kept = |key| {
            let range = DurationMillis::from_secs(1)..=KEPT_MAX;
            table.read(key, |entry| entry.length_or(Some(NEVER), range))
        };
        Ok(Self {
            completed: kept("completed")?,
            cancelled: kept("cancelled")?,
            discarded: kept("discarded")?,
            receipts: kept("receipts")?,
        })
    }

    /// What holds if `self` is asked first, then `default`.
    pub(super) fn resolve(&self, default: &Self) -> Retention {
        let built_in = Retention::default();
        let pick = |first: &Option<Lined<Option<DurationMillis>>>, second: &Option<_>, last| {
            value(first.as_ref().or(second.as_ref())).unwrap_or(last)
        };
        Retention {
            completed: pick(&self.completed, &default.completed, built_in.completed),
            cancelled: pick(&self.cancelled, &default.cancelled, built_in.cancelled),
            discarded: pick(&self.discarded, &default.discarded, built_in.discarded),
            receipts: pick(&self.receipts, &default.receipts, built_in.receipts),
        }
    }
}

/// Writes how long something is kept the way it is read.
pub(super) fn format_kept(kept: Option<DurationMillis>) -> String {
    kept.map_or_else(|| NEVER.to_owned(), format_length)
}
