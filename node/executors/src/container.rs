//! The container executor: a command in a container of the machine's own engine, Docker or Podman.
//!
//! The engine does the keeping apart and the limiting; we say what, hear what the command says, and see to it that
//! nothing is left: every container is removed by us, never by the engine, so that its end can be asked for first. A
//! container carries our node's name and its run's, by which a later life of the daemon takes it on where it lives
//! ([`Container::attend`]) and removes what belongs to no run any more ([`Container::sweep`]).
//!
//! | what | where |
//! |---|---|
//! | which images may run and be fetched | [`policy`], [`image`] |
//! | finding and understanding the engine | [`engine`] |
//! | what a container is made of | [`body`] |
//! | from its making to its removal | [`attempt`] |
//! | what it says | [`output`] |
//!
//! **The hard case** is an engine that is restarted, or gone when a container is to be removed: what could not be removed
//! is remembered and removed before the next run, or swept by the next life of the daemon ([`leftovers`]).

mod attempt;
mod body;
mod engine;
mod image;
mod leftovers;
mod output;
mod policy;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jobmesh_protocol::task::{ContainerTask, Task};
use jobmesh_protocol::{Isolation, Outcome};
use tokio::runtime::Handle;

use crate::container::attempt::{Attempt, ENGINE_PATIENCE, Halt, LOOK, is_unstarted, name_of};
use crate::container::body::Plan;
use crate::container::engine::{ContainerError, Engine};
use crate::container::leftovers::{CLEAR_MAX, Leftovers};
use crate::container::output::Heard;
use crate::container::policy::Policy;
use crate::control::Control;
use crate::directory::{bring_out, make_directory};
use crate::event::{Ended, ProcessId, chain, clip};
use crate::executor::{Executor, Probe, wrong_task};
use crate::order::Order;
use crate::process::{Seat, size};
use crate::stage::Stage;
use crate::surroundings::Surroundings;

pub(crate) use crate::container::attempt::exchange_path;
pub(crate) use crate::container::leftovers::IsLive;
pub use crate::container::policy::check_image_pattern;
pub use crate::container::settings::{Containers, IMAGE_PATTERNS_MAX, Images};

/// How long what an engine said of itself is believed: it may have been replaced by a newer one.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// The exit code of a command that signal 9 ended.
const KILLED: i32 = 137;

/// Runs container tasks.
#[derive(Debug)]
pub(crate) struct Container {
    runtime: Handle,
    settings: Containers,
    policy: Policy,
    /// The engine that was found last, and when it was asked what it is.
    known: Mutex<Option<(Engine, Instant)>>,
    /// Containers that are still there and belong to nobody.
    left: Leftovers,
}

impl Container {
    pub(crate) fn new(surroundings: &Surroundings) -> Self {
        let settings = surroundings.containers.clone();
        let policy = Policy::new(&settings);
        let (known, left) = (Mutex::new(None), Leftovers::default());
        Self { runtime: surroundings.runtime.clone(), settings, policy, known, left }
    }

    /// Runs a command to its end.
    fn run(&self, order: &Order, task: &ContainerTask, control: &Control<'_>) -> Ended {
        if let Some(reason) = control.stop_reason() {
            return Ended::without_process(reason.outcome());
        }
        let level = match level(order) {
            Ok(level) => level,
            Err(error) => return Ended::without_process(error.outcome()),
        };
        let mut stage = match Stage::set(order) {
            Ok(stage) => stage,
            Err(error) => return Ended::without_process(error.outcome()),
        };
        let engine = match self.meet(control) {
            Ok(engine) => engine,
            Err(halt) => return stage.clear(halt.outcome(), level),
        };
        let mut attempt = self.attempt(order, engine, control);
        let mut process = None;
        let went = self.go(&mut attempt, task, level, &mut stage, &mut process);
        self.conclude(attempt, went, stage, (level, process))
    }

