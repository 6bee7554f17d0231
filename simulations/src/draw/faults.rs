//! What goes wrong in a plan, and when.

use jobmesh_protocol::DurationMillis;

use super::{Draw, Tier};
use crate::disk::{DiskFault, Loss};
use crate::fault::{
    Clog, DiskStrike, Fault, FrameFault, LinkFault, NodeFault, RunFault, Shape, Trap, Treason, What, When,
};
use crate::plan::Disks;
use crate::random::Stream;

/// How many kinds go on all the time, more or less.
const AMBIENT: u64 = 13;
/// How many kinds strike at times of their own.
const SCHEDULED: u64 = 18;
/// From this one on they are made of files, so that a node without any can't have them.
const OF_FILES: u64 = 16;
/// Those of them that are common: the rarer ones cost a machine or are most of a minute long.
const COMMON: u64 = 13;

/// Draws every fault of a plan.
pub(super) fn draw(draw: &Draw, nodes: usize) -> Vec<Fault> {
    let is_large = draw.tier != Tier::Full;
    let mut drawn =
        Drawn { faults: Vec::new(), faulty: draw.faulty, nodes, is_large, has_files: draw.tier != Tier::Mass };
    drawn.ambient(&mut Stream::new(draw.seed, "ambient faults"));
    let mut stream = Stream::new(draw.seed, "scheduled faults");
    // In a large world as many nodes are struck, of those that there are.
    let crowd = (nodes as u64 / 10).max(1);
    let mean_pause = stream.between(6_000, 40_000) / crowd;
    drawn.scheduled(&mut stream, mean_pause);
    if draw.disks == Disks::Honest && draw.tier != Tier::Mass {
        drawn.of_disks(&mut Stream::new(draw.seed, "faults of disks"), mean_pause);
    }
    // What came later is drawn from streams of its own, after the rest, so that older plans stay what they were.
    if draw.tier == Tier::Full {
        drawn.of_clocks(&mut Stream::new(draw.seed, "faults of clocks"));
        drawn.after_cancels(&mut Stream::new(draw.seed, "crashes after cancels"));
        drawn.plugs(&mut Stream::new(draw.seed, "crashes at commands"));
        drawn.silences(&mut Stream::new(draw.seed, "long silences"));
        drawn.treasons(&mut Stream::new(draw.seed, "treasons"));
    }
    drawn.faults
}

/// How long until the next fault.
fn pause(stream: &mut Stream, mean: u64) -> u64 {
    stream.between(mean / 10, mean * 2)
}

/// How long a fault lasts: mostly short, at times past every lease.
fn length(stream: &mut Stream) -> DurationMillis {
    let longest = if stream.chance(300) { 130_000 } else { 15_000 };
    DurationMillis(stream.between(100, longest))
}

fn per_mille(stream: &mut Stream, low: u64, high: u64) -> u32 {
    u32::try_from(stream.between(low, high)).unwrap_or(0)
}

struct Drawn {
    faults: Vec<Fault>,
    faulty: DurationMillis,
    nodes: usize,
    is_large: bool,
    has_files: bool,
}

impl Drawn {
    fn add(&mut self, at: u64, length: DurationMillis, what: What) {
        let number = u32::try_from(self.faults.len()).unwrap_or(u32::MAX);
        self.faults.push(Fault { number, at: DurationMillis(at), length, what });
    }

    /// Kinds that go on for the whole time, or for some part of it.
    fn ambient(&mut self, stream: &mut Stream) {
        for kind in 0..AMBIENT {
            if !stream.chance(500) {
                continue;
            }
            let is_part = stream.chance(300);
            let at = if is_part { stream.below(self.faulty.0) } else { 0 };
            let longest = self.faulty.0 - at;
            let length = if is_part { stream.between(longest / 10, longest) } else { longest };
            let what = draw_ambient(stream, kind);
            self.add(at, DurationMillis(length), what);
        }
    }

