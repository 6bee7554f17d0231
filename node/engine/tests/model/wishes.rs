//! Everything that may happen next, at random.

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::Outcome;
use jobmesh_protocol::submission::{Condition, Conflict, Rule, Span};
use proptest::prelude::*;

use crate::node::Fate;

/// One step: what happens, and what becomes of the commit in which it is dealt with.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) what: What,
    pub(crate) fate: Fate,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Submit(Box<Wish>),
    /// One of the processes ends.
    End(usize, How),
    /// Something is done to one of the jobs.
    Act(usize, Action),
    Queue(usize, QueueWish),
    /// So many milliseconds pass.
    Pass(u64),
    /// Somebody sets the clock, by so many seconds.
    Clock(i64),
    /// The daemon is killed; of each of its processes, a bit says whether it lives on.
    Kill(u8),
    /// The daemon is killed, and what the next one asks first is lost.
    KillUnheard,
    /// So many days' worth is deleted.
    Prune,
}

/// A submission.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) queue: usize,
    pub(crate) priority: i32,
    pub(crate) key: Option<usize>,
    pub(crate) cpus: u32,
    pub(crate) is_brief: bool,
    pub(crate) is_once: bool,
    pub(crate) max_attempts: u32,
    pub(crate) crash_limit: u32,
    pub(crate) max_snoozes: Option<u32>,
    pub(crate) start: StartWish,
    pub(crate) within: bool,
    pub(crate) deadline: bool,
    pub(crate) is_held: bool,
    pub(crate) after: Vec<(usize, Option<Condition>)>,
    pub(crate) rule: Rule,
    pub(crate) unique: Option<(Span, Conflict)>,
    pub(crate) shape: Shape,
    pub(crate) is_named: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum StartWish {
    Now,
    After(u64),
    At(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Plain,
    Array { count: u32, at_a_time: Option<u32>, max_fails: Option<u32> },
    Open,
    Into(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Ok,
    Error(i32),
    Permanent,
    Timeout,
    Snoozed,
    SelfCancelled,
    Released,
    Lost,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Action {
    Cancel,
    Retry,
    Hold,
    Release,
    Reschedule(u64),
    Prioritize(i32),
    Move(usize),
    Close,
    Remove,
    /// Makes the task of a group out of turn.
    Name(u32),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum QueueWish {
    Pause,
    Resume,
    Drain,
    Raise,
}

impl How {
    /// The outcome and the exit code.
    pub(crate) fn outcome(self) -> (Outcome, i32) {
        let reason = || "so it went".to_owned();
        match self {
            Self::Ok => (Outcome::Ok, 0),
            Self::Error(code) => (Outcome::error("it broke"), code),
            Self::Permanent => (Outcome::Permanent { message: reason() }, 1),
            Self::Timeout => (Outcome::Timeout, 143),
            Self::Snoozed => (Outcome::Snoozed { for_ms: DurationMillis::from_secs(40), reason: None }, 0),
            Self::SelfCancelled => (Outcome::SelfCancelled { reason: reason() }, 0),
            Self::Released => (Outcome::Released { reason: reason() }, 1),
            Self::Lost => (Outcome::Lost { reason: reason() }, 1),
        }
    }
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    let fate = prop_oneof![12 => Just(Fate::Kept), 1 => Just(Fate::Undone), 1 => Just(Fate::Unknown)];
    (any_what(), fate).prop_map(|(what, fate)| Step { what, fate })
}

fn any_what() -> impl Strategy<Value = What> {
    let pick = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        10 => any_wish().prop_map(|wish| What::Submit(Box::new(wish))),
        12 => (pick(), any_end()).prop_map(|(pick, how)| What::End(pick, how)),
        9 => (pick(), any_action()).prop_map(|(pick, action)| What::Act(pick, action)),
        1 => (0..2usize, any_queue_wish()).prop_map(|(queue, wish)| What::Queue(queue, wish)),
        4 => prop_oneof![Just(1), Just(250), 1_000..100_000u64].prop_map(What::Pass),
        1 => prop_oneof![Just(-31_536_000), Just(31_536_000), -100..100i64].prop_map(What::Clock),
        1 => any::<u8>().prop_map(What::Kill),
        1 => Just(What::KillUnheard),
        1 => Just(What::Prune),
    ]
}

fn any_wish() -> impl Strategy<Value = Wish> {
    let place = (0..2usize, -1..2i32, proptest::option::weighted(0.3, 0..2usize), 1..3u32);
    let kind =
        (any::<bool>(), proptest::bool::weighted(0.1), 1..4u32, 0..3u32, proptest::option::weighted(0.5, 0..2u32));
    let start = prop_oneof![
        8 => Just(StartWish::Now),
        1 => (1..60_000u64).prop_map(StartWish::After),
        1 => (1..60_000u64).prop_map(StartWish::At),
    ];
    let rare = || proptest::bool::weighted(0.12);
    let time = (start, rare(), rare(), rare());
    let condition = proptest::option::weighted(
        0.3,
        prop_oneof![Just(Condition::Ok), Just(Condition::Done), Just(Condition::Failed)],
    );
    let after = prop_oneof![
        3 => Just(Vec::new()),
        2 => proptest::collection::vec((any::<prop::sample::Index>().prop_map(|at| at.index(1 << 20)), condition), 1..3),
    ];
    let rule = proptest::sample::select(Rule::ALL);
    let waits = (after, rule, proptest::option::weighted(0.15, any_unique()), any_shape(), rare());
    (place, kind, time, waits).prop_map(|(place, kind, time, waits)| {
        let (queue, priority, key, cpus) = place;
        let (is_brief, is_once, max_attempts, crash_limit, max_snoozes) = kind;
        let (start, within, deadline, is_held) = time;
        let (after, rule, unique, shape, is_named) = waits;
        Wish {
            queue,
            priority,
            key,
            cpus,
            is_brief,
            is_once,
            max_attempts,
            crash_limit,
            max_snoozes,
            start,
            within,
            deadline,
            is_held,
            after,
            rule,
            unique,
            shape,
            is_named,
        }
    })
}

fn any_unique() -> impl Strategy<Value = (Span, Conflict)> {
    let wait = DurationMillis::from_secs(20);
    let span = prop_oneof![Just(Span::Incomplete), Just(Span::Retained), Just(Span::Period(wait))];
    let conflict = prop_oneof![
        Just(Conflict::Return),
        Just(Conflict::Reject),
        Just(Conflict::Replace),
        Just(Conflict::Merge),
        Just(Conflict::Debounce(wait)),
        Just(Conflict::Throttle(wait)),
    ];
    (span, conflict)
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let limit = || proptest::option::weighted(0.4, 1..3u32);
    prop_oneof![
        10 => Just(Shape::Plain),
        3 => (1..6u32, limit(), limit())
            .prop_map(|(count, at_a_time, max_fails)| Shape::Array { count, at_a_time, max_fails }),
        1 => Just(Shape::Open),
        2 => any::<prop::sample::Index>().prop_map(|at| Shape::Into(at.index(1 << 20))),
    ]
}

fn any_end() -> impl Strategy<Value = How> {
    prop_oneof![
        8 => Just(How::Ok),
        4 => prop_oneof![Just(1), Just(75)].prop_map(How::Error),
        1 => Just(How::Permanent),
        1 => Just(How::Timeout),
        1 => Just(How::Snoozed),
        1 => Just(How::SelfCancelled),
        1 => Just(How::Released),
        1 => Just(How::Lost),
    ]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => Just(Action::Cancel),
        4 => Just(Action::Retry),
        1 => Just(Action::Hold),
        2 => Just(Action::Release),
        2 => (0..50_000u64).prop_map(Action::Reschedule),
        1 => (-2..3i32).prop_map(Action::Prioritize),
        1 => (0..2usize).prop_map(Action::Move),
        2 => Just(Action::Close),
        1 => Just(Action::Remove),
        2 => (1..12u32).prop_map(Action::Name),
    ]
}

fn any_queue_wish() -> impl Strategy<Value = QueueWish> {
    prop_oneof![
        1 => Just(QueueWish::Pause),
        3 => Just(QueueWish::Resume),
        1 => Just(QueueWish::Drain),
        1 => Just(QueueWish::Raise),
    ]
}
