//! The thread that owns the engine and the one write connection: take what waits, decide, commit, let go.
//!
//! All inputs that wait go into one commit, up to [`BATCH_MAX`]; a lone one is committed at once, unless nobody waits
//! for it and every slot has more to do ([`Engine::company`]). Every answer and
//! every effect leaves after the commit, because [`jobmesh_engine::Outputs::release`] wants its proof.
//!
//! **The hard case** is a failed commit. Nobody knows whether it happened, so the engine is dropped and built anew from
//! the database. Commands are answered with the error. What drivers reported once and will not report again (a
//! process started or ended, a blob came, a peer connected) is handed in again afterwards; frames and gossip are
//! not, since their senders repeat them. A full disk costs the ballast, by which what runs can be finished, and new
//! jobs are turned away until there is room for it again. Once the file is found damaged, new jobs are turned away for
//! good, and what runs is written down as far as that goes. Beyond that, tries go on a second at a time, for as long as
//! it takes; any other fault that outlives [`REOPENS_MAX`] tries ends the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jobmesh_engine::{Command, Declared, Engine, Input, Output, RequestId, Response, ScheduleAction};
use jobmesh_keys::{Membership, MeshId};
use jobmesh_protocol::id::Incarnation;
use jobmesh_protocol::{MonoMillis, NodeId};
use jobmesh_store::{OpenError, Store, StoreError, Upkeep};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use tokio::sync::{mpsc, oneshot};

use super::ballast::Ballast;
use super::handle::{CommandError, Handle};
use super::source::{Source, entropy};
use super::{StartError, clock};
use crate::config::Config;

/// Most inputs of one commit: about what a commit costs in handling, so that neither waits long for the other.
const BATCH_MAX: usize = 256;
/// How long a batch that nobody waits for may wait for company, while no slot stands idle for it.
const COMPANY_WAIT: Duration = Duration::from_millis(2);
/// Longest sleep. The timer that ends it stands still while the machine sleeps, the leases do not.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long commands are turned away after a failure before the next try.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a database that fails, other than by a full disk, is opened again.
const REOPENS_MAX: u32 = 10;
/// Most reports of drivers that are kept for the time after a failure: two for each run, and as many for peers.
const KEPT_MAX: usize = 16_384;

/// One thing for the engine.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every message is an input, and a box for each costs more")]
pub(super) enum Message {
    /// A driver saw something.
    Driver(Input),
    /// Someone asks for something.
    Ask(Command, Answer),
    /// Someone wants the database's files kept in order.
    Upkeep(UpkeepAnswer),
    /// A fact to write down.
    Remember(&'static str, Vec<u8>),
    /// Handle what came before this, then end.
    Stop,
}

type Answer = oneshot::Sender<Result<Response, CommandError>>;
type UpkeepAnswer = oneshot::Sender<Result<Upkeep, CommandError>>;

/// Why the engine has given up.
#[derive(Debug, thiserror::Error)]
pub enum EngineFailure {
    /// The database fails again and again.
    #[error("the job database fails: {0}")]
    Store(StoreError),
    /// The database can't be opened again.
    #[error("the job database can't be opened again")]
    Open(#[source] OpenError),
    /// A bug.
    #[error("the engine ended by a panic; this is a bug")]
    Panicked,
}

/// The owner of engine and database.
pub(super) struct EngineThread {
    directory: PathBuf,
    source: Source,
    /// `None` only while it is being opened again.
    store: Option<Store>,
    rng: ChaCha20Rng,
    inbox: mpsc::Receiver<Message>,
    outputs: mpsc::Sender<Vec<Output>>,
    handle: Handle,
    answers: BTreeMap<RequestId, Answer>,
    next_request: u64,
    /// Reports that a failed commit may have lost.
    kept: Vec<Input>,
    /// Who is connected, for an engine that is built anew.
    connected: BTreeMap<NodeId, Input>,
    is_draining: bool,
    ballast: Ballast,
    /// Told to stop, maybe while the database failed.
    is_stopping: bool,
    /// How often the database was opened again since the last good commit.
    reopens: u32,
}

/// What goes into one commit.
#[derive(Default)]
struct Batch {
    inputs: Vec<Input>,
    facts: Vec<(&'static str, Vec<u8>)>,
    /// What the configuration file says now, each time that it was read again.
    declared: Vec<(RequestId, Declared)>,
    /// Who waits for an upkeep.
    upkeep: Vec<UpkeepAnswer>,
    /// The last wish of the batch to join another mesh.
    enroll: Option<(RequestId, MeshId, Membership)>,
    /// Somebody waits for an answer.
    has_asked: bool,
    is_last: bool,
}

impl EngineThread {
    pub(super) fn new(
        config: &Config,
        source: Source,
        store: Store,
        (inbox, outputs): (mpsc::Receiver<Message>, mpsc::Sender<Vec<Output>>),
        handle: Handle,
    ) -> Result<Self, StartError> {
        Ok(Self {
            directory: config.home.path().to_owned(),
            source,
            store: Some(store),
            rng: ChaCha20Rng::from_seed(entropy()?),
            inbox,
            outputs,
            handle,
            answers: BTreeMap::new(),
            next_request: 0,
            kept: Vec::new(),
            connected: BTreeMap::new(),
            is_draining: false,
            ballast: Ballast::load(config.home.path()),
            is_stopping: false,
            reopens: 0,
        })
    }

