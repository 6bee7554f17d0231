//! The jobs of a plan, the machines that they need, and what people do with them.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_engine::Detected;
use jobmesh_engine::pool::{PoolKind, Pools};
use jobmesh_protocol::job::{Effects, JobSpec, Scope};
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::resource::{Amount, Name, Requests};
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::{BlobRef, DurationMillis, Requirement, Tag};
use serde::{Deserialize, Serialize};

use crate::executor::{Behaviour, Ending, Writes};
use crate::network::Seat;
use crate::plan::{NodePlan, Plan};

/// A tool that several nodes have.
pub(crate) const SHARED_TOOL: &str = "shared";
/// One that no node has before the world heals.
pub(crate) const LATE_TOOL: &str = "late";
/// One that no node ever has.
pub(crate) const NOBODYS_TOOL: &str = "nobody-has";

/// The tool of one node alone.
pub(crate) fn own_tool(seat: usize) -> String {
    format!("own-{seat}")
}

/// Something that a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// When.
    #[serde(rename = "at_ms")]
    pub at: DurationMillis,
    /// What.
    pub act: Act,
    /// To the job with this number.
    pub job: usize,
}

/// What a person does to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Submits it.
    Submit,
    /// Cancels it.
    Cancel,
    /// Gives it another try.
    Retry,
}

/// One job of the workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// The seat where it is submitted.
    pub home: usize,
    /// How long it runs.
    #[serde(rename = "takes_ms")]
    pub takes: DurationMillis,
    /// How it ends.
    pub ending: Ending,
    /// How much it writes.
    pub writes: Writes,
    /// Whether it reads a file.
    pub has_input: bool,
    /// Where it may run.
    pub scope: Scope,
    /// What running it again would do.
    pub effects: Effects,
    /// The tool that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// How often it is tried, if it may run twice.
    pub attempts_max: u32,
    /// How long it may run.
    #[serde(rename = "timeout_ms", default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationMillis>,
    /// The jobs that it waits for, of those that are acknowledged when it is submitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
}

impl Work {
    /// The job as it is submitted under a number.
    pub(crate) fn spec(&self, number: usize) -> JobSpec {
        let behaviour = Behaviour { index: number, takes: self.takes, ending: self.ending, writes: self.writes };
        let input = format!("input {number}");
        let stdin = self.has_input.then(|| BlobRef { size: 40_000, ..BlobRef::of(input.as_bytes()) });
        let mut spec = JobSpec::new("work", behaviour.task(stdin));
        spec.scope = self.scope;
        spec.effects = self.effects;
        spec.requirements = self.tool.as_deref().and_then(tool).map(Requirement::Has).into_iter().collect();
        // A job that says that it must not run twice can't ask for more than one attempt.
        spec.retry.max_attempts = if self.effects == Effects::Once { 1 } else { self.attempts_max };
        spec.retry.backoff = Backoff::exponential(DurationMillis(500), DurationMillis(10_000));
        spec.timeout_ms = self.timeout;
        spec
    }
}

/// A capability that no node has before the world heals.
pub(crate) fn late_tag() -> Option<Tag> {
    tool(LATE_TOOL)
}

fn tool(name: &str) -> Option<Tag> {
    Tag::try_from(format!("tool:{name}")).ok()
}

/// Every tool that is ever asked for in a world of so many nodes.
pub(crate) fn every_tool(nodes: usize) -> impl Iterator<Item = Tag> {
    let own = (0..nodes).map(own_tool);
    own.chain([SHARED_TOOL, LATE_TOOL, NOBODYS_TOOL].map(str::to_owned)).filter_map(|name| tool(&name))
}

/// What was found on a node's machine.
pub(crate) fn machine(node: &NodePlan) -> Detected {
    let mut tags: BTreeSet<Tag> = BTreeSet::new();
    tags.extend(["executor:process", "isolation:process:sandboxed"].iter().filter_map(|tag| tag.parse::<Tag>().ok()));
    tags.extend(tool(&own_tool(node.seat)));
    if node.is_shared {
        tags.extend(tool(SHARED_TOOL));
    }
    let slots = node.slots;
    let attributes = BTreeMap::from([("cpus".to_owned(), Value::Number(u64::from(slots) * 2))]);
    let memory = PoolKind::Sum(Amount::whole(1 << 33));
    let pools = BTreeMap::from([(Name::CPUS, PoolKind::numbered(slots * 2)), (Name::MEM, memory)]);
    Detected { tags, attributes, pools, slots }
}

/// What the nodes of the healed world can do.
#[derive(Debug)]
pub(crate) struct Machines(Vec<(Seat, Detected)>);

impl Machines {
    pub(crate) fn new(plan: &Plan) -> Self {
        let healed = |node: &&NodePlan| plan.core.as_ref().is_none_or(|core| core.contains(&node.seat));
        let with_late = |node: &NodePlan| {
            let mut machine = machine(node);
            if node.seat == plan.late {
                machine.tags.extend(late_tag());
            }
            (Seat(node.seat), machine)
        };
        Self(plan.nodes.iter().filter(healed).map(with_late).collect())
    }

    /// Whether one of them can run a job that was submitted at `home`.
    pub(crate) fn can_run(&self, spec: &JobSpec, home: Seat) -> bool {
        let can = |(seat, machine): &(Seat, Detected)| {
            let is_allowed = match spec.scope {
                Scope::Local => *seat == home,
                Scope::Network => *seat != home,
                Scope::Hybrid => true,
            };
            let meets = |requirement: &Requirement| requirement.is_met(&machine.tags, &machine.attributes);
            is_allowed && spec.requirements.iter().all(meets) && fits(machine, &spec.resources)
        };
        self.0.iter().any(can)
    }
}

/// Whether a work may run at that seat, as its people asked for it.
pub(crate) fn may_run_at(plan: &Plan, work: &Work, seat: Seat) -> bool {
    let is_allowed = match work.scope {
        Scope::Local => seat.0 == work.home,
        Scope::Network => seat.0 != work.home,
        Scope::Hybrid => true,
    };
    let node = plan.nodes.iter().find(|node| node.seat == seat.0);
    let has_tool = work.tool.as_deref().is_none_or(|tool| match tool {
        SHARED_TOOL => node.is_some_and(|node| node.is_shared),
        LATE_TOOL => seat.0 == plan.late,
        other => other == own_tool(seat.0),
    });
    is_allowed && has_tool
}

fn fits(machine: &Detected, requests: &Requests) -> bool {
    let pools = Pools::new(machine.pools.clone());
    pools.is_ok_and(|pools| requests.variants().iter().any(|request| pools.could_ever(request).is_ok()))
}
