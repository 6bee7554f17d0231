//! The engine: its memory, and the two matches that send every input and every timer to the file that decides it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jobmesh_keys::{MeshId, NodeId};
use jobmesh_protocol::resource::Offered;
use jobmesh_protocol::{BidId, CapabilityRecord, DurationMillis, JobId, JobNumber, JobState, MonoMillis, Now, RunId};
use jobmesh_store::{StoreError, Txn};
use rand_core::Rng;

use crate::auction::{Auction, Patience};
use crate::award::Awarded;
use crate::command::{Command, Declared};
use crate::config::Config;
use crate::contract::{Held, Hold};
use crate::ends::{Ends, forget_hours};
use crate::fetch::Fetch;
use crate::group::Tasked;
use crate::input::{Input, RequestId};
use crate::late::Late;
use crate::learning::Learned;
use crate::matching::Matches;
use crate::mutant::Mutant;
use crate::output::{Output, Outputs, Refusal, Response, Wanted};
use crate::peers::Peers;
use crate::pool::Pools;
use crate::queue::{Queues, check_queues};
use crate::ready::{Rank, Ready};
use crate::run::Running;
use crate::schedule::Scheduled;
use crate::session::Outgoing;
use crate::slots::{Hosted, SlotLease};
use crate::start::Sweep;
use crate::step::Step;
use crate::timers::{Timer, Timers};

/// Decides everything that one node does. Fed by [`Self::handle`]; never sleeps, sends or reads a clock.
#[derive(Debug)]
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) me: NodeId,
    pub(crate) mesh: MeshId,
    pub(crate) outputs: Outputs,
    pub(crate) timers: Timers,
    /// Something changed that may let a job start.
    pub(crate) stirred: bool,
    /// Some lots have not been looked at since.
    pub(crate) looks_on: bool,
    /// Where the scheduler stopped in queues of very many lots.
    pub(crate) sweeps: BTreeMap<String, Sweep>,
    /// The same of what was offered to peers.
    pub(crate) offered_up_to: BTreeMap<String, Rank>,
    /// Some successors may be where they must not start any more.
    pub(crate) has_misplaced: bool,
    pub(crate) is_draining: bool,
    pub(crate) record: CapabilityRecord,
    pub(crate) record_envelope: Vec<u8>,
    pub(crate) ready: Ready,
    pub(crate) running: BTreeMap<RunId, Running>,
    /// Who has a slot now that was inherited, by the run that had it first.
    pub(crate) holders: BTreeMap<RunId, RunId>,
    /// How many runs have a slot.
    pub(crate) slots_taken: u32,
    pub(crate) pools: Pools,
    pub(crate) queues: Queues,
    pub(crate) groups: BTreeMap<JobNumber, Tasked>,
    /// Groups whose counts are not written yet.
    pub(crate) changed_groups: BTreeSet<JobNumber>,
    /// Groups of which too many tasks have failed.
    pub(crate) failed_groups: Vec<JobNumber>,
    pub(crate) schedules: BTreeMap<String, Scheduled>,
    pub(crate) next_schedule: u64,
    /// Jobs that others wait for.
    pub(crate) awaited: BTreeSet<JobNumber>,
    /// Those of them that ended and whose dependants were not told yet.
    pub(crate) ended_upstream: Vec<(JobNumber, JobState)>,
    /// Groups whose deletion has begun.
    pub(crate) removing: BTreeSet<JobNumber>,
    /// The number that was given last.
    pub(crate) last_number: u32,
    /// How long jobs of a type take, in microseconds.
    pub(crate) durations: BTreeMap<String, u64>,
    /// How far the wall clock is ahead of the other one, in milliseconds.
    pub(crate) clock_offset: i128,
    pub(crate) auctions: BTreeMap<JobId, Auction>,
    pub(crate) patience: BTreeMap<JobId, Patience>,
    pub(crate) awarded: BTreeMap<JobId, Awarded>,
    pub(crate) late: Late,
    pub(crate) holds: BTreeMap<BidId, Hold>,
    /// Slot leases that this node has from others.
    pub(crate) slot_leases: BTreeMap<BidId, SlotLease>,
    /// Slot leases that others have from this node.
    pub(crate) hosted: BTreeMap<BidId, Hosted>,
    pub(crate) held: BTreeMap<JobId, Held>,
    /// Awards under slot leases that their origins are not told of yet.
    pub(crate) unaccepted: BTreeMap<NodeId, Vec<JobId>>,
    pub(crate) fetches: BTreeMap<Wanted, Fetch>,
    pub(crate) peers: Peers,
    pub(crate) outgoing: Outgoing,
    pub(crate) matches: Matches,
    /// The highest number that may have left for a peer.
    pub(crate) sent_up_to: BTreeMap<NodeId, u64>,
    /// This database becomes no other incarnation before this.
    pub(crate) renew_after: MonoMillis,
    /// Searches by gossip that were heard, the oldest first.
    pub(crate) heard: VecDeque<(NodeId, u64)>,
    /// Tickets whose inputs could not be brought here.
    pub(crate) unfit: crate::quota::Unfit,
    /// Members that were heard of by gossip.
    pub(crate) crowd: BTreeSet<NodeId>,
    /// No job is searched for by gossip before this.
    pub(crate) seek_after: MonoMillis,
    /// Where this node can be reached.
    pub(crate) addresses: Vec<String>,
    /// No node that is only known from gossip is dialled before this.
    pub(crate) meet_after: MonoMillis,
    /// No record of another database under this key is outdone before this.
    pub(crate) outgrow_after: MonoMillis,
    pub(crate) learned: Learned,
    /// The jobs that ended and were not counted in the database yet.
    pub(crate) ends: Ends,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