    fn go(
        &self,
        attempt: &mut Attempt<'_>,
        task: &ContainerTask,
        level: Isolation,
        stage: &mut Stage<'_>,
        process: &mut Option<ProcessId>,
    ) -> Result<(), Halt> {
        let order = attempt.order;
        let permit = self.policy.judge(task, order.is_foreign).map_err(ContainerError::from)?;
        attempt.provide_image(&permit, stage)?;
        let exchange = exchange_path(&order.directory);
        make_directory(&exchange).map_err(|source| ContainerError::Directory { path: exchange.clone(), source })?;
        let image = attempt.know_image(&permit.image, level)?;
        let plan = Plan { order, task, image: &image, level, node: &self.settings.node, exchange: &exchange };
        let line = attempt.start(task, &plan)?;
        *process = attempt.tell_start()?;
        attempt.follow(Some(line), *process, stage)
    }

    /// Sees a container of an earlier life of the daemon to its end.
    pub(crate) fn attend(&self, order: &Order, control: &Control<'_>) -> Ended {
        let lost = |reason: &str| Ended::without_process(Outcome::Lost { reason: reason.to_owned() });
        let engine = match self.await_engine(control) {
            Ok(engine) => engine,
            Err(Halt::Asked(reason)) => return Ended::without_process(reason.outcome()),
            Err(_) => return lost("the container engine does not answer, so nobody knows how its container ended"),
        };
        let mut attempt = self.attempt(order, engine, control);
        attempt.is_made = true;
        let found = match self.runtime.block_on(attempt.found()) {
            Ok(found) => found,
            Err(error) => return Ended::without_process(Outcome::Lost { reason: chain(&error) }),
        };
        let Some((state, level)) = found else {
            return lost("its container was removed while no daemon was there to see how it ended");
        };
        if is_unstarted(&state) {
            self.remove(&attempt);
            let reason = "the daemon stopped before it started".to_owned();
            return Ended::without_process(Outcome::Released { reason });
        }
        let mut stage = match Stage::set(order) {
            Ok(stage) => stage,
            Err(error) => return Ended::without_process(error.outcome()),
        };
        let mut process = None;
        let went = attempt.tell_start().and_then(|found| {
            process = found;
            attempt.follow(None, process, &mut stage)
        });
        self.conclude(attempt, went, stage, (level, process))
    }

    /// Ends what has to be ended, asks how it ended, and removes it.
    fn conclude(
        &self,
        mut attempt: Attempt<'_>,
        went: Result<(), Halt>,
        mut stage: Stage<'_>,
        (level, process): (Isolation, Option<ProcessId>),
    ) -> Ended {
        if let (Err(halt), false) = (&went, attempt.is_made) {
            return stage.clear(halt.outcome(), level);
        }
        if let Err(halt) = &went {
            attempt.end(halt, &mut stage);
        }
        let finish = attempt.finish(process);
        self.remove(&attempt);
        let directory = &attempt.order.directory;
        bring_out(&exchange_path(directory), directory);
        let limit = attempt.order.limits.memory_bytes.filter(|_| went.is_ok() && finish.oom.is_none());
        let mut ended = stage.clear_command(went.err().map(|halt| halt.outcome()), finish, level);
        suspect_memory(&mut ended, limit);
        ended
    }

    fn attempt<'a>(&'a self, order: &'a Order, engine: Engine, control: &'a Control<'a>) -> Attempt<'a> {
        let name = name_of(order.run);
        Attempt {
            order,
            engine,
            runtime: &self.runtime,
            control,
            name,
            heard: Heard::default(),
            is_made: false,
            is_adrift: false,
        }
    }

