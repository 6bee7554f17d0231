//! What a job costs on the wire, measured in a world where nothing goes wrong: messages, whether or not they share a frame,
//! and all bytes of the frames that carry them, acknowledgements included.

use std::collections::BTreeMap;

use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::{DurationMillis, cbor};

use crate::executor::{Ending, Writes};
use crate::plan::{NodePlan, Plan};
use crate::report::{Failure, Report, run};
use crate::traffic::{ACK, Traffic};
use crate::workload::{Act, Operation, SHARED_TOOL, Work};

/// What an auctioned job may cost beside its payload, with three peers asked: messages and bytes.
pub const AUCTIONED_MAX: (f64, f64) = (10.0, 2_600.0);
/// The same of a job under a slot lease.
pub const LEASED_MAX: (f64, f64) = (4.0, 1_100.0);

/// Jobs of the measurement: enough to drown the rounding.
const JOBS: usize = 40;
/// Jobs of a burst: enough that every slot of every peer is leased before it is over.
const BURST: usize = 60;
/// How far apart auctioned jobs are submitted: each has ended long before the next one.
const APART: DurationMillis = DurationMillis::from_secs(4);
/// How long the world is watched at the end.
const IDLE: DurationMillis = DurationMillis::from_secs(20);
/// Nodes that can run them: as many as the origin asks.
const CAPABLE: usize = 3;

/// What a job costs, beside what the nodes say anyway.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Messages of its ticket.
    pub messages: f64,
    /// Acknowledgements.
    pub acks: f64,
    /// Bytes of both, without the payload.
    pub bytes: f64,
    /// Bytes of the payload: the spec, which is sealed into the award.
    pub payload: f64,
    /// Every kind of frame that there were more of: how many, and how many bytes in each. Beside the ticket there is
    /// what the nodes learn from the job and tell each other about it, many jobs at once.
    pub kinds: BTreeMap<String, (f64, f64)>,
}

/// Measures a job that goes to one of three peers by auction.
///
/// # Errors
/// [`Failure`] if a promise breaks, though nothing goes wrong.
pub fn auctioned() -> Result<Cost, Box<Failure>> {
    Ok(between(&run(&plan(JOBS, APART))?, &run(&plan(0, APART))?))
}

/// Measures a job under a slot lease: by how much a burst of jobs costs more if there are more of them. So what the
/// burst's few auctions cost is not in it.
///
/// # Errors
/// [`Failure`] if a promise breaks, though nothing goes wrong.
pub fn leased() -> Result<Cost, Box<Failure>> {
    let at_once = DurationMillis(0);
    Ok(between(&run(&plan(BURST + JOBS, at_once))?, &run(&plan(BURST, at_once))?))
}

/// What each of [`JOBS`] more jobs costs.
fn between(with: &Report, without: &Report) -> Cost {
    let payload = to_float(cbor::encode(&work().spec(JOBS)).len() as u64);
    let mut cost = Cost { messages: 0.0, acks: 0.0, bytes: -payload, payload, kinds: BTreeMap::new() };
    let without = &without.traffic.kinds;
    for (kind, (count, bytes)) in with.traffic.kinds.clone() {
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
    cost
}

/// Exact for every count of this module.
fn to_float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn work() -> Work {
    Work {
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
    }
}

fn plan(jobs: usize, apart: DurationMillis) -> Plan {
    let node = |seat| NodePlan { seat, slots: 3, is_shared: seat > 0, skew_ms: 0, drift_ppm: 0 };
    let submit =
        |job| Operation { at: DurationMillis::from_secs(5).plus(apart.scale(job as u64, 1)), act: Act::Submit, job };
    Plan {
        seed: 1,
        faulty: APART.scale(JOBS as u64 + 3, 1),
        idle: IDLE,
        nodes: (0..=CAPABLE).map(node).collect(),
        homes: (1..=CAPABLE).map(|seat| (0, seat)).collect(),
        works: (0..jobs).map(|job| (job, work())).collect::<BTreeMap<_, _>>(),
        operations: (0..jobs).map(submit).collect(),
        ..Plan::calm()
    }
}
