//! What starts next: jobs that this node can run while it has room, then auctions for the others.
//!
//! A slot that runs brief jobs would stand idle for a whole commit between two of them. So once a type is known to be
//! brief, a run gets successors: jobs of the same lot, claimed in advance, which take over its slot and resources the
//! moment it ends. They count for nothing until then, and are given back if they wait too long after all.

use std::collections::BTreeMap;
use std::sync::Arc;

use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{DurationMillis, JobId, JobNumber, JobSpec, JobState, RunId};
use jobmesh_store::{Job, StoreError};

use crate::admission::{Blocked, Snapshot, limits_blocked, meets, queue_blocked, room_blocked};
use crate::engine::Engine;
use crate::isolation;
use crate::mutant::Mutant;
use crate::output::{Output, StopReason};
use crate::ready::{LotId, Profile, Rank};
use crate::run::{Claim, Room, Running};
use crate::slots::Class;
use crate::step::Step;
use crate::timers::Timer;
use crate::transition::{Shift, is_dated};

/// How many blocked lots of one queue the scheduler looks at in one step: a bound on its work. One half are those
/// whose turn is next, the other half takes up where the last step stopped, so that every lot is looked at in the end.
const LOTS_MAX: usize = 1024;
/// The wait before the next step goes on looking.
const LOOK_PAUSE: DurationMillis = DurationMillis(1);
/// Auctions open at once: each costs a few messages, and a burst must not flood the peers.
pub(crate) const AUCTIONS_MAX: usize = 16;
/// Jobs of a lot that leave in one step at most; more leave in the next one.
const LEAVING_MAX: usize = 256;
/// Most successors of one run. As many ends come with one commit when the jobs take no time.
pub const SUCCESSORS_MAX: usize = 64;
/// Fewer runs than this are no reason to let a commit wait.
const COMPANY_MIN: usize = 8;
/// A run gets successors for about so long: a few commits.
const AHEAD_MICROS: u64 = 8_000;
/// A job that takes longer than this is not brief.
const BRIEF_MICROS: u64 = 20_000;
/// A successor that has not started after this is given back.
pub(crate) const SUCCESSOR_PATIENCE: DurationMillis = DurationMillis(200);

/// How far one round of scheduling has looked at each queue.
#[derive(Debug, Default)]
struct Round {
    scans: BTreeMap<String, Scan>,
}

/// How far one round has looked at a queue. Every lot up to here is blocked, and stays so: a start only takes room.
#[derive(Clone, Copy, Debug, Default)]
struct Scan {
    at: Option<Rank>,
    looks: usize,
    has_jumped: bool,
    is_over: bool,
}

/// Where the steps stopped that look at a queue of very many lots in turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sweep {
    at: Option<Rank>,
    /// Whether something has changed since it began, so that it has to begin again.
    is_stale: bool,
}

impl Round {
    fn is_over(&self, queue: &str) -> bool {
        self.scans.get(queue).is_some_and(|scan| scan.is_over)
    }

    /// Looks no further than past this lot from now on.
    fn pass_over(&mut self, queue: &str, at: Rank) {
        let scan = self.scans.entry(queue.to_owned()).or_default();
        (scan.at, scan.looks) = (Some(at), scan.looks + 1);
    }
}

impl Engine {
    /// Starts whatever can start, if anything changed since the last time.
    pub(crate) fn schedule(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        let is_changed = std::mem::take(&mut self.stirred);
        let looks_on = std::mem::take(&mut self.looks_on);
        if !(is_changed || looks_on) || self.is_draining {
            return Ok(());
        }
        // A queue in which nothing waits any more is begun anew.
        self.sweeps.retain(|queue, _| self.ready.has_queue(queue));
        self.offered_up_to.retain(|queue, _| self.ready.has_queue(queue));
        if is_changed {
            self.sweeps.values_mut().for_each(|sweep| sweep.is_stale = true);
        }
        let mut round = Round::default();
        while self.free_slots() > 0 {
            let Some((queue, at)) = self.next_lot(step, &mut round, Where::Free) else { break };
            if !self.start_first(step, at.3)? {
                round.pass_over(&queue, at);
            }
        }
        self.line_up(step, &mut round)?;
        self.open_auctions(step)
    }

