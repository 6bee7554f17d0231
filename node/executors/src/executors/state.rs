//! Which order is where: waiting for a slot, behind another, running, or about to be refused.
//!
//! Pure bookkeeping under one lock: nothing here waits or calls out. The hard case is an order that leaves before its
//! turn while others stand behind it: they close up, so a chain never hangs on a link that is gone.

use std::collections::{BTreeMap, VecDeque};
use std::io::{PipeWriter, Write as _};
use std::sync::Arc;

use jobmesh_protocol::{Outcome, RunId};

use crate::order::{Order, StopReason};

/// Most orders that wait for a slot.
///
/// The engine orders what it has slots for; a few more arrive only while an end is on its way to it.
const WAITING_MAX: usize = 256;

/// Most orders that stand behind others, for each slot: as many as a run of no length takes while a batch of its like is
/// committed. Whoever orders more of them has lost count.
pub const FOLLOWERS_MAX: usize = 64;

/// Where every order is that has not ended yet.
#[derive(Default)]
pub(super) struct State {
    pub(super) slots: usize,
    pub(super) closing: bool,
    /// Slots that are in a run.
    active: usize,
    runs: BTreeMap<RunId, Entry>,
    /// Orders that wait for any slot.
    waiting: VecDeque<Order>,
    /// Orders that wait for the end of one run, by that run. At most [`FOLLOWERS_MAX`] for each slot.
    followers: BTreeMap<RunId, Order>,
    /// Ends of orders that never started. No longer than `runs`.
    refused: VecDeque<(RunId, Outcome)>,
}

struct Entry {
    stop: Option<StopReason>,
    place: Place,
}

enum Place {
    Waiting,
    Following(RunId),
    /// In a slot, or adopted; the pipe wakes the thread that has it.
    Running(Arc<PipeWriter>),
    Refused,
}

/// What a slot does next.
#[expect(clippy::large_enum_variant, reason = "it lives on one stack for a moment")]
pub(super) enum Work {
    Run(Order),
    Refuse(RunId, Outcome),
}

impl State {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, ..Self::default() }
    }

    pub(super) fn running(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn all(&self) -> Vec<RunId> {
        self.runs.keys().copied().collect()
    }

    pub(super) fn stop_reason(&self, run: RunId) -> Option<StopReason> {
        self.runs.get(&run).and_then(|entry| entry.stop)
    }

    /// Whether an idle slot would find something to do.
    pub(super) fn has_work(&self) -> bool {
        !self.refused.is_empty() || (self.active < self.slots && !self.waiting.is_empty())
    }

    /// Gives an order its place. `false` if it is here already or nothing starts any more.
    pub(super) fn admit(&mut self, order: Order) -> bool {
        let run = order.run;
        if self.closing || self.runs.contains_key(&run) {
            return false;
        }
        let place = match self.predecessor(&order) {
            Some(_) if self.followers.len() >= self.slots.saturating_mul(FOLLOWERS_MAX) => {
                self.refuse(run, "too many orders follow one another")
            }
            Some(before) => {
                self.followers.insert(before, order);
                Place::Following(before)
            }
            None if self.waiting.len() < WAITING_MAX => {
                self.waiting.push_back(order);
                Place::Waiting
            }
            None => self.refuse(run, "no free slot"),
        };
        self.runs.insert(run, Entry { stop: None, place });
        true
    }

    /// Enters a run that goes on already, outside the slots. `false` if it is here or nothing starts any more.
    pub(super) fn admit_running(&mut self, run: RunId, wake: Arc<PipeWriter>) -> bool {
        if self.closing || self.runs.contains_key(&run) {
            return false;
        }
        self.runs.insert(run, Entry { stop: None, place: Place::Running(wake) });
        true
    }

    fn refuse(&mut self, run: RunId, reason: &str) -> Place {
        self.refused.push_back((run, Outcome::Released { reason: reason.to_owned() }));
        Place::Refused
    }

    /// The run that `order` has to wait for, if that will end in a slot and nobody stands behind it yet.
    fn predecessor(&self, order: &Order) -> Option<RunId> {
        let before = order.follows.filter(|before| !self.followers.contains_key(before))?;
        match self.runs.get(&before)?.place {
            Place::Waiting | Place::Following(_) | Place::Running(_) => Some(before),
            Place::Refused => None,
        }
    }

    pub(super) fn stop(&mut self, run: RunId, reason: StopReason) {
        let Some(entry) = self.runs.get_mut(&run) else { return };
        let has_started = matches!(entry.place, Place::Running(_));
        if has_started && reason == StopReason::Kill && entry.stop.is_some() {
            // Its thread is at it already, and looks whether it is to hurry.
            entry.stop = Some(reason);
            return;
        }
        if entry.stop.is_some() || (has_started && reason == StopReason::Withdraw) {
            return;
        }
        entry.stop = Some(reason);
        match &entry.place {
            Place::Refused => return,
            Place::Running(wake) => {
                // One byte per run: the pipe can't be full, and its reader lives as long as the thread that has the run.
                if let Err(error) = wake.as_ref().write_all(b"s") {
                    tracing::error!(run = %run, error = %error, "failed to wake the thread of a run");
                }
                return;
            }
            Place::Waiting => self.close_up_queue(run),
            Place::Following(before) => {
                let before = *before;
                self.close_up_chain(run, before);
            }
        }
        self.set_place(run, Place::Refused);
        self.refused.push_back((run, reason.outcome()));
    }

    /// Takes `run` out of the queue. Who stands behind it gets its place.
    fn close_up_queue(&mut self, run: RunId) {
        let Some(position) = self.waiting.iter().position(|order| order.run == run) else { return };
        self.waiting.remove(position);
        if let Some(next) = self.followers.remove(&run) {
            self.set_place(next.run, Place::Waiting);
            self.waiting.insert(position, next);
        }
    }

    /// Takes `run` out of the chain behind `before`.
    fn close_up_chain(&mut self, run: RunId, before: RunId) {
        self.followers.remove(&before);
        if let Some(next) = self.followers.remove(&run) {
            self.set_place(next.run, Place::Following(before));
            self.followers.insert(before, next);
        }
    }

    fn set_place(&mut self, run: RunId, place: Place) {
        if let Some(entry) = self.runs.get_mut(&run) {
            entry.place = place;
        }
    }

    /// Something for a slot that has nothing to do.
    pub(super) fn take(&mut self, wake: &Arc<PipeWriter>) -> Option<Work> {
        if let Some((run, outcome)) = self.refused.pop_front() {
            return Some(Work::Refuse(run, outcome));
        }
        if self.active >= self.slots {
            return None;
        }
        let order = self.waiting.pop_front()?;
        self.active += 1;
        self.set_place(order.run, Place::Running(Arc::clone(wake)));
        Some(Work::Run(order))
    }

    /// Forgets a run that ended in a slot, and hands that slot to its follower or gives it back.
    pub(super) fn succeed(&mut self, run: RunId, wake: &Arc<PipeWriter>) -> Option<Order> {
        self.runs.remove(&run);
        let next = self.followers.remove(&run);
        match &next {
            Some(order) => self.set_place(order.run, Place::Running(Arc::clone(wake))),
            None => self.active -= 1,
        }
        next
    }

    /// Forgets a run that ended outside the slots. Its follower now waits for one, before all others.
    pub(super) fn forget(&mut self, run: RunId) {
        self.runs.remove(&run);
        if let Some(next) = self.followers.remove(&run) {
            self.set_place(next.run, Place::Waiting);
            self.waiting.push_front(next);
        }
    }
}
