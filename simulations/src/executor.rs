//! Executors without processes: a task's own arguments say what running it does.
//!
//! So a task means the same on every node and after every restart, and the oracle can tell from a run alone which
//! job of the workload it belongs to.

use std::collections::BTreeMap;

use jobmesh_engine::{Ended, StopReason};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::session::ATTACHMENT_BYTES_MAX;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, Outcome, RunId};
use serde::{Deserialize, Serialize};

use crate::faults::RunFate;
use crate::network::Seat;
use crate::random::Stream;

/// The program that every task names: words that nothing but a task ever says, so that a task is known wherever it is
/// said in the clear.
pub(crate) const PROGRAM: &str = "read-by-the-winner-alone";

/// What a task does when it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// Which job of the workload it is.
    pub(crate) index: usize,
    /// How long it takes.
    pub(crate) takes: DurationMillis,
    /// How it ends.
    pub(crate) ending: Ending,
    /// How much it writes.
    pub(crate) writes: Writes,
}

/// How a task ends if nobody stops it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Well, after so many failures.
    OkAfter(u32),
    /// In a way that would repeat.
    Permanent,
    /// Never.
    Never,
}

/// How much a task writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writes {
    /// Nothing.
    Nothing,
    /// Little enough to travel with the receipt.
    Little,
    /// So much that it must be fetched.
    Much,
}

impl Behaviour {
    /// The task that behaves so, reading `stdin`.
    pub(crate) fn task(self, stdin: Option<BlobRef>) -> Task {
        let ending = match self.ending {
            Ending::OkAfter(failures) => failures.to_string(),
            Ending::Permanent => "permanent".to_owned(),
            Ending::Never => "never".to_owned(),
        };
        let writes = match self.writes {
            Writes::Nothing => "nothing",
            Writes::Little => "little",
            Writes::Much => "much",
        };
        let argv =
            vec![PROGRAM.to_owned(), self.index.to_string(), self.takes.0.to_string(), ending, writes.to_owned()];
        Task::Process(ProcessTask { stdin, ..ProcessTask::new(argv) })
    }

    /// Reads a task back; `None` if the workload did not make it.
    pub(crate) fn read(task: &Task) -> Option<Self> {
        let Task::Process(process) = task else { return None };
        let [program, index, takes, ending, writes] = process.argv.as_slice() else { return None };
        let ending = match ending.as_str() {
            "permanent" => Ending::Permanent,
            "never" => Ending::Never,
            failures => Ending::OkAfter(failures.parse().ok()?),
        };
        let writes = match writes.as_str() {
            "nothing" => Writes::Nothing,
            "little" => Writes::Little,
            "much" => Writes::Much,
            _ => return None,
        };
        let (index, takes) = (index.parse().ok()?, DurationMillis(takes.parse().ok()?));
        (program == PROGRAM).then_some(Self { index, takes, ending, writes })
    }
}

/// Bytes of each output of a process that floods: more than any node fetches gladly.
const FLOOD_BYTES: u64 = 1 << 26;

/// What a liar says that its runs have written; nobody has written it.
const LIE: &[u8] = b"written by nobody";

/// What every node's executor draws from.
#[derive(Debug)]
pub(crate) struct Executor {
    seed: u64,
    streams: BTreeMap<Seat, Stream>,
    failed: BTreeMap<usize, u32>,
}