    /// The lot whose first job should start next, of those that may, with its queue.
    fn next_lot(&mut self, step: &Step<'_>, round: &mut Round, wanted: Where) -> Option<(String, Rank)> {
        let queues: Vec<String> = self.ready.queues().filter(|queue| !round.is_over(queue)).cloned().collect();
        let mut best: Option<(String, Rank)> = None;
        for queue in queues {
            let reasons = queue_blocked(&queue, &self.snapshot(step, None));
            self.ready.note_queue(&queue, reasons.iter().map(Blocked::kind), step.wall());
            let mut scan = round.scans.get(&queue).copied().unwrap_or_default();
            let found = if reasons.is_empty() { self.scan(step, &queue, &mut scan, wanted) } else { None };
            scan.is_over = found.is_none();
            round.scans.insert(queue.clone(), scan);
            if let Some(found) = found.filter(|found| best.as_ref().is_none_or(|(_, best)| found < best)) {
                best = Some((queue, found));
            }
        }
        best
    }

    /// Goes on to the first lot of a queue that is not blocked.
    fn scan(&mut self, step: &Step<'_>, queue: &str, scan: &mut Scan, wanted: Where) -> Option<Rank> {
        loop {
            if scan.looks >= LOTS_MAX / 2 && !scan.has_jumped {
                scan.has_jumped = true;
                let sweep = self.sweeps.get(queue).and_then(|sweep| sweep.at);
                scan.at = scan.at.max(sweep);
            }
            if scan.looks >= LOTS_MAX {
                self.pause_sweep(step, queue, scan.at, wanted);
                return None;
            }
            let Some(at) = self.ready.lots_after(queue, scan.at).next() else {
                self.end_sweep(step, queue, wanted);
                return None;
            };
            let profile = self.ready.profile(at.3)?;
            let reasons = self.lot_blocked(step, &profile, wanted);
            if profile.is_here && reasons.is_empty() {
                return Some(at);
            }
            self.ready.note(at.3, reasons.iter().map(Blocked::kind), step.wall());
            self.wake_for(step, &reasons);
            (scan.at, scan.looks) = (Some(at), scan.looks + 1);
        }
    }

    /// There are more lots than one step looks at: a later one goes on here.
    fn pause_sweep(&mut self, step: &Step<'_>, queue: &str, at: Option<Rank>, wanted: Where) {
        if wanted == Where::Free {
            let sweep = self.sweeps.entry(queue.to_owned()).or_insert(Sweep { at, is_stale: false });
            sweep.at = at;
            self.look_on(step);
        }
    }

    /// Every lot has been looked at. What changed meanwhile may let one start that was passed.
    fn end_sweep(&mut self, step: &Step<'_>, queue: &str, wanted: Where) {
        match self.sweeps.get_mut(queue) {
            Some(sweep) if wanted == Where::Free && sweep.is_stale => {
                *sweep = Sweep { at: None, is_stale: false };
                self.look_on(step);
            }
            Some(_) if wanted == Where::Free => {
                self.sweeps.remove(queue);
            }
            Some(_) | None => {}
        }
    }

    fn look_on(&mut self, step: &Step<'_>) {
        self.timers.set_if_unset(Timer::LookOn, step.now.mono.plus(LOOK_PAUSE));
    }

    fn lot_blocked(&self, step: &Step<'_>, profile: &Profile, wanted: Where) -> Vec<Blocked> {
        let here = self.snapshot(step, profile.group);
        let mut reasons = match wanted {
            Where::Free => limits_blocked(profile, &here),
            // A successor takes the place of one that counts already; only its start has to be on time.
            Where::Behind => here
                .queues
                .next_start(profile, step.wall())
                .map(|(name, until)| vec![Blocked::Rate { name, until }])
                .unwrap_or_default(),
        };
        if wanted == Where::Free && profile.is_here {
            reasons.extend(room_blocked(profile, &here));
        }
        reasons
    }

    /// A rate limit is the only reason that goes away by itself.
    fn wake_for(&mut self, step: &Step<'_>, reasons: &[Blocked]) {
        for reason in reasons {
            if let Blocked::Rate { until, .. } = reason {
                let at = step.now.mono.plus(until.since(step.wall())).plus(DurationMillis(1));
                self.timers.set_earlier(Timer::RateFrees, at);
            }
        }
    }

