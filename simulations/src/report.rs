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

/// How long it took, in time of a processor, to decide who is asked for a job, or gets it. Two reports are equal whatever it is.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    decisions: Vec<Decision>,
    /// The slowest step with such decisions; there may be several in one.
    pub slowest: Duration,
}

/// One decision of a step: as much of its time as there were others in it.
#[derive(Clone, Copy, Debug)]
struct Decision {
    nanos: u32,
    /// How many members there were to choose from.
    records: u32,
}

impl PartialEq for Pace {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Pace {}

impl Pace {
    /// Adds a step with so many decisions.
    pub(crate) fn add(&mut self, took: Duration, decisions: u32, records: usize) {
        let each = took.checked_div(decisions).unwrap_or_default();
        let nanos = u32::try_from(each.as_nanos()).unwrap_or(u32::MAX);
        let decision = Decision { nanos, records: u32::try_from(records).unwrap_or(u32::MAX) };
        self.decisions.extend((0..decisions).map(|_| decision));
        self.slowest = self.slowest.max(took);
    }

    /// Adds those of another run.
    pub fn merge(&mut self, other: &Self) {
        self.decisions.extend(&other.decisions);
        self.slowest = self.slowest.max(other.slowest);
    }

    /// Those among at least so many members.
    #[must_use]
    pub fn among(&self, records: u32) -> Self {
        let decisions = self.decisions.iter().filter(|decision| decision.records >= records).copied().collect();
        Self { decisions, slowest: self.slowest }
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.decisions.len()
    }

    /// Whether there were none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// The length that so many of a thousand decisions did not exceed.
    #[must_use]
    pub fn within(&self, per_mille: usize) -> Duration {
        let mut nanos: Vec<u32> = self.decisions.iter().map(|decision| decision.nanos).collect();
        nanos.sort_unstable();
        let place = (nanos.len() * per_mille).div_ceil(1000).saturating_sub(1);
        Duration::from_nanos(nanos.get(place).copied().unwrap_or_default().into())
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, most, slowest] = [500, 990, 1000].map(|per_mille| self.within(per_mille));
        write!(f, "{} decisions, half of them within {median:.1?}, 99 of 100 within {most:.1?}", self.len())?;
        write!(f, ", the slowest {slowest:.1?}")
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
        write!(f, "\nrouting   {}", self.pace)?;
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
