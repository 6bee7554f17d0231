//! Power cuts: one node at work on a disk, struck at an operation on a file, and what it knows afterwards.
//!
//! A world shows what crashes do to a mesh; here thousands of cuts a minute meet the store and the engine alone, so
//! that each place where a commit can be cut in two is struck many times. After every cut the node starts again, at
//! times to lose its power once more at once. Then SQLite must find nothing wrong, every job that was acknowledged must
//! be there, none that was said to have ended may be open or run, and no attempt may run twice.
//!
//! **The hard case** is a drive that breaks its word. Under [`Drive::Lying`] and the others no promise can hold, so
//! they are only counted: how often the damage was noticed, how often it did no harm, how often it went unseen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jobmesh_engine::{Command, Ended, Input, JobAction, Output, Process, RequestId, Response, RunOrder};
use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, Role, Serial};
use jobmesh_protocol::job::{Effects, JobSpec, Scope};
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::{DurationMillis, JobId, JobState, MonoMillis, Outcome, RunId, Submission};
use rusqlite::{Connection, OpenFlags};

use crate::disk::{self, Backup, DiskFault, Figures, Loss, Strike};
use crate::executor::{Behaviour, Ending, Writes, gone, stopped};
use crate::invariants::Violation;
use crate::network::Seat;
use crate::node::{Came, EPOCH, Node, Parts, StepEnd};
use crate::plan::NodePlan;
use crate::random::Stream;
use crate::workload::machine;

/// Steps of a node before the last cut.
const STEPS: u64 = 24;
/// Steps after it: enough for everything that was open to move.
const STEPS_AFTER: u64 = 6;
/// Furthest operation at which a cut is drawn. A run that has fewer is cut between two of them.
const OPERATIONS_MAX: u64 = 500;
/// How long a step takes.
const STEP: DurationMillis = DurationMillis(400);
/// Tries with a disk that fails before something else must be wrong.
const TRIES_MAX: u32 = 12;

/// What kind of drive is struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drive {
    /// What a sync covered stays; one sync in a run may fail. Every promise must hold.
    #[default]
    Honest,
    /// Its syncs do nothing.
    Lying,
    /// It flips a bit while the node is down.
    Rotten,
    /// It is a good one, but after the cut somebody puts an old copy of the files back.
    OldBackup,
}

/// Which power cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerPlan {
    /// The first seed.
    pub from: u64,
    /// How many seeds, with one cut or more each.
    pub count: u64,
    /// What is struck.
    pub drive: Drive,
    /// The seeded bug to run with.
    #[cfg(feature = "mutants")]
    pub mutant: Option<jobmesh_engine::Mutant>,
}

/// What many power cuts did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PowerReport {
    /// Seeds.
    pub seeds: u64,
    /// What struck, by kind.
    pub struck: BTreeMap<DiskFault, u64>,
    /// Operations on files.
    pub operations: u64,
    /// Bytes written to them.
    pub bytes: u64,
    /// Changes that a cut found unsynced.
    pub unsynced: u64,
    /// Those that did not arrive whole.
    pub missing: u64,
    /// Jobs that were acknowledged before the last cut.
    pub acknowledged: u64,
    /// Jobs that were said to have ended before it.
    pub ended: u64,
    /// How many nodes came out of it how.
    pub outcomes: BTreeMap<&'static str, u64>,
}

/// A power cut that broke a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerFailure {
    /// The seed.
    pub seed: u64,
    /// What was broken.
    pub violation: Violation,
}

/// Cuts the power of one node after the other.
///
/// # Errors
/// [`PowerFailure`] if an honest drive broke a promise.
pub fn cut_power(plan: &PowerPlan) -> Result<PowerReport, PowerFailure> {
    let mut report = PowerReport::default();
    for seed in plan.from..plan.from.saturating_add(plan.count) {
        let mut bench = Bench::new(seed, plan);
        let came = bench.run();
        bench.add_to(&mut report);
        let outcome = match came {
            Ok(()) => "kept every promise",
            Err(violation) if plan.drive == Drive::Honest => return Err(PowerFailure { seed, violation }),
            // The daemon ended with an error, or would have: its owner knows, and starts anew or from a backup.
            Err(violation) if violation.invariant == "the_store_works" => "noticed the damage",
            Err(violation) => violation.invariant,
        };
        *report.outcomes.entry(outcome).or_default() += 1;
    }
    Ok(report)
}

