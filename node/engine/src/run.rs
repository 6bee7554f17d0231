//! Attempts on this node: started, watched, reported on, ended.

use std::collections::VecDeque;
use std::sync::Arc;

use jobmesh_protocol::job::Effects;
use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs as Written, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::ticket::ReleaseCause;
use jobmesh_protocol::{AttemptState, DurationMillis, Isolation, JobState, NodeId, Outcome, RunId, UnixMillis, cbor};
use jobmesh_store::{Attempt, EndedAttempt, Job, NewAttempt, NewJob, StoreError};

use crate::engine::Engine;
use crate::fetch::inputs;
use crate::input::{Ended, Process};
use crate::output::{Output, RunOrder, StopReason, Wanted};
use crate::pool::Allocation;
use crate::ready::Profile;
use crate::report::Reported;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::Shift;
use crate::verdict::attempt_state;

/// An attempt that takes room on this node, or is about to.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// The job as it stands in the database.
    pub(crate) job: Job,
    /// What it takes; `None` while it waits behind another run, whose share it will get.
    pub(crate) allocation: Option<Allocation>,
    /// Whose slot it waits for, by the run that had the slot first.
    pub(crate) follows: Option<RunId>,
    /// The run that had its slot first, if it inherited it.
    pub(crate) first: Option<RunId>,
    /// The runs that wait behind it, first to last.
    pub(crate) successors: VecDeque<RunId>,
    /// What it was admitted as; `None` for jobs of other nodes.
    pub(crate) profile: Option<Arc<Profile>>,
    /// Whether the executor was told: an awarded job may wait for its input first.
    pub(crate) is_ordered: bool,
    /// How well it is kept apart: at least so well as it was ordered to be, whatever the policy says by now. No row keeps it, so
    /// of a run that an earlier daemon started it is what the policy says at this one's start.
    pub(crate) level: Isolation,
    /// What it said of itself.
    pub(crate) reported: Reported,
    /// Why it is stopped, if it has had its time: words for the history.
    pub(crate) stopped_for: Option<&'static str>,
}

/// A job that is about to be started.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) job: Job,
    /// Whether it is in the database: a task may be made by its start.
    pub(crate) is_written: bool,
}

/// Where a run takes place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room {
    pub(crate) allocation: Option<Allocation>,
    pub(crate) follows: Option<RunId>,
    pub(crate) profile: Option<Arc<Profile>>,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct Conclusion<'a> {
    pub(crate) node: NodeId,
    pub(crate) outcome: &'a Outcome,
    pub(crate) exit: Exit,
    pub(crate) written: Written,
    pub(crate) usage: Usage,
    pub(crate) model: Option<&'a ModelUse>,
    /// How it was kept apart; none if that is not known.
    pub(crate) isolation: Option<Isolation>,
    /// When it started, as far as its end tells.
    pub(crate) started_at: Option<UnixMillis>,
    /// What it took to end its processes, if they did not end by themselves.
    pub(crate) notice: Option<&'a str>,
}

impl<'a> Conclusion<'a> {
    /// An end that left nothing behind.
    pub(crate) fn bare(node: NodeId, outcome: &'a Outcome) -> Self {
        Self {
            node,
            outcome,
            exit: Exit::default(),
            written: Written::default(),
            usage: Usage::default(),
            model: None,
            isolation: None,
            started_at: None,
            notice: None,
        }
    }

    /// The end that a receipt tells of.
    pub(crate) fn of_receipt(attempt: &Attempt, receipt: &'a Receipt) -> Self {
        Self {
            exit: receipt.exit,
            written: receipt.outputs,
            usage: receipt.usage,
            model: receipt.model.as_ref(),
            isolation: Some(receipt.isolation),
            // A receipt may come before the executor has said that it runs.
            started_at: attempt.started_at.or(Some(attempt.created_at)),
            ..Self::bare(attempt.node, &receipt.outcome)
        }
    }

    /// How long it ran until now, as far as is known.
    pub(crate) fn ran(&self, now: UnixMillis) -> DurationMillis {
        self.started_at.map_or(DurationMillis(0), |started_at| now.since(started_at))
    }

    /// What the database keeps of it.
    pub(crate) const fn filed(&self) -> EndedAttempt<'a> {
        EndedAttempt {
            state: attempt_state(self.outcome),
            outcome: self.outcome,
            exit: self.exit,
            outputs: self.written,
            usage: self.usage,
            model: self.model,
            isolation: self.isolation,
            started_at: self.started_at,
        }
    }
}

