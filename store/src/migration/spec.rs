//! The job specs of schema 1, brought to the form of schema 2.
//!
//! Schema 1 kept attempts and backoff beside each other in the spec, and processors and memory as two numbers. The
//! hard case is a spec that does not read: it stays as it is, so that its job alone is damaged and no other is lost.

use std::collections::BTreeMap;

use jobmesh_protocol::job::{Effects, SPEC_BYTES_MAX, Scope};
use jobmesh_protocol::resource::{Amount, Demand, Name, Policy, Quantity, Request, Requests};
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{DurationMillis, JobSpec, Requirement, cbor};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Deserialize;

/// Ten-thousandths of a processor in a thousandth.
const PARTS_PER_MILLI: u64 = 10;

/// Writes every spec of the job table anew.
pub(super) fn recode(connection: &Connection) -> rusqlite::Result<()> {
    let mut next = connection.prepare("SELECT key, spec FROM job WHERE key > ?1 ORDER BY key LIMIT 1")?;
    let mut write = connection.prepare("UPDATE job SET spec = ?2 WHERE key = ?1")?;
    let mut after = -1;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?));
    while let Some((key, spec)) = next.query_row([after], read).optional()? {
        if let Ok(spec) = cbor::decode::<OldSpec>(&spec, SPEC_BYTES_MAX) {
            write.execute(params![key, cbor::encode(&JobSpec::from(spec))])?;
        }
        after = key;
    }
    Ok(())
}

/// A spec of schema 1. What is not written here is as it was.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldSpec {
    #[serde(default)]
    name: Option<String>,
    job_type: String,
    task: Task,
    #[serde(default)]
    requirements: Vec<Requirement>,
    #[serde(default)]
    resources: Option<OldResources>,
    #[serde(default)]
    scope: Scope,
    #[serde(default)]
    effects: Effects,
    #[serde(default)]
    queue: Option<String>,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    timeout_ms: Option<DurationMillis>,
    #[serde(default)]
    kill_grace_ms: Option<DurationMillis>,
    #[serde(default)]
    max_attempts: Option<u32>,
    #[serde(default)]
    backoff: Option<OldBackoff>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldResources {
    cpu_milli: u32,
    memory_bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OldBackoff {
    base_ms: DurationMillis,
    max_ms: DurationMillis,
}

impl From<OldSpec> for JobSpec {
    fn from(old: OldSpec) -> Self {
        let mut spec = Self::new(old.job_type, old.task);
        spec.name = old.name;
        spec.requirements = old.requirements;
        if let Some(resources) = old.resources {
            spec.resources = resources.into();
        }
        spec.scope = old.scope;
        spec.effects = old.effects;
        spec.queue = old.queue.unwrap_or(spec.queue);
        spec.priority = old.priority;
        spec.timeout_ms = old.timeout_ms;
        spec.kill_grace_ms = old.kill_grace_ms.unwrap_or(spec.kill_grace_ms);
        spec.retry.max_attempts = old.max_attempts.unwrap_or(spec.retry.max_attempts);
        if let Some(backoff) = old.backoff {
            spec.retry.backoff = Backoff::exponential(backoff.base_ms, backoff.max_ms);
        }
        spec.labels = old.labels;
        spec
    }
}

impl From<OldResources> for Requests {
    fn from(old: OldResources) -> Self {
        let amounts = [
            (Name::CPUS, Amount::from_parts(u64::from(old.cpu_milli) * PARTS_PER_MILLI)),
            (Name::MEM, Amount::whole(old.memory_bytes)),
        ];
        let demand = |(name, amount)| Demand { name, quantity: Quantity::Amount(amount), policy: Policy::default() };
        let demands = amounts.into_iter().filter(|(_, amount)| !amount.is_zero()).map(demand).collect();
        // Two demands on different resources, neither for nothing, always make a request.
        Request::new(demands).map(Self::from).unwrap_or_default()
    }
}