    /// Starts the first job of a lot. Returns whether anything came of it.
    fn start_first(&mut self, step: &mut Step<'_>, lot: LotId) -> Result<bool, StoreError> {
        let Some(profile) = self.ready.profile(lot) else { return Ok(false) };
        let Some(allocation) = self.pools.allocate_any(&profile.resources) else { return Ok(false) };
        let Some(claim) = self.claim_first(step, lot, &profile)? else {
            self.pools.release(&allocation);
            return Ok(self.ready.profile(lot).is_some());
        };
        self.ready.serve(lot);
        self.queues.start(&profile, step.wall());
        self.start_run(step, claim, Room { allocation: Some(allocation), follows: None, profile: Some(profile) })
    }

    /// The first job of a lot as it is to be started. A group makes its next task; a job that is gone is dropped.
    fn claim_first(&mut self, step: &mut Step<'_>, lot: LotId, profile: &Profile) -> Result<Option<Claim>, StoreError> {
        let Some(number) = self.first_of(step, lot)? else { return Ok(None) };
        if self.groups.contains_key(&number) {
            return self.next_task(step, number, profile);
        }
        let job = match self.groups.get(&number.group()) {
            Some(group) if group.row.is_array => step.view().task(number, &group.job.spec)?,
            Some(_) | None => step.view().job_by_number(number)?,
        };
        match job {
            Some(job) if job.state == JobState::Available => {
                self.ready.remove(profile, number);
                Ok(Some(Claim { job, is_written: true }))
            }
            Some(_) | None => {
                self.ready.remove(profile, number);
                Ok(None)
            }
        }
    }

    /// The first member of a lot: for an array, that of its tasks that comes first, be it still to be made or not.
    fn first_of(&mut self, step: &Step<'_>, lot: LotId) -> Result<Option<JobNumber>, StoreError> {
        let Some(first) = self.ready.members(lot).next() else { return Ok(None) };
        let Some(task) = self.ready.first_task(lot, first).filter(|_| first.index().is_none()) else {
            return Ok(Some(first));
        };
        let is_next = self.next_of(step, first)?.is_none_or(|next| task < next);
        Ok(Some(if is_next { task } else { first }))
    }

    /// Claims successors for the runs of brief jobs.
    fn line_up(&mut self, step: &mut Step<'_>, round: &mut Round) -> Result<(), StoreError> {
        if self.ready.len() == 0 || self.free_slots() > 0 {
            return Ok(());
        }
        let tails: Vec<RunId> =
            self.running.iter().filter(|(_, running)| running.allocation.is_some()).map(|(run, _)| *run).collect();
        // In turns, so that every slot has about as much ahead of it.
        let mut open: Vec<RunId> = tails;
        for _ in 0..SUCCESSORS_MAX {
            let mut still_open = Vec::new();
            for head in open {
                if self.add_successor(step, head, round)? {
                    still_open.push(head);
                }
            }
            if still_open.is_empty() {
                break;
            }
            open = still_open;
        }
        Ok(())
    }

    /// Claims one more successor for a run. Returns whether there may be another one.
    fn add_successor(&mut self, step: &mut Step<'_>, head: RunId, round: &mut Round) -> Result<bool, StoreError> {
        let Some(running) = self.running.get(&head) else { return Ok(false) };
        let Some(profile) = running.profile.clone() else { return Ok(false) };
        let first = running.first.unwrap_or(head);
        let wanted = self.successors_wanted(&running.job.spec);
        // A rate counts starts, and nobody knows when a successor will.
        if profile.is_once || running.successors.len() >= wanted || self.queues.is_rated(&profile) {
            return Ok(false);
        }
        let Some(lot) = self.ready.lot_of(&profile) else { return Ok(false) };
        // Only if it is this lot's turn: nobody is overtaken by being unlike what runs.
        if self.next_lot(step, round, Where::Behind).map(|(_, at)| at.3) != Some(lot) {
            return Ok(false);
        }
        let Some(claim) = self.claim_first(step, lot, &profile)? else { return Ok(true) };
        self.ready.serve(lot);
        let run = RunId { job: claim.job.id, epoch: claim.job.epoch.next() };
        let room = Room { allocation: None, follows: Some(first), profile: Some(profile) };
        if !self.start_run(step, claim, room)? {
            return Ok(true);
        }
        if let Some(running) = self.running.get_mut(&head) {
            running.successors.push_back(run);
        }
        self.timers.set(Timer::SuccessorWaits(run), step.now.mono.plus(SUCCESSOR_PATIENCE));
        Ok(true)
    }