/// What is said of a run with effects that the end of the node cut off.
const INTERRUPTED: &str = "this node was stopped while it ran, and it must not run twice; look at what it has done before it is submitted anew";

/// What the history says of a successor, which may never begin.
const CLAIMED_AHEAD: &str = "claimed behind another run";

impl Engine {
    /// Starts the next attempt of an available job on this node. Returns whether it could.
    pub(crate) fn start_run(&mut self, step: &mut Step<'_>, claim: Claim, room: Room) -> Result<bool, StoreError> {
        let Claim { mut job, is_written } = claim;
        let run = RunId { job: job.id, epoch: job.epoch.next() };
        let ahead = room.follows.map(|_| CLAIMED_AHEAD);
        let mut shift = Shift::new(&job, Cause::Admitted).on(self.me).because(ahead);
        shift.epoch = run.epoch;
        if is_written {
            if !self.shift(step, &mut job, &shift)? {
                self.give_room_back(&room);
                return Ok(false);
            }
            self.begin_group(step, job.number)?;
        } else {
            (job.state, job.state_since, job.epoch) = (JobState::Running, step.wall(), run.epoch);
            step.txn.insert_job(&NewJob { job: &job, has_spec: false, unique_key: None })?;
            self.announce(step, &job, &shift)?;
            self.occupy(&job, JobState::Available, JobState::Running);
            self.follow(step, &job);
        }
        let attempt = NewAttempt {
            run,
            state: AttemptState::Starting,
            node: self.me,
            boot: Some(self.config.boot),
            award: None,
            allocation: self.kept_allocation(&room),
            at: step.wall(),
        };
        step.txn.insert_attempt(&attempt)?;
        let Room { allocation, follows, profile } = room;
        let level = self.level_of(&job.spec, job.origin);
        if follows.is_some() {
            // It takes the place of one that counts already.
            self.occupy(&job, JobState::Running, JobState::Available);
        }
        self.insert_running(
            run,
            Running {
                job,
                allocation,
                follows,
                first: None,
                successors: VecDeque::new(),
                profile,
                is_ordered: false,
                level,
                reported: Reported::default(),
                stopped_for: None,
            },
        );
        self.order_when_ready(step, run);
        Ok(true)
    }

    /// The allocation as it is kept with the attempt: only what is worth giving back to the same run after a restart.
    fn kept_allocation(&self, room: &Room) -> Option<Vec<u8>> {
        let own = room.allocation.as_ref();
        let given = own.or_else(|| self.running.get(&self.holder_of(room.follows?))?.allocation.as_ref());
        given.filter(|allocation| !allocation.shares.is_empty()).map(cbor::encode)
    }

    fn give_room_back(&mut self, room: &Room) {
        if let Some(allocation) = &room.allocation {
            self.pools.release(allocation);
        }
    }

    pub(crate) fn insert_running(&mut self, run: RunId, running: Running) {
        self.slots_taken += u32::from(running.allocation.is_some());
        self.running.insert(run, running);
    }

    pub(crate) fn order_when_ready(&mut self, step: &Step<'_>, run: RunId) {
        let Some(running) = self.running.get(&run) else { return };
        let Some(origin) = running.job.origin else { return self.order_run(step, run) };
        let wanted = inputs(&running.job.spec).map(|(blob, kind)| Wanted { blob, kind, from: origin });
        let missing: Vec<Wanted> = wanted.filter(|wanted| !self.has_arrived(*wanted)).collect();
        if missing.is_empty() {
            return self.order_run(step, run);
        }
        for wanted in missing {
            self.fetch(step, wanted, run);
        }
    }

    /// An input of an awarded job has arrived: start it if it was the last one.
    pub(crate) fn on_input_here(&mut self, step: &Step<'_>, run: RunId) {
        if self.running.get(&run).is_some_and(|running| !running.is_ordered) {
            self.order_when_ready(step, run);
        }
    }

