//! The one place where engine, store, mesh and executors meet.
//!
//! ```text
//!               ┌────────────── inbox (1024) ◄──────────────┬───────────────┐
//!               ▼                                           │               │
//!   engine thread: handle × batch, COMMIT                   │               │
//!               │ outputs, after the commit only            │               │
//!               ▼                                           │               │
//!   dispatch task ── frames, digests ──► mesh ── events ──► network task    │
//!               ├──── orders, stops ───► executors ── events ───────────────┤
//!               ├──── fetches ─────────► one task each ─────────────────────┘
//!               └──── replies ─────────► whoever asked through a [`Handle`]
//! ```
//!
//! | thread or task | input | output | ends |
//! |---|---|---|---|
//! | engine thread (`engine_thread`) | the inbox | batches of outputs | at [`Runtime::stop`], or when the database is beyond repair |
//! | dispatch task (`dispatch`) | batches of outputs | calls to mesh and executors, replies | with the engine thread |
//! | fetches, owned by the dispatch task (`download`) | one blob or tree each | `FetchProgress`, `Fetched` or `FetchFailed` | when nobody wants it, or with the dispatch task |
//! | ends of orphans, owned likewise, on blocking threads | one run each | nothing | within seconds; runs wait for them |
//! | preparations, owned likewise | one order or adoption each | what it needs to start | with the dispatch task |
//! | one deletion at a time, owned likewise, on a blocking thread | jobs that are not kept any more | nothing | by itself |
//! | reports, owned likewise | one end that was found without the executors | `Ended` | with the dispatch task |
//! | sweep of containers, once: at the start on a blocking thread, or else when an engine is first met, on a slot's | the engine's list | nothing | within seconds; a run waits 10 s at most |
//! | socket of tasks (`task_socket`), and one task for each client | lines of jobs | commands, answers | by the token |
//! | network task (`network`) | mesh events, restarts | engine inputs | by the token |
//! | joins, uploads, followed outputs (`log_server`) and asked secrets (`secrets`), owned by the network task | one question of a peer each | an answer to it | with the network task |
//! | slots of the executors | orders | `Started`, `Ended` | at [`Runtime::stop`] |
//!
//! The inbox is bounded. When it is full, commands are refused as busy and drivers wait, which slows the one peer or
//! run that they serve. The dispatch task never waits for the inbox, so the engine can always get rid of its outputs:
//! there is no circle in which everyone waits for the next.
//!
//! **The hard case** is a commit that fails. Whoever asked is told so, the engine is built anew from the database, and
//! what the drivers had reported is handed in again, since a process ends only once.

mod adoption;
mod array;
mod ballast;
mod clock;
mod dispatch;
mod download;
mod engine_thread;
#[cfg(test)]
mod fixture;
mod growth;
mod guarded;
mod handle;
mod housekeeping;
mod line;
mod link;
mod log_server;
mod network;
mod order;
mod readers;
mod reduce;
mod roster;
mod runs;
mod secrets;
mod source;
mod tail;
mod task_socket;
mod type_files;
mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jobmesh_engine::pool::{PoolError, PoolKind, Pools};
use jobmesh_engine::{Declared, Input, Output, Report, StopReason};
use jobmesh_executors::http::Fetcher;
use jobmesh_executors::model::key::{Key, Keys, NoKey};
use jobmesh_executors::model::settings::{KeySource, OLLAMA_ADDRESS};
use jobmesh_executors::{Containers, Executors, Probe, STOP_GRACE_MAX, Sandboxes, Surroundings};
use jobmesh_keys::key_file::KeyFileError;
use jobmesh_protocol::id::Incarnation;
use jobmesh_protocol::resource::{Name, NameError};
use jobmesh_protocol::{NodeId, RunId};
use jobmesh_store::{Lock, OpenError, Store, StoreError, find_database};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::blobs::Blobs;
use crate::config::Config;
use crate::detect::{detect, detect_pools};
use crate::home::Home;
use engine_thread::{EngineThread, Message};
use network::Network;
use task_socket::TaskSocket;
use task_socket::token::Tokens;

