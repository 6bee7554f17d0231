//! The life of the daemon: lock, start, answer, drain, stop.
//!
//! It is ready when its control socket accepts. On `SIGHUP` it reads its configuration again, as on `POST /v1/config/reload`; a
//! terminal that is closed does not end it. It stops when it is told to (`SIGTERM`, `SIGINT`, or `POST /v1/shutdown`): it
//! takes no new work, gives running jobs `drain.wait` to end, stops the rest and puts them back
//! into the queue, here or at their origin, lets the last messages to connected peers be acknowledged, and goes. Asked
//! a second time, it does not wait for jobs.
//!
//! **The hard case** is to leave nothing half said: each step waits for the commit of what the one before it caused.

mod detach;

use std::path::PathBuf;
use std::time::Duration;

use jobmesh_engine::Command;
use jobmesh_executors::ShelfError;
use jobmesh_store::{Fault, OpenError, StoreError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::ShutdownMode;
use crate::blobs::WriteError;
use crate::causes::causes;
use crate::config::Config;
use crate::control::{BindError, Server};
use crate::home::{Home, HomeError};
use crate::runtime::{BringError, EngineFailure, Handle, Runtime, StartError};

pub use detach::{DETACHED_VARIABLE, DetachError, Started, start_detached, start_detached_with};

/// Wishes to stop that wait: the first one, and the one that hurries it.
const WISHES_MAX: usize = 2;
/// How long stopped runs may take to be gone: the longest grace after TERM, and the time that KILL may need.
const RUNS_LIMIT: Duration = Duration::from_secs(16);
/// How long connected peers get to acknowledge the last messages. They are sent again after the next start.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// Time between two looks at what is not acknowledged.
const FLUSH_LOOK: Duration = Duration::from_millis(25);

/// Why the daemon did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory can't be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The log directives do not parse.
    #[error("log is {directives:?}, which can't be read: {problem}")]
    Log {
        /// The directives.
        directives: String,
        /// What is wrong with them.
        problem: String,
    },
    /// A part of the node can't start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The control socket can't be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The signals can't be listened for.
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    /// The engine gave up.
    #[error("the engine gave up")]
    Engine(#[from] EngineFailure),
}

impl ServeError {
    /// The exit code of the process, after `sysexits.h`: 69 in use, 75 disk full, 78 configuration or data directory, 70
    /// the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Home(error) => exit_code_of_home(error),
            Self::Bind(BindError { source, .. }) => exit_code_of_io(source),
            Self::Log { .. } => 78,
            Self::Start(error) => exit_code_of_start(error),
            Self::Engine(failure) => exit_code_of_engine(failure),
            Self::Signals(_) => 70,
        }
    }
}

/// The code of a data directory that can't be used.
fn exit_code_of_home(error: &HomeError) -> u8 {
    match error {
        HomeError::Create { source, .. } => exit_code_of_io(source),
        HomeError::Nowhere | HomeError::Path { .. } | HomeError::Open { .. } => 78,
    }
}

/// The code of a part of the data directory that can't be used.
fn exit_code_of_io(error: &std::io::Error) -> u8 {
    let is_full = matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    if is_full { 75 } else { 78 }
}

fn exit_code_of_start(error: &StartError) -> u8 {
    match error {
        StartError::Open(error) => exit_code_of_open(error),
        StartError::Store(error) => exit_code_of_store(error),
        StartError::Engine(failure) => exit_code_of_engine(failure),
        StartError::TypeFile(BringError::Write { source: WriteError::Shelf(ShelfError::Full { .. }), .. }) => 75,
        StartError::TypeFile(_) => 78,
        StartError::Mesh(_) | StartError::Key(_) | StartError::Membership | StartError::Resources { .. } => 78,
        StartError::Blobs(source) | StartError::TaskSocket(source) | StartError::Aside(source) => {
            exit_code_of_io(source)
        }
        StartError::Entropy(_) | StartError::Thread(_) | StartError::Executors(_) => 70,
    }
}

fn exit_code_of_engine(failure: &EngineFailure) -> u8 {
    match failure {
        EngineFailure::Store(error) => exit_code_of_store(error),
        EngineFailure::Open(error) => exit_code_of_open(error),
        EngineFailure::Panicked => 70,
    }
}

fn exit_code_of_open(error: &OpenError) -> u8 {
    match error {
        OpenError::InUse { .. } => 69,
        OpenError::Sqlite { source, .. } => exit_code_of_store(source),
        OpenError::File { source, .. } => exit_code_of_io(source),
        OpenError::ReadOnly { .. }
        | OpenError::Foreign { .. }
        | OpenError::TooNew { .. }
        | OpenError::Lost { .. }
        | OpenError::OnlyLog { .. } => 78,
    }
}

const fn exit_code_of_store(error: &StoreError) -> u8 {
    match error {
        StoreError::Full => 75,
        StoreError::Sqlite(Fault::Busy(_)) => 69,
        StoreError::Sqlite(Fault::Rule(_) | Fault::Other(_)) => 70,
        StoreError::Damaged { .. } | StoreError::Sqlite(_) => 78,
    }
}

