//! The slots of a node: who takes the next order, and how a run is told to stop.
//!
//! Threads (all end with [`Executors::shutdown`], which joins them):
//!
//! - `jobmesh-slot-N`, one more than there are slots. Input: orders and refusals from the shared state. Output: events.
//!   Each runs one order from its start to its end, spawning, waiting and hashing on the same thread, then the one that
//!   follows it, then takes the next. At most `slots` of them are in a run, so one is always free to say that an order
//!   was refused or was stopped while it waited. Hence events never come on the thread of a caller.
//! - `jobmesh-adopted`, one for each run that an earlier daemon began. Input: the end of its process, or a word to stop.
//!   Output: its start and its end. Ends with the run.
//!
//! The queue before the slots holds 256 orders; one more is refused as `Released`. A node that counts its slots never
//! fills it. Refusals are as many at most as the caller has runs that were not answered. No call waits for a slot or a
//! thread, since the caller may be one that others wait for.

mod state;

pub use state::FOLLOWERS_MAX;

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::num::NonZeroU16;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jobmesh_protocol::task::{Builtin, Task};
use jobmesh_protocol::{Outcome, RunId};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use crate::event::{Ended, Event};
use crate::executor::{Executor as _, Probe};
use crate::executors::state::{State, Work};
use crate::files::Files;
use crate::kinds::{Kinds, PROBE_LIMIT, Surroundings};
use crate::order::{Adopt, Order, StopReason};
use crate::process::{self, Enforcement, Host, Process, Seat};
use crate::shelf::Shelf;

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

/// Whether the kernel is asked to count for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// Control groups are made below the daemon's own.
    #[default]
    Use,
    /// The system's groups are left alone: processes are counted by looking, and memory isn't limited.
    Avoid,
}