    /// Runs until told to stop or until the database is beyond repair.
    pub(super) fn run(
        mut self,
        runtime: &tokio::runtime::Handle,
        ready: oneshot::Sender<()>,
        failed: oneshot::Sender<EngineFailure>,
    ) {
        let recovered = match self.recover() {
            // A disk that is full at the start has the ballast to give, like one that fills up later.
            Err(EngineFailure::Store(StoreError::Full)) if self.ballast.drop_it() => self.recover_afresh(),
            recovered => recovered,
        };
        let engine = match recovered {
            Ok(engine) => engine,
            Err(failure) => {
                // If nobody waits for the failure any more, nobody waits for the start either.
                let _ = failed.send(failure);
                return;
            }
        };
        let _ = ready.send(());
        if let Err(failure) = self.work(runtime, engine) {
            tracing::error!(%failure, "the engine gives up");
            let _ = failed.send(failure);
            return;
        }
        match self.store.take().map(Store::close) {
            Some(Ok(true)) | None => {}
            Some(Ok(false)) => {
                tracing::warn!(
                    "another program reads the job database; jobs.db-wal is part of it and must stay beside it"
                );
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "the log of the job database could not be emptied; it must stay beside jobs.db");
            }
        }
    }

    fn work(&mut self, runtime: &tokio::runtime::Handle, mut engine: Engine) -> Result<(), EngineFailure> {
        loop {
            self.ballast.reload();
            let now = clock::now();
            let wakeup = engine.next_wakeup();
            let batch = self.collect(runtime, wait_until(now.mono, wakeup), engine.company());
            let was_stopping = self.is_stopping;
            self.is_stopping |= batch.is_last;
            engine = match self.step(&mut engine, &batch) {
                Ok(outputs) => self.finish(engine, batch, outputs)?,
                Err(error) if was_stopping => return Err(EngineFailure::Store(error)),
                Err(error) => self.repair(runtime, batch, error)?,
            };
            // What a failed commit may have lost is committed before the end.
            if self.is_stopping && self.kept.is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits for something to do, then takes all that waits, and a little more while `company` is expected.
    fn collect(&mut self, runtime: &tokio::runtime::Handle, wait: Duration, company: usize) -> Batch {
        let mut batch = Batch { inputs: std::mem::take(&mut self.kept), ..Batch::default() };
        if batch.inputs.is_empty() {
            match runtime.block_on(async { tokio::time::timeout(wait, self.inbox.recv()).await }) {
                Ok(Some(message)) => self.add(&mut batch, message),
                Ok(None) => batch.is_last = true,
                Err(_elapsed) => {}
            }
        }
        let until = Instant::now() + COMPANY_WAIT;
        while batch.inputs.len() < BATCH_MAX && !batch.is_last {
            match self.inbox.try_recv() {
                Ok(message) => self.add(&mut batch, message),
                Err(_) if batch.has_asked || batch.inputs.is_empty() || batch.inputs.len() >= company => break,
                Err(_) => {
                    let left = until.saturating_duration_since(Instant::now());
                    match runtime.block_on(async { tokio::time::timeout(left, self.inbox.recv()).await }) {
                        Ok(Some(message)) => self.add(&mut batch, message),
                        Ok(None) => batch.is_last = true,
                        Err(_elapsed) => break,
                    }
                }
            }
        }
        if batch.inputs.is_empty() {
            batch.inputs.push(Input::Tick);
        }
        batch
    }

    fn add(&mut self, batch: &mut Batch, message: Message) {
        match message {
            Message::Driver(input) => batch.inputs.push(input),
            Message::Ask(command, answer) if adds_jobs(&command) && self.ballast.is_still_gone() => {
                // Whoever asked may have gone.
                let _ = answer.send(Err(CommandError::from(&StoreError::Full)));
            }
            Message::Ask(command, answer) if adds_jobs(&command) && self.handle.damage().is_some() => {
                let words = self.handle.damage().unwrap_or_default().to_owned();
                let _ = answer.send(Err(CommandError::Store(words)));
            }
            Message::Ask(command, answer) => {
                batch.has_asked = true;
                self.next_request += 1;
                let request = RequestId(self.next_request);
                self.answers.insert(request, answer);
                if let Command::Enroll { mesh, membership } = &command {
                    batch.enroll = Some((request, *mesh, membership.as_ref().clone()));
                }
                if let Command::Configure(declared) = &command {
                    batch.declared.push((request, declared.as_ref().clone()));
                }
                self.is_draining |= matches!(command, Command::Drain);
                batch.inputs.push(Input::Command(request, command));
            }
            Message::Upkeep(answer) => batch.upkeep.push(answer),
            Message::Remember(name, value) => batch.facts.push((name, value)),
            Message::Stop => batch.is_last = true,
        }
    }

    /// Decides and commits.
    fn step(&mut self, engine: &mut Engine, batch: &Batch) -> Result<Vec<Output>, StoreError> {
        let Some(store) = self.store.as_mut() else { return Err(StoreError::Damaged { what: "connection" }) };
        let now = clock::now();
        let txn = store.begin()?;
        for (name, value) in &batch.facts {
            txn.set_meta(name, value)?;
        }
        for input in &batch.inputs {
            engine.handle(now, &mut self.rng, &txn, input.clone())?;
        }
        engine.finish(now, &mut self.rng, &txn)?;
        let committed = txn.commit()?;
        Ok(engine.take_outputs().release(committed))
    }

    /// Lets the outputs of a committed batch go, and turns into a member of another mesh if that was decided.
    fn finish(&mut self, engine: Engine, batch: Batch, outputs: Vec<Output>) -> Result<Engine, EngineFailure> {
        self.note(&batch.inputs);
        self.reopens = 0;
        let is_good = |request: RequestId| {
            outputs.iter().any(|output| matches!(output, Output::Reply(answered, Ok(_)) if *answered == request))
        };
        // What was refused must not hold for the next engine either.
        if let Some((_, declared)) = batch.declared.into_iter().rfind(|(request, _)| is_good(*request)) {
            self.source.declared = declared;
        }
        let enrolled = batch.enroll.filter(|(request, ..)| is_good(*request));
        self.release(outputs);
        self.keep_in_order(batch.upkeep);
        let Some((_, mesh, membership)) = enrolled else { return Ok(engine) };
        drop(engine);
        (self.source.mesh, self.source.membership) = (mesh, membership);
        // The peers of the old mesh are none of the new one.
        self.connected.clear();
        self.recover()
    }

    /// Does what is best done between two commits, for whoever asked.
    fn keep_in_order(&mut self, asked: Vec<UpkeepAnswer>) {
        for answer in asked {
            let Some(store) = self.store.as_mut() else { continue };
            // Whoever asked may have gone.
            let _ = answer.send(store.upkeep().map_err(|error| CommandError::from(&error)));
        }
    }

    /// Keeps in mind what an engine that is built anew could not know.
    fn note(&mut self, inputs: &[Input]) {
        let (mut started, mut ended) = (BTreeSet::new(), BTreeSet::new());
        for input in inputs {
            match input {
                Input::Connected { node, .. } => {
                    self.connected.insert(*node, input.clone());
                }
                Input::Disconnected(node) => {
                    self.connected.remove(node);
                }
                Input::Started { run, .. } => {
                    started.insert(*run);
                }
                Input::Ended { run, .. } => {
                    ended.insert(*run);
                }
                Input::Tick
                | Input::Addresses(_)
                | Input::Command(..)
                | Input::Frame { .. }
                | Input::Gossip { .. }
                | Input::Adopted { .. }
                | Input::Reported { .. }
                | Input::Fetched(_)
                | Input::FetchProgress(_)
                | Input::FetchFailed { .. } => {}
            }
        }
        if !(started.is_empty() && ended.is_empty()) {
            self.handle.shared().runs.send_modify(|runs| runs.change(&started, &ended));
        }
    }

    /// Hands outputs to the dispatch task, replies first: whoever waits for one waits no longer than it must.
    fn release(&mut self, outputs: Vec<Output>) {
        let mut others = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Reply(request, answer) => {
                    if let Some(waiting) = self.answers.remove(&request) {
                        // Whoever asked may have gone; what was decided stands.
                        let _ = waiting.send(answer.map_err(CommandError::Refused));
                    }
                }
                Output::Send { .. }
                | Output::Publish(_)
                | Output::Shout(_)
                | Output::Provide(_)
                | Output::Find(_)
                | Output::Dial { .. }
                | Output::Stop { .. }
                | Output::EndOrphan { .. }
                | Output::Forget(_)
                | Output::Fetch(_)
                | Output::StopFetch(_)
                | Output::Run(_)
                | Output::Adopt { .. }
                | Output::Changed(_) => others.push(output),
            }
        }
        self.begin(&mut others);
        if !others.is_empty() && self.outputs.blocking_send(others).is_err() {
            tracing::error!("the dispatch task is gone; outputs are lost until the next start");
        }
    }

