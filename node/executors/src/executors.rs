//! The slots of a node: who takes the next order, and how a run is told to stop.
//!
//! Threads (all end with [`Executors::shutdown`], which joins them):
//!
//! - `jobmesh-slot-N`, one more than there are slots. Input: orders and refusals from the shared [`State`]. Output:
//!   events. Each runs one order from its start to its end, spawning, waiting and hashing on the same thread, then
//!   takes the next. At most `slots` of them are in a run, so one is always free to say that an order was refused or
//!   was stopped while it waited. Hence events never come on the thread of a caller.
//!
//! The queue before the slots holds [`WAITING_MAX`] orders; one more is refused as `Released`. A node that counts its
//! slots never fills it. The list of refusals is as long; while it is full, [`Executors::run`] waits.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::num::NonZeroU16;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jobmesh_protocol::job::Task;
use jobmesh_protocol::{Outcome, RunId};

use crate::event::{Ended, Event};
use crate::order::{Order, StopReason};
use crate::process;

/// Most orders that wait for a slot.
///
/// The engine orders what it has slots for; a few more arrive only while an end is on its way to it.
const WAITING_MAX: usize = 256;

/// What the executors of a node may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Most runs at the same time. Each slot is a thread.
    pub slots: NonZeroU16,
}

/// Why the executors could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not even the threads for one slot.
    #[error("failed to start the threads of one slot; raise the limit on processes (`ulimit -u`) or open files")]
    Thread(#[source] io::Error),
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
    /// # Errors
    /// [`StartError::Thread`] if not even two threads could be started.
    pub fn start(config: Config, events: impl Fn(Event) + Send + Sync + 'static) -> Result<Self, StartError> {
        process::adopt_orphans();
        let shared = Arc::new(Shared {
            state: Mutex::new(State { slots: usize::from(config.slots.get()), ..State::default() }),
            work: Condvar::new(),
            room: Condvar::new(),
            events: Box::new(events),
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

    /// Runs an order as soon as a slot is free. Answered by exactly one [`Event::Ended`].
    ///
    /// An order for a run that is already here changes nothing, and so does one after [`Self::shutdown`].
    pub fn run(&self, order: Order) {
        let mut state = self.shared.lock();
        while state.refused.len() >= WAITING_MAX && !state.closing {
            state = self.shared.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closing || state.runs.contains_key(&order.run) {
            tracing::debug!(run = %order.run, closing = state.closing, "order ignored");
            return;
        }
        state.runs.insert(order.run, Entry::default());
        if state.waiting.len() < WAITING_MAX {
            state.waiting.push_back(order);
        } else {
            state.refused.push_back((order.run, Outcome::Released { reason: "no free slot".to_owned() }));
        }
        drop(state);
        self.shared.work.notify_one();
    }

    /// Asks for the end of a run. The first reason counts; a run that isn't here is ignored.
    ///
    /// Returns at once. A run that ends by itself before it is told keeps its own outcome.
    pub fn stop(&self, run: RunId, reason: StopReason) {
        self.shared.lock().stop(run, reason);
        self.shared.work.notify_one();
    }

    /// How many orders have not ended yet, waiting ones included.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.lock().runs.len()
    }

    /// Stops every run with [`StopReason::Shutdown`] and returns when all have ended and all threads are gone.
    ///
    /// Takes at most [`KILL_GRACE_MAX`](crate::KILL_GRACE_MAX) and a few seconds.
    pub fn shutdown(&self) {
        let mut state = self.shared.lock();
        state.closing = true;
        let runs: Vec<RunId> = state.runs.keys().copied().collect();
        for run in runs {
            state.stop(run, StopReason::Shutdown);
        }
        drop(state);
        self.shared.work.notify_all();
        self.shared.room.notify_all();
        let threads = std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("an executor thread ended by a panic");
            }
        }
    }
}

/// What the handles and the threads share.
struct Shared {
    state: Mutex<State>,
    /// Something for a slot to do.
    work: Condvar,
    /// The list of refusals has room again.
    room: Condvar,
    events: Box<dyn Fn(Event) + Send + Sync>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    slots: usize,
    active: usize,
    /// Every order without an end yet.
    runs: BTreeMap<RunId, Entry>,
    /// Orders that no slot has taken. Their runs are in `runs`.
    waiting: VecDeque<Order>,
    /// Ends of orders that never started. At most twice [`WAITING_MAX`]: refusals, and every waiting order stopped.
    refused: VecDeque<(RunId, Outcome)>,
    closing: bool,
}

#[derive(Default)]
struct Entry {
    stop: Option<StopReason>,
    /// Wakes the thread that runs it.
    wake: Option<Arc<PipeWriter>>,
}

enum Work {
    Run(Order),
    Refuse(RunId, Outcome),
}

impl State {
    fn stop(&mut self, run: RunId, reason: StopReason) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        if entry.stop.is_some() {
            return;
        }
        entry.stop = Some(reason);
        if let Some(position) = self.waiting.iter().position(|order| order.run == run) {
            self.waiting.remove(position);
            self.refused.push_back((run, reason.outcome()));
        } else if let Some(mut wake) = entry.wake.as_deref() {
            // One byte per run: the pipe can't be full, and its reader lives as long as the slot.
            if let Err(error) = wake.write_all(b"s") {
                tracing::error!(run = %run, error = %error, "failed to wake the thread of a run");
            }
        }
    }

    fn take(&mut self, wake: &Arc<PipeWriter>) -> Option<Work> {
        if let Some((run, outcome)) = self.refused.pop_front() {
            return Some(Work::Refuse(run, outcome));
        }
        if self.active >= self.slots {
            return None;
        }
        let order = self.waiting.pop_front()?;
        self.active += 1;
        if let Some(entry) = self.runs.get_mut(&order.run) {
            entry.wake = Some(Arc::clone(wake));
        }
        Some(Work::Run(order))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_slot(self: &Arc<Self>, number: u16) -> io::Result<()> {
        let (reader, writer) = io::pipe()?;
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name(format!("jobmesh-slot-{number}"))
            .spawn(move || shared.work_until_closed(&reader, &Arc::new(writer)))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn work_until_closed(&self, reader: &PipeReader, writer: &Arc<PipeWriter>) {
        while let Some(work) = self.next(writer) {
            match work {
                Work::Refuse(run, outcome) => {
                    self.room.notify_one();
                    self.report(run, Ended::without_process(outcome));
                }
                Work::Run(order) => {
                    let ended = self.perform(&order, reader);
                    self.lock().active -= 1;
                    self.report(order.run, ended);
                }
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

    /// Forgets the run, then tells. So whoever hears of the end may count on its slot.
    fn report(&self, run: RunId, ended: Ended) {
        self.lock().runs.remove(&run);
        (self.events)(Event::Ended { run, ended });
    }

    /// Runs one order to its end. Our own panic costs this attempt, not the slot.
    fn perform(&self, order: &Order, wake: &PipeReader) -> Ended {
        let control = Control { shared: self, run: order.run, wake };
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| dispatch(order, &control)));
        ended.unwrap_or_else(|_| {
            tracing::error!(run = %order.run, "the executor panicked; ending what it left");
            process::end_marked(order.run);
            Ended::without_process(Outcome::Lost { reason: "the executor failed; see the node's log".to_owned() })
        })
    }
}

/// Hands an order to the executor of its task.
fn dispatch(order: &Order, control: &Control<'_>) -> Ended {
    match &order.task {
        Task::Process(task) => process::perform(order, task, control),
    }
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
        self.shared.lock().runs.get(&self.run).and_then(|entry| entry.stop)
    }

    /// Tells of the run's process.
    pub(crate) fn emit(&self, event: Event) {
        (self.shared.events)(event);
    }

    /// Becomes readable when [`Self::stop_reason`] may have changed. An earlier run may have left a byte in it.
    pub(crate) const fn wake(&self) -> &PipeReader {
        self.wake
    }

    /// Empties [`Self::wake`]; to be called when it is readable.
    pub(crate) fn drain(&self) {
        let mut bytes = [0_u8; 64];
        if let Err(error) = (&mut { self.wake }).read(&mut bytes) {
            tracing::error!(error = %error, "failed to read a slot's wake-up pipe");
        }
    }
}