    /// Tells the executor to start, now that everything the run needs is here.
    pub(crate) fn order_run(&mut self, step: &Step<'_>, run: RunId) {
        let Some(running) = self.running.get(&run) else { return };
        let holder = running.follows.map(|first| self.holder_of(first));
        let head = holder.and_then(|holder| self.running.get(&holder));
        let allocation = running.allocation.clone().or_else(|| head?.allocation.clone());
        let behind = head.map(|head| head.successors.iter().copied().rfind(|other| *other != run));
        let behind = behind.and_then(|tail| tail.or(holder));
        let level = self.level_of(&running.job.spec, running.job.origin);
        let order = job_order(&running.job, (run, behind), allocation, level);
        self.outputs.push(Output::Run(Box::new(order)));
        let is_first = running.follows.is_none();
        if let Some(running) = self.running.get_mut(&run) {
            (running.is_ordered, running.level) = (true, level);
        }
        if is_first {
            self.watch_run(step, run, DurationMillis(0));
        }
    }

    /// Gives a run what is left of its time if it has run for so long, and all of its time to report: nobody could hear
    /// it while there was no daemon.
    pub(crate) fn watch_run(&mut self, step: &Step<'_>, run: RunId, ran: DurationMillis) {
        let Some(running) = self.running.get(&run) else { return };
        if let Some(timeout) = running.job.spec.timeout_ms {
            let left = DurationMillis(timeout.0.saturating_sub(ran.0));
            self.timers.set(Timer::RunTimeout(run), step.now.mono.plus(left));
        }
        if let Some(silence) = running.job.spec.heartbeat_ms {
            self.timers.set(Timer::Silent(run), step.now.mono.plus(silence));
        }
    }

    pub(crate) fn on_started(&mut self, step: &Step<'_>, run: RunId, process: Process) -> Result<(), StoreError> {
        if !self.running.contains_key(&run) {
            self.count("started_unknown_run");
            return Ok(());
        }
        self.timers.clear(Timer::SuccessorWaits(run));
        self.watch_run(step, run, DurationMillis(0));
        self.stop_expiry(step, run)?;
        step.txn.start_attempt(run, Some((process.pid, process.started)), step.wall())
    }

    /// An attempt has started, so it is not too late for that any more.
    fn stop_expiry(&mut self, step: &Step<'_>, run: RunId) -> Result<(), StoreError> {
        let Some(running) = self.running.get_mut(&run).filter(|running| running.job.expires_at.is_some()) else {
            return Ok(());
        };
        running.job.expires_at = None;
        self.timers.clear(Timer::Expires(run.job));
        step.txn.clear_expiry(running.job.number)
    }

    /// A process of an earlier daemon was found alive and is watched by this one.
    pub(crate) fn on_adopted(&mut self, step: &Step<'_>, run: RunId, process: Process) -> Result<(), StoreError> {
        let Some(running) = self.running.get(&run) else {
            self.count("adopted_unknown_run");
            return Ok(());
        };
        let mut job = running.job.clone();
        step.txn.adopt_attempt(run, self.config.boot)?;
        step.txn.start_attempt(run, Some((process.pid, process.started)), step.wall())?;
        let shift = Shift::new(&job, Cause::Adopted).on(self.me).because(Some("the daemon restarted while it ran"));
        self.shift(step, &mut job, &shift)?;
        if let Some(running) = self.running.get_mut(&run) {
            running.job = job;
        }
        Ok(())
    }

    pub(crate) fn on_run_timeout(&mut self, run: RunId) {
        self.stop_late(run, "it ran for longer than its timeout");
    }

    pub(crate) fn on_silent(&mut self, run: RunId) {
        self.stop_late(run, "it reported nothing for longer than its heartbeat");
    }

    pub(crate) fn stop_late(&mut self, run: RunId, why: &'static str) {
        if let Some(running) = self.running.get_mut(&run) {
            running.stopped_for.get_or_insert(why);
            self.outputs.push(Output::Stop { run, reason: StopReason::Timeout });
        }
    }