    /// The engine that is known if it is there, or else the one that is found. To say what it is takes an engine longer than
    /// to make a container, so it isn't asked for each.
    async fn engine(&self) -> Result<Engine, ContainerError> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((engine, _)) = known.filter(|(_, asked)| asked.elapsed() < KNOWN_FOR)
            && engine.answers().await
        {
            return Ok(engine);
        }
        let found = Engine::find(&self.settings).await;
        let kept = found.as_ref().ok().map(|engine| (engine.clone(), Instant::now()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        found
    }

    /// Finds the engine, and has what is left on it removed.
    fn meet(&self, control: &Control<'_>) -> Result<Engine, Halt> {
        let engine = control.wait_for(&self.runtime, self.engine())??;
        let cleared = self.left.clear(&engine, &self.settings.node);
        // What takes longer goes on with the next run.
        let _ = control.wait_for(&self.runtime, async { tokio::time::timeout(CLEAR_MAX, cleared).await })?;
        Ok(engine)
    }

    /// The same for a container that goes on already: the engine may be starting, like the daemon.
    fn await_engine(&self, control: &Control<'_>) -> Result<Engine, Halt> {
        let since = Instant::now();
        loop {
            match self.meet(control) {
                Err(Halt::Failed(_)) if since.elapsed() < ENGINE_PATIENCE => {
                    control.wait_for(&self.runtime, tokio::time::sleep(LOOK))?;
                }
                met => return met,
            }
        }
    }

    fn remove(&self, attempt: &Attempt<'_>) {
        match self.runtime.block_on(attempt.remove()) {
            Ok(()) if attempt.is_adrift => {
                tracing::warn!(container = attempt.name, "a container is still being made; it is removed later");
                self.left.keep(attempt.name.clone());
            }
            Ok(()) => {}
            Err(error) => self.left.remember(attempt.name.clone(), &error),
        }
    }

    /// Removes every container of this node whose run is over: now, or as soon as a run meets an engine.
    pub(crate) fn sweep(&self, is_live: IsLive) {
        self.left.expect_sweep(is_live);
        self.runtime.block_on(async {
            if let Ok(engine) = Engine::find(&self.settings).await {
                self.left.clear(&engine, &self.settings.node).await;
            }
        });
    }
}

impl Executor for Container {
    fn probe(&self) -> Probe {
        // On a thread of its own, since whoever asks may be in a runtime already.
        let found = std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.runtime.block_on(Engine::find(&self.settings)));
            asked.join().ok()
        });
        match found {
            Some(Ok(engine)) => ready(&engine),
            Some(Err(error)) => Probe::missing("container", chain(&error)),
            None => Probe::missing("container", "the look for a container engine failed; see the log"),
        }
    }

    fn perform(&self, order: &Order, _seat: &mut Seat, control: &Control<'_>) -> Ended {
        let Task::Container(task) = &order.task else { return Ended::without_process(wrong_task(&order.task)) };
        self.run(order, task, control)
    }
}

/// Says what most likely killed a command that has a limit on memory. Podman 4.3 does not always hear of it (seen with
/// control groups of version 1).
fn suspect_memory(ended: &mut Ended, limit: Option<u64>) {
    if let (Some(limit), Some(KILLED), Outcome::Error { message, .. }) = (limit, ended.exit.code, &mut ended.outcome) {
        let limit = size(limit);
        *message = clip(format!("{message}: it was killed, most likely since it was out of memory (limit {limit})"));
    }
}

/// What is told of an engine that answers.
fn ready(engine: &Engine) -> Probe {
    let facts = [
        ("engine", engine.kind.to_owned()),
        ("version", engine.version.clone()),
        ("socket", engine.socket.display().to_string()),
        ("rootless", if engine.is_rootless { "yes" } else { "no" }.to_owned()),
        ("cgroup", engine.cgroup.clone()),
    ];
    let can = engine.can;
    let limits = [("memory", can.memory), ("processors", can.processors), ("processes", can.processes)];
    let missing = limits.into_iter().filter(|(_, can)| !can).map(|(what, _)| {
        format!("the engine can't limit {what}; give it the control groups for that (cgroup v2, delegated)")
    });
    let facts: BTreeMap<String, String> = facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Probe { facts, lacks: missing.collect(), ..Probe::ready("container", Isolation::Sandboxed) }
}

/// How well a container of this order is kept apart.
fn level(order: &Order) -> Result<Isolation, ContainerError> {
    match order.isolation {
        Isolation::Untrusted => Err(ContainerError::Level),
        Isolation::Sandboxed => Ok(Isolation::Sandboxed),
        Isolation::None | Isolation::Contained if order.is_foreign => Ok(Isolation::Sandboxed),
        Isolation::None | Isolation::Contained => Ok(Isolation::Contained),
    }
}
