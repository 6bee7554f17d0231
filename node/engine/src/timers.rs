//! Everything that will happen by itself, at most once per thing.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::{BidId, JobId, MonoMillis, NodeId, RunId};

use crate::output::Wanted;

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A scheduled or retryable job has waited long enough.
    Due(JobId),
    /// The date has come that a scheduled job waits for.
    Date(JobId),
    /// A job that has not started must not start any more.
    Expires(JobId),
    /// A job must be over.
    Deadline(JobId),
    /// A schedule fires, by its place among the schedules.
    Fire(ScheduleId),
    /// A rate limit lets the next job start.
    RateFrees,
    /// Some more of a large group is deleted.
    Remove,
    /// Lots that the scheduler has not looked at yet are next.
    LookOn,
    /// A run has had its time.
    RunTimeout(RunId),
    /// A run that promised to report has not.
    Silent(RunId),
    /// What a run said of itself has to be written.
    Told(RunId),
    /// A run that was claimed in advance should have started.
    SuccessorWaits(RunId),
    /// An auction closes.
    AuctionCloses(JobId),
    /// A job may be offered again.
    Reoffer(JobId),
    /// A bid's room is free again.
    HoldEnds(BidId),
    /// A slot lease that this node has from another is not used, or has had its time.
    SlotsEnd(BidId),
    /// The same of one that another has from this node.
    HostedEnds(BidId),
    /// A lease that this node holds from another ends.
    LeaseEnds(JobId),
    /// An attempt on a peer is lost.
    LeaseLost(JobId),
    /// The outputs of a late receipt should have come.
    LateOutputs(RunId),
    /// An origin is told which of its awards were taken on.
    Accepts(NodeId),
    /// The leases held from an origin must be renewed.
    Heartbeat(NodeId),
    /// What a peer has not acknowledged is sent again.
    Resend(NodeId),
    /// What a connected peer should know is told again.
    Refresh(NodeId),
    /// A blob is asked for again.
    FetchAgain(Wanted),
    /// A changed learning summary is published.
    Publish,
}

/// Names a schedule while the engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScheduleId(pub(crate) u64);

impl Timer {
    /// Whether it stands for a date, and not for a length of time.
    const fn is_dated(self) -> bool {
        match self {
            Self::Date(_) | Self::Deadline(_) | Self::Fire(_) | Self::RateFrees => true,
            Self::Due(_)
            | Self::Expires(_)
            | Self::Remove
            | Self::LookOn
            | Self::RunTimeout(_)
            | Self::Silent(_)
            | Self::Told(_)
            | Self::SuccessorWaits(_)
            | Self::AuctionCloses(_)
            | Self::Reoffer(_)
            | Self::HoldEnds(_)
            | Self::SlotsEnd(_)
            | Self::HostedEnds(_)
            | Self::LeaseEnds(_)
            | Self::LeaseLost(_)
            | Self::LateOutputs(_)
            | Self::Accepts(_)
            | Self::Heartbeat(_)
            | Self::Resend(_)
            | Self::Refresh(_)
            | Self::FetchAgain(_)
            | Self::Publish => false,
        }
    }
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(MonoMillis, Timer)>,
    by_timer: BTreeMap<Timer, MonoMillis>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, timer: Timer, at: MonoMillis) {
        self.clear(timer);
        self.by_timer.insert(timer, at);
        self.by_time.insert((at, timer));
    }

    /// Sets a timer unless it is set.
    pub(crate) fn set_if_unset(&mut self, timer: Timer, at: MonoMillis) {
        if !self.by_timer.contains_key(&timer) {
            self.set(timer, at);
        }
    }

    /// Sets a timer, or moves it if it would come later.
    pub(crate) fn set_earlier(&mut self, timer: Timer, at: MonoMillis) {
        if self.by_timer.get(&timer).is_none_or(|known| at < *known) {
            self.set(timer, at);
        }
    }

    /// Lets every timer that stands for a date come now, so that each is looked at again.
    pub(crate) fn hurry_dated(&mut self, now: MonoMillis) {
        let dated: Vec<Timer> = self.by_timer.keys().copied().filter(|timer| timer.is_dated()).collect();
        for timer in dated {
            self.set(timer, now);
        }
    }

    /// Sets every timer of a lease to another time. Only seeded bugs do.
    pub(crate) fn move_leases(&mut self, to: impl Fn(MonoMillis) -> MonoMillis) {
        let is_of_lease = |timer: &Timer| matches!(timer, Timer::LeaseEnds(_) | Timer::LeaseLost(_));
        let leases: Vec<(Timer, MonoMillis)> =
            self.by_timer.iter().filter(|(timer, _)| is_of_lease(timer)).map(|(timer, at)| (*timer, *at)).collect();
        for (timer, at) in leases {
            self.set(timer, to(at));
        }
    }

    /// Forgets a timer.
    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(at) = self.by_timer.remove(&timer) {
            self.by_time.remove(&(at, timer));
        }
    }

    /// Whether a timer is set and its time has come.
    pub(crate) fn is_due(&self, timer: Timer, now: MonoMillis) -> bool {
        self.by_timer.get(&timer).is_some_and(|at| *at <= now)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<MonoMillis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the next timer that is due.
    pub(crate) fn take_due(&mut self, now: MonoMillis) -> Option<Timer> {
        let (at, timer) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }
}