impl Engine {
    /// Consumes one input inside the open transaction and collects what the node must do. After the last one of a
    /// transaction, [`Self::finish`] must follow.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails. The engine is then out of step with it: drop it, roll back and
    /// [`Self::recover`].
    pub fn handle(&mut self, now: Now, rng: &mut dyn Rng, txn: &Txn<'_>, input: Input) -> Result<(), StoreError> {
        let mut step = Step { now, rng, txn };
        self.watch_clock(now);
        self.on_due_timers(&mut step)?;
        self.on_input(&mut step, input)
    }

    pub(crate) fn on_due_timers(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        while let Some(timer) = self.timers.take_due(step.now.mono) {
            self.on_timer(step, timer)?;
        }
        Ok(())
    }

    /// Does what the inputs of a transaction lead to together: tells those who wait for jobs that ended, starts what can
    /// start, and writes what is written once, however often it changed. To be called before the commit.
    ///
    /// # Errors
    /// As [`Self::handle`].
    pub fn finish(&mut self, now: Now, rng: &mut dyn Rng, txn: &Txn<'_>) -> Result<(), StoreError> {
        let mut step = Step { now, rng, txn };
        self.finish_step(&mut step)
    }

    pub(crate) fn finish_step(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        while !self.ended_upstream.is_empty() || !self.failed_groups.is_empty() {
            self.release_dependants(step)?;
            self.give_up_groups(step)?;
        }
        if std::mem::take(&mut self.has_misplaced) {
            self.withdraw_misplaced();
        }
        self.schedule(step)?;
        self.write_groups(step)?;
        self.write_rates(step)?;
        self.write_ends(step)?;
        self.write_cells(step)?;
        self.flush(step)
    }

    /// Looks at every date again if the wall clock was set.
    fn watch_clock(&mut self, now: Now) {
        let offset = i128::from(now.wall.0) - i128::from(now.mono.0);
        let by = offset - self.clock_offset;
        if by.unsigned_abs() > CLOCK_STEP.0.into() {
            if self.config.plays(Mutant::LeaseOnWallClock) {
                self.timers.move_leases(|at| MonoMillis(u64::try_from(i128::from(at.0) - by).unwrap_or(0)));
            }
            if self.config.plays(Mutant::JumpEndsLeases) {
                self.timers.move_leases(|_| now.mono);
            }
            self.clock_offset = offset;
            self.timers.hurry_dated(now.mono);
            self.stirred = true;
        }
    }