    /// How many inputs are worth waiting for before a commit: half of the runs that are under way, if there are so many
    /// that no slot stands idle meanwhile. Successors count, since it is they who keep the slots busy. 0 if a commit
    /// should not wait.
    #[must_use]
    pub fn company(&self) -> usize {
        let under_way = self.running.len();
        if under_way < COMPANY_MIN { 0 } else { under_way / 2 }
    }

    /// How many successors a run of such a job should have.
    fn successors_wanted(&self, spec: &JobSpec) -> usize {
        let micros = match &spec.task {
            Task::Noop {} => 0,
            Task::Builtin(_) => return 0,
            // The rest doesn't take its slot over from one run to the next.
            Task::Container(_) | Task::Http(_) | Task::Llm(_) | Task::Embedding(_) => return 0,
            Task::Process(_) | Task::Wasm(_) | Task::Lua(_) => match self.durations.get(&spec.job_type) {
                Some(micros) if *micros <= BRIEF_MICROS => *micros,
                Some(_) | None => return 0,
            },
        };
        usize::try_from(AHEAD_MICROS / micros.max(1)).unwrap_or(usize::MAX).clamp(1, SUCCESSORS_MAX)
    }

    /// Remembers how long jobs of a type take: a mean that follows the last few.
    pub(crate) fn learn_duration(&mut self, spec: &JobSpec, ran_micros: u64) {
        let known = self.durations.get(&spec.job_type).copied();
        let mean = known.map_or(ran_micros, |mean| (mean.saturating_mul(7).saturating_add(ran_micros)) / 8);
        if self.durations.len() >= TYPES_MAX && known.is_none() {
            self.durations.pop_first();
        }
        self.durations.insert(spec.job_type.clone(), mean);
    }

    /// A successor has waited too long: what it follows is not brief after all. What waits may be of another type, so
    /// that it is not the one to blame: it would be claimed behind the same run again and again.
    pub(crate) fn on_successor_waits(&mut self, run: RunId) {
        let Some(first) = self.running.get(&run).and_then(|running| running.follows) else { return };
        if let Some(head) = self.running.get(&self.holder_of(first)) {
            self.durations.insert(head.job.spec.job_type.clone(), BRIEF_MICROS * 16);
        }
        self.outputs.push(Output::Stop { run, reason: StopReason::Withdrawn });
    }

    /// Gives back successors that would start where they must not any more: in a queue that is paused or past its limit,
    /// in place of a run that was moved to another queue, or though somebody holds them back.
    pub(crate) fn withdraw_misplaced(&mut self) {
        let is_misplaced = |running: &&Running| {
            let holder = running.follows.map(|first| self.holder_of(first));
            let Some(head) = holder.and_then(|holder| self.running.get(&holder)) else { return false };
            let (job, queue) = (&running.job, &running.job.queue);
            if job.origin.is_some() {
                // The queues of this node are not those of others.
                return false;
            }
            let is_over = self.queues.concurrency(queue).is_some_and(|limit| self.queues.running(queue) > limit);
            job.held.is_some() || *queue != head.job.queue || self.queues.is_paused(queue) || is_over
        };
        let misplaced: Vec<RunId> =
            self.running.iter().filter(|(_, running)| is_misplaced(running)).map(|(run, _)| *run).collect();
        for run in misplaced {
            // What it follows may well be brief.
            self.timers.clear(Timer::SuccessorWaits(run));
            self.outputs.push(Output::Stop { run, reason: StopReason::Withdrawn });
        }
    }

