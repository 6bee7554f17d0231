//! Whether a job may start on this node now, and every reason if it may not. Pure: the scheduler, `explain` and a dry
//! run ask the same function.

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::resource::Requests;
use jobmesh_protocol::{CapabilityRecord, Isolation, JobSpec, UnixMillis};

use crate::isolation;
use crate::matching::Needs;
use crate::pool::{Cause, Pools, Shortage};
use crate::queue::Queues;
use crate::ready::Profile;

/// What this node has and what of it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) record: &'a CapabilityRecord,
    /// How well the owner wants its own jobs to be kept apart at least.
    pub(crate) least: Isolation,
    pub(crate) pools: &'a Pools,
    pub(crate) queues: &'a Queues,
    pub(crate) free_slots: u32,
    pub(crate) is_draining: bool,
    pub(crate) now: UnixMillis,
    /// The room that the job's group has, if it is limited: its limit, and how many of its tasks run.
    pub(crate) group: Option<(u32, u32)>,
}

/// Why a job does not start here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The node shuts down.
    Draining,
    /// It was asked to run elsewhere.
    NetworkOnly,
    /// This node lacks what it needs, busy or not.
    Incapable { lacks: Vec<String>, scope: Scope },
    /// Its queue is paused.
    Paused { queue: String },
    /// Its queue runs as many as it may.
    QueueFull { queue: String, limit: u32, running: u32 },
    /// As many of its key run as may.
    KeyFull { key: String, limit: u32, running: u32 },
    /// As many of its group run as may.
    GroupFull { limit: u32, running: u32 },
    /// It would start too early for a rate limit.
    Rate { name: String, until: UnixMillis },
    /// Every slot is taken.
    NoSlot { slots: u32 },
    /// Other jobs have the resources: for each variant, what is short.
    NoRoom(Vec<Vec<Shortage>>),
}

impl Blocked {
    /// One word for it, for programs.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::NetworkOnly => "network_only",
            Self::Incapable { .. } => "incapable",
            Self::Paused { .. } => "paused",
            Self::QueueFull { .. } => "queue_full",
            Self::KeyFull { .. } => "key_full",
            Self::GroupFull { .. } => "group_full",
            Self::Rate { .. } => "rate",
            Self::NoSlot { .. } => "no_slot",
            Self::NoRoom(_) => "no_room",
        }
    }

    /// The words for people.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Draining => "this node is shutting down".to_owned(),
            Self::NetworkOnly => "it was asked to run on a peer only".to_owned(),
            Self::Incapable { lacks, .. } => format!("this node lacks {}", lacks.join(", ")),
            Self::Paused { queue } => format!("queue {queue} is paused"),
            Self::QueueFull { queue, limit, running } => {
                format!("queue {queue} runs {running} of at most {limit} jobs")
            }
            Self::KeyFull { key, limit, running } => {
                format!("{running} jobs of concurrency key {key} run, and this one allows {limit}")
            }
            Self::GroupFull { limit, running } => {
                format!("its group runs {running} of at most {limit} tasks at a time")
            }
            Self::Rate { name, until } => {
                format!("the rate of {name} allows the next start at {}", until.to_rfc3339())
            }
            Self::NoSlot { slots: 1 } => "the only slot of this node is in use".to_owned(),
            Self::NoSlot { slots } => format!("all {slots} slots of this node are in use"),
            Self::NoRoom(variants) => variants
                .iter()
                .map(|shortages| shortages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                .collect::<Vec<_>>()
                .join("; or "),
        }
    }

    /// What would take this reason away. A job that waits keeps what it was submitted with, so options of a submission
    /// help only another one.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Draining => "start the node again with `jobmesh up`".to_owned(),
            Self::NetworkOnly => "let a capable peer join, or submit it anew with `--where any`".to_owned(),
            Self::Incapable { lacks, scope: Scope::Local } if executor_of(lacks).is_some() => {
                let executor = executor_of(lacks).unwrap_or_default();
                format!(
                    "`jobmesh doctor` says what {executor} needs here; or let another node run it with `--where any`"
                )
            }
            Self::Incapable { scope: Scope::Local, .. } => {
                "submit it anew and ask for less, or let another node run it with `--where any`".to_owned()
            }
            Self::Incapable { .. } => {
                "let a node join that has it, or submit it anew without the requirement".to_owned()
            }
            Self::Paused { queue } => format!("`jobmesh queue resume {queue}`"),
            Self::QueueFull { queue, running, .. } => {
                format!("`jobmesh queue set {queue} concurrency={}`, or one of them ends", running.saturating_add(1))
            }
            Self::KeyFull { key, limit, running } => {
                let anew = format!("or submit it anew with `--concurrency-key {key}:{}`", running.saturating_add(1));
                format!("{}, {anew}", ends("of them", *running, *limit))
            }
            Self::GroupFull { limit, running } => ends("of its tasks", *running, *limit),
            Self::Rate { until, .. } => format!("wait until {}", until.to_rfc3339()),
            Self::NoSlot { slots } => format!("`slots = {}` in config.toml, or a job ends", slots.saturating_add(1)),
            Self::NoRoom(variants) => {
                let least = variants.iter().min_by_key(|shortages| shortages.len());
                least.into_iter().flatten().map(room_remedy).collect::<Vec<_>>().join(" and ")
            }
        }
    }
}