/// One node, the people who use it and the processes that it starts.
struct Bench {
    drive: Drive,
    stream: Stream,
    node: Node,
    at: MonoMillis,
    /// What waits to be told to the engine.
    said: Vec<Input>,
    requests: u64,
    submitted: usize,
    acknowledged: BTreeSet<JobId>,
    /// How jobs ended, as the node said.
    ended: BTreeMap<JobId, JobState>,
    /// Everything that this life of the daemon was told to run.
    ordered: BTreeSet<RunId>,
    /// What earlier ones were.
    ran: BTreeSet<RunId>,
    is_checked: bool,
}

impl Bench {
    fn new(seed: u64, plan: &PowerPlan) -> Self {
        disk::seed(seed);
        let mut stream = Stream::new(seed, "power cuts");
        let (root, identity): ([u8; 32], [u8; 32]) = (stream.array(), stream.array());
        let mesh_root = MeshRoot::new(Identity::from_seed(root));
        let member = Identity::from_seed(identity).node();
        let grant = Grant {
            member,
            role: Role::Admin,
            sponsor: member,
            issued_at_ms: EPOCH.0,
            not_after_ms: u64::MAX,
            serial: Serial::from_bytes(stream.array()),
        };
        let slots = if stream.chance(400) { 1 } else { 3 };
        let parts = Parts {
            identity,
            mesh: mesh_root.mesh(),
            membership: Membership::issue_root(&mesh_root, &grant),
            root: Some(root),
            detected: machine(&NodePlan { seat: 0, slots, is_shared: true, skew_ms: 0, drift_ppm: 0 }),
            wall: EPOCH,
            drift_ppm: 0,
            is_in_memory: false,
            #[cfg(feature = "mutants")]
            mutant: plan.mutant,
        };
        Self {
            drive: plan.drive,
            stream,
            node: Node::new(seed, Seat(0), parts),
            at: MonoMillis(0),
            said: Vec::new(),
            requests: 0,
            submitted: 0,
            acknowledged: BTreeSet::new(),
            ended: BTreeMap::new(),
            ordered: BTreeSet::new(),
            ran: BTreeSet::new(),
            is_checked: plan.drive == Drive::Honest,
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        let backup = self.work_until_cut()?;
        self.accidents(backup);
        while !self.start()? {}
        self.check_kept()?;
        for _ in 0..STEPS_AFTER {
            // The second cut may have missed the start.
            if !self.step()? {
                while !self.start()? {}
            }
        }
        self.check_kept()?;
        self.check_file()
    }

    /// Has the node work until its power is cut. Returns a copy of the files from somewhere on the way.
    fn work_until_cut(&mut self) -> Result<Option<Backup>, Violation> {
        if self.drive == Drive::Lying {
            self.node.files.lie();
        }
        let (loss, operations) = (self.loss(), self.stream.below(OPERATIONS_MAX));
        let is_killed_first = self.stream.chance(250);
        let first = if is_killed_first { Strike::Kill } else { Strike::Cut(loss) };
        self.node.files.arm(operations, first);
        let syncless = (self.drive == Drive::Honest && self.stream.chance(250)).then(|| self.stream.below(STEPS));
        let kept_at = self.stream.below(STEPS);
        let mut backup = None;
        let mut lives = self.start()?;
        for step in 0..STEPS {
            if !lives && self.node.files.had_power_cut() {
                break;
            }
            if !lives {
                let operations = self.stream.below(OPERATIONS_MAX / 4);
                self.node.files.arm(operations, Strike::Cut(loss));
                lives = self.start()?;
                continue;
            }
            if syncless == Some(step) {
                self.node.files.fail_next_sync();
            }
            if kept_at == step && self.drive == Drive::OldBackup {
                backup = Some(self.node.files.backup());
            }
            lives = self.step()?;
        }
        if lives {
            self.node.files.cut(loss);
        }
        self.die();
        self.node.files.heal();
        Ok(backup)
    }

    /// What happens while the node is down; and perhaps the power is cut again as soon as it is up.
    fn accidents(&mut self, backup: Option<Backup>) {
        match self.drive {
            Drive::Honest | Drive::Lying => {}
            Drive::Rotten if self.stream.chance(500) => {
                // What is in the log, too, would only be read from there.
                let _emptied = self.check_file();
                self.node.files.rot_database();
            }
            Drive::Rotten => self.node.files.rot_log(),
            Drive::OldBackup => backup.into_iter().for_each(|backup| self.node.files.restore(backup)),
        }
        if self.stream.chance(250) {
            let (loss, operations) = (self.loss(), self.stream.below(40));
            self.node.files.arm(operations, Strike::Cut(loss));
        }
    }

    fn loss(&mut self) -> Loss {
        self.stream.pick(&[Loss::Kept, Loss::Lost, Loss::Torn, Loss::Reordered]).unwrap_or(Loss::Kept)
    }

    /// The daemon is gone, with everything that it had started.
    fn die(&mut self) {
        self.node.kill();
        self.said.clear();
        self.ran.append(&mut self.ordered);
    }

    /// Starts the daemon. Returns whether it lived.
    fn start(&mut self) -> Result<bool, Violation> {
        self.at = self.at.plus(STEP);
        match self.node.start(self.at)? {
            Came::Done(outputs) => self.take(outputs).map(|()| true),
            Came::Died => {
                self.die();
                Ok(false)
            }
            // Its owner starts it again.
            Came::Failed(_) => {
                self.die();
                self.start()
            }
        }
    }

    /// One commit, and what it takes until it has happened. Returns whether the daemon lived.
    fn step(&mut self) -> Result<bool, Violation> {
        self.at = self.at.plus(STEP);
        let mut batch = vec![Input::Tick];
        batch.append(&mut self.said);
        for _ in 0..self.stream.below(3) {
            let command = self.command();
            self.requests += 1;
            batch.push(Input::Command(RequestId(self.requests), command));
        }
        match self.node.step(self.at, batch, None)? {
            StepEnd::Released(outputs) | StepEnd::Rebuilt(outputs, _) => self.take(outputs).map(|()| true),
            StepEnd::Died(_) => {
                self.die();
                Ok(false)
            }
            StepEnd::Failed(trouble, batch) => {
                if self.stream.chance(300) {
                    // Somebody loses patience with a daemon that has trouble.
                    self.die();
                    return self.start();
                }
                let is_kept = |input: &Input| matches!(input, Input::Started { .. } | Input::Ended { .. });
                self.node.fail(&trouble, batch.into_iter().filter(is_kept));
                self.repair()
            }
        }
    }

    fn repair(&mut self) -> Result<bool, Violation> {
        for _ in 0..TRIES_MAX {
            match self.node.repair(self.at)? {
                Came::Done(outputs) => {
                    self.said.append(&mut self.node.backlog);
                    return self.take(outputs).map(|()| true);
                }
                Came::Died => {
                    self.die();
                    return Ok(false);
                }
                Came::Failed(_) => {}
            }
        }
        Err(Violation::new("a_fault_that_ended_is_over", "the database still fails"))
    }

    fn command(&mut self) -> Command {
        let jobs: Vec<JobId> = self.acknowledged.iter().copied().collect();
        let job = if self.stream.chance(200) { self.stream.pick(&jobs) } else { None };
        if let Some(job) = job {
            return Command::Job(job, JobAction::Cancel { reason: "changed my mind".to_owned(), is_forced: false });
        }
        let ending = if self.stream.chance(300) { Ending::OkAfter(1) } else { Ending::OkAfter(0) };
        let behaviour = Behaviour { index: self.submitted, takes: STEP, ending, writes: Writes::Nothing };
        self.submitted += 1;
        let mut spec = JobSpec::new("work", behaviour.task(None));
        spec.scope = Scope::Local;
        spec.effects = if self.stream.chance(300) { Effects::Once } else { Effects::Idempotent };
        spec.retry.max_attempts = if spec.effects == Effects::Once { 1 } else { 3 };
        spec.retry.backoff = Backoff::exponential(DurationMillis(500), DurationMillis(2_000));
        Command::Submit(vec![Submission::new(spec)])
    }

    /// Carries out what the node decided. What it says is now known to people.
    fn take(&mut self, outputs: Vec<Output>) -> Result<(), Violation> {
        for output in outputs {
            match output {
                Output::Reply(_, Ok(Response::Submitted(taken))) => {
                    self.acknowledged.extend(taken.iter().map(|taken| taken.job));
                }
                Output::Changed(change) if change.state.is_final() => {
                    self.ended.insert(change.job, change.state);
                }
                Output::Run(order) => self.begin(&order)?,
                Output::Stop { run, reason } => self.said.push(Input::Ended { run, ended: stopped(reason) }),
                Output::Adopt { order, .. } => self.said.push(Input::Ended { run: order.run, ended: gone() }),
                Output::Reply(..)
                | Output::Changed(_)
                | Output::Send { .. }
                | Output::Publish(_)
                | Output::Shout(_)
                | Output::Provide(_)
                | Output::Find(_)
                | Output::Dial { .. }
                | Output::Forget(_)
                | Output::EndOrphan { .. }
                | Output::Fetch(_)
                | Output::StopFetch(_) => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, order: &RunOrder) -> Result<(), Violation> {
        let run = order.run;
        if self.is_checked && self.ended.contains_key(&run.job) {
            return Err(Violation::new("what_ended_runs_no_more", format!("{run} begins, whose job had ended")));
        }
        if self.is_checked && self.ran.contains(&run) {
            return Err(Violation::new("an_epoch_runs_once", format!("{run} began before the power cut, too")));
        }
        if self.ordered.insert(run) {
            self.said.push(Input::Started { run, process: Process { pid: 2, started: self.at.0 } });
            if self.stream.chance(700) {
                let ended = self.end(order);
                self.said.push(Input::Ended { run, ended });
            }
        }
        Ok(())
    }

    fn end(&mut self, order: &RunOrder) -> Ended {
        let fails = Behaviour::read(&order.task).is_some_and(|behaviour| behaviour.ending != Ending::OkAfter(0));
        let outcome = if fails && self.stream.chance(500) { Outcome::error("failed") } else { Outcome::Ok };
        Ended { outcome, ..gone() }
    }

    /// Holds the database against what the node said.
    fn check_kept(&mut self) -> Result<(), Violation> {
        let txn = self.node.store()?.begin()?;
        for id in &self.acknowledged {
            if txn.view().job(*id)?.is_none() {
                return Err(Violation::new("g1_no_acknowledged_job_is_lost", format!("job {id} was acknowledged")));
            }
        }
        for (id, state) in &self.ended {
            let found = txn.view().job(*id)?.map(|job| job.state);
            if found != Some(*state) {
                return Err(Violation::new("an_end_is_kept", format!("job {id} had ended {state} and is {found:?}")));
            }
        }
        Ok(())
    }

    /// Has SQLite look at every page.
    fn check_file(&mut self) -> Result<(), Violation> {
        self.die();
        self.node.files.start();
        let broken = |what: String| Violation::new("the_file_is_sound", what);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags_and_vfs(self.node.files.path(), flags, disk::VFS);
        let found = opened.and_then(|connection| {
            let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
            let dangling: u64 =
                connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| row.get(0))?;
            Ok((verdict, dangling))
        });
        match found {
            Ok((verdict, 0)) if verdict == "ok" => Ok(()),
            Ok((verdict, dangling)) => Err(broken(format!("{verdict}; {dangling} references dangle"))),
            Err(error) => Err(broken(error.to_string())),
        }
    }

    fn add_to(&self, report: &mut PowerReport) {
        let Figures { operations, bytes, unsynced, missing } = self.node.files.figures();
        report.seeds += 1;
        report.operations += operations;
        report.bytes += bytes;
        report.unsynced += unsynced;
        report.missing += missing;
        report.acknowledged += self.acknowledged.len() as u64;
        report.ended += self.ended.len() as u64;
        for fault in self.node.files.take_struck() {
            *report.struck.entry(fault).or_default() += 1;
        }
    }
}

impl fmt::Display for PowerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seeds     {}, {} operations, {} MB written", self.seeds, self.operations, self.bytes / 1_000_000)?;
        write!(f, "\nunsynced  {} changes met a cut, {} did not arrive whole", self.unsynced, self.missing)?;
        write!(f, "\njobs      {} acknowledged, {} ended", self.acknowledged, self.ended)?;
        write!(f, "\nstruck   ")?;
        for (fault, count) in &self.struck {
            write!(f, " {} {count}", fault.word())?;
        }
        for (outcome, count) in &self.outcomes {
            write!(f, "\n{count:>9} {outcome}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PowerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FAILED    power cut of seed {}\nbroken    {}", self.seed, self.violation)
    }
}