pub use engine_thread::EngineFailure;
pub use handle::{CommandError, Handle, JoinError, ReloadError};
pub use readers::ReadError;
pub use roster::{Refused, Session, Standing};
pub(crate) use tail::{Span, Tail, changed, open_at};
pub use type_files::BringError;
pub(crate) use type_files::{bring, bring_inputs};

/// Most inputs that wait for the engine: a second of work on a slow disk.
const INBOX_MAX: usize = 1024;
/// Most batches of outputs that wait to be carried out. The engine waits when there are more.
const BATCHES_MAX: usize = 16;
/// How long the executors may take to end: the longest grace of a stopped run, and the time that KILL may need. A slot
/// that is stuck must not keep the daemon alive.
const EXECUTORS_LIMIT: Duration = STOP_GRACE_MAX.saturating_add(Duration::from_secs(10));

/// Everything of a running node but its control socket.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    executors: Executors,
    inbox: mpsc::Sender<Message>,
    /// The engine's way to the dispatch task, for stops that the engine did not decide.
    batches: mpsc::Sender<Vec<Output>>,
    tasks: JoinSet<()>,
    cancel: CancellationToken,
    failure: oneshot::Receiver<EngineFailure>,
    engine: std::thread::JoinHandle<()>,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database can't be opened; another daemon may have it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A key can't be read or made.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The database can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kept proof of membership does not read back.
    #[error("the membership in the job database is damaged; join the mesh again from a new data directory")]
    Membership,
    /// The system has no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Entropy(getrandom::Error),
    /// What the jobs of a lost database left can't be moved.
    #[error(
        "failed to set aside what the jobs of the lost database left; move runs/ and blobs/ away before the node is up"
    )]
    Aside(#[source] io::Error),
    /// A folder of the data directory can't be read.
    #[error("failed to open the folder of blobs")]
    Blobs(#[source] io::Error),
    /// A file that a job type names can't be given to its jobs.
    #[error(transparent)]
    TypeFile(#[from] BringError),
    /// The socket for running jobs can't be opened.
    #[error("failed to open the socket of tasks, tasks/task.sock beside the control socket")]
    TaskSocket(#[source] io::Error),
    /// A thread can't be started.
    #[error("failed to start the engine's thread")]
    Thread(#[source] io::Error),
    /// A pool of resources can't be.
    #[error("resources.{name} in config.toml can't be: {problem}")]
    Resources {
        /// Which one.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The executors can't start.
    #[error("failed to start the executors")]
    Executors(#[source] jobmesh_executors::StartError),
    /// The engine could not read its database.
    #[error("the engine could not start")]
    Engine(#[source] EngineFailure),
    /// The mesh can't start.
    #[error("failed to start the mesh; see `listen` and `name` in config.toml")]
    Mesh(#[source] jobmesh_mesh::StartError),
}

impl Runtime {
    /// Opens the data directory of `config`, which must exist, and starts everything.
    ///
    /// Not cancel-safe: a start that is dropped half way leaves threads behind, so the process should end.
    ///
    /// # Errors
    /// [`StartError`]; what was started is stopped again.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let fresh = Incarnation::from_bytes(source::entropy()?);
        let mut store = source::open_store(&config.home, fresh)?;
        let blobs = open_blobs(config)?;
        type_files::bring_scheduled(&blobs, &config.job_types).await?;
        let tokens = Tokens::load(&config.home, source::entropy()?)?;
        // Before anything runs: a run may report as soon as it lives.
        let task_socket =
            TaskSocket::bind(&config.home, Fetcher::new(config.http.clone())).map_err(StartError::TaskSocket)?;
        let probes = probe(config).await;
        let mut detected = detect(config.slots, pools(config)?, &probes);
        detected.tags.extend(config.job_types.detect_tools(&std::env::var_os("PATH").unwrap_or_default()));
        let source = source::Source::load(config, &mut store, detected)?;
        let known = source::known_peers(&mut store)?;
        let (names, remembered) = (source::known_names(&mut store)?, source::remembered_listen(&mut store)?);

        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let (batches, outputs) = mpsc::channel(BATCHES_MAX);
        let (network_commands, network_inbox) = mpsc::channel(1);
        let inboxes = (inbox.clone(), network_commands);
        let parts = handle::Parts { inboxes, blobs, tokens, names };
        let handle = Handle::new(config, &source, parts);
        let executors = start_executors(config, inbox.clone(), handle.clone())?;
        let network = network::Settings::new(config, &source, known, remembered);
        let (ready, started) = oneshot::channel();
        let (failed, failure) = oneshot::channel();
        let thread = EngineThread::new(config, source, store, (messages, batches.clone()), handle.clone())?;
        let runtime = tokio::runtime::Handle::current();
        let named = std::thread::Builder::new().name("jobmesh-engine".to_owned());
        let engine = named.spawn(move || thread.run(&runtime, ready, failed)).map_err(StartError::Thread)?;

        let (mut tasks, cancel) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(dispatch::run(outputs, handle.clone(), executors.clone()));
        tasks.spawn(task_socket.serve(handle.clone(), cancel.clone()));
        let this = Self { handle, executors, inbox, batches, tasks, cancel, failure, engine };
        match this.finish_start(started, (network, network_inbox)).await {
            (this, Ok(())) => Ok(this),
            (this, Err(error)) => {
                this.stop().await;
                Err(error)
            }
        }
    }

    /// Makes an empty database in a data directory that has lost its own. One that is there is left as it is. What the
    /// jobs of the lost one left would be deleted as that of no job; it is set aside. Returns where, if there was any.
    ///
    /// # Errors
    /// [`StartError`] if a daemon runs there, none can be made, or what is left can't be moved.
    pub fn make_database(home: &Home) -> Result<Option<PathBuf>, StartError> {
        let lock = Lock::take(home.path())?;
        // Before there is a new database: one that is there says that nothing is to be set aside.
        let aside =
            if find_database(home.path(), false)? { None } else { home.set_aside().map_err(StartError::Aside)? };
        drop(lock);
        drop(Store::open(home.path(), Incarnation::from_bytes(source::entropy()?))?);
        Ok(aside)
    }

    /// Waits for the engine, then joins the mesh.
    async fn finish_start(
        mut self,
        started: oneshot::Receiver<()>,
        (settings, commands): (network::Settings, mpsc::Receiver<network::Restart>),
    ) -> (Self, Result<(), StartError>) {
        if started.await.is_err() {
            let failure = (&mut self.failure).await.unwrap_or(EngineFailure::Panicked);
            return (self, Err(StartError::Engine(failure)));
        }
        // What is to be adopted is known by now.
        let (executors, handle) = (self.executors.clone(), self.handle.clone());
        self.tasks.spawn_blocking(move || {
            let asked = handle.clone();
            executors.sweep(move |run| asked.runs().contains(&run));
            handle.shared().guarded.discard_all(handle.home(), |run| handle.runs().contains(&run));
        });
        match Network::start(settings, self.handle.clone()).await {
            Ok(network) => {
                self.tasks.spawn(network.run(commands, self.cancel.clone()));
                (self, Ok(()))
            }
            Err(error) => (self, Err(StartError::Mesh(error))),
        }
    }

    /// The way to ask for things.
    #[must_use]
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the engine has given up, which a sound disk never lets happen. Cancel-safe.
    pub async fn failed(&mut self) -> EngineFailure {
        (&mut self.failure).await.unwrap_or(EngineFailure::Panicked)
    }

    /// Stops the runs that are left; they go back into the queue, here or at their origin.
    ///
    /// The stops take the same way as the orders, so that they come after orders that wait for an orphan to end.
    pub async fn stop_runs(&self) {
        let stops = self.handle.runs().into_iter().map(|run| Output::Stop { run, reason: StopReason::Draining });
        // Without a dispatch task nothing was ordered either.
        let _ = self.batches.send(stops.collect()).await;
    }

    /// Stops everything and returns when nothing is left: engine, mesh, executors, in this order.
    pub async fn stop(mut self) {
        self.handle.close_readers().await;
        // After everything that is in the inbox, so that whatever was reported is committed.
        let _ = self.inbox.send(Message::Stop).await;
        let engine = self.engine;
        let ended = tokio::task::spawn_blocking(move || engine.join()).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("the engine's thread ended by a panic");
        }
        drop(self.batches);
        self.cancel.cancel();
        while let Some(task) = self.tasks.join_next().await {
            if let Err(error) = task {
                tracing::error!(%error, "a task of the runtime ended by a panic");
            }
        }
        let executors = self.executors;
        let shutdown = tokio::task::spawn_blocking(move || executors.shutdown());
        match tokio::time::timeout(EXECUTORS_LIMIT, shutdown).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("the executors' shutdown ended by a panic"),
            // Its threads end with the process, and what it ran is found at the next start.
            Err(_) => tracing::error!("a slot of the executors does not end; the node ends without it"),
        }
    }
}

/// What this node gives to jobs: what was found, and what the configuration says instead or beside it.
fn pools(config: &Config) -> Result<BTreeMap<Name, PoolKind>, StartError> {
    let mut pools = detect_pools();
    for (name, text) in &config.resources {
        let wrong = |problem: String| StartError::Resources { name: name.clone(), problem };
        let parsed: Name = name.parse().map_err(|error: NameError| wrong(error.to_string()))?;
        let kind = PoolKind::parse(&parsed, text).map_err(|error| wrong(error.to_string()))?;
        pools.insert(parsed, kind);
    }
    let wrong = |error: PoolError| StartError::Resources { name: "*".to_owned(), problem: error.to_string() };
    Pools::new(pools.clone()).map_err(wrong)?;
    Ok(pools)
}

/// Opens the folder of blobs, with its quota and with somebody who makes room in it.
fn open_blobs(config: &Config) -> Result<Blobs, StartError> {
    let blobs = Blobs::open(config.home.blobs()).map_err(StartError::Blobs)?;
    set_blob_quota(&blobs, config);
    let home = config.home.clone();
    blobs.shelf().on_full(move |shelf, bytes| housekeeping::make_room(&home, shelf, bytes));
    Ok(blobs)
}

/// Says how much the blobs may take.
fn set_blob_quota(blobs: &Blobs, config: &Config) {
    blobs.shelf().set_quota(blob_quota(config));
}

/// How much the blobs may take: what the configuration says, else half of their disk, so that they never fill it.
fn blob_quota(config: &Config) -> u64 {
    let half = || rustix::fs::statvfs(config.home.blobs()).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize) / 2);
    config.blob_quota.or_else(|| half().ok()).unwrap_or(u64::MAX)
}

/// What the engine is told of the configuration, and of the room that there is for blobs.
fn declared(config: &Config) -> Declared {
    let mut declared = config.declared();
    declared.quotas.input_bytes = blob_quota(config);
    declared
}

fn start_executors(config: &Config, inbox: mpsc::Sender<Message>, handle: Handle) -> Result<Executors, StartError> {
    let slots = u16::try_from(config.slots).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN);
    let (told, keeper, shelf) = (handle.clone(), handle.clone(), handle.blobs().shelf().clone());
    let report = move |event| {
        // Called on the executors' own threads. When the engine is gone, nobody is left to be told.
        let over = if let jobmesh_executors::Event::Ended { run, .. } = &event { Some(*run) } else { None };
        let _ = inbox.blocking_send(Message::Driver(input_of(event, &told.shared().adopting)));
        // After that: what it reports behind its end is refused, so nothing passes that was not searched.
        over.into_iter().for_each(|run| told.shared().guarded.forget(run));
    };
    let containers = Containers { node: handle.shared().node.to_string(), ..config.containers.clone() };
    let builtins = move |_: &jobmesh_executors::Order, builtin| housekeeping::perform(&handle, builtin);
    let groups = jobmesh_executors::Groups::default();
    let (sandboxes, spares) = (sandboxes(config), Some(config.home.spares()));
    // What a reload says of secrets holds for the next question to a model.
    let keys = keys(move || keeper.config());
    let surroundings = Surroundings { containers, keys, ..surroundings(config) };
    let executors = jobmesh_executors::Config { slots, spares, groups, sandboxes, shelf, surroundings };
    Executors::start(executors, report, builtins).map_err(StartError::Executors)
}

/// What the executors find on this machine.
async fn probe(config: &Config) -> Vec<Probe> {
    let (surroundings, sandboxes) = (surroundings(config), sandboxes(config));
    let looks = tokio::task::spawn_blocking(move || jobmesh_executors::probe(&surroundings, sandboxes));
    looks.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the look for executors failed; see `jobmesh doctor`");
        Vec::new()
    })
}