    /// What the inputs since the last call lead to. Opens only with the proof of the commit.
    pub fn take_outputs(&mut self) -> Outputs {
        std::mem::take(&mut self.outputs)
    }

    /// When to hand in [`Input::Tick`]; `None` while only an input can matter.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<MonoMillis> {
        self.timers.next()
    }

    /// What the engine was started with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// How often each of the rarer things has happened since the engine was made: refused bytes, late answers.
    #[must_use]
    pub const fn counters(&self) -> &BTreeMap<&'static str, u64> {
        &self.counters
    }

    fn on_input(&mut self, step: &mut Step<'_>, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Tick => Ok(()),
            Input::Command(request, command) => self.on_command(step, request, command),
            Input::Connected { node, name, addresses } => self.on_connected(step, node, name, addresses),
            Input::Disconnected(node) => {
                self.on_disconnected(node);
                Ok(())
            }
            Input::Frame { from, bytes } => self.on_frame(step, from, &bytes),
            Input::Addresses(addresses) => {
                self.addresses = addresses;
                Ok(())
            }
            Input::Gossip { via, bytes } => self.on_gossip(step, via, &bytes),
            Input::Started { run, process } => self.on_started(step, run, process),
            Input::Adopted { run, process } => self.on_adopted(step, run, process),
            // A run that ended in the meantime has nothing more to report.
            Input::Reported { run, report } => self.on_report(step, run, report).map(drop),
            Input::Ended { run, ended } => self.on_ended(step, run, &ended),
            Input::Fetched(wanted) => self.on_fetched(step, wanted),
            Input::FetchProgress(wanted) => {
                self.on_fetch_progress(step, wanted);
                Ok(())
            }
            Input::FetchFailed { wanted, reason, remedy } => self.on_fetch_failed(step, wanted, &reason, remedy),
        }
    }

    fn on_command(&mut self, step: &mut Step<'_>, request: RequestId, command: Command) -> Result<(), StoreError> {
        let answer = match command {
            Command::Submit(submissions) => self.submit(step, submissions)?,
            Command::SubmitChild(parent, submission) => self.submit_child(step, parent, *submission)?,
            Command::JudgeChild(parent, mut submission) => {
                self.judge_child(parent, &mut submission).map(|()| Response::Done)
            }
            Command::GrantRequest(run) => self.grant_request(step, run)?,
            Command::Job(job, action) => self.act_on_job(step, job, action)?,
            Command::NameTasks(numbers) => self.name_tasks(step, &numbers)?,
            Command::NameRange(first, last) => self.name_range(step, first, last)?,
            Command::Plan(submission) => self.plan(step, *submission)?,
            Command::Queue(name, action) => self.act_on_queue(step, name, action)?,
            Command::Schedule(name, action) => self.act_on_schedule(step, name, action)?,
            Command::Configure(declared) => self.configure(step, *declared)?,
            Command::Prune { limit, ended_before } => self.prune(step, limit, ended_before)?,
            Command::ForgetHours => forget_hours(step)?,
            Command::Report(run, report) => self.on_report(step, run, report)?,
            Command::Explain(job) => self.explain(step, job)?,
            Command::AddCapability(tag) => self.add_capability(step, &tag)?,
            Command::RemoveCapability(tag) => self.remove_capability(step, &tag)?,
            Command::Invite { ttl, role, addresses } => self.invite(step, ttl, role, addresses)?,
            Command::Admit { from, request } => self.admit(step, from, &request)?,
            Command::Enroll { mesh, membership } => self.enroll(step, mesh, *membership)?,
            Command::Drain => {
                self.is_draining = true;
                Ok(Response::Done)
            }
            Command::Counters => Ok(Response::Counted(self.counters.clone())),
        };
        self.reply(request, answer);
        Ok(())
    }

    fn on_timer(&mut self, step: &mut Step<'_>, timer: Timer) -> Result<(), StoreError> {
        match timer {
            Timer::Due(job) | Timer::Date(job) => self.on_due(step, job),
            Timer::Expires(job) => self.on_expired(step, job),
            Timer::Deadline(job) => self.on_deadline(step, job),
            Timer::Fire(schedule) => self.on_fire(step, schedule),
            Timer::LookOn => {
                self.looks_on = true;
                Ok(())
            }
            Timer::Remove => self.on_remove(step),
            Timer::RateFrees => {
                self.stirred = true;
                Ok(())
            }
            Timer::RunTimeout(run) => {
                self.on_run_timeout(run);
                Ok(())
            }
            Timer::Told(run) => self.on_told(step, run),
            Timer::Silent(run) => {
                self.on_silent(run);
                Ok(())
            }
            Timer::SuccessorWaits(run) => {
                self.on_successor_waits(run);
                Ok(())
            }
            Timer::AuctionCloses(job) => self.close_auction(step, job),
            Timer::Reoffer(_) => {
                self.stirred = true;
                Ok(())
            }
            Timer::HoldEnds(bid) => {
                self.holds.remove(&bid);
                self.stirred = true;
                Ok(())
            }
            Timer::SlotsEnd(lease) => {
                self.on_slots_idle(step, lease);
                Ok(())
            }
            Timer::HostedEnds(lease) => {
                self.on_hosted_idle(step, lease);
                Ok(())
            }
            Timer::LeaseEnds(job) => self.on_lease_end(step, job),
            Timer::LeaseLost(job) => self.on_lease_lost(step, job),
            Timer::LateOutputs(run) => self.give_up_late(step, run),
            Timer::Accepts(origin) => self.on_accepts_due(step, origin),
            Timer::Heartbeat(origin) => {
                self.heartbeat(step, origin);
                Ok(())
            }
            Timer::Resend(peer) => self.resend(step, peer),
            Timer::Refresh(peer) => self.refresh(step, peer),
            Timer::FetchAgain(wanted) => self.fetch_again(step, wanted),
            Timer::Publish => self.publish_summary(step),
        }
    }

    fn reply(&mut self, request: RequestId, answer: Result<Response, Refusal>) {
        self.outputs.push(Output::Reply(request, answer));
    }

    /// Counts something that a person may want to know of: refused bytes, late answers.
    pub(crate) fn count(&mut self, what: &'static str) {
        let count = self.counters.entry(what).or_default();
        *count = count.saturating_add(1);
    }

    /// What neither a run takes nor a bid holds: what another bid may promise.
    pub(crate) fn free(&self) -> (Offered, u32) {
        let held = self.holds.values().fold(Offered::default(), |sum, hold| sum.plus(&hold.taken));
        let holds = u32::try_from(self.holds.len()).unwrap_or(u32::MAX);
        (self.pools.free().less(&held), self.free_slots().saturating_sub(holds))
    }

    /// Takes over what the configuration file says now, all of it or nothing.
    fn configure(&mut self, step: &mut Step<'_>, declared: Declared) -> crate::submit::Answer {
        if let Err(refusal) = check_queues(&declared.queues) {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = self.check_declared(step, &declared.schedules)? {
            return Ok(Err(refusal));
        }
        self.declare_queues(declared.queues.clone());
        let refused = self.declare_schedules(step, declared.schedules.clone())?;
        debug_assert!(refused.is_empty(), "all of them were checked: {refused:?}");
        let is_other_policy = self.config.declared.isolation != declared.isolation;
        let is_other_trust = self.config.declared.entrusted != declared.entrusted;
        let is_other_network = self.config.declared.isolation.network != declared.isolation.network;
        self.config.declared = declared;
        if is_other_trust {
            self.forget_patience();
        }
        if is_other_network {
            self.advertise(step)?;
        } else if is_other_policy {
            self.ask_lots_anew();
        }
        Ok(Ok(Response::Done))
    }
}

/// The wall clock was set if it moves this much against the other one. Clocks that are only disciplined drift by
/// less than a millisecond a second.
const CLOCK_STEP: DurationMillis = DurationMillis::from_secs(1);
