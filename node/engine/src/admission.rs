//! Whether a job may start on this node now, and every reason if it may not. Pure: the scheduler and `explain` ask
//! the same function.

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::{CapabilityRecord, JobSpec, Resources};

/// What this node has and what of it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) record: &'a CapabilityRecord,
    pub(crate) free: Resources,
    pub(crate) free_slots: u32,
    pub(crate) is_draining: bool,
}

/// Why a job does not start here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// It was asked to run elsewhere.
    NetworkOnly,
    /// This node lacks what it needs, busy or not.
    Incapable(Vec<String>),
    /// Every slot is taken.
    NoSlot { slots: u32 },
    /// Other jobs have the resources.
    NoRoom { wanted: Resources, free: Resources },
    /// The node shuts down.
    Draining,
}

impl Blocked {
    /// The words for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::NetworkOnly => "it was asked to run on a peer only".to_owned(),
            Self::Incapable(lacks) => format!("this node lacks {}", lacks.join(", ")),
            Self::NoSlot { slots } => format!("all {slots} slots of this node are in use"),
            Self::NoRoom { wanted, free } => format!(
                "it needs {} cpus and {} bytes of memory, but {} and {} are free",
                cpus(wanted.cpu_milli),
                wanted.memory_bytes,
                cpus(free.cpu_milli),
                free.memory_bytes
            ),
            Self::Draining => "this node is shutting down".to_owned(),
        }
    }
}

fn cpus(milli: u32) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{}.{:03}", milli / 1000, milli % 1000)
    }
}

/// What a node with this record lacks for a job, in words; empty if it could run it when idle.
pub(crate) fn lacks(record: &CapabilityRecord, spec: &JobSpec) -> Vec<String> {
    let mut lacks: Vec<String> = record.unmet(&spec.requirements).iter().map(ToString::to_string).collect();
    let executor = format!("executor:{}", spec.task.executor());
    if !record.tags.iter().any(|tag| tag.as_str() == executor) {
        lacks.push(executor);
    }
    let (wanted, owned) = (spec.resources, record.resources);
    if wanted.cpu_milli > owned.cpu_milli {
        lacks.push(format!("cpus>={} (has {})", cpus(wanted.cpu_milli), cpus(owned.cpu_milli)));
    }
    if wanted.memory_bytes > owned.memory_bytes {
        lacks.push(format!("memory>={} (has {})", wanted.memory_bytes, owned.memory_bytes));
    }
    if record.slots == 0 {
        lacks.push("a slot for jobs".to_owned());
    }
    lacks
}

/// Every reason why a job of this node may not start here now; empty if it may.
pub(crate) fn blocked(spec: &JobSpec, here: &Snapshot<'_>) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if spec.scope == Scope::Network {
        reasons.push(Blocked::NetworkOnly);
    }
    let lacks = lacks(here.record, spec);
    if !lacks.is_empty() {
        reasons.push(Blocked::Incapable(lacks));
    }
    if here.free_slots == 0 {
        reasons.push(Blocked::NoSlot { slots: here.record.slots });
    }
    if !spec.resources.fits(&here.free) && reasons.is_empty() {
        reasons.push(Blocked::NoRoom { wanted: spec.resources, free: here.free });
    }
    if here.is_draining {
        reasons.push(Blocked::Draining);
    }
    reasons
}