fn sandboxes(config: &Config) -> Sandboxes {
    if config.sandbox { Sandboxes::Use } else { Sandboxes::Avoid }
}

/// What executors need of this process, which must be in a runtime.
#[must_use]
pub fn surroundings(config: &Config) -> Surroundings {
    let found = Arc::new(config.clone());
    Surroundings {
        http: config.http.clone(),
        models: config.models.clone().or_usual(|variable| std::env::var(variable).ok()).or_found(OLLAMA_ADDRESS),
        keys: keys(move || Arc::clone(&found)),
        containers: config.containers.clone(),
        ..Surroundings::new(tokio::runtime::Handle::current(), worker())
    }
}

/// Where the keys of providers are found. Each is looked up when it is needed, so it may change while the node runs.
fn keys(config: impl Fn() -> Arc<Config> + Send + Sync + 'static) -> Keys {
    Keys::new(move |source| match source {
        KeySource::Variable(name) => Ok(std::env::var(name).ok().and_then(Key::new)),
        KeySource::Secret(name) => match config().secrets.look_up(name) {
            Ok(secret) => Ok(Key::new(secret.reveal())),
            Err(error) => Err(NoKey { why: crate::causes::causes(&error) }),
        },
    })
}

/// The file of this program, by a name that stays good when the file is replaced by a newer one.
fn worker() -> PathBuf {
    let itself = PathBuf::from("/proc/self/exe");
    if itself.exists() { itself } else { std::env::current_exe().unwrap_or_else(|_| PathBuf::from("jobmesh")) }
}

