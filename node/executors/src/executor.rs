//! What every executor is: it is probed once, and takes an order from its start to its end on the thread of a slot.
//!
//! | what the runtime is owed | how |
//! |---|---|
//! | start | [`Executor::perform`] is called; [`Event::Started`](crate::Event::Started) tells of a process of the system |
//! | progress | [`Event::Progress`](crate::Event::Progress), by [`Control::emit`]; logs grow in the run's directory |
//! | cancel, timeout, end of a lease, shutdown | [`Control::stop_reason`], whose outcome the end then has |
//! | limits | [`Order::limits`](crate::Order): logs, processes, memory |
//! | outcome, usage | the one [`Ended`] that is returned |
//! | probe, capability | [`Executor::probe`], once, at the start |

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::{Isolation, Outcome, Task};

use crate::control::Control;
use crate::event::Ended;
use crate::order::Order;
use crate::process::Seat;

/// What one executor finds of what it needs on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The executor's name, as in the tag `executor:NAME`.
    pub executor: &'static str,
    /// The highest level at which it can run something; none if it can run nothing at all.
    pub isolation: Option<Isolation>,
    /// Further tags to be advertised, such as `model:NAME`.
    pub tags: BTreeSet<String>,
    /// Versions and the like, for people.
    pub facts: BTreeMap<String, String>,
    /// What is missing, and how to get it; for people.
    pub lacks: Vec<String>,
}

impl Probe {
    /// An executor that has all that it needs for `isolation`.
    pub(crate) fn ready(executor: &'static str, isolation: Isolation) -> Self {
        let (tags, facts) = (BTreeSet::new(), BTreeMap::new());
        Self { executor, isolation: Some(isolation), tags, facts, lacks: Vec::new() }
    }

    /// An executor that can't run anything here.
    pub(crate) fn missing(executor: &'static str, lacks: impl Into<String>) -> Self {
        Self { isolation: None, lacks: vec![lacks.into()], ..Self::ready(executor, Isolation::None) }
    }
}

/// What is said of a task that came to the wrong executor.
pub(crate) fn wrong_task(task: &Task) -> Outcome {
    Outcome::Permanent { message: format!("a task for {} came to another executor of this node", task.executor()) }
}

/// One way to run a task.
pub(crate) trait Executor: Send + Sync {
    /// Looks around on this machine.
    fn probe(&self) -> Probe;

    /// Runs an order of this executor's kind of task to its end, or until `control` says that it must end. Nothing of it
    /// may be left when this returns.
    fn perform(&self, order: &Order, seat: &mut Seat, control: &Control<'_>) -> Ended;
}
