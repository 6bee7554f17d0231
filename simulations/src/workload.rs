//! What people ask of the nodes: who submits what, where and when, and what they take back.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Detected;
use jobmesh_engine::pool::{PoolKind, Pools};
use jobmesh_protocol::job::{Effects, JobSpec, Scope};
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::resource::{Amount, Name, Requests};
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::{BlobRef, DurationMillis, MonoMillis, Requirement, Tag};

use crate::executor::{Behaviour, Ending, Writes};
use crate::network::Seat;
use crate::plan::Plan;
use crate::random::Stream;

/// Jobs of every run, however short.
const JOBS_BASE: u64 = 8;
/// Jobs for every virtual minute of faults.
const JOBS_PER_MINUTE_TENTHS: u64 = 8;

/// Something that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Submits the job with this index.
    Submit(usize),
    /// Cancels it.
    Cancel(usize),
    /// Gives it another try.
    Retry(usize),
}

/// One job of the workload.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) spec: JobSpec,
    pub(crate) home: Seat,
}

/// Everything that is asked in one run.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) works: Vec<Work>,
    pub(crate) operations: Vec<(MonoMillis, Operation)>,
    /// The node that learns [`late_tag`] once the world has healed.
    pub(crate) late: Seat,
    machines: Vec<Detected>,
}

impl Workload {
    pub(crate) fn draw(plan: &Plan) -> Self {
        let mut stream = Stream::new(plan.seed, "workload");
        let machines = (0..plan.nodes).map(|seat| machine(&mut stream, seat)).collect();
        let jobs = JOBS_BASE + stream.below(6) + plan.faulty.0 / 60_000 * JOBS_PER_MINUTE_TENTHS / 10;
        let late = Seat(stream.index(plan.nodes));
        let mut workload = Self { works: Vec::new(), operations: Vec::new(), late, machines };
        // The last fifth of the time stays free of new work, so that faults also meet jobs that have waited long.
        let last = plan.faulty.0 * 4 / 5;
        for index in 0..usize::try_from(jobs).unwrap_or(usize::MAX) {
            let work = draw_work(&mut stream, plan.nodes, index);
            let at = MonoMillis(stream.between(2_000, last.max(2_000)));
            workload.operations.push((at, Operation::Submit(index)));
            if stream.chance(150) {
                let later = DurationMillis(stream.between(50, 90_000));
                workload.operations.push((at.plus(later), Operation::Cancel(index)));
            }
            // What runs once is tried again by nobody: only a person could say that this is safe.
            if stream.chance(150) && work.spec.effects != Effects::Once {
                let later = DurationMillis(stream.between(5_000, 240_000));
                workload.operations.push((at.plus(later), Operation::Retry(index)));
            }
            workload.works.push(work);
        }
        // Nobody asks for anything once the world heals, or its jobs would never be done.
        workload.operations.retain(|(at, _)| at.0 < plan.faulty.0);
        workload
    }

    /// What was found on a node's machine.
    pub(crate) fn machine(&self, seat: Seat) -> Detected {
        self.machines.get(seat.0).cloned().unwrap_or_default()
    }

    /// Whether some node of the healed world can run a job that was submitted at `home`.
    pub(crate) fn is_satisfiable(&self, spec: &JobSpec, home: Seat) -> bool {
        let can = |(seat, machine): (usize, &Detected)| {
            let is_allowed = match spec.scope {
                Scope::Local => Seat(seat) == home,
                Scope::Network => Seat(seat) != home,
                Scope::Hybrid => true,
            };
            let mut tags = machine.tags.clone();
            if Seat(seat) == self.late {
                tags.extend(late_tag());
            }
            let meets = spec.requirements.iter().all(|requirement| requirement.is_met(&tags, &machine.attributes));
            is_allowed && meets && fits(machine, &spec.resources)
        };
        self.machines.iter().enumerate().any(can)
    }
}