    pub(crate) fn on_ended(&mut self, step: &mut Step<'_>, run: RunId, ended: &Ended) -> Result<(), StoreError> {
        let Some(running) = self.take_running(run) else {
            self.count("ended_unknown_run");
            return Ok(());
        };
        self.stirred = true;
        self.write_report(step, run, &running)?;
        let outcome = self.outcome_of(&running.job, ended);
        let stopped_for = running.stopped_for.filter(|_| outcome == Outcome::Timeout);
        let notices: Vec<&str> = stopped_for.into_iter().chain(ended.notice.as_deref()).collect();
        let notice = (!notices.is_empty()).then(|| notices.join("; "));
        let job = running.job;
        if outcome == Outcome::Ok && !matches!(job.spec.task, Task::Noop {}) {
            self.learn_duration(&job.spec, ended.ran_micros);
        }
        for bytes in ended.inline.iter().filter(|_| ended.outputs.result.is_some() && job.origin.is_none()) {
            let hash = jobmesh_protocol::Hash::of(bytes);
            if ended.outputs.result.is_some_and(|result| result.hash == hash) {
                step.txn.put_blob(hash, bytes)?;
            }
        }
        let conclusion = Conclusion {
            node: self.me,
            outcome: &outcome,
            exit: ended.exit,
            written: ended.outputs,
            usage: ended.usage,
            model: ended.model.as_ref(),
            isolation: Some(ended.isolation),
            started_at: Some(UnixMillis(step.wall().0.saturating_sub(ended.ran_micros / 1000))),
            notice: notice.as_deref(),
        };
        let was_waiting = running.follows.is_some() && matches!(outcome, Outcome::Released { .. });
        match job.origin {
            Some(_) if was_waiting && !self.is_draining => {
                self.release_lease(step, job, run, &conclusion, ReleaseCause::Busy)
            }
            Some(_) => self.conclude_lease(step, job, run, &conclusion, &ended.inline),
            None => self.conclude(step, job, run, &conclusion),
        }
    }

    /// What the end of a run means for its job. What must not run twice and was stopped in the middle by the end of the
    /// node is not given back for another attempt: nobody knows how far it had come.
    fn outcome_of(&self, job: &Job, ended: &Ended) -> Outcome {
        let has_begun = ended.ran_micros > 0 || ended.exit != Exit::default();
        let is_cut_off = matches!(ended.outcome, Outcome::Released { .. }) && self.is_draining && has_begun;
        if is_cut_off && job.spec.effects == Effects::Once {
            Outcome::Lost { reason: INTERRUPTED.to_owned() }
        } else {
            ended.outcome.clone()
        }
    }

    /// Takes a run that is over out of everything. Its first successor gets its slot and resources.
    pub(crate) fn take_running(&mut self, run: RunId) -> Option<Running> {
        let mut running = self.running.remove(&run)?;
        self.timers.clear(Timer::RunTimeout(run));
        self.timers.clear(Timer::Silent(run));
        self.timers.clear(Timer::SuccessorWaits(run));
        if let Some(first) = running.follows {
            // It never got room of its own, and what it counts for now is given back by the change of its state.
            self.occupy(&running.job, JobState::Available, JobState::Running);
            let holder = self.holder_of(first);
            if let Some(holder) = self.running.get_mut(&holder) {
                holder.successors.retain(|successor| *successor != run);
            }
        }
        let first = running.first.unwrap_or(run);
        let heir = running.successors.pop_front();
        let rest = std::mem::take(&mut running.successors);
        match heir.and_then(|heir| self.running.get_mut(&heir).map(|running| (heir, running))) {
            Some((heir, next)) => {
                next.allocation = running.allocation.take();
                (next.follows, next.first) = (None, Some(first));
                next.successors = rest;
                let job = next.job.clone();
                // Those behind it know the slot by the run that had it first, so that none of them has to be told.
                self.holders.insert(first, heir);
                self.occupy(&job, JobState::Available, JobState::Running);
            }
            None => {
                self.holders.remove(&first);
                if let Some(allocation) = running.allocation.take() {
                    self.slots_taken = self.slots_taken.saturating_sub(1);
                    self.pools.release(&allocation);
                }
            }
        }
        Some(running)
    }

    /// The run that has the slot now which `first` had first.
    pub(crate) fn holder_of(&self, first: RunId) -> RunId {
        self.holders.get(&first).copied().unwrap_or(first)
    }

    /// How many jobs could start now as far as slots are concerned.
    pub(crate) const fn free_slots(&self) -> u32 {
        self.record.slots.saturating_sub(self.slots_taken)
    }
}

pub(crate) fn job_order(
    job: &Job,
    (run, follows): (RunId, Option<RunId>),
    allocation: Option<Allocation>,
    isolation: Isolation,
) -> RunOrder {
    RunOrder {
        run,
        number: job.number,
        job_type: job.spec.job_type.clone(),
        task: job.spec.task.clone(),
        inputs: job.spec.inputs,
        outputs: job.spec.outputs.clone(),
        secrets: job.spec.secrets.clone(),
        network: job.spec.network,
        isolation,
        kill_grace: job.spec.kill_grace_ms,
        log_bytes_max: job.spec.log_bytes_max,
        origin: job.origin,
        follows,
        allocation,
        reduce: job.plan.reduce,
    }
}
