//! What a job costs on the wire, measured in a world where nothing goes wrong.

use std::collections::BTreeMap;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Effects, Scope};

use crate::executor::{Ending, Writes};
use crate::plan::{NodePlan, Plan};
use crate::report::{Failure, run};
use crate::traffic::{ACK, Traffic};
use crate::workload::{Act, Operation, SHARED_TOOL, Work};

/// Jobs of the measurement: enough to drown the rounding.
const JOBS: usize = 40;
/// How far apart they are submitted: each has ended long before the next one.
const APART: DurationMillis = DurationMillis::from_secs(4);
/// How long the world is watched at the end.
const IDLE: DurationMillis = DurationMillis::from_secs(20);
/// Nodes that can run them: as many as the origin asks.
const CAPABLE: usize = 3;

/// What a job costs, beside what the nodes say anyway.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Frames of its ticket that are more than an acknowledgement.
    pub messages: f64,
    /// Acknowledgements.
    pub acks: f64,
    /// Bytes of both.
    pub bytes: f64,
    /// Every kind of frame that there were more of: how many, and how many bytes in each. Beside the ticket there is
    /// what the nodes learn from the job and tell each other about it, many jobs at once.
    pub kinds: BTreeMap<String, (f64, f64)>,
}

/// Measures a job that goes to one of three peers by auction.
///
/// # Errors
/// [`Failure`] if a promise breaks, though nothing goes wrong.
pub fn auctioned() -> Result<Cost, Box<Failure>> {
    let (with, without) = (run(&plan(JOBS))?.traffic.kinds, run(&plan(0))?.traffic.kinds);
    let mut cost = Cost { messages: 0.0, acks: 0.0, bytes: 0.0, kinds: BTreeMap::new() };
    for (kind, (count, bytes)) in with {
        let (usual_count, usual_bytes) = without.get(&kind).copied().unwrap_or_default();
        let each = |with: u64, without: u64| to_float(with.saturating_sub(without)) / to_float(JOBS as u64);
        let (frames, bytes) = (each(count, usual_count), each(bytes, usual_bytes));
        if Traffic::is_of_ticket(&kind) {
            cost.bytes += bytes;
            *(if kind == ACK { &mut cost.acks } else { &mut cost.messages }) += frames;
        }
        if frames > 0.0 {
            cost.kinds.insert(kind, (frames, bytes / frames));
        }
    }
    Ok(cost)
}

/// Exact for every count of this module.
fn to_float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn plan(jobs: usize) -> Plan {
    let node = |seat| NodePlan { seat, slots: 3, is_shared: seat > 0, skew_ms: 0, drift_ppm: 0 };
    let work = Work {
        home: 0,
        takes: DurationMillis(50),
        ending: Ending::OkAfter(0),
        writes: Writes::Nothing,
        has_input: false,
        scope: Scope::Hybrid,
        effects: Effects::Idempotent,
        tool: Some(SHARED_TOOL.to_owned()),
        attempts_max: 1,
        timeout: None,
        after: Vec::new(),
    };
    let submit =
        |job| Operation { at: DurationMillis::from_secs(5).plus(APART.scale(job as u64, 1)), act: Act::Submit, job };
    Plan {
        seed: 1,
        faulty: APART.scale(JOBS as u64 + 3, 1),
        idle: IDLE,
        nodes: (0..=CAPABLE).map(node).collect(),
        homes: (1..=CAPABLE).map(|seat| (0, seat)).collect(),
        works: (0..jobs).map(|job| (job, work.clone())).collect::<BTreeMap<_, _>>(),
        operations: (0..jobs).map(submit).collect(),
        ..Plan::calm()
    }
}
