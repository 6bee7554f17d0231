//! The slots of a node: who takes the next order, and how a run is told to stop.
//!
//! It is a handle on the [`threads`] that do the work, and on the [`state`] that says which order is where. No call waits for
//! a slot or a thread, since the caller may be one that others wait for.

mod state;
mod threads;

pub use state::FOLLOWERS_MAX;

use std::io;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};

use jobmesh_protocol::task::Builtin;
use jobmesh_protocol::{Outcome, RunId};

use crate::event::Event;
use crate::executor::Probe;
use crate::executors::state::State;
use crate::executors::threads::Shared;
use crate::kinds::{Kinds, PROBE_LIMIT};
use crate::order::{Adopt, Order, StopReason};
use crate::process::{self, Enforcement, Host, Process};
use crate::shelf::Shelf;
use crate::surroundings::{Groups, Sandboxes, Surroundings};

/// What the executors of a node may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most runs at the same time. Each slot is a thread.
    pub slots: NonZeroU16,
    /// A place of its own for directories of runs that left nothing, from where they are used again. Emptied at the
    /// start. On the file system of the runs' directories, or it is of no use. Without it they are removed.
    pub spares: Option<PathBuf>,
    /// Whether control groups may be made, where that is possible.
    pub groups: Groups,
    /// Whether sandboxes may be made, where that is possible.
    pub sandboxes: Sandboxes,
    /// Where inputs come from, and where outputs are kept.
    pub shelf: Shelf,
    /// What they need of the daemon.
    pub surroundings: Surroundings,
}

/// Why the executors could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not even the threads for one slot.
    #[error("failed to start the threads of one slot; raise the limit on processes (`ulimit -u`) or open files")]
    Thread(#[source] io::Error),
}

/// Why a run can't be adopted.
#[derive(Debug, thiserror::Error)]
#[error("failed to start a thread to watch run {run}; raise the limit on processes (`ulimit -u`) or open files")]
pub struct AdoptError {
    run: RunId,
    source: io::Error,
}

/// What each executor finds of what it needs on this machine. Looks around anew, which may take a second, and needs no
/// executors that run.
#[must_use]
pub fn probe(surroundings: &Surroundings, sandboxes: Sandboxes) -> Vec<Probe> {
    let host = Host::look(None, Groups::Avoid, (sandboxes, surroundings.worker.clone()));
    Arc::new(Kinds::new(Process::new(host), surroundings)).probe(PROBE_LIMIT)
}

/// A handle on the executors of this node. Clones share them; dropping one stops nothing.
#[derive(Clone)]
pub struct Executors {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Executors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executors").field("running", &self.running()).finish_non_exhaustive()
    }
}

impl Executors {
    /// Starts the threads. From now on the calling process adopts the orphans of its descendants.
    ///
    /// `events` is called on the executors' own threads, several at once. It may wait (the next order waits with
    /// it), but must neither panic nor call [`Self::shutdown`]. With fewer threads than asked for, there are fewer slots.
    ///
    /// `builtins` does the node's own housekeeping, on the thread of a slot. It can't be stopped, so it should return
    /// soon; a panic in it loses the attempt.
    ///
    /// # Errors
    /// [`StartError::Thread`] if not even two threads could be started.
    pub fn start(
        config: Config,
        events: impl Fn(Event) + Send + Sync + 'static,
        builtins: impl Fn(&Order, Builtin) -> Outcome + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        process::adopt_orphans();
        let worker = config.surroundings.worker.clone();
        let host = Host::look(config.spares, config.groups, (config.sandboxes, worker));
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(usize::from(config.slots.get()))),
            work: Condvar::new(),
            events: Box::new(events),
            builtins: Box::new(builtins),
            kinds: Arc::new(Kinds::new(Process::new(host), &config.surroundings)),
            shelf: config.shelf,
            threads: Mutex::new(Vec::new()),
        });
        let this = Self { shared };
        for number in 0..=config.slots.get() {
            let Err(error) = this.shared.start_slot(number) else { continue };
            if number < 2 {
                this.shutdown();
                return Err(StartError::Thread(error));
            }
            tracing::warn!(slots = number - 1, error = %error, "fewer slots than configured");
            this.shared.lock().slots = usize::from(number - 1);
            break;
        }
        Ok(this)
    }

    /// Runs an order as soon as a slot is free, or in the slot of the run that it follows. Answered by exactly one
    /// [`Event::Ended`]. Returns at once.
    ///
    /// An order for a run that is already here changes nothing, and so does one after [`Self::shutdown`].
    pub fn run(&self, order: Order) {
        let run = order.run;
        if !self.shared.change(|state| state.admit(order)) {
            tracing::debug!(run = %run, "order ignored");
        }
    }

    /// Asks for the end of a run. The first reason counts, but [`StopReason::Kill`] hurries an end that was asked for before;
    /// a run that isn't here is ignored.
    ///
    /// Returns at once. A run that ends by itself before it is told keeps its own outcome.
    pub fn stop(&self, run: RunId, reason: StopReason) {
        self.shared.change(|state| state.stop(run, reason));
    }

    /// Sees a run of an earlier daemon to its end, outside the slots. Answered like an order: by an [`Event::Started`] if
    /// its process is alive, and by exactly one [`Event::Ended`] with its real outputs. If the process is gone, that
    /// comes at once.
    ///
    /// A run that is already here is left as it is, and nothing is adopted after [`Self::shutdown`].
    ///
    /// # Errors
    /// [`AdoptError`] if there is no thread to watch it. It goes on unwatched; [`end_orphan`](crate::end_orphan) ends it.
    pub fn adopt(&self, adopt: Adopt) -> Result<(), AdoptError> {
        let run = adopt.run;
        self.shared.start_adopted(adopt).map_err(|source| AdoptError { run, source })
    }

    /// How the limits of runs are kept on this machine.
    #[must_use]
    pub fn limits(&self) -> Enforcement {
        self.shared.kinds.process.host().enforcement()
    }

    /// What each executor finds of what it needs on this machine. Looks around anew, which may take a second.
    #[must_use]
    pub fn probe(&self) -> Vec<Probe> {
        self.shared.kinds.probe(PROBE_LIMIT)
    }

    /// Removes what earlier lives of the daemon left outside of its own processes, of runs that are over: containers. May
    /// take as long as a container engine does, and is done later if none is there; not to be called within an
    /// asynchronous runtime.
    pub fn sweep(&self, is_live: impl Fn(RunId) -> bool + Send + Sync + 'static) {
        self.shared.kinds.container.sweep(Arc::new(is_live));
    }

    /// How many orders have not ended yet, waiting ones included.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.lock().running()
    }

    /// Stops every run with [`StopReason::Shutdown`] and returns when all have ended and all threads are gone.
    ///
    /// Takes at most [`KILL_GRACE_MAX`](crate::KILL_GRACE_MAX) and a few seconds.
    pub fn shutdown(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        for run in state.all() {
            state.stop(run, StopReason::Shutdown);
        }
        drop(state);
        self.shared.work.notify_all();
        let threads = std::mem::take(&mut *self.shared.threads());
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("an executor thread ended by a panic");
            }
        }
    }
}