/// Makes an empty job database where that of a node is lost, for the next [`serve`] to start with. Returns where it has
/// put what the jobs of the lost one left, if they left anything.
///
/// # Errors
/// [`ServeError`].
pub fn make_database(home: &Home) -> Result<Option<PathBuf>, ServeError> {
    home.create()?;
    Ok(Runtime::make_database(home)?)
}

/// Runs the daemon until it is told to stop. Needs a multi-threaded runtime. Not cancel-safe.
///
/// # Errors
/// [`ServeError`]; everything that was started is stopped by then.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    detach::leave_terminal();
    start_log(&config.log)?;
    config.home.create()?;
    let (wishes, wished) = mpsc::channel(WISHES_MAX);
    let mut stops = Stops::new(wished).map_err(ServeError::Signals)?;
    let mut hang_ups = signal(SignalKind::hangup()).map_err(ServeError::Signals)?;
    let mut runtime = Box::pin(Runtime::start(&config)).await?;
    let server = match Server::start(&config.home, runtime.handle().clone(), wishes) {
        Ok(server) => server,
        Err(error) => {
            Box::pin(runtime.stop()).await;
            return Err(error.into());
        }
    };
    tracing::info!(name = config.name, home = %config.home.path().display(), "ready");
    let ended = wait_for_end(&mut runtime, &mut stops, &mut hang_ups).await;
    let result = match ended {
        Ok(mode) => {
            drain(&runtime, &config, mode, &mut stops).await;
            Ok(())
        }
        Err(failure) => Err(failure.into()),
    };
    server.stop().await;
    Box::pin(runtime.stop()).await;
    tracing::info!("stopped");
    result
}

/// Waits for the wish to stop or for the end of the engine; reads the configuration again meanwhile when told to.
async fn wait_for_end(
    runtime: &mut Runtime,
    stops: &mut Stops,
    hang_ups: &mut Signal,
) -> Result<ShutdownMode, EngineFailure> {
    let handle = runtime.handle().clone();
    loop {
        tokio::select! {
            mode = stops.next() => return Ok(mode),
            failure = runtime.failed() => return Err(failure),
            Some(()) = hang_ups.recv() => {
                if let Err(error) = handle.reload().await {
                    tracing::error!(error = causes(&error), "the configuration was not taken over; the node goes on as it was");
                }
            }
        }
    }
}

/// Brings the node to rest, so that stopping it loses nothing and leaves nobody waiting.
async fn drain(runtime: &Runtime, config: &Config, mode: ShutdownMode, stops: &mut Stops) {
    let handle = runtime.handle();
    tracing::info!(?mode, running = handle.runs().len(), "stopping");
    if let Err(error) = handle.drain().await {
        tracing::warn!(%error, "the engine could not be told to take no new work");
    }
    match mode {
        ShutdownMode::Drain => {
            tokio::select! {
                () = handle.runs_ended() => {}
                () = tokio::time::sleep(Duration::from_millis(config.drain_wait.0)) => {}
                _ = stops.next() => {}
            }
        }
        ShutdownMode::Now => {}
    }
    runtime.stop_runs().await;
    if tokio::time::timeout(RUNS_LIMIT, handle.runs_ended()).await.is_err() {
        tracing::error!(runs = handle.runs().len(), "some runs did not end; they are found lost at the next start");
    }
    // The answer comes after everything that waited before it, such as what the ends of runs led to.
    let _ = handle.command(Command::Counters).await;
    tokio::select! {
        () = flushed(handle) => {}
        () = tokio::time::sleep(FLUSH_LIMIT) => {}
        _ = stops.next() => {}
    }
}

/// Waits until no connected peer owes an acknowledgement. Cancel-safe.
async fn flushed(handle: &Handle) {
    loop {
        let sessions = handle.roster().sessions();
        match handle.read(|view| view.outbox_peers()).await {
            Ok(peers) if peers.iter().any(|peer| sessions.contains_key(peer)) => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(%error, "could not see what is not acknowledged");
                return;
            }
        }
        tokio::time::sleep(FLUSH_LOOK).await;
    }
}

/// Everything that can ask the daemon to stop.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
    wished: mpsc::Receiver<ShutdownMode>,
}

impl Stops {
    fn new(wished: mpsc::Receiver<ShutdownMode>) -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, wished })
    }

    /// The next wish to stop. Cancel-safe.
    async fn next(&mut self) -> ShutdownMode {
        tokio::select! {
            _ = self.terminate.recv() => ShutdownMode::Drain,
            _ = self.interrupt.recv() => ShutdownMode::Drain,
            Some(mode) = self.wished.recv() => mode,
        }
    }
}

/// Writes the log to standard error, which is `daemon.log` where there is no terminal.
fn start_log(directives: &str) -> Result<(), ServeError> {
    let filter = tracing_subscriber::EnvFilter::try_new(directives)
        .map_err(|error| ServeError::Log { directives: directives.to_owned(), problem: error.to_string() })?;
    // The client of model providers logs what they say, which may hold a key; the executor says what there is to say.
    let filter = match "genai=off".parse() {
        Ok(quiet) => filter.add_directive(quiet),
        Err(_) => filter,
    };
    // A full disk takes the log with it, not the daemon: by default a failed write is told by a print that panics.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .log_internal_errors(false);
    // Two daemons in one process, as in tests, share the log of the first.
    let _ = log.try_init();
    Ok(())
}

#[cfg(test)]
mod tests;