    /// Counts the runs that are ordered, and leaves out those that are under way: an engine that was built anew orders
    /// again what it does not know to have ended.
    fn begin(&self, outputs: &mut Vec<Output>) {
        let has_runs = outputs.iter().any(|output| matches!(output, Output::Run(_) | Output::Adopt { .. }));
        if !has_runs {
            return;
        }
        self.handle.shared().runs.send_modify(|runs| {
            outputs.retain(|output| match output {
                Output::Run(order) => runs.order(order.run, order.follows),
                Output::Adopt { order, .. } => {
                    runs.adopt(order.run);
                    true
                }
                Output::Reply(..)
                | Output::Send { .. }
                | Output::Publish(_)
                | Output::Shout(_)
                | Output::Provide(_)
                | Output::Find(_)
                | Output::Dial { .. }
                | Output::Stop { .. }
                | Output::EndOrphan { .. }
                | Output::Forget(_)
                | Output::Fetch(_)
                | Output::StopFetch(_)
                | Output::Changed(_) => true,
            });
        });
    }

    /// Answers everyone who waits with the failure.
    fn turn_away(&mut self, error: &StoreError) {
        for (_, waiting) in std::mem::take(&mut self.answers) {
            let _ = waiting.send(Err(CommandError::from(error)));
        }
    }

