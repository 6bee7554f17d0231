//! The lua executor: a script in Luau.
//!
//! It is Luau and not Lua since Lua can't be stopped within a pattern or a `pcall` that is called again and again; so
//! there is no `goto` and no integer type, and there are types, `continue` and `+=`. A [worker](crate::work) interprets the
//! script, which has the pure parts of Luau's library and one table more, `job`:
//!
//! | of `job` | what it is |
//! |---|---|
//! | `args`, `env`, `id`, `attempt` | the task's arguments and variables, the job's number and how often it was tried |
//! | `input()` | all of standard input, as text |
//! | `log(…)`, `warn(…)` | a line on standard output, or on standard error; `print` is `log` |
//! | `result(value)` | keeps the result; so does returning a value from the script |
//! | `fail(why, seconds)`, `permanent(why)` | ends the attempt, to be tried again (later than in so many seconds) or not |
//! | `snooze(seconds, why)`, `cancel(why)` | ends the attempt, to be continued later or not at all |
//! | `progress(done, what)`, `heartbeat()` | how far it is, from 0 to 1, and that it lives |
//! | `checkpoint(name, value)`, `checkpoints()` | keeps a text for the next attempt, and all that was kept |
//! | `http(request)` | asks a web server: a table of `url`, `method`, `headers`, `body`, `redirects`; gives one of `status`, `url`, `headers`, `body` |
//! | `submit(job)` | takes on another job of this node, as `POST /v1/jobs` does; gives its number |
//! | `read(path)`, `write(path, text)`, `list(path)`, `remove(path)` | files, below the working directory only |
//! | `encode(value)`, `decode(text)` | JSON; an empty table is an empty list, and null is nil |
//!
//! It talks to its node over a connection of its own, which it can't open anew. Once the node has been started again, nobody
//! hears of progress any more, and what the script wants of the node fails.
//!
//! It has no network. If the job asked for it (`--network`) and the node grants it, the node makes requests for it, under
//! the rules of http jobs, each once and with an answer of up to 4 MiB; every status is an answer.
//!
//! A script that fails is told of with its line, as `script:12: …`.

mod daemon;
mod guest;
mod job;
mod value;
mod work_files;

use std::path::PathBuf;
use std::sync::Arc;

use jobmesh_protocol::Isolation;
use jobmesh_protocol::task::{Content, Task};
use serde::{Deserialize, Serialize};

use crate::control::Control;
use crate::event::Ended;
use crate::executor::{Executor, Probe, wrong_task};
use crate::interpreter::{Guest, Interpreter, Levels};
use crate::order::Order;
use crate::process::{Process, Seat};
use crate::surroundings::Surroundings;
use crate::variable::{SOCKET_VARIABLE, TOKEN_VARIABLE};

pub(crate) use guest::work;

/// The executor's name, and the worker's.
pub(crate) const KIND: &str = "lua";

/// Most memory of a script that doesn't say how much it needs: 256 MiB.
const MEMORY_BYTES: u64 = 256 << 20;

/// Memory that a worker takes beside the script's: 64 MiB. One that runs a hello has 12 MiB.
const BESIDE_BYTES: u64 = 64 << 20;

/// An interpreter in C with a heap full of pointers is not trusted to hold a stranger by itself.
const LEVELS: Levels = Levels { walled: Isolation::Sandboxed, bare: Isolation::Contained };

/// What only this kind of worker is told.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    script: Script,
    socket: Option<Socket>,
}

/// Where the script is.
#[derive(Debug, Serialize, Deserialize)]
enum Script {
    Text(String),
    File(PathBuf),
}

/// The socket of tasks, and what proves the run to it.
#[derive(Debug, Serialize, Deserialize)]
struct Socket {
    path: PathBuf,
    run: String,
    token: String,
}

/// Runs lua tasks.
#[derive(Debug)]
pub(crate) struct Lua {
    interpreter: Interpreter,
}

impl Lua {
    pub(crate) fn new(surroundings: &Surroundings, process: Arc<Process>) -> Self {
        Self { interpreter: Interpreter::new(KIND, LEVELS, surroundings, process) }
    }
}

impl Executor for Lua {
    fn probe(&self) -> Probe {
        let mut probe = self.interpreter.probe();
        probe.facts.insert("engine".to_owned(), "Luau".to_owned());
        probe
    }

    fn perform(&self, order: &Order, seat: &mut Seat, control: &Control<'_>) -> Ended {
        let Task::Lua(task) = &order.task else { return Ended::without_process(wrong_task(&order.task)) };
        let script = match &task.script {
            Content::Text(text) => Script::Text(text.clone()),
            Content::Blob(blob) => Script::File(order.blobs.join(blob.hash.to_string())),
        };
        let guest = Guest {
            arguments: &task.argv,
            environment: &task.environment,
            stdin: task.stdin,
            memory_bytes: Some(order.limits.memory_bytes.unwrap_or(MEMORY_BYTES)),
            beside_bytes: BESIDE_BYTES,
            piece: Piece { script, socket: socket(order) },
        };
        self.interpreter.run(order, guest, seat, control)
    }
}

/// The socket of tasks, if the run was given it.
fn socket(order: &Order) -> Option<Socket> {
    let path = PathBuf::from(order.environment.get(SOCKET_VARIABLE)?);
    let token = order.environment.get(TOKEN_VARIABLE)?.clone();
    Some(Socket { path, run: order.run.to_string(), token })
}