/// The executor that is among what a node lacks.
fn executor_of(lacks: &[String]) -> Option<&str> {
    lacks.iter().find_map(|lack| lack.strip_prefix("executor:"))
}

/// So many of those that run end that fewer than the limit do.
fn ends(whose: &str, running: u32, limit: u32) -> String {
    match running.saturating_sub(limit) {
        0 => format!("one {whose} ends"),
        over => format!("{} {whose} end", over.saturating_add(1)),
    }
}

/// What would let a demand be met.
fn room_remedy(short: &Shortage) -> String {
    let name = &short.demand.name;
    match short.cause {
        Cause::NoPool => format!("a pool {name} in config.toml"),
        Cause::TooMuch => format!("a larger pool {name} in config.toml"),
        Cause::Taken | Cause::NotIdle => format!("{} {name} more free", name.amount_text(short.missing())),
        Cause::InPieces => format!("a job that has a part of {name} ends, so that it is free in one piece"),
        Cause::Apart => format!("a job ends that has {name} of the same group"),
    }
}

/// What a node with this record lacks for a job, in words, what decides most first; empty if it could run it when idle.
/// `least` is how well its owner wants such jobs to be kept apart, as far as that is known.
pub(crate) fn lacks(record: &CapabilityRecord, spec: &JobSpec, least: Isolation) -> Vec<String> {
    let mut lacks = Vec::new();
    let executor = spec.task.executor();
    if !has_executor(record, executor) {
        lacks.push(format!("executor:{executor}"));
    }
    if let Some(tag) = isolation::lacking(&record.tags, spec, least) {
        lacks.push(format!("{tag} (see `jobmesh doctor` there)"));
    }
    lacks.extend(record.unmet(&spec.requirements).iter().map(ToString::to_string));
    if record.resources.first_fit(&spec.resources).is_none() {
        lacks.push(lacking_resources(record, &spec.resources));
    }
    if record.slots == 0 {
        lacks.push("a slot for jobs".to_owned());
    }
    lacks
}

/// The same of a peer, which also has to let the job use the network if it wants to.
pub(crate) fn peer_lacks(record: &CapabilityRecord, spec: &JobSpec) -> Vec<String> {
    let network =
        isolation::network_demand(spec).filter(|demand| !record.unmet(std::slice::from_ref(demand)).is_empty());
    let network = network.map(|demand| format!("{demand} (`isolation.network = true` in config.toml there)"));
    network.into_iter().chain(lacks(record, spec, Isolation::None)).collect()
}

