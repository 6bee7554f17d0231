//! An executor without processes: it starts what it is told to as the real one does, and the test says how it ends.
//!
//! An order that follows another one starts the moment that one ends, before the engine hears of it. What runs
//! outlives the daemon that started it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jobmesh_engine::{Ended, Input, Process, RunOrder, StopReason};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::{Isolation, Outcome, RunId};

/// Where an order is that this daemon's executor has.
#[derive(Debug)]
enum Place {
    Waiting(RunOrder),
    Following(RunOrder),
    Running,
}

#[derive(Debug, Default)]
pub(crate) struct Executor {
    slots: usize,
    places: BTreeMap<RunId, Place>,
    waiting: VecDeque<RunId>,
    /// Who stands behind whom.
    followers: BTreeMap<RunId, RunId>,
    adopted: BTreeSet<RunId>,
    /// How every run ended that this daemon's executor has seen the end of: a late order for one is dropped.
    pub(crate) ends: BTreeMap<RunId, Ended>,
    /// Everything that runs on the machine, whichever daemon started it.
    processes: BTreeMap<RunId, RunOrder>,
    /// What the engine has not been told yet.
    pub(crate) said: VecDeque<Input>,
    /// What it was told to stop, in order.
    pub(crate) stops: Vec<(RunId, StopReason)>,
    /// Everything that ever started, in order.
    pub(crate) started: Vec<RunId>,
    /// How long the next runs say that they took.
    pub(crate) takes_micros: u64,
}

pub(crate) fn ended(outcome: Outcome, code: i32, ran_micros: u64) -> Ended {
    let exit = Exit { code: Some(code), signal: None };
    Ended {
        outcome,
        exit,
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: Isolation::Contained,
        ran_micros,
        inline: Vec::new(),
        notice: None,
    }
}

impl Executor {
    pub(crate) fn new(slots: u32) -> Self {
        Self { slots: usize::try_from(slots).unwrap(), takes_micros: 1_000_000, ..Self::default() }
    }

    pub(crate) fn run(&mut self, order: RunOrder) {
        let run = order.run;
        if self.places.contains_key(&run) || self.ends.contains_key(&run) {
            return;
        }
        let before = order.follows.filter(|before| self.places.contains_key(before));
        match before.filter(|before| !self.followers.contains_key(before)) {
            Some(before) => {
                self.followers.insert(before, run);
                self.places.insert(run, Place::Following(order));
            }
            None => {
                self.waiting.push_back(run);
                self.places.insert(run, Place::Waiting(order));
            }
        }
        self.fill();
    }

    /// Starts what waits while a slot is free.
    fn fill(&mut self) {
        while self.in_slots() < self.slots {
            let Some(run) = self.waiting.pop_front() else { return };
            self.start(run);
        }
    }

    fn in_slots(&self) -> usize {
        let runs = |(run, place): &(&RunId, &Place)| matches!(place, Place::Running) && !self.adopted.contains(run);
        self.places.iter().filter(runs).count()
    }

    fn start(&mut self, run: RunId) {
        let place = self.places.insert(run, Place::Running).unwrap();
        let (Place::Waiting(order) | Place::Following(order)) = place else { panic!("{run} started twice") };
        assert!(self.processes.insert(run, order).is_none(), "{run} runs twice");
        self.started.push(run);
        self.said.push_back(Input::Started { run, process: Process { pid: 7, started: 7 } });
    }

    pub(crate) fn stop(&mut self, run: RunId, reason: StopReason) {
        let Some(place) = self.places.get(&run) else { return };
        if matches!(place, Place::Running) {
            if reason != StopReason::Withdrawn {
                self.stops.push((run, reason));
            }
            return;
        }
        let before = self.followers.iter().find(|(_, next)| **next == run).map(|(before, _)| *before);
        let position = self.waiting.iter().position(|waits| *waits == run);
        self.places.remove(&run);
        let next = self.followers.remove(&run);
        if let Some(before) = before {
            self.followers.remove(&before);
        }
        // Who stands behind it gets its place.
        match (position, before) {
            (Some(position), _) => {
                self.waiting.remove(position);
                next.into_iter().for_each(|next| self.waiting.insert(position, next));
            }
            (None, Some(before)) => self.followers.extend(next.map(|next| (before, next))),
            (None, None) => next.into_iter().for_each(|next| self.waiting.push_front(next)),
        }
        self.say_ended(run, ended(stopped(reason), 1, 0));
    }

    fn say_ended(&mut self, run: RunId, ended: Ended) {
        self.ends.insert(run, ended.clone());
        self.said.push_back(Input::Ended { run, ended });
    }

    /// A process ends by itself, or because it was stopped.
    pub(crate) fn end(&mut self, run: RunId, outcome: Outcome, code: i32) {
        assert!(self.processes.remove(&run).is_some(), "{run} does not run");
        self.places.remove(&run);
        let was_adopted = self.adopted.remove(&run);
        self.say_ended(run, ended(outcome, code, self.takes_micros));
        match self.followers.remove(&run) {
            Some(next) if was_adopted => self.waiting.push_front(next),
            Some(next) => self.start(next),
            None => {}
        }
        self.fill();
    }

    /// A later daemon asks for a run of an earlier one.
    pub(crate) fn adopt(&mut self, run: RunId) {
        if self.places.contains_key(&run) {
            return;
        }
        if self.processes.contains_key(&run) {
            self.places.insert(run, Place::Running);
            self.adopted.insert(run);
            self.said.push_back(Input::Adopted { run, process: Process { pid: 7, started: 7 } });
        } else {
            let lost = Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() };
            self.say_ended(run, ended(lost, 1, 0));
        }
    }

    pub(crate) fn end_orphan(&mut self, run: RunId) {
        self.processes.remove(&run);
    }

    /// The daemon is killed: its processes live on, all that it knew is gone.
    pub(crate) fn die(&mut self) {
        self.places.clear();
        self.waiting.clear();
        self.followers.clear();
        self.adopted.clear();
        self.ends.clear();
        self.said.clear();
        self.stops.clear();
    }

    /// What runs now, by job and then by attempt.
    pub(crate) fn running(&self) -> Vec<RunId> {
        self.processes.keys().copied().collect()
    }

    /// What runs now, as it was ordered.
    pub(crate) fn orders(&self) -> impl Iterator<Item = &RunOrder> {
        self.processes.values()
    }
}

/// The outcome that an executor reports of a run that it stopped.
pub(crate) fn stopped(reason: StopReason) -> Outcome {
    match reason {
        StopReason::Cancelled | StopReason::Killed => Outcome::Cancelled,
        StopReason::Withdrawn => Outcome::Released { reason: "withdrawn before it started".to_owned() },
        StopReason::Timeout => Outcome::Timeout,
        StopReason::LeaseEnded => Outcome::Lost { reason: "the lease ended".to_owned() },
        StopReason::Draining => Outcome::Released { reason: "the node shuts down".to_owned() },
    }
}
