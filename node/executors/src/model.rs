//! The model executor.

use jobmesh_protocol::Outcome;

use crate::event::Ended;
use crate::executor::{Executor, Probe};
use crate::executors::Control;
use crate::kinds::Surroundings;
use crate::order::Order;
use crate::process::Seat;

/// Runs model tasks.
#[derive(Debug)]
pub(crate) struct Model {}

impl Model {
    pub(crate) fn new(_surroundings: &Surroundings) -> Self {
        Self {}
    }
}

impl Executor for Model {
    fn probe(&self) -> Probe {
        Probe::missing("model", "not built")
    }

    fn perform(&self, order: &Order, _seat: &mut Seat, _control: &Control<'_>) -> Ended {
        let message = format!("this node has no executor for {}", order.task.executor());
        Ended::without_process(Outcome::Permanent { message })
    }
}