/// Whether a peer with this record lacks nothing for jobs with these needs: what [`peer_lacks`] says in no words.
pub(crate) fn could(record: &CapabilityRecord, needs: &Needs) -> bool {
    record.meets(&needs.requirements, &needs.resources) && has_executor(record, needs.executor)
}

fn has_executor(record: &CapabilityRecord, executor: &str) -> bool {
    record.tags.iter().any(|tag| tag.as_str().strip_prefix("executor:") == Some(executor))
}

/// Whether a node with this record lacks nothing for such jobs.
pub(crate) fn meets(record: &CapabilityRecord, profile: &Profile) -> bool {
    record.meets(&profile.requirements, &profile.resources) && has_executor(record, profile.executor)
}

/// What is missing for the variant that misses least.
fn lacking_resources(record: &CapabilityRecord, requests: &Requests) -> String {
    let missing = requests.variants().iter().map(|request| {
        let short = request.demands().iter().filter_map(|demand| {
            let owned = record.resources.amount(&demand.name);
            let single = jobmesh_protocol::resource::Request::new(vec![demand.clone()]).ok()?;
            let name = &demand.name;
            (!record.resources.fits(&single)).then(|| format!("{demand} (has {})", name.amount_text(owned)))
        });
        short.collect::<Vec<_>>()
    });
    missing.min_by_key(Vec::len).unwrap_or_default().join(", ")
}

/// Every reason that holds a whole queue back; empty if none does.
pub(crate) fn queue_blocked(queue: &str, here: &Snapshot<'_>) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if here.queues.is_paused(queue) {
        reasons.push(Blocked::Paused { queue: queue.to_owned() });
    }
    match here.queues.concurrency(queue) {
        Some(limit) if here.queues.running(queue) >= limit => {
            let running = here.queues.running(queue);
            reasons.push(Blocked::QueueFull { queue: queue.to_owned(), limit, running });
        }
        Some(_) | None => {}
    }
    reasons
}

/// Every reason that holds back jobs like this anywhere, beyond their queue; empty if none does.
pub(crate) fn limits_blocked(profile: &Profile, here: &Snapshot<'_>) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if let Some(key) = &profile.key {
        let running = here.queues.running_by_key(&key.key);
        if running >= key.limit {
            reasons.push(Blocked::KeyFull { key: key.key.clone(), limit: key.limit, running });
        }
    }
    match here.group {
        Some((limit, running)) if running >= limit => reasons.push(Blocked::GroupFull { limit, running }),
        Some(_) | None => {}
    }
    if let Some((name, until)) = here.queues.next_start(profile, here.now) {
        reasons.push(Blocked::Rate { name, until });
    }
    reasons
}

/// Every reason that holds back jobs like this on this node, beyond their limits; empty if none does.
pub(crate) fn room_blocked(profile: &Profile, here: &Snapshot<'_>) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if here.free_slots == 0 {
        reasons.push(Blocked::NoSlot { slots: here.record.slots });
    }
    if profile.is_here {
        let short: Vec<Vec<Shortage>> =
            profile.resources.variants().iter().map(|request| here.pools.why_not(request)).collect();
        if short.iter().all(|shortages| !shortages.is_empty()) {
            reasons.push(Blocked::NoRoom(short));
        }
    }
    reasons
}

/// Every reason why a job may not start here now; empty if it may.
pub(crate) fn blocked(spec: &JobSpec, profile: &Profile, here: &Snapshot<'_>) -> Vec<Blocked> {
    let mut reasons = Vec::new();
    if here.is_draining {
        reasons.push(Blocked::Draining);
    }
    if spec.scope == Scope::Network {
        reasons.push(Blocked::NetworkOnly);
    }
    let lacks = lacks(here.record, spec, here.least);
    if !lacks.is_empty() {
        reasons.push(Blocked::Incapable { lacks, scope: spec.scope });
    }
    reasons.extend(queue_blocked(&profile.queue, here));
    reasons.extend(limits_blocked(profile, here));
    reasons.extend(room_blocked(profile, here));
    reasons
}