impl Executor {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { seed, streams: BTreeMap::new(), failed: BTreeMap::new() }
    }

    fn stream(&mut self, seat: Seat) -> &mut Stream {
        let seed = self.seed;
        self.streams.entry(seat).or_insert_with(|| Stream::new(seed, &format!("executor of {seat}")))
    }

    /// How long a process takes to start, or to die once it is told to.
    pub(crate) fn reaction(&mut self, seat: Seat) -> DurationMillis {
        DurationMillis(self.stream(seat).between(1, 400))
    }

    /// Whether the system still knows how a process ended that nobody watched.
    pub(crate) fn is_remembered(&mut self, seat: Seat) -> bool {
        self.stream(seat).chance(500)
    }

    /// The end of a run that nobody stopped, and what it left on the node's disk.
    pub(crate) fn end(
        &mut self,
        fate: RunFate,
        behaviour: Behaviour,
        (seat, run): (Seat, RunId),
    ) -> (Ended, Vec<BlobRef>) {
        let outcome = self.outcome(fate, behaviour);
        let code = i32::from(outcome != Outcome::Ok);
        let exit = Exit { code: Some(code), signal: None };
        let (draw, more) = (self.stream(seat).below(u64::MAX), self.stream(seat).below(1 << 20));
        let text = format!("job {} run {run} on {seat}, draw {draw}", behaviour.index);
        let of_size = |size, name: &str| Some(BlobRef { size, ..BlobRef::of(name.as_bytes()) });
        // Only the name of a large output matters here, so its bytes are never made.
        let (outputs, inline) = match behaviour.writes {
            _ if fate.floods => {
                let stderr = of_size(FLOOD_BYTES, &format!("{text}, errors"));
                (Outputs { stdout: of_size(FLOOD_BYTES, &text), stderr, result: None, files: None }, Vec::new())
            }
            Writes::Nothing => (Outputs::default(), Vec::new()),
            Writes::Little => {
                let stdout = Some(BlobRef::of(text.as_bytes()));
                (Outputs { stdout, stderr: None, result: None, files: None }, vec![text.into_bytes()])
            }
            Writes::Much => {
                let size = (ATTACHMENT_BYTES_MAX as u64) + 1 + more;
                (Outputs { stdout: of_size(size, &text), stderr: None, result: None, files: None }, Vec::new())
            }
        };
        let written = outputs.blobs().collect();
        let outputs = if fate.lies { claimed(outputs) } else { outputs };
        (
            Ended {
                outcome,
                exit,
                outputs,
                usage: Usage::default(),
                model: None,
                isolation: Isolation::Contained,
                ran_micros: TAKES_LONG,
                inline,
                notice: None,
            },
            written,
        )
    }

    fn outcome(&mut self, fate: RunFate, behaviour: Behaviour) -> Outcome {
        if fate.fails {
            return Outcome::error("the disk of the process was full");
        }
        match behaviour.ending {
            Ending::Permanent => Outcome::Permanent { message: "no such program".to_owned() },
            Ending::OkAfter(failures) => {
                let failed = self.failed.entry(behaviour.index).or_default();
                if *failed >= failures {
                    return Outcome::Ok;
                }
                *failed += 1;
                Outcome::error(format!("failure {failed} of {failures}"))
            }
            Ending::Never => Outcome::Lost { reason: "ended though it never does".to_owned() },
        }
    }
}

/// What a liar makes of outputs.
fn claimed(outputs: Outputs) -> Outputs {
    let claim = |blob: BlobRef| BlobRef { size: blob.size, ..BlobRef::of(LIE) };
    let Outputs { stdout, stderr, result, files } = outputs;
    Outputs { stdout: stdout.map(claim), stderr: stderr.map(claim), result: result.map(claim), files: files.map(claim) }
}

/// The end of a run that was stopped.
pub(crate) fn stopped(reason: StopReason) -> Ended {
    let outcome = match reason {
        StopReason::Cancelled | StopReason::Killed => Outcome::Cancelled,
        StopReason::Withdrawn => Outcome::Released { reason: "withdrawn before it started".to_owned() },
        StopReason::Timeout => Outcome::Timeout,
        StopReason::LeaseEnded => Outcome::Lost { reason: "the lease ended".to_owned() },
        StopReason::Draining => Outcome::Released { reason: "the node shuts down".to_owned() },
    };
    let exit = Exit { code: None, signal: Some(15) };
    Ended {
        outcome,
        exit,
        outputs: Outputs::default(),
        usage: Usage::default(),
        model: None,
        isolation: Isolation::Contained,
        ran_micros: TAKES_LONG,
        inline: Vec::new(),
        notice: None,
    }
}

/// What is left of a run whose daemon died.
pub(crate) fn gone() -> Ended {
    let outcome = Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() };
    let outputs = Outputs::default();
    Ended {
        outcome,
        exit: Exit::default(),
        outputs,
        usage: Usage::default(),
        model: None,
        isolation: Isolation::Contained,
        ran_micros: TAKES_LONG,
        inline: Vec::new(),
        notice: None,
    }
}

/// No run of a world is brief: there is no virtual time below a millisecond to see it in.
const TAKES_LONG: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_says_how_it_behaves() {
        for ending in [Ending::OkAfter(0), Ending::OkAfter(3), Ending::Permanent, Ending::Never] {
            for writes in [Writes::Nothing, Writes::Little, Writes::Much] {
                let behaviour = Behaviour { index: 12, takes: DurationMillis(345), ending, writes };
                assert_eq!(Behaviour::read(&behaviour.task(None)), Some(behaviour));
            }
        }
        let foreign = Task::Process(ProcessTask::new(vec!["true".to_owned()]));
        assert_eq!(Behaviour::read(&foreign), None);
    }
}