    /// Deals with a failed commit: answers, waits, and builds the engine anew.
    fn repair(
        &mut self,
        runtime: &tokio::runtime::Handle,
        batch: Batch,
        error: StoreError,
    ) -> Result<Engine, EngineFailure> {
        let mut error = error;
        self.keep(batch.inputs);
        self.turn_away(&error);
        for answer in batch.upkeep {
            let _ = answer.send(Err(CommandError::from(&error)));
        }
        loop {
            self.handle.note_damage(&error);
            tracing::error!(%error, source = ?std::error::Error::source(&error), "the commit failed; trying again");
            let is_full = matches!(error, StoreError::Full);
            let has_room_again = is_full && self.ballast.drop_it();
            self.is_stopping |= !has_room_again && self.pause(runtime, &error);
            if !is_full {
                self.reopens += 1;
                if self.reopens > REOPENS_MAX {
                    return Err(EngineFailure::Store(error));
                }
                self.reopen()?;
            }
            match self.try_recover() {
                Ok(engine) => return Ok(engine),
                Err(failed) if self.is_stopping => return Err(EngineFailure::Store(failed)),
                Err(failed) => error = failed,
            }
        }
    }

    /// Keeps what drivers report only once.
    fn keep(&mut self, inputs: Vec<Input>) {
        for input in inputs {
            let is_kept = input.is_said_once();
            if is_kept && self.kept.len() < KEPT_MAX {
                self.kept.push(input);
            } else if is_kept {
                tracing::error!("too many reports while the database fails; a run may be found lost");
            }
        }
    }

