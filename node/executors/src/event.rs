//! What an executor says: a run began, a run ended.

use jobmesh_protocol::outcome::{Exit, MESSAGE_BYTES_MAX, Outputs};
use jobmesh_protocol::{Outcome, RunId};

/// News of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The process of a run lives. Comes before its end, or never.
    Started {
        /// The run.
        run: RunId,
        /// Its main process.
        process: ProcessId,
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
    /// The content of those outputs that are at most [`INLINE_BYTES_MAX`](crate::INLINE_BYTES_MAX) long, standard
    /// output first.
    pub inline: Vec<Vec<u8>>,
}

impl Ended {
    /// The end of a run that never had a process.
    pub(crate) fn without_process(outcome: Outcome) -> Self {
        Self { outcome, exit: Exit::default(), outputs: Outputs::default(), inline: Vec::new() }
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