    fn scheduled(&mut self, stream: &mut Stream, mean_pause: u64) {
        // Among many nodes there is room for every kind; a few see some of them, so that each gets its turn.
        let mut has = |per_mille| stream.chance(per_mille) || self.is_large;
        let common = (0..COMMON).filter(|_| has(500)).collect::<Vec<_>>();
        let last = if self.has_files { SCHEDULED } else { OF_FILES };
        let rare = (COMMON..last).filter(|_| has(250)).collect::<Vec<_>>();
        let mut at = 2_000 + pause(stream, mean_pause);
        while at < self.faulty.0 {
            let is_rare = stream.chance(60);
            let kinds = if is_rare { &rare } else { &common };
            let length = length(stream);
            if let Some(kind) = stream.pick(kinds) {
                let what = self.draw_scheduled(stream, kind, length);
                self.add(at, length, what);
            }
            at += pause(stream, mean_pause);
        }
    }

    fn draw_scheduled(&self, stream: &mut Stream, kind: u64, length: DurationMillis) -> What {
        let seat = stream.index(self.nodes);
        let other = (seat + 1 + stream.index(self.nodes - 1)) % self.nodes;
        let of_node = |fault| What::Node { seat, fault };
        match kind {
            0..=3 if self.is_large => self.split(stream),
            0 => self.cut(stream, Shape::Groups),
            1 => self.cut(stream, Shape::OneWay),
            2 => self.cut(stream, Shape::Isolation),
            3 => self.cut(stream, Shape::Bridge),
            4 => of_node(NodeFault::Clog),
            5 => self.swizzle(stream, length),
            6 => What::Links(LinkFault::HalfOpen { near: seat, far: other }),
            7 => What::Links(LinkFault::Disconnect { one: seat, other }),
            8 => of_node(NodeFault::Crash { leaves_orphans: false }),
            9 => of_node(NodeFault::Crash { leaves_orphans: true }),
            10 => of_node(NodeFault::Trap { place: draw_trap(stream), when: draw_when(stream) }),
            11 => of_node(NodeFault::Pause),
            12 => of_node(NodeFault::Sleep),
            13 => of_node(NodeFault::Jump { by_ms: draw_jump(stream) }),
            14 => of_node(NodeFault::Wipe),
            15 => of_node(NodeFault::Trap { place: draw_trap(stream), when: When::Start }),
            16 => of_node(NodeFault::OldBackup),
            _ => of_node(NodeFault::Clone { turn_ms: stream.between(3_000, 40_000) }),
        }
    }

    /// Cuts off a few nodes, now and then half of a large world: cuts of many nodes, as frequent as they are among a
    /// few, would leave no two that reach each other.
    fn split(&self, stream: &mut Stream) -> What {
        let most = if stream.chance(50) { self.nodes / 2 } else { self.nodes / 20 };
        let size = 1 + stream.index(most.max(1));
        let seats: std::collections::BTreeSet<usize> = (0..size).map(|_| stream.index(self.nodes)).collect();
        What::Links(LinkFault::Split { seats: seats.into_iter().collect() })
    }

    fn cut(&self, stream: &mut Stream, shape: Shape) -> What {
        let alone = stream.index(self.nodes);
        let inside: Vec<bool> = match shape {
            Shape::Isolation => (0..self.nodes).map(|seat| seat == alone).collect(),
            Shape::Groups | Shape::OneWay | Shape::Bridge => (0..self.nodes).map(|_| stream.chance(500)).collect(),
        };
        let mut ways = Vec::new();
        for (from, from_in) in inside.iter().enumerate() {
            for (to, to_in) in inside.iter().enumerate() {
                let is_cut = match shape {
                    Shape::Groups | Shape::Isolation => from_in != to_in,
                    Shape::OneWay => *from_in && !*to_in,
                    Shape::Bridge => from_in != to_in && from != alone && to != alone,
                };
                if is_cut {
                    ways.push((from, to));
                }
            }
        }
        What::Links(LinkFault::Cut { shape, ways })
    }