fn input_of(event: jobmesh_executors::Event, adopting: &Adopting) -> Input {
    match event {
        jobmesh_executors::Event::Started { run, process } => {
            let process = jobmesh_engine::Process { pid: process.pid, started: process.started };
            if adopting.take(run) { Input::Adopted { run, process } } else { Input::Started { run, process } }
        }
        jobmesh_executors::Event::Progress { run, done, what } => {
            Input::Reported { run, report: Report::Progress { done, message: Some(what) } }
        }
        jobmesh_executors::Event::Ended { run, ended } => {
            // One whose process was gone never came to life here.
            adopting.take(run);
            let jobmesh_executors::Ended { outcome, exit, outputs, inline, usage, model, isolation, ran, notice } =
                ended;
            let ran_micros = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
            let ended =
                jobmesh_engine::Ended { outcome, exit, outputs, usage, model, isolation, ran_micros, inline, notice };
            Input::Ended { run, ended }
        }
    }
}

/// Runs of an earlier daemon that the executors look for: their start is no start. No more than slots.
#[derive(Debug, Default)]
struct Adopting(Mutex<BTreeSet<RunId>>);

impl Adopting {
    fn start(&self, run: RunId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run);
    }

    /// Whether the run was looked for. Says so once.
    fn take(&self, run: RunId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&run)
    }
}

/// What all parts of the runtime know of each other. Each lock is held for a look or a stroke, never across a wait.
#[derive(Debug)]
struct Shared {
    node: NodeId,
    link: link::Link,
    roster: roster::Roster,
    /// Runs that were ordered and whose end is not committed yet.
    runs: tokio::sync::watch::Sender<runs::Runs>,
    adopting: Adopting,
    /// Questions to peers for the secrets of their jobs.
    questions: Semaphore,
    /// What has to be taken out of what runs report, for those that have secrets.
    guarded: guarded::Guarded,
    /// What comes from peers.
    downloads: download::Downloads,
}

#[cfg(test)]
mod tests;
