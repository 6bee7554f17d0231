//! Runs what another program has to interpret: this very one, started again as a [worker](crate::work).
//!
//! The worker is a command like any other to the process executor, so its logs, its end, its limits and its adoption by
//! a later daemon are those of every command. What it needs to know travels in its [`Brief`]; what it knows at its end
//! beside its outcome is in the [`Account`] that it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use jobmesh_protocol::task::ProcessTask;
use jobmesh_protocol::{BlobRef, Isolation, Outcome};
use serde::Serialize;

use crate::control::Control;
use crate::directory::work_path;
use crate::event::Ended;
use crate::executor::Probe;
use crate::order::{Limits, Order};
use crate::output::Stream;
use crate::process::{Process, Seat};
use crate::surroundings::Surroundings;
use crate::variable::{NODE_VARIABLES, OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE};
use crate::worker::{Account, Brief, PROBE, WORKER_WORD, Walls};

/// How well one kind of worker keeps its work apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Levels {
    /// With every wall.
    pub(crate) walled: Isolation,
    /// By the interpreter alone.
    pub(crate) bare: Isolation,
}

/// What is interpreted, as far as all kinds have it.
#[derive(Debug)]
pub(crate) struct Guest<'t, P> {
    pub(crate) arguments: &'t [String],
    pub(crate) environment: &'t BTreeMap<String, String>,
    pub(crate) stdin: Option<BlobRef>,
    /// Most memory; none is no limit.
    pub(crate) memory_bytes: Option<u64>,
    /// Memory that the worker takes beside that.
    pub(crate) beside_bytes: u64,
    pub(crate) piece: P,
}

/// Starts workers of one kind.
#[derive(Debug)]
pub(crate) struct Interpreter {
    kind: &'static str,
    levels: Levels,
    worker: PathBuf,
    process: Arc<Process>,
    /// Whether a worker can raise every wall, or what it said is missing. Tried once.
    walls: OnceLock<Result<(), Missing>>,
}

/// Why workers can't do all that they should.
#[derive(Clone, Debug)]
enum Missing {
    Worker(String),
    Wall(String),
}

impl Interpreter {
    pub(crate) fn new(kind: &'static str, levels: Levels, surroundings: &Surroundings, process: Arc<Process>) -> Self {
        Self { kind, levels, worker: surroundings.worker.clone(), process, walls: OnceLock::new() }
    }

    /// What there is of it on this machine.
    pub(crate) fn probe(&self) -> Probe {
        match self.walls() {
            Ok(()) => Probe::ready(self.kind, self.levels.walled),
            Err(Missing::Wall(lack)) => {
                Probe { lacks: vec![lack.clone()], ..Probe::ready(self.kind, self.levels.bare) }
            }
            Err(Missing::Worker(lack)) => Probe::missing(self.kind, lack.clone()),
        }
    }

    fn walls(&self) -> &Result<(), Missing> {
        self.walls.get_or_init(|| self.try_walls())
    }

    fn try_walls(&self) -> Result<(), Missing> {
        let mut command = Command::new(&self.worker);
        command.args([WORKER_WORD, PROBE]).env_clear().stdin(Stdio::null());
        let tried = command.output().map_err(|error| {
            Missing::Worker(format!("{} can't be started as a worker: {error}", self.worker.display()))
        })?;
        if tried.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
        Err(Missing::Wall(if said.is_empty() { format!("the worker ended by {}", tried.status) } else { said }))
    }

    /// Runs what an order asks for in a worker, to its end.
    pub(crate) fn run<P: Serialize>(
        &self,
        order: &Order,
        guest: Guest<'_, P>,
        seat: &mut Seat,
        control: &Control<'_>,
    ) -> Ended {
        let (level, walls) = match self.walls() {
            Ok(()) => (self.levels.walled, Walls::Required),
            Err(_) => (self.levels.bare, Walls::AsFound),
        };
        if level < order.isolation {
            return Ended::without_process(self.refusal(order.isolation, level));
        }
        let beyond = guest.memory_bytes.map(|bytes| bytes.saturating_add(guest.beside_bytes));
        let stdin = guest.stdin;
        let brief = Brief {
            directory: order.directory.clone(),
            walls,
            isolation: level,
            memory_bytes: guest.memory_bytes,
            file_bytes: order.limits.largest_file(),
            arguments: guest.arguments.to_vec(),
            environment: environment(order, guest.environment),
            piece: guest.piece,
        };
        let told = match brief.variables() {
            Ok(variables) => variables,
            Err(error) => return Ended::without_process(Outcome::error(format!("a path is not text: {error}"))),
        };
        let inner = Order {
            environment: told,
            // The worker confines itself; more than being contained is not asked of the one that starts it.
            isolation: order.isolation.min(Isolation::Contained),
            limits: Limits { memory_bytes: beyond, ..order.limits },
            ..order.clone()
        };
        let program = self.worker.to_string_lossy().into_owned();
        let argv = [program, WORKER_WORD.to_owned(), self.kind.to_owned()].into();
        let task = ProcessTask { stdin, ..ProcessTask::new(argv) };
        let mut ended = self.process.run(&inner, &task, seat, control);
        if ended.isolation != Isolation::None {
            ended.isolation = level;
            ended.usage.fuel = Account::take(&order.directory).and_then(|account| account.fuel);
            if ended.outputs.blobs().next().is_none() {
                remove_empty(&order.directory);
            }
        }
        ended
    }

    fn refusal(&self, asked: Isolation, level: Isolation) -> Outcome {
        let why = match self.walls() {
            Ok(()) => String::new(),
            Err(Missing::Worker(lack) | Missing::Wall(lack)) => format!(": {lack}"),
        };
        let kind = self.kind;
        let message = format!("the job asks to be kept apart as {asked}, and this node's {kind} gives {level}{why}");
        Outcome::Permanent { message }
    }
}

/// What the guest finds as its environment.
fn environment(order: &Order, own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = own.clone();
    all.extend(order.environment.clone());
    all.insert(RUN_VARIABLE.to_owned(), order.run.to_string());
    all.retain(|name, _| !NODE_VARIABLES.contains(&name.as_str()));
    all.retain(|name, _| ![OUTCOME_VARIABLE, RESULT_VARIABLE].contains(&name.as_str()));
    all
}

/// Removes the directory of a run that left nothing but empty logs. One with something in it stays.
fn remove_empty(directory: &Path) {
    if fs::remove_dir(work_path(directory)).is_err() {
        return;
    }
    for stream in Stream::ALL {
        let _ = fs::remove_file(directory.join(stream.file_name()));
    }
    let _ = fs::remove_dir(directory);
}