    fn open_auctions(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        if self.has_no_way_out() {
            return Ok(());
        }
        let queues: Vec<String> = self.ready.queues().cloned().collect();
        for queue in queues {
            if !queue_blocked(&queue, &self.snapshot(step, None)).is_empty() {
                continue;
            }
            for at in self.lots_to_offer(step, &queue) {
                self.send_lot(step, at.3)?;
                if self.has_no_way_out() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The lots of a queue to offer in this step: those that are next, and some more in turns.
    fn lots_to_offer(&mut self, step: &Step<'_>, queue: &str) -> Vec<Rank> {
        let mut lots: Vec<Rank> = self.ready.lots_after(queue, None).take(LOTS_MAX / 2).collect();
        let from = lots.last().copied().max(self.offered_up_to.remove(queue));
        if lots.len() == LOTS_MAX / 2 {
            lots.extend(self.ready.lots_after(queue, from).take(LOTS_MAX / 2));
        }
        if let Some(last) = lots.last().filter(|_| lots.len() == LOTS_MAX) {
            self.offered_up_to.insert(queue.to_owned(), *last);
            self.look_on(step);
        }
        lots
    }

    /// Whether nothing can leave this node now, whatever it is.
    fn has_no_way_out(&self) -> bool {
        self.peers.is_empty() || (self.auctions.len() >= AUCTIONS_MAX && self.slot_leases.is_empty())
    }

    /// Gives or offers to peers what of a lot may leave this node.
    fn send_lot(&mut self, step: &mut Step<'_>, lot: LotId) -> Result<(), StoreError> {
        let may_leave =
            |profile: &Arc<Profile>| profile.scope != Scope::Local || self.config.plays(Mutant::LocalLeaves);
        let Some(profile) = self.ready.profile(lot).filter(may_leave) else { return Ok(()) };
        let reasons = self.lot_limits(step, &profile);
        if !reasons.is_empty() {
            self.wake_for(step, &reasons);
            return Ok(());
        }
        let members: Vec<JobNumber> = self.ready.members(lot).take(LEAVING_MAX).collect();
        // An array comes after those of its tasks that wait, though it is older.
        let has_tasks = |number: &JobNumber| self.ready.first_task(lot, *number).is_some();
        let (arrays, others): (Vec<JobNumber>, Vec<JobNumber>) = members.into_iter().partition(has_tasks);
        self.send_members(step, (lot, &profile), others)?;
        self.send_members(step, (lot, &profile), arrays)
    }

    fn send_members(
        &mut self,
        step: &mut Step<'_>,
        (lot, profile): (LotId, &Arc<Profile>),
        members: Vec<JobNumber>,
    ) -> Result<(), StoreError> {
        let (mut left, mut stayed) = (0, 0);
        for number in members {
            loop {
                if !self.lot_limits(step, profile).is_empty() {
                    return Ok(());
                }
                if left >= LEAVING_MAX {
                    self.look_on(step);
                    return Ok(());
                }
                let sent = self.send_member(step, lot, number)?;
                match sent {
                    Sent::Given => left += 1,
                    Sent::Waits => {}
                    Sent::Stays => stayed += 1,
                }
                if stayed > AUCTIONS_MAX {
                    return Ok(());
                }
                // A group may have more tasks for the same slot lease.
                let has_more = self.groups.get(&number).is_some_and(crate::group::Tasked::has_more);
                if sent != Sent::Given || !has_more {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Gives a member of a lot to a peer under a slot lease, or offers it to some.
    fn send_member(&mut self, step: &mut Step<'_>, lot: LotId, number: JobNumber) -> Result<Sent, StoreError> {
        let array = self.groups.get(&number).map(|group| Arc::clone(&group.job.spec));
        let job = match array {
            Some(spec) if !self.has_way_out(&spec) => return Ok(Sent::Stays),
            // Tasks that a peer gave back don't keep the others waiting.
            Some(spec) if self.has_slot(step, &spec) => self.make_task(step, number)?,
            Some(_) | None => self.job_to_offer(step, lot, number)?,
        };
        let Some(job) = job.filter(|job| job.state == JobState::Available && job.origin.is_none()) else {
            return Ok(Sent::Stays);
        };
        if self.give_under_lease(step, &job)? {
            return Ok(Sent::Given);
        }
        let has_slot = self.has_slot(step, &job.spec);
        let is_patient = self.patience.get(&job.id).is_some_and(|patience| patience.until > step.now.mono);
        if !is_patient && self.may_auction(&Class::of(&job.spec)) {
            self.open_auction(step, job)?;
        }
        Ok(if has_slot { Sent::Waits } else { Sent::Stays })
    }

    fn lot_limits(&self, step: &Step<'_>, profile: &Arc<Profile>) -> Vec<Blocked> {
        limits_blocked(profile, &self.snapshot(step, profile.group))
    }

    /// The job to offer for a member of a lot. A group makes its next task for it, unless an earlier one still waits.
    fn job_to_offer(&mut self, step: &mut Step<'_>, lot: LotId, number: JobNumber) -> Result<Option<Job>, StoreError> {
        let job = if self.groups.contains_key(&number) {
            let (waiting, next) = (self.ready.first_task(lot, number), self.next_of(step, number)?);
            let has_earlier = waiting.is_some_and(|task| next.is_none_or(|next| task < next));
            if has_earlier { None } else { self.make_task(step, number)? }
        } else {
            step.view().job_by_number(number)?
        };
        Ok(job.filter(|job| job.state == JobState::Available && job.origin.is_none()))
    }

    /// What admission looks at, for a job of this group.
    pub(crate) fn snapshot(&self, step: &Step<'_>, group: Option<JobNumber>) -> Snapshot<'_> {
        let group = group.and_then(|group| self.groups.get(&group));
        Snapshot {
            record: &self.record,
            least: self.own_least(),
            pools: &self.pools,
            queues: &self.queues,
            free_slots: self.free_slots(),
            is_draining: self.is_draining,
            now: step.wall(),
            group: group.and_then(|group| group.row.at_a_time.map(|limit| (limit, group.running))),
        }
    }

    /// Whether this node could run such jobs when idle.
    pub(crate) fn is_capable(&self, profile: &Profile) -> bool {
        let fits = || profile.resources.variants().iter().any(|request| self.pools.could_ever(request).is_ok());
        let level = isolation::required(profile.executor, None, self.own_least());
        let has_level = isolation::keeps(&self.record.tags, profile.executor, level);
        let has_all = (meets(&self.record, profile) && has_level) || self.config.plays(Mutant::DropRequirement);
        profile.scope != Scope::Network && has_all && fits()
    }

    /// Everything by which admission tells a job from others.
    pub(crate) fn profile(&self, job: &Job) -> Profile {
        let group = self.groups.get(&job.number.group()).filter(|group| group.row.at_a_time.is_some());
        let mut profile = Profile {
            queue: job.queue.clone(),
            priority: job.priority,
            key: job.spec.concurrency.clone(),
            rates: job.spec.rates.clone(),
            resources: job.spec.resources.clone(),
            requirements: job.spec.requirements.iter().cloned().chain(isolation::demand(&job.spec)).collect(),
            executor: job.spec.task.executor(),
            scope: job.spec.scope,
            is_here: false,
            is_once: job.spec.effects == Effects::Once,
            wants_network: isolation::wants_network(&job.spec),
            group: group.map(|_| job.number.group()),
            secrets: job.spec.secrets.values().cloned().collect(),
        };
        profile.is_here = self.is_capable(&profile);
        profile
    }

    /// A scheduled or retryable job's time has come.
    pub(crate) fn on_due(&mut self, step: &Step<'_>, id: JobId) -> Result<(), StoreError> {
        let Some(mut job) = step.view().job(id)? else { return Ok(()) };
        let is_early = is_dated(&job) && job.run_at.is_some_and(|at| at > step.wall());
        match job.state {
            // The wall clock was set meanwhile: wait for what is left.
            JobState::Scheduled if is_early => self.follow(step, &job),
            JobState::Scheduled | JobState::Retryable => {
                let shift = Shift::new(&job, Cause::Due);
                self.shift(step, &mut job, &shift)?;
            }
            JobState::Pending
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => {}
        }
        Ok(())
    }
}

/// Job types whose duration is remembered.
const TYPES_MAX: usize = 1024;

/// What became of a job that could leave this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// A peer has it, under a slot lease.
    Given,
    /// It is out for bids, or waits, though others like it could be given away.
    Waits,
    /// It is out for bids, or waits.
    Stays,
}

/// Which room a job would start in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// A slot and resources that nobody has.
    Free,
    /// Those of a run that it follows.
    Behind,
}
