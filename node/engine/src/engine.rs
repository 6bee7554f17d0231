//! The engine: its memory, and the two matches that send every input and every timer to the file that decides it.

use std::collections::BTreeMap;

use jobmesh_keys::{MeshId, NodeId};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::{BidId, CapabilityRecord, JobId, MonoMillis, Now, Resources, RunId};
use jobmesh_store::{StoreError, Txn};
use rand_core::Rng;

use crate::auction::{Auction, Patience};
use crate::award::Awarded;
use crate::config::Config;
use crate::contract::{Held, Hold};
use crate::fetch::Fetch;
use crate::input::{Command, Input, RequestId};
use crate::learning::Learned;
use crate::output::{Output, Outputs, Refusal, Response};
use crate::peers::Peers;
use crate::ready::Ready;
use crate::run::Running;
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
    pub(crate) is_draining: bool,
    pub(crate) record: CapabilityRecord,
    pub(crate) record_envelope: Vec<u8>,
    pub(crate) ready: Ready,
    pub(crate) running: BTreeMap<RunId, Running>,
    pub(crate) auctions: BTreeMap<JobId, Auction>,
    pub(crate) patience: BTreeMap<JobId, Patience>,
    pub(crate) awarded: BTreeMap<JobId, Awarded>,
    pub(crate) holds: BTreeMap<BidId, Hold>,
    pub(crate) held: BTreeMap<JobId, Held>,
    pub(crate) fetches: BTreeMap<Hash, Fetch>,
    pub(crate) peers: Peers,
    /// No node that is only known from gossip is dialled before this.
    pub(crate) meet_after: MonoMillis,
    pub(crate) learned: Learned,
    pub(crate) counters: BTreeMap<&'static str, u64>,
}

impl Engine {
    /// Consumes one input inside the open transaction and collects what the node must do.
    ///
    /// # Errors
    /// [`StoreError`] if the database fails. The engine is then out of step with it: drop it, roll back and
    /// [`Self::recover`].
    pub fn handle(&mut self, now: Now, rng: &mut dyn Rng, txn: &Txn<'_>, input: Input) -> Result<(), StoreError> {
        let mut step = Step { now, rng, txn };
        while let Some(timer) = self.timers.take_due(now.mono) {
            self.on_timer(&mut step, timer)?;
        }
        self.on_input(&mut step, input)?;
        self.schedule(&mut step)
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

    /// Gives back what the engine was started with, to recover another one from the database.
    #[must_use]
    pub fn into_config(self) -> Config {
        self.config
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
            Input::Gossip { via, bytes } => self.on_gossip(step, via, &bytes),
            Input::Started { run, process } => self.on_started(step, run, process),
            Input::Ended { run, ended } => self.on_ended(step, run, &ended),
            Input::Fetched(hash) => self.on_fetched(step, hash),
            Input::FetchFailed { hash, reason } => self.on_fetch_failed(step, hash, &reason),
        }
    }

    fn on_command(&mut self, step: &mut Step<'_>, request: RequestId, command: Command) -> Result<(), StoreError> {
        let answer = match command {
            Command::Submit(spec) => self.submit(step, &spec)?,
            Command::Cancel { job, reason } => self.cancel(step, job, &reason)?,
            Command::Retry(job) => self.retry(step, job)?,
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
            Timer::Due(job) => self.on_due(step, job),
            Timer::RunTimeout(run) => {
                self.on_run_timeout(run);
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
            Timer::LeaseEnds(job) => self.on_lease_end(step, job),
            Timer::LeaseLost(job) => self.on_lease_lost(step, job),
            Timer::Heartbeat(origin) => {
                self.heartbeat(step, origin);
                Ok(())
            }
            Timer::Resend(peer) => self.resend(step, peer),
            Timer::Refresh(peer) => self.refresh(step, peer),
            Timer::FetchAgain(hash) => {
                self.fetch_again(step, hash);
                Ok(())
            }
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

    /// What no run takes: all that this node's own jobs look at, so that no bidding can starve them.
    pub(crate) fn idle(&self) -> (Resources, u32) {
        let taken = self.running.values().fold(Resources::ZERO, |sum, run| sum.plus(&run.resources));
        let slots = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        (self.record.resources.less(&taken), self.record.slots.saturating_sub(slots))
    }

    /// What neither a run takes nor a bid holds: what another bid may promise.
    pub(crate) fn free(&self) -> (Resources, u32) {
        let (idle, slots) = self.idle();
        let held = self.holds.values().fold(Resources::ZERO, |sum, hold| sum.plus(&hold.resources));
        let holds = u32::try_from(self.holds.len()).unwrap_or(u32::MAX);
        (idle.less(&held), slots.saturating_sub(holds))
    }
}