    /// Half of the nodes, or a few of many, stop one by one and go on in another order.
    fn swizzle(&self, stream: &mut Stream, length: DurationMillis) -> What {
        let third = length.0 / 3 + 1;
        let share = if self.is_large { 5_000 / self.nodes.max(10) as u64 } else { 500 };
        let stopped = (0..self.nodes).filter(|_| stream.chance(share)).collect::<Vec<_>>();
        let clog = |seat| {
            let from_ms = stream.below(third);
            Clog { seat, from_ms, length_ms: third - from_ms + stream.below(2 * third) }
        };
        What::Links(LinkFault::Swizzle { clogs: stopped.into_iter().map(clog).collect() })
    }

    /// Some worlds have clocks that are set all the time.
    fn of_clocks(&mut self, stream: &mut Stream) {
        if !stream.chance(300) {
            return;
        }
        let mut at = stream.between(2_000, 20_000);
        while at < self.faulty.0 {
            let (seat, by_ms) = (stream.index(self.nodes), draw_jump(stream));
            let length = DurationMillis(stream.between(1_000, 60_000));
            self.add(at, length, What::Node { seat, fault: NodeFault::Jump { by_ms } });
            at += stream.between(1_000, 20_000);
        }
    }

    /// In some worlds whoever has cancelled a job pulls the plug.
    fn after_cancels(&mut self, stream: &mut Stream) {
        if !stream.chance(500) {
            return;
        }
        for seat in 0..self.nodes {
            for _ in 0..5 {
                let at = stream.below(self.faulty.0);
                let place = stream.pick(&[Trap::BeforeCommit, Trap::BeforeRelease]).unwrap_or(Trap::BeforeCommit);
                let fault = NodeFault::Trap { place, when: When::AfterCancel };
                self.add(at, DurationMillis(1_000), What::Node { seat, fault });
            }
        }
    }

    /// In some worlds daemons are killed where most is to lose: before the commit of what somebody has just asked for.
    fn plugs(&mut self, stream: &mut Stream) {
        if !stream.chance(300) {
            return;
        }
        for seat in 0..self.nodes {
            for _ in 0..4 {
                let at = stream.below(self.faulty.0);
                let fault = NodeFault::Trap { place: Trap::BeforeCommit, when: When::Command };
                self.add(at, DurationMillis(1_000), What::Node { seat, fault });
            }
        }
    }

    /// In some worlds nodes are alone for longer than any lease lasts.
    fn silences(&mut self, stream: &mut Stream) {
        if !stream.chance(300) {
            return;
        }
        let mut at = stream.between(10_000, 60_000);
        while at < self.faulty.0 {
            let length = DurationMillis(stream.between(50_000, 100_000));
            let cut = self.cut(stream, Shape::Isolation);
            self.add(at, length, cut);
            at += stream.between(60_000, 150_000);
        }
    }

    /// What a member with a key of its own does, for the whole time or some part of it.
    fn treasons(&mut self, stream: &mut Stream) {
        for treason in Treason::ALL {
            let (does, is_part) = (stream.chance(300), stream.chance(300));
            let at = if is_part { stream.below(self.faulty.0) } else { 0 };
            let length = DurationMillis(stream.between(0, self.faulty.0 - at).max(self.faulty.0 / 10));
            if does {
                self.add(at, length, What::Traitor(treason));
            }
        }
    }

    /// What strikes disks is drawn apart, so that a plan without it is otherwise the same.
    fn of_disks(&mut self, stream: &mut Stream, mean_pause: u64) {
        let enabled: Vec<DiskFault> = DiskFault::HONEST.into_iter().filter(|_| stream.chance(500)).collect();
        let losses: Vec<Loss> = enabled.iter().filter_map(|fault| fault.loss()).collect();
        let scheduled: Vec<DiskFault> = enabled.iter().copied().filter(|fault| fault.is_scheduled()).collect();
        let breaks_word = stream.chance(100);
        let mut at = 0;
        loop {
            at += pause(stream, mean_pause);
            if at >= self.faulty.0 {
                return;
            }
            let (seat, length) = (stream.index(self.nodes), length(stream));
            let loss = stream.pick(&losses).unwrap_or(Loss::Kept);
            let strike = stream.pick(&scheduled).and_then(|fault| draw_strike(stream, fault, loss));
            let broken = breaks_word && stream.chance(100);
            let fault = match (broken, strike) {
                (true, _) if stream.chance(500) => NodeFault::LyingSync { loss: Loss::Lost },
                (true, _) => NodeFault::BitRot { in_log: stream.chance(300) },
                (false, Some(strike)) => NodeFault::Disk(strike),
                (false, None) => continue,
            };
            self.add(at, length, What::Node { seat, fault });
        }
    }
}