/// A capability that no node has before the world heals.
pub(crate) fn late_tag() -> Option<Tag> {
    tag("tool:late".to_owned())
}

fn tag(text: String) -> Option<Tag> {
    Tag::try_from(text).ok()
}

/// A machine: some with one slot only, each with a tool of its own and perhaps a shared one.
pub(crate) fn machine(stream: &mut Stream, seat: usize) -> Detected {
    let mut tags: BTreeSet<Tag> = BTreeSet::new();
    tags.extend(tag("executor:process".to_owned()));
    tags.extend(tag(format!("tool:own-{seat}")));
    if seat == 0 || stream.chance(400) {
        tags.extend(tag("tool:shared".to_owned()));
    }
    let slots = if stream.chance(400) { 1 } else { 3 };
    let attributes = BTreeMap::from([("cpus".to_owned(), Value::Number(u64::from(slots) * 2))]);
    let memory = PoolKind::Sum(Amount::whole(1 << 33));
    let pools = BTreeMap::from([(Name::CPUS, PoolKind::numbered(slots * 2)), (Name::MEM, memory)]);
    Detected { tags, attributes, pools, slots }
}

fn fits(machine: &Detected, requests: &Requests) -> bool {
    let pools = Pools::new(machine.pools.clone());
    pools.is_ok_and(|pools| requests.variants().iter().any(|request| pools.could_ever(request).is_ok()))
}

fn draw_work(stream: &mut Stream, nodes: usize, index: usize) -> Work {
    let home = Seat(stream.index(nodes));
    let behaviour = draw_behaviour(stream, index);
    let stdin =
        stream.chance(250).then(|| BlobRef { size: 40_000, ..BlobRef::of(format!("input {index}").as_bytes()) });
    let mut spec = JobSpec::new("work", behaviour.task(stdin));
    spec.scope = match stream.below(10) {
        0..2 => Scope::Local,
        2..4 => Scope::Network,
        _ => Scope::Hybrid,
    };
    spec.effects = match stream.below(10) {
        0..3 => Effects::Once,
        3..5 => Effects::Pure,
        _ => Effects::Idempotent,
    };
    spec.requirements = draw_requirements(stream, nodes, spec.scope);
    let attempts = u32::try_from(stream.between(1, 4)).unwrap_or(1);
    spec.retry.max_attempts = if spec.effects == Effects::Once { 1 } else { attempts };
    spec.retry.backoff = Backoff::exponential(DurationMillis(500), DurationMillis(10_000));
    let needs_timeout = behaviour.ending == Ending::Never;
    spec.timeout_ms = (needs_timeout || stream.chance(200)).then(|| DurationMillis(stream.between(1_000, 60_000)));
    Work { spec, home }
}

fn draw_behaviour(stream: &mut Stream, index: usize) -> Behaviour {
    let longest = if stream.chance(300) { 90_000 } else { 8_000 };
    let takes = DurationMillis(stream.between(20, longest));
    let ending = match stream.below(20) {
        0..12 => Ending::OkAfter(0),
        12..16 => Ending::OkAfter(u32::try_from(stream.between(1, 3)).unwrap_or(1)),
        16..18 => Ending::Permanent,
        _ => Ending::Never,
    };
    let writes = match stream.below(4) {
        0 => Writes::Nothing,
        1 => Writes::Much,
        _ => Writes::Little,
    };
    Behaviour { index, takes, ending, writes }
}

/// Mostly a tool that one node has; at times one that appears late, or never.
fn draw_requirements(stream: &mut Stream, nodes: usize, scope: Scope) -> Vec<Requirement> {
    let tool = match stream.below(20) {
        0..7 => None,
        7..15 => tag(format!("tool:own-{}", stream.index(nodes))),
        15..18 => tag("tool:shared".to_owned()),
        18 => late_tag(),
        _ => tag("tool:nobody-has".to_owned()),
    };
    let is_local = scope == Scope::Local;
    tool.filter(|_| !is_local).map(Requirement::Has).into_iter().collect()
}
