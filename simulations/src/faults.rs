//! The faults of a run: which are on now, what they do to one frame or one process, and how often each kind struck.
//!
//! Each draws from a stream of its own and draws the same number of times whatever it decides; so a fault that is taken
//! out of a plan leaves the accidents of the others as they were.

use std::collections::BTreeMap;

use jobmesh_protocol::DurationMillis;

use crate::fault::{Fault, FaultKind, FrameFault, RunFault, Treason, What};
use crate::network::Seat;
use crate::random::Stream;

/// Of how many frames one vanishes while a link is in a burst.
const BURST_LOSS_PER_MILLE: u64 = 800;
/// Longest that the second copy of a frame is behind the first, but for some that are far behind.
const COPY_AFTER_MS: u64 = 300;
/// That for the others.
const COPY_LONG_AFTER_MS: u64 = 60_000;

/// What the faults make of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) is_lost: bool,
    /// The connection breaks under it.
    pub(crate) breaks: bool,
    pub(crate) may_overtake: bool,
    pub(crate) delay: DurationMillis,
    /// How far behind the first a second copy comes.
    pub(crate) copy: Option<DurationMillis>,
    /// When it comes once more, on whatever connection there is.
    pub(crate) replay: Option<DurationMillis>,
}

/// What the faults make of the end of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunFate {
    pub(crate) fails: bool,
    pub(crate) is_told_twice: bool,
    pub(crate) floods: bool,
    pub(crate) lies: bool,
}

/// A fault that goes on.
#[derive(Debug)]
struct Active {
    fault: Fault,
    stream: Stream,
    /// The links that are in a burst.
    bad: BTreeMap<(Seat, Seat), bool>,
}

impl Active {
    /// True so many times of a thousand, by the fault's own stream.
    fn strikes(&mut self, per_mille: u32) -> bool {
        self.stream.chance(u64::from(per_mille))
    }
}

/// The faults of one run.
#[derive(Debug)]
pub(crate) struct Faults {
    seed: u64,
    active: BTreeMap<u32, Active>,
    injected: BTreeMap<FaultKind, u64>,
}

impl Faults {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, active: BTreeMap::new(), injected: BTreeMap::new() }
    }

    /// The stream that a fault's accidents are drawn from.
    pub(crate) fn stream(&self, fault: &Fault) -> Stream {
        Stream::new(self.seed, &format!("fault {}", fault.number))
    }

    /// A fault that goes on begins.
    pub(crate) fn begin(&mut self, fault: Fault) {
        let stream = self.stream(&fault);
        self.active.insert(fault.number, Active { fault, stream, bad: BTreeMap::new() });
    }

    pub(crate) fn end(&mut self, number: u32) {
        self.active.remove(&number);
    }

    /// Ends them all.
    pub(crate) fn heal(&mut self) {
        self.active.clear();
    }

    /// Counts one.
    pub(crate) fn note(&mut self, kind: FaultKind) {
        *self.injected.entry(kind).or_default() += 1;
    }

    /// How many of each kind struck.
    pub(crate) fn injected(&self) -> BTreeMap<FaultKind, u64> {
        self.injected.clone()
    }

    /// What becomes of a frame that is sent now.
    pub(crate) fn fate(&mut self, from: Seat, to: Seat) -> Fate {
        let mut fate = Fate::default();
        for active in self.active.values_mut() {
            if let Some(kind) = fate_by(active, from, to, &mut fate) {
                *self.injected.entry(kind).or_default() += 1;
            }
        }
        fate
    }

    /// What becomes of a process that ends now. A node lies to others, not to itself.
    pub(crate) fn run_fate(&mut self, is_foreign: bool) -> RunFate {
        let mut fate = RunFate::default();
        for active in self.active.values_mut() {
            let What::Runs(fault) = active.fault.what else { continue };
            let (struck, per_mille, kind) = match fault {
                RunFault::Fail { per_mille } => (&mut fate.fails, per_mille, FaultKind::Fail),
                RunFault::Double { per_mille } => (&mut fate.is_told_twice, per_mille, FaultKind::Double),
                RunFault::Flood { per_mille } => (&mut fate.floods, per_mille, FaultKind::Flood),
                RunFault::Lie { per_mille } => (&mut fate.lies, per_mille, FaultKind::Lie),
                RunFault::Hang { .. } => continue,
            };
            if active.strikes(per_mille) && (is_foreign || kind != FaultKind::Lie) {
                *struck = true;
                *self.injected.entry(kind).or_default() += 1;
            }
        }
        fate
    }

    /// Whether a process that starts now hangs.
    pub(crate) fn hangs(&mut self) -> bool {
        let mut does = false;
        for active in self.active.values_mut() {
            if let What::Runs(RunFault::Hang { per_mille }) = active.fault.what {
                does |= active.strikes(per_mille);
            }
        }
        if does {
            self.note(FaultKind::Hang);
        }
        does
    }

    /// Whether a member forges now.
    pub(crate) fn has_forger(&self) -> bool {
        self.active.values().any(|active| active.fault.what == What::Forger)
    }

    /// Whether a member with a key of its own does this now.
    pub(crate) fn has_traitor(&self, treason: Treason) -> bool {
        self.active.values().any(|active| active.fault.what == What::Traitor(treason))
    }

    /// Whether a transfer of a blob is lost, as frames are.
    pub(crate) fn loses_blob(&mut self) -> bool {
        let mut is_lost = false;
        for active in self.active.values_mut() {
            if let What::Frames(FrameFault::Loss { .. }) = active.fault.what {
                is_lost |= active.strikes(150);
            }
        }
        is_lost
    }
}