/// Whether processes are kept apart in sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandboxes {
    /// Sandboxes are made for the runs that need one.
    #[default]
    Use,
    /// None is made, and runs that need one are refused: for machines on which they misbehave.
    Avoid,
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
        let mut state = self.shared.lock();
        let run = order.run;
        let is_taken = state.admit(order);
        let has_work = state.has_work();
        drop(state);
        if has_work {
            self.shared.work.notify_one();
        }
        if !is_taken {
            tracing::debug!(run = %run, "order ignored");
        }
    }

    /// Asks for the end of a run. The first reason counts, but [`StopReason::Kill`] hurries an end that was asked for before;
    /// a run that isn't here is ignored.
    ///
    /// Returns at once. A run that ends by itself before it is told keeps its own outcome.
    pub fn stop(&self, run: RunId, reason: StopReason) {
        let mut state = self.shared.lock();
        state.stop(run, reason);
        let has_work = state.has_work();
        drop(state);
        if has_work {
            self.shared.work.notify_one();
        }
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
        let start = || {
            let (reader, writer) = wake_pipe()?;
            if !self.shared.lock().admit_running(run, Arc::new(writer)) {
                tracing::debug!(run = %run, "adoption ignored");
                return Ok(());
            }
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name("jobmesh-adopted".to_owned());
            let thread = thread.spawn(move || shared.attend(&adopt, &reader));
            self.shared.threads().push(thread.inspect_err(|_| self.shared.lock().forget(run))?);
            Ok(())
        };
        start().map_err(|source| AdoptError { run, source })
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
    /// take as long as a container engine does; not to be called within an asynchronous runtime.
    pub fn sweep(&self, is_live: impl Fn(RunId) -> bool) {
        self.shared.kinds.container.sweep(is_live);
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

/// Who does the node's housekeeping.
type Builtins = dyn Fn(&Order, Builtin) -> Outcome + Send + Sync;

/// What the handles and the threads share.
struct Shared {
    state: Mutex<State>,
    /// Something for a slot to do.
    work: Condvar,
    events: Box<dyn Fn(Event) + Send + Sync>,
    builtins: Box<Builtins>,
    kinds: Arc<Kinds>,
    shelf: Shelf,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a slot's thread keeps from one run to the next.
struct Slot {
    reader: PipeReader,
    writer: Arc<PipeWriter>,
    seat: Seat,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_slot(self: &Arc<Self>, number: u16) -> io::Result<()> {
        let (reader, writer) = wake_pipe()?;
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("jobmesh-slot-{number}")).spawn(move || {
            let seat = Seat::take(shared.kinds.process.host());
            shared.work_until_closed(&mut Slot { reader, writer: Arc::new(writer), seat });
        })?;
        self.threads().push(thread);
        Ok(())
    }

    fn work_until_closed(&self, slot: &mut Slot) {
        while let Some(work) = self.next(&slot.writer) {
            match work {
                Work::Refuse(run, outcome) => self.end_unstarted(run, outcome),
                Work::Run(order) => self.run_chain(order, slot),
            }
        }
    }

    /// Waits for something to do; none once there never will be.
    fn next(&self, wake: &Arc<PipeWriter>) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take(wake) {
                return Some(work);
            }
            if state.closing {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end_unstarted(&self, run: RunId, outcome: Outcome) {
        self.forget(run);
        (self.events)(Event::Ended { run, ended: Ended::without_process(outcome) });
    }

    /// Forgets a run that ended outside the slots.
    fn forget(&self, run: RunId) {
        let mut state = self.lock();
        state.forget(run);
        let has_work = state.has_work();
        drop(state);
        if has_work {
            self.work.notify_one();
        }
    }

    /// Runs an order, and then each that follows it.
    fn run_chain(&self, first: Order, slot: &mut Slot) {
        let mut next = Some(first);
        while let Some(order) = next {
            let ended = self.perform(&order, slot);
            // Forgotten first, then told: whoever hears of the end may count on its slot.
            next = self.lock().succeed(order.run, &slot.writer);
            (self.events)(Event::Ended { run: order.run, ended });
        }
    }

    /// Sees one adopted run to its end, on its own thread.
    fn attend(&self, adopt: &Adopt, wake: &PipeReader) {
        let control = Control { shared: self, run: adopt.run, wake };
        let has_secrets = adopt.container.as_ref().is_some_and(|order| !order.secrets.is_empty());
        let ended = caught((adopt.run, has_secrets.then_some(&adopt.directory)), || {
            Files::of_adopted(adopt, &self.shelf, &control).around(|| match &adopt.container {
                Some(order) => self.kinds.container.attend(order, &control),
                None => process::attend(adopt, &control),
            })
        });
        self.forget(adopt.run);
        (self.events)(Event::Ended { run: adopt.run, ended });
    }

    /// Runs one order to its end.
    fn perform(&self, order: &Order, slot: &mut Slot) -> Ended {
        let control = Control { shared: self, run: order.run, wake: &slot.reader };
        let seat = &mut slot.seat;
        let unsearched = (!order.secrets.is_empty()).then_some(&order.directory);
        let ended = caught((order.run, unsearched), || {
            Files::of(order, &self.shelf, &control).around(|| {
                if order.secrets.is_empty() {
                    self.dispatch(order, seat, &control)
                } else {
                    self.dispatch(&order.with_secrets(), seat, &control)
                }
            })
        });
        // Somebody else's secrets stay here no longer than their run; what was to be kept of its files is kept by now.
        if let Some(directory) = unsearched.filter(|_| order.is_foreign)
            && let Err(error) = remove_work(directory)
        {
            tracing::error!(run = %order.run, %error, "what a peer's run with secrets left can't be removed; remove it");
        }
        ended
    }

    /// Hands an order to the executor of its task.
    fn dispatch(&self, order: &Order, seat: &mut Seat, control: &Control<'_>) -> Ended {
        match &order.task {
            Task::Process(_) => self.kinds.process.perform(order, seat, control),
            Task::Container(_) => self.kinds.container.perform(order, seat, control),
            Task::Wasm(_) => self.kinds.wasm.perform(order, seat, control),
            Task::Lua(_) => self.kinds.lua.perform(order, seat, control),
            Task::Http(_) => self.kinds.http.perform(order, seat, control),
            Task::Llm(_) | Task::Embedding(_) => self.kinds.model.perform(order, seat, control),
            Task::Noop {} => Ended::without_process(control.outcome_unless_stopped(|| Outcome::Ok)),
            Task::Builtin(builtin) => {
                Ended::without_process(control.outcome_unless_stopped(|| (self.builtins)(order, *builtin)))
            }
        }
    }
}

/// A pipe that nobody waits for with a read.
fn wake_pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    Ok((reader, writer))
}

fn remove_work(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(process::work_path(directory)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Sees to it that our own panic costs one attempt and no thread. If the run has secrets, what it left in its directory is
/// removed, since nobody has searched it.
fn caught((run, unsearched): (RunId, Option<&PathBuf>), work: impl FnOnce() -> Ended) -> Ended {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(run = %run, "the executor panicked; ending what it left");
        process::end_marked(run);
        if let Some(Err(error)) = unsearched.map(|directory| crate::redact::discard_unsearched(directory)) {
            tracing::error!(run = %run, %error, "what a run with secrets left can't be removed; remove it");
        }
        Ended::without_process(Outcome::Lost { reason: "the executor failed; see the node's log".to_owned() })
    })
}

/// What an executor sees of the world while it runs one order.
pub(crate) struct Control<'a> {
    shared: &'a Shared,
    run: RunId,
    wake: &'a PipeReader,
}

impl Control<'_> {
    /// Why the run must end, once it must.
    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        self.shared.lock().stop_reason(self.run)
    }

    /// Whether it must end at once, whatever it was told before.
    pub(crate) fn is_urgent(&self) -> bool {
        self.stop_reason() == Some(StopReason::Kill)
    }

    /// Tells of the run's process. May be called inside of [`Self::wait_for`], where nothing else may block.
    pub(crate) fn emit(&self, event: Event) {
        tokio::task::block_in_place(|| (self.shared.events)(event));
    }

    /// Becomes readable when [`Self::stop_reason`] may have changed. An earlier run may have left a byte in it.
    pub(crate) const fn wake(&self) -> &PipeReader {
        self.wake
    }

    /// Empties [`Self::wake`]; to be called when it is readable.
    pub(crate) fn drain(&self) {
        let mut bytes = [0_u8; 64];
        if let Err(error) = (&mut { self.wake }).read(&mut bytes)
            && error.kind() != io::ErrorKind::WouldBlock
        {
            tracing::error!(error = %error, "failed to read a slot's wake-up pipe");
        }
    }

    /// Waits for something in the daemon's runtime, unless the run must end before.
    ///
    /// # Errors
    /// Why it must end. What was waited for is dropped then.
    pub(crate) fn wait_for<T>(&self, runtime: &Handle, work: impl Future<Output = T>) -> Result<T, StopReason> {
        runtime.block_on(self.unless_stopped(work))
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, StopReason> {
        let mut work = std::pin::pin!(work);
        let heard = self.wake.try_clone().and_then(|wake| Receiver::from_owned_fd(wake.into()));
        let wake = match heard {
            Ok(wake) => wake,
            Err(error) => {
                tracing::error!(run = %self.run, %error, "a run can't hear that it must end");
                return Ok(work.await);
            }
        };
        loop {
            if let Some(reason) = self.stop_reason() {
                return Err(reason);
            }
            tokio::select! {
                done = &mut work => return Ok(done),
                _ = wake.readable() => {
                    let mut bytes = [0_u8; 64];
                    // Read until there is nothing more: only then is it waited for again.
                    while wake.try_read(&mut bytes).is_ok_and(|count| count > 0) {}
                }
            }
        }
    }

    fn outcome_unless_stopped(&self, work: impl FnOnce() -> Outcome) -> Outcome {
        self.stop_reason().map_or_else(work, StopReason::outcome)
    }
}
