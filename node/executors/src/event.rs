//! What an executor says: a run began, a run ended.

use std::time::Duration;

use jobmesh_protocol::outcome::{Exit, MESSAGE_BYTES_MAX, ModelUse, Outputs, Usage};
use jobmesh_protocol::{Isolation, Outcome, RunId};

/// News of a run.
#[expect(clippy::large_enum_variant, reason = "every run has one end, and boxing it would move it once more")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process of a run lives. Comes before its end, or never: a run that is over within milliseconds is told of by
    /// its end alone.
    Started {
        /// The run.
        run: RunId,
        /// Its main process.
        process: ProcessId,
    },
    /// How far a run has come, as its executor knows.
    Progress {
        /// The run.
        run: RunId,
        /// How much of it is done, from 0 to 10,000; none if that can't be told.
        done: Option<u16>,
        /// What it is at, for people.
        what: String,
    },
    /// The run is over and nothing of it is left. Comes exactly once per order.
    Ended {
        /// The run.
        run: RunId,
        /// How it ended.
        ended: Ended,
    },
}

/// A process for as long as the operating system isn't restarted.
///
/// The number alone is reused; together with the start time it names one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// The number of the process.
    pub pid: u32,
    /// When it started, in clock ticks since the system did (field 22 of `/proc/PID/stat`); 0 where unknown.
    pub started: u64,
}

/// How a run ended and what it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it means.
    pub outcome: Outcome,
    /// How the main process ended; empty if there was none.
    pub exit: Exit,
    /// What it wrote. A stream without a byte is none.
    pub outputs: Outputs,
    /// The content of those outputs that are short, found by their hash: standard output, standard error, result. Short
    /// is up to [`INLINE_BYTES_MAX`](crate::INLINE_BYTES_MAX) bytes of a stream, and up to
    /// [`RESULT_INLINE_BYTES_MAX`](crate::RESULT_INLINE_BYTES_MAX) of a result.
    pub inline: Vec<Vec<u8>>,
    /// What it took, as far as that is known.
    pub usage: Usage,
    /// What it asked of a model, if it did.
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of the machine.
    pub isolation: Isolation,
    /// What it took to end its processes, if they did not end by themselves.
    pub notice: Option<String>,
    /// How long it ran, from its start until nothing of it was left; nothing if there was no process.
    pub ran: Duration,
}

impl Ended {
    /// The end of a run that never had a process.
    pub(crate) fn without_process(outcome: Outcome) -> Self {
        Self {
            outcome,
            exit: Exit::default(),
            outputs: Outputs::default(),
            inline: Vec::new(),
            usage: Usage::default(),
            model: None,
            isolation: Isolation::None,
            notice: None,
            ran: Duration::ZERO,
        }
    }
}

/// Cuts a message for people to what may travel with an outcome.
pub(crate) fn clip(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        let last = message.char_indices().map(|(at, _)| at).take_while(|at| *at <= MESSAGE_BYTES_MAX).last();
        message.truncate(last.unwrap_or(0));
    }
    message
}

/// Writes an error and its sources on one line, cut like [`clip`].
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    clip(text)
}
