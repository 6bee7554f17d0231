//! The small scope, searched whole: two nodes, one job, and every way in which two faults can strike.
//!
//! Random seeds find what is likely. Here nothing is left to chance: each event of the story of one job, from the submit
//! to the last acknowledgement, is struck in turn by each thing that can happen there, and in each story that comes of
//! it each later event is struck once more. Most bugs of a protocol need no more than that to show (the small scope
//! hypothesis, Jackson, *Software Abstractions*, 2006).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Effects, Scope};
use serde::{Deserialize, Serialize};

use crate::executor::{Ending, Writes};
use crate::plan::{NodePlan, Plan};
use crate::report::{Failure, run};
use crate::workload::{Act, Operation, Work, own_tool};

/// How long faults may strike: far longer than the job's story with two of them takes to calm down.
const FAULTY: DurationMillis = DurationMillis::from_secs(20);
/// How long the world is watched at the end.
const IDLE: DurationMillis = DurationMillis::from_secs(20);
/// When the job is submitted: the nodes know each other by then.
const SUBMITTED_AT: DurationMillis = DurationMillis::from_secs(5);

/// What a script does at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injection {
    /// The daemon is killed in place of it.
    Kill,
    /// The daemon is killed in it, before it commits.
    BeforeCommit,
    /// The daemon is killed in it, after the commit.
    BeforeRelease,
    /// The commit happens and reports an error.
    UnknownCommit,
    /// It happens after the one behind it.
    Defer,
    /// The frame is lost.
    Drop,
    /// The frame arrives twice.
    Double,
    /// The connection breaks under the frame.
    Disconnect,
}

impl Injection {
    const OF_ALL: [Self; 5] = [Self::Kill, Self::BeforeCommit, Self::BeforeRelease, Self::UnknownCommit, Self::Defer];
    const OF_FRAMES: [Self; 3] = [Self::Drop, Self::Double, Self::Disconnect];

    /// What can happen at an event.
    fn at(is_frame: bool) -> impl Iterator<Item = Self> {
        Self::OF_ALL.into_iter().chain(Self::OF_FRAMES.into_iter().filter(move |_| is_frame))
    }
}

/// One entry of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// The number of the event, from the first thing that a person asks.
    pub event: usize,
    /// What happens there.
    pub injection: Injection,
}

/// What the search did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeReport {
    /// Stories that were told.
    pub runs: u64,
    /// Events of the longest of them.
    pub events: usize,
    /// How often each thing was done.
    pub injections: BTreeMap<Injection, u64>,
}

/// Tells every story of one job with at most so many faults.
///
/// # Errors
/// The [`Failure`] of a story that broke a promise; its plan holds the script.
pub fn search(faults: u32, threads: usize) -> Result<ScopeReport, Box<Failure>> {
    let mut whole = ScopeReport::default();
    // No rule tells pure jobs from idempotent ones.
    for effects in [Effects::Idempotent, Effects::Once] {
        let plan = plan(effects, Vec::new());
        let events = tell(&plan, &mut whole)?;
        if faults == 0 {
            continue;
        }
        let firsts: Vec<Strike> = strikes(&events, 0).collect();
        let (next, sum) = (AtomicUsize::new(0), Mutex::new((ScopeReport::default(), None)));
        let work = || {
            loop {
                let Some(first) = firsts.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                let mut part = ScopeReport::default();
                let told = branch(effects, vec![*first], faults - 1, &mut part);
                let mut sum = sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                sum.0.add(&part);
                if let Err(failure) = told {
                    next.store(firsts.len(), Ordering::Relaxed);
                    sum.1 = Some(failure);
                }
            }
        };
        thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(work))));
        let (part, failure) = sum.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        whole.add(&part);
        if let Some(failure) = failure {
            return Err(failure);
        }
    }
    Ok(whole)
}

/// Tells a story and every one that another fault makes of it.
fn branch(effects: Effects, script: Vec<Strike>, more: u32, report: &mut ScopeReport) -> Result<(), Box<Failure>> {
    let events = tell(&plan(effects, script.clone()), report)?;
    if more == 0 {
        return Ok(());
    }
    let after = script.last().map_or(0, |strike| strike.event + 1);
    for strike in strikes(&events, after) {
        let longer = script.iter().copied().chain([strike]).collect();
        branch(effects, longer, more - 1, report)?;
    }
    Ok(())
}

/// Everything that can happen from an event on.
fn strikes(events: &[bool], from: usize) -> impl Iterator<Item = Strike> {
    let places = events.iter().copied().enumerate().skip(from);
    places.flat_map(|(event, is_frame)| Injection::at(is_frame).map(move |injection| Strike { event, injection }))
}

fn tell(plan: &Plan, report: &mut ScopeReport) -> Result<Vec<bool>, Box<Failure>> {
    let events = run(plan)?.scripted;
    report.runs += 1;
    report.events = report.events.max(events.len());
    for strike in plan.script.iter().flatten() {
        *report.injections.entry(strike.injection).or_default() += 1;
    }
    Ok(events)
}

/// Two nodes; the first submits a job that only the second can run.
fn plan(effects: Effects, script: Vec<Strike>) -> Plan {
    let node = |seat| NodePlan { seat, slots: 1, is_shared: false, skew_ms: 0, drift_ppm: 0 };
    let work = Work {
        home: 0,
        takes: DurationMillis(50),
        ending: Ending::OkAfter(0),
        writes: Writes::Little,
        has_input: false,
        scope: Scope::Hybrid,
        effects,
        tool: Some(own_tool(1)),
        attempts_max: 3,
        timeout: None,
        after: Vec::new(),
    };
    Plan {
        seed: 1,
        faulty: FAULTY,
        idle: IDLE,
        nodes: vec![node(0), node(1)],
        homes: vec![(0, 1)],
        works: BTreeMap::from([(0, work)]),
        operations: vec![Operation { at: SUBMITTED_AT, act: Act::Submit, job: 0 }],
        script: Some(script),
        ..Plan::calm()
    }
}

impl ScopeReport {
    fn add(&mut self, part: &Self) {
        self.runs += part.runs;
        self.events = self.events.max(part.events);
        for (injection, count) in &part.injections {
            *self.injections.entry(*injection).or_default() += count;
        }
    }
}

impl fmt::Display for ScopeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scope     {} stories of one job, at most {} events each\ninjected ", self.runs, self.events)?;
        self.injections.iter().try_for_each(|(injection, count)| write!(f, " {injection:?} {count}"))
    }
}
