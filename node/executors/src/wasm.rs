//! The wasm executor.

use std::path::PathBuf;
use std::sync::Arc;

use jobmesh_protocol::Outcome;

use crate::event::Ended;
use crate::executor::{Executor, Probe};
use crate::executors::Control;
use crate::kinds::Surroundings;
use crate::order::Order;
use crate::process::{Process, Seat};

/// Runs wasm tasks.
#[derive(Debug)]
pub(crate) struct Wasm {
    worker: PathBuf,
    process: Arc<Process>,
}

impl Wasm {
    pub(crate) fn new(surroundings: &Surroundings, process: Arc<Process>) -> Self {
        Self { worker: surroundings.worker.clone(), process }
    }
}

impl Executor for Wasm {
    fn probe(&self) -> Probe {
        Probe::missing("wasm", "not built")
    }

    fn perform(&self, order: &Order, _seat: &mut Seat, _control: &Control<'_>) -> Ended {
        let message = format!("this node has no executor for {}", order.task.executor());
        Ended::without_process(Outcome::Permanent { message })
    }
}
