//! Running a plan, and what there is to say afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use jobmesh_protocol::MonoMillis;

use crate::fault::FaultKind;
use crate::invariants::Violation;
use crate::plan::Plan;
use crate::traffic::Traffic;
use crate::world::World;

/// What a run that kept every promise did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was run.
    pub plan: Plan,
    /// How much virtual time went by.
    pub lasted: MonoMillis,
    /// Jobs that were acknowledged.
    pub jobs: usize,
    /// Runs that executors began.
    pub runs: usize,
    /// Attempts by how they ended, as their origins know it.
    pub attempts: BTreeMap<&'static str, u64>,
    /// Jobs by state, as their origins know it.
    pub states: BTreeMap<&'static str, u64>,
    /// Jobs that no node of this world can run, each with what its origin says about that.
    pub hopeless: Vec<String>,
    /// Steps of all engines.
    pub steps: u64,
    /// Steps in the idle minutes at the end.
    pub idle_steps: u64,
    /// Frames that were sent.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The same by what they carried.
    pub traffic: Traffic,
    /// The events that a script counts, each by whether it is a frame.
    pub scripted: Vec<bool>,
    /// How long it took to decide who runs a job.
    pub pace: Pace,
    /// Faults by kind.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Rare branches of the engine by name, with how often they were taken.
    pub marks: BTreeMap<String, u64>,
    /// Cases in which a promise had something to say.
    pub met: BTreeMap<&'static str, u64>,
    /// The hash of everything that happened.
    pub trace: String,
    /// The hash of every node's files at the end. It depends on the plan alone in processes that run one world at a
    /// time, since SQLite's random numbers belong to the process.
    pub databases: String,
}

/// How long steps took in real time, of those that decided who runs a job. Two reports are equal whatever it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Steps.
    pub steps: u64,
    /// All of them together.
    pub sum: Duration,
    /// The slowest.
    pub slowest: Duration,
    /// Those that took longer than a millisecond.
    pub slow: u64,
}

impl PartialEq for Pace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pace {}

impl Pace {
    /// Adds one step.
    pub(crate) fn add(&mut self, took: Duration) {
        self.steps += 1;
        self.sum += took;
        self.slowest = self.slowest.max(took);
        self.slow += u64::from(took > Duration::from_millis(1));
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        self.sum.checked_div(u32::try_from(self.steps).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// A run that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What was run.
    pub plan: Plan,
    /// When it happened.
    pub at: MonoMillis,
    /// What was broken.
    pub violation: Violation,
    /// What happened last, oldest first.
    pub tail: Vec<String>,
}

/// Runs a plan to its end.
///
/// # Errors
/// [`Failure`] if an invariant broke or a node panicked.
pub fn run(plan: &Plan) -> Result<Report, Box<Failure>> {
    let fail = |at, violation, tail| Box::new(Failure { plan: plan.clone(), at, violation, tail });
    // Nothing is verified a second time that a node of this world has signed: the answer is the same.
    jobmesh_keys::memo::start();
    let mut world = World::new(plan);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation::new("no_panic", text.unwrap_or_else(|| "a node panicked".to_owned())))
    });
    jobmesh_keys::memo::stop();
    outcome.map_err(|violation| fail(world.now(), violation, world.tail()))
}

fn list<K: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    counts: impl Iterator<Item = (K, u64)>,
) -> fmt::Result {
    write!(f, "\n{what:<9}")?;
    let mut is_empty = true;
    for (key, count) in counts {
        write!(f, " {key} {count}")?;
        is_empty = false;
    }
    if is_empty { f.write_str(" none") } else { Ok(()) }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, lasted, .. } = self;
        write!(f, "seed      {}: {} nodes, {} s of virtual time", plan.seed, plan.nodes.len(), lasted.0 / 1000)?;
        write!(f, "\njobs      {} acknowledged, {} runs", self.jobs, self.runs)?;
        list(f, "states", self.states.iter().map(|(state, count)| (*state, *count)))?;
        for line in &self.hopeless {
            write!(f, "\nhopeless  {line}")?;
        }
        list(f, "attempts", self.attempts.iter().map(|(state, count)| (*state, *count)))?;
        write!(f, "\nwork      {} steps ({} idle), {} frames", self.steps, self.idle_steps, self.frames)?;
        let pace = &self.pace;
        write!(f, "\nrouting   {} decisions, {:?} each, at most {:?}", pace.steps, pace.mean(), pace.slowest)?;
        list(f, "faults", self.faults.iter().map(|(kind, count)| (kind.word(), *count)))?;
        list(f, "marks", self.marks.iter().map(|(mark, count)| (mark.replace(' ', ":"), *count)))?;
        write!(f, "\ntrace     {}\ndatabases {}", self.trace, self.databases)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        let (secs, millis) = (self.at.0 / 1000, self.at.0 % 1000);
        writeln!(f, "\nFAILED    {}, at {secs}.{millis:03} s", self.plan)?;
        writeln!(f, "broken    {}", self.violation)?;
        write!(f, "again     {}", self.plan.command())
    }
}