    /// Lets [`PAUSE`] pass, answering commands with the failure. Returns whether the node is to stop.
    fn pause(&mut self, runtime: &tokio::runtime::Handle, error: &StoreError) -> bool {
        let until = Instant::now() + PAUSE;
        let mut batch = Batch::default();
        while !batch.is_last {
            let left = until.saturating_duration_since(Instant::now());
            match runtime.block_on(async { tokio::time::timeout(left, self.inbox.recv()).await }) {
                Ok(Some(message)) => self.add(&mut batch, message),
                Ok(None) => batch.is_last = true,
                Err(_elapsed) => break,
            }
            self.keep(std::mem::take(&mut batch.inputs));
            self.turn_away(error);
        }
        batch.is_last
    }

    fn reopen(&mut self) -> Result<(), EngineFailure> {
        // The old one must let go of the lock first. Another daemon that takes it in between is told of at once.
        let incarnation = self.store.take().map_or(Incarnation::from_bytes([0; 16]), |store| store.incarnation());
        self.store = Some(Store::open_kept(&self.directory, incarnation).map_err(EngineFailure::Open)?);
        Ok(())
    }

    fn recover(&mut self) -> Result<Engine, EngineFailure> {
        self.try_recover().map_err(EngineFailure::Store)
    }

    /// Builds the first engine once more. Should the commit have happened after all, the runs that it took over are
    /// nobody's yet, so this is another life of the daemon to them.
    fn recover_afresh(&mut self) -> Result<Engine, EngineFailure> {
        self.source.renew_boot(&mut self.rng);
        self.recover()
    }

    /// Builds an engine from the database and tells it what only this process knows.
    fn try_recover(&mut self) -> Result<Engine, StoreError> {
        let Some(store) = self.store.as_mut() else { return Err(StoreError::Damaged { what: "connection" }) };
        let now = clock::now();
        let txn = store.begin()?;
        let mut engine = Engine::recover(self.source.engine_config(), now, &mut self.rng, &txn)?;
        for input in self.connected.values() {
            engine.handle(now, &mut self.rng, &txn, input.clone())?;
        }
        if self.is_draining {
            // Nobody waits for request 0.
            engine.handle(now, &mut self.rng, &txn, Input::Command(RequestId(0), Command::Drain))?;
        }
        engine.finish(now, &mut self.rng, &txn)?;
        let committed = txn.commit()?;
        let outputs = engine.take_outputs().release(committed);
        self.release(outputs);
        Ok(engine)
    }
}

/// Whether a command asks for new jobs, for which a full disk has no room.
const fn adds_jobs(command: &Command) -> bool {
    matches!(
        command,
        Command::Submit(_)
            | Command::NameTasks(_)
            | Command::NameRange(..)
            | Command::Schedule(_, ScheduleAction::Trigger | ScheduleAction::Backfill { .. })
    )
}

/// How long to sleep before the engine wants to be called.
fn wait_until(now: MonoMillis, wakeup: Option<MonoMillis>) -> Duration {
    wakeup.map_or(SLEEP_MAX, |at| Duration::from_millis(at.since(now).0).min(SLEEP_MAX))
}
