//! The threads of the executors. All end with [`Executors::shutdown`](super::Executors::shutdown), which joins them:
//!
//! - `jobmesh-slot-N`, one more than there are slots. Input: orders and refusals from the shared state. Output: events.
//!   Each runs one order from its start to its end, spawning, waiting and hashing on the same thread, then the one that
//!   follows it, then takes the next. At most `slots` of them are in a run, so one is always free to say that an order
//!   was refused or was stopped while it waited. Hence events never come on the thread of a caller.
//! - `jobmesh-adopted`, one for each run that an earlier daemon began. Input: the end of its process, or a word to stop.
//!   Output: its start and its end. Ends with the run.
//!
//! The queue before the slots holds 256 orders; one more is refused as `Released`. A node that counts its slots never
//! fills it. Refusals are as many at most as the caller has runs that were not answered.

use std::io::{self, PipeReader, PipeWriter};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jobmesh_protocol::task::{Builtin, Task};
use jobmesh_protocol::{Outcome, RunId};

use crate::control::{Control, Overseer, wake_pipe};
use crate::directory::work_path;
use crate::event::{Ended, Event};
use crate::executor::Executor as _;
use crate::executors::state::{State, Work};
use crate::files::{Files, remove_tree};
use crate::kinds::Kinds;
use crate::order::{Adopt, Order, StopReason};
use crate::process::{self, Seat};
use crate::redact::discard_unsearched;
use crate::shelf::Shelf;

/// Who does the node's housekeeping.
type Builtins = dyn Fn(&Order, Builtin) -> Outcome + Send + Sync;

/// What the handles and the threads share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Something for a slot to do.
    pub(super) work: Condvar,
    pub(super) events: Box<dyn Fn(Event) + Send + Sync>,
    pub(super) builtins: Box<Builtins>,
    pub(super) kinds: Arc<Kinds>,
    pub(super) shelf: Shelf,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a slot's thread keeps from one run to the next.
struct Slot {
    reader: PipeReader,
    writer: Arc<PipeWriter>,
    seat: Seat,
}

impl Overseer for Shared {
    fn stop_reason(&self, run: RunId) -> Option<StopReason> {
        self.lock().stop_reason(run)
    }

    fn hear(&self, event: Event) {
        (self.events)(event);
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the state half changed, so a panic elsewhere doesn't spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes where orders are, and wakes a slot if there is something to do then.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let has_work = state.has_work();
        drop(state);
        if has_work {
            self.work.notify_one();
        }
        changed
    }

    pub(super) fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start_slot(self: &Arc<Self>, number: u16) -> io::Result<()> {
        let (reader, writer) = wake_pipe()?;
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("jobmesh-slot-{number}")).spawn(move || {
            let seat = Seat::take(shared.kinds.process.host());
            shared.work_until_closed(&mut Slot { reader, writer: Arc::new(writer), seat });
        })?;
        self.threads().push(thread);
        Ok(())
    }

    /// Sees to a run that an earlier daemon began. One that is here already is left as it is.
    pub(super) fn start_adopted(self: &Arc<Self>, adopt: Adopt) -> io::Result<()> {
        let run = adopt.run;
        let (reader, writer) = wake_pipe()?;
        if !self.lock().admit_running(run, Arc::new(writer)) {
            tracing::debug!(run = %run, "adoption ignored");
            return Ok(());
        }
        let shared = Arc::clone(self);
        let thread = std::thread::Builder::new().name("jobmesh-adopted".to_owned());
        let thread = thread.spawn(move || shared.attend(&adopt, &reader)).inspect_err(|_| self.forget(run))?;
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
        self.hear(Event::Ended { run, ended: Ended::without_process(outcome) });
    }

    /// Forgets a run that ended outside the slots.
    fn forget(&self, run: RunId) {
        self.change(|state| state.forget(run));
    }

    /// Runs an order, and then each that follows it.
    fn run_chain(&self, first: Order, slot: &mut Slot) {
        let mut next = Some(first);
        while let Some(order) = next {
            let ended = self.perform(&order, slot);
            // Forgotten first, then told: whoever hears of the end may count on its slot.
            next = self.lock().succeed(order.run, &slot.writer);
            self.hear(Event::Ended { run: order.run, ended });
        }
    }

    /// Sees one adopted run to its end, on its own thread.
    fn attend(&self, adopt: &Adopt, wake: &PipeReader) {
        let control = Control::new(self, adopt.run, wake);
        let has_secrets = adopt.container.as_ref().is_some_and(|order| !order.secrets.is_empty());
        let ended = caught((adopt.run, has_secrets.then_some(&adopt.directory)), || {
            Files::of_adopted(adopt, &self.shelf, &control).around(|| match &adopt.container {
                Some(order) => self.kinds.container.attend(order, &control),
                None => process::attend(adopt, &control),
            })
        });
        self.forget(adopt.run);
        self.hear(Event::Ended { run: adopt.run, ended });
    }

    /// Runs one order to its end.
    fn perform(&self, order: &Order, slot: &mut Slot) -> Ended {
        let control = Control::new(self, order.run, &slot.reader);
        let seat = &mut slot.seat;
        if !seat.is_free() {
            // Nothing of this job's doing: it would start with what another job has left of its memory.
            let reason = "a slot of this node is held by the limits of another job; restart the node".to_owned();
            return Ended::without_process(Outcome::Released { reason });
        }
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
            && let Err(error) = remove_tree(&work_path(directory))
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

/// Sees to it that our own panic costs one attempt and no thread. If the run has secrets, what it left in its directory is
/// removed, since nobody has searched it.
fn caught((run, unsearched): (RunId, Option<&PathBuf>), work: impl FnOnce() -> Ended) -> Ended {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(run = %run, "the executor panicked; ending what it left");
        process::end_marked(run);
        if let Some(Err(error)) = unsearched.map(|directory| discard_unsearched(directory)) {
            tracing::error!(run = %run, %error, "what a run with secrets left can't be removed; remove it");
        }
        Ended::without_process(Outcome::Lost { reason: "the executor failed; see the node's log".to_owned() })
    })
}