/// What one fault makes of a frame; the kind of it, if anything.
fn fate_by(active: &mut Active, from: Seat, to: Seat, fate: &mut Fate) -> Option<FaultKind> {
    let What::Frames(fault) = active.fault.what else { return None };
    match fault {
        FrameFault::Delay { per_mille, longest_ms } => {
            let (does, long) = (active.strikes(per_mille), active.stream.chance(50));
            let wait = active.stream.below(if long { longest_ms } else { longest_ms.min(1_500) });
            fate.delay = fate.delay.plus(DurationMillis(if does { wait } else { 0 }));
            does.then_some(FaultKind::Delay)
        }
        FrameFault::Loss { per_mille } => {
            let does = active.strikes(per_mille);
            fate.is_lost |= does;
            does.then_some(FaultKind::Loss)
        }
        FrameFault::Burst { begins_per_mille, ends_per_mille } => {
            let (begins, ends) = (active.strikes(begins_per_mille), active.strikes(ends_per_mille));
            let is_bad = active.bad.entry((from, to)).or_default();
            *is_bad = if *is_bad { !ends } else { begins };
            let is_bad = *is_bad;
            let does = active.stream.chance(BURST_LOSS_PER_MILLE) && is_bad;
            fate.is_lost |= does;
            does.then_some(FaultKind::Burst)
        }
        FrameFault::Duplicate { per_mille } => {
            let (does, far) = (active.strikes(per_mille), active.stream.chance(100));
            let after = active.stream.between(1, if far { COPY_LONG_AFTER_MS } else { COPY_AFTER_MS });
            fate.copy = does.then_some(DurationMillis(after)).or(fate.copy);
            does.then_some(FaultKind::Duplicate)
        }
        FrameFault::Reorder { per_mille } => {
            let does = active.strikes(per_mille);
            fate.may_overtake |= does;
            // Whether it does is seen when it overtakes.
            None
        }
        FrameFault::Truncate { per_mille } => {
            let does = active.strikes(per_mille);
            fate.breaks |= does;
            does.then_some(FaultKind::Truncate)
        }
        FrameFault::Replay { per_mille, after_ms } => {
            let (does, after) = (active.strikes(per_mille), active.stream.below(after_ms));
            fate.replay = does.then_some(DurationMillis(after + 1)).or(fate.replay);
            does.then_some(FaultKind::Replay)
        }
    }
}