fn draw_ambient(stream: &mut Stream, kind: u64) -> What {
    let frames = |fault| What::Frames(fault);
    match kind {
        0 => {
            let longest_ms = if stream.chance(300) { 20_000 } else { 1_500 };
            frames(FrameFault::Delay { per_mille: per_mille(stream, 20, 300), longest_ms })
        }
        1 => frames(FrameFault::Loss { per_mille: per_mille(stream, 5, 200) }),
        2 => {
            let (begins_per_mille, ends_per_mille) = (per_mille(stream, 2, 40), per_mille(stream, 50, 400));
            frames(FrameFault::Burst { begins_per_mille, ends_per_mille })
        }
        3 => frames(FrameFault::Duplicate { per_mille: per_mille(stream, 5, 100) }),
        4 => frames(FrameFault::Reorder { per_mille: per_mille(stream, 5, 200) }),
        5 => frames(FrameFault::Truncate { per_mille: per_mille(stream, 1, 10) }),
        6 => {
            let (per_mille, after_ms) = (per_mille(stream, 2, 30), stream.between(60_000, 600_000));
            frames(FrameFault::Replay { per_mille, after_ms })
        }
        7 => What::Runs(RunFault::Fail { per_mille: per_mille(stream, 50, 200) }),
        8 => What::Runs(RunFault::Hang { per_mille: per_mille(stream, 10, 60) }),
        9 => What::Runs(RunFault::Double { per_mille: per_mille(stream, 50, 300) }),
        10 => What::Runs(RunFault::Flood { per_mille: per_mille(stream, 20, 100) }),
        11 => What::Runs(RunFault::Lie { per_mille: per_mille(stream, 50, 300) }),
        _ => What::Forger,
    }
}

fn draw_trap(stream: &mut Stream) -> Trap {
    let places = [Trap::BeforeCommit, Trap::BeforeRelease, Trap::ErrorAfterCommit, Trap::ErrorBeforeCommit];
    stream.pick(&places).unwrap_or(Trap::BeforeCommit)
}

fn draw_when(stream: &mut Stream) -> When {
    if stream.chance(300) { When::Command } else { When::Steps(stream.below(12)) }
}

/// Seconds to an hour, back or forth.
fn draw_jump(stream: &mut Stream) -> i64 {
    let far = if stream.chance(500) { 3_600_000 } else { 20_000 };
    let by = i64::try_from(stream.between(1, far)).unwrap_or(1);
    if stream.chance(500) { by } else { -by }
}

fn draw_strike(stream: &mut Stream, fault: DiskFault, loss: Loss) -> Option<DiskStrike> {
    // Some tens of operations are a few steps.
    let operations = stream.below(60);
    match fault {
        DiskFault::PowerCut => Some(DiskStrike::PowerCut { operations, loss }),
        DiskFault::Kill => Some(DiskStrike::Kill { operations }),
        DiskFault::Io => Some(DiskStrike::Io { operations, times: per_mille(stream, 1, 4) }),
        DiskFault::Sync => Some(DiskStrike::Sync),
        DiskFault::Full => Some(DiskStrike::Full { free_bytes: stream.index(40_000) }),
        DiskFault::Lost
        | DiskFault::Torn
        | DiskFault::Reordered
        | DiskFault::LyingSync
        | DiskFault::BitRot
        | DiskFault::OldBackup => None,
    }
}
