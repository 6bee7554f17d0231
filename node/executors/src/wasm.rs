//! The wasm executor: a WebAssembly module with the interface of WASI, preview 1.
//!
//! A [worker](crate::work) interprets the module, or compiles it if the node was built so. It sees its working directory
//! as `.` and as `/work`, its arguments, its variables and its three streams, and nothing else: WASI has no other way to
//! the outside. Like every command it may write its result to the file that `JOBMESH_RESULT` names, and a word about its
//! outcome to `JOBMESH_OUTCOME`; both lie in the working directory for as long as it runs.
//!
//! Each instruction costs fuel, about one unit, and the same module with the same input uses the same on every machine,
//! as long as it asks neither for the time nor for random numbers, which it may.

mod bounds;
#[cfg(feature = "wasm-jit")]
mod compiled;
mod engine;
mod guest;
#[cfg(not(feature = "wasm-jit"))]
mod interpreted;

use std::path::PathBuf;
use std::sync::Arc;

use jobmesh_protocol::task::Task;
use jobmesh_protocol::{Isolation, Outcome};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::event::Ended;
use crate::executor::{Executor, Probe, wrong_task};
use crate::interpreter::{Guest, Interpreter, Levels};
use crate::order::Order;
use crate::process::{Process, Seat};
use crate::surroundings::Surroundings;
use crate::worker::too_large;

pub(crate) use guest::work;

/// The executor's name, and the worker's.
pub(crate) const KIND: &str = "wasm";

/// What is interpreted, in messages.
const GUEST: &str = "module";

/// What the module is called as its own first argument.
const NAME: &str = "module.wasm";

/// Code that can name nothing but what it was given is kept apart by that alone; with the walls it may be a stranger's.
const LEVELS: Levels = Levels { walled: Isolation::Untrusted, bare: Isolation::Sandboxed };

/// Largest module: 256 MiB. It is held in memory as it is, and again as what was made of it.
const MODULE_BYTES_MAX: u64 = 256 << 20;

/// What only this kind of worker is told.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    module: PathBuf,
    fuel: Option<u64>,
}

/// Runs wasm tasks.
#[derive(Debug)]
pub(crate) struct Wasm {
    interpreter: Interpreter,
}

impl Wasm {
    pub(crate) fn new(surroundings: &Surroundings, process: Arc<Process>) -> Self {
        Self { interpreter: Interpreter::new(KIND, LEVELS, surroundings, process) }
    }
}

impl Executor for Wasm {
    fn probe(&self) -> Probe {
        let mut probe = self.interpreter.probe();
        probe.facts.insert("engine".to_owned(), engine::NAME.to_owned());
        probe
    }

    fn perform(&self, order: &Order, seat: &mut Seat, control: &Control<'_>) -> Ended {
        let Task::Wasm(task) = &order.task else { return Ended::without_process(wrong_task(&order.task)) };
        if task.module.size > MODULE_BYTES_MAX {
            let message = too_large(GUEST, MODULE_BYTES_MAX);
            return Ended::without_process(Outcome::Permanent { message });
        }
        let arguments: Vec<String> = std::iter::once(NAME.to_owned()).chain(task.argv.iter().cloned()).collect();
        let guest = Guest {
            arguments: &arguments,
            environment: &task.environment,
            stdin: task.stdin,
            memory_bytes: order.limits.memory_bytes,
            beside_bytes: engine::BESIDE_BYTES,
            piece: Piece { module: order.blobs.join(task.module.hash.to_string()), fuel: task.fuel },
        };
        self.interpreter.run(order, guest, seat, control)
    }
}
