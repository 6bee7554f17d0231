//! Whether a run keeps within its limits, looked at ten times a second by the thread that waits for it anyway.
//!
//! There is no thread for this alone: a slot with a run sleeps in one `poll`, which may as well wake it after 100 ms, and
//! a run that is shorter is never looked at until its end. A look costs about 15 µs where the kernel counts processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jobmesh_protocol::Outcome;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::order::Limits;
use crate::output::Log;
use crate::process::cgroup::{Fence, SlotGroup};
use crate::process::disk::Disk;
use crate::process::exit::size;
use crate::process::handle;
use crate::process::tree::{self, Target, scan};
use crate::process::urgent::Urgent;

/// Time between two looks at a run that goes on.
const LOOK: Duration = Duration::from_millis(100);

/// The same in the first tenth of a second, where we are the ones who count processes: a fork bomb makes about ten in a
/// millisecond.
const LOOK_EARLY: Duration = Duration::from_millis(10);

/// Looks until they become rarer, and memory is sampled at every tenth only.
const LOOKS_EAGER: u32 = 10;

/// Most processes whose memory is sampled at a look.
const SAMPLED_MAX: usize = 16;

/// How long a run that writes too much may take to end after TERM: one second.
const LOG_GRACE: Duration = Duration::from_secs(1);

/// What holds a fork bomb back until we have counted it, where the kernel doesn't count for us.
///
/// Most users are held by the kernel's limit on the processes of one user. Root is not; there the thread that counts goes
/// before everything that it counts. Without either a bomb took all 32,768 numbers of a system of two processors before
/// the thread that was to count it had its first turn.
pub(super) struct Brake {
    _urgent: Option<Urgent>,
}

impl Brake {
    /// To be put on as soon as the main process lives, and kept on while it is watched.
    pub(super) fn put_on(pid: u32, limits: &Limits) -> Self {
        let all = scan::tasks().unwrap_or_default();
        // All tasks of the system are no fewer than those of our user, so this is never too tight.
        let max = all.saturating_add(u64::from(limits.processes_max));
        let limit = Rlimit { current: Some(max), maximum: Some(max) };
        let is_root = rustix::process::geteuid().is_root();
        if !is_root && let Err(error) = prlimit(handle::number(pid), Resource::Nproc, limit) {
            // Its own limit may be lower, which is as good, or it has ended.
            tracing::debug!(pid, error = %error, "failed to limit the processes of a run");
        }
        Self { _urgent: is_root.then(Urgent::new).flatten() }
    }
}

/// A limit that a run went beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    Logs { bytes_max: u64 },
    Processes { max: u32 },
    Disk { bytes_max: u64 },
}

impl Breach {
    /// What the signal says that ended a run within these limits: the kernel sends one at a file that grows too large.
    pub(super) fn by_signal(limits: &Limits, signal: Option<i32>) -> Option<Self> {
        let bytes_max = limits.disk_bytes.filter(|_| signal == Some(Signal::XFSZ.as_raw()))?;
        Some(Self::Disk { bytes_max })
    }

    pub(crate) fn outcome(self) -> Outcome {
        let message = match self {
            Self::Logs { bytes_max } => format!("wrote more than {} of output (log limit)", size(bytes_max)),
            Self::Processes { max } => format!("had more than {max} processes (process limit)"),
            Self::Disk { bytes_max } => format!("used more than {} of disk (disk limit)", size(bytes_max)),
        };
        Outcome::Permanent { message }
    }

    /// The time between TERM and KILL; none is KILL at once, to what can't be let run any longer.
    pub(super) const fn grace(self) -> Option<Duration> {
        match self {
            Self::Logs { .. } => Some(LOG_GRACE),
            Self::Processes { .. } | Self::Disk { .. } => None,
        }
    }
}

/// The watch over one run.
#[derive(Debug)]
pub(super) struct Guard<'a> {
    limits: Limits,
    logs: [Option<&'a Log>; 2],
    target: Target,
    counter: Counter<'a>,
    fences: &'a [Fence],
    /// Processes that are not the run's own but its sandbox's.
    beside: u32,
    disk: Option<Disk>,
    looks: u32,
    memory_peak: Option<u64>,
}

/// Who counts processes.
#[derive(Debug)]
enum Counter<'a> {
    /// The kernel. It had turned down so many births before this run.
    Kernel { group: &'a SlotGroup, hits_before: u64 },
    /// We. The system had so many tasks before this run.
    Ourselves { tasks_before: u64 },
}

impl<'a> Guard<'a> {
    /// Watches a run. `group` is the one that its slot sits in, with the hits that it had before the run.
    pub(super) fn new(
        limits: Limits,
        logs: [Option<&'a Log>; 2],
        target: Target,
        group: Option<(&'a SlotGroup, u64)>,
        fences: &'a [Fence],
    ) -> Self {
        let counter = group.map_or_else(
            || Counter::Ourselves { tasks_before: scan::tasks().unwrap_or_default() },
            |(group, hits_before)| Counter::Kernel { group, hits_before },
        );
        Self { limits, logs, target, counter, fences, beside: 0, disk: None, looks: 0, memory_peak: None }
    }

    /// Also watches what the run writes in its directory, if that is limited. `beside` processes don't count.
    pub(super) fn with(self, directory: &Path, beside: u32) -> Self {
        let disk = self.limits.disk_bytes.map(|bytes_max| Disk::new(directory, bytes_max));
        Self { beside, disk, ..self }
    }

    /// How long until the next look.
    pub(super) const fn interval(&self) -> Duration {
        match self.counter {
            Counter::Ourselves { .. } if self.looks < LOOKS_EAGER => LOOK_EARLY,
            Counter::Ourselves { .. } | Counter::Kernel { .. } => LOOK,
        }
    }

    /// Looks at a run that goes on.
    pub(super) fn look(&mut self) -> Option<Breach> {
        self.looks = self.looks.saturating_add(1);
        self.logs.into_iter().flatten().for_each(Log::keep_room);
        if self.looks <= LOOKS_EAGER || self.looks.is_multiple_of(LOOKS_EAGER) {
            self.sample_memory();
        }
        let (target, fences) = (self.target, self.fences);
        if self.disk.as_mut().is_some_and(|disk| disk.look(|| tree::members(target, fences))) {
            return self.full();
        }
        self.at_end().or_else(|| match self.counter {
            Counter::Kernel { .. } => None,
            Counter::Ourselves { tasks_before } => {
                self.count(tasks_before).then_some(Breach::Processes { max: self.limits.processes_max })
            }
        })
    }

    /// What can still be told when all is over.
    pub(super) fn at_end(&self) -> Option<Breach> {
        if let Counter::Kernel { group, hits_before } = self.counter
            && group.hits() > hits_before
        {
            return Some(Breach::Processes { max: self.limits.processes_max });
        }
        let bytes_max = self.limits.log_bytes_max;
        let [stdout, stderr] = self.lengths();
        (stdout.saturating_add(stderr) > bytes_max).then_some(Breach::Logs { bytes_max })
    }

    /// What can be told of its disk when all is over: it may have been faster than the looks.
    pub(super) fn disk_at_end(&mut self) -> Option<Breach> {
        // Nobody lives who could hold a file open.
        if self.disk.as_mut().is_some_and(|disk| disk.look_now(BTreeSet::new)) { self.full() } else { None }
    }

    fn full(&self) -> Option<Breach> {
        self.limits.disk_bytes.map(|bytes_max| Breach::Disk { bytes_max })
    }

    /// Cuts the logs of a run that is over to what it was allowed. The shorter one is kept whole if it can be.
    pub(super) fn cut_logs(&self) {
        let [stdout, stderr] = self.lengths();
        let kept = shares(stdout, stderr, self.limits.log_bytes_max);
        for (log, (length, kept)) in self.logs.into_iter().zip([stdout, stderr].into_iter().zip(kept)) {
            if let Some(log) = log
                && kept < length
                && let Err(error) = log.truncate(kept)
            {
                tracing::warn!(error = %error, "failed to cut a log to its limit");
            }
        }
    }

    /// Most memory of any of its processes, as far as it was seen.
    pub(super) const fn memory_peak(&self) -> Option<u64> {
        self.memory_peak
    }

    fn lengths(&self) -> [u64; 2] {
        self.logs.map(|log| log.and_then(|log| log.length().ok()).unwrap_or_default())
    }

    /// Whether there are too many processes, by the lists of the system.
    fn count(&self, tasks_before: u64) -> bool {
        // All tasks of the system are no fewer than those of one run. That is one short line to read.
        let max = u64::from(self.limits.processes_max.saturating_add(self.beside));
        let Some(all) = scan::tasks().filter(|all| *all > max) else { return false };
        let _urgent = Urgent::new();
        // If so many came since the run began, they may well be its own, and more come than we can count: stand still.
        let is_stopped = all > tasks_before.saturating_add(max);
        if is_stopped {
            tree::signal_group(self.target, Signal::STOP);
        }
        let is_beyond = u64::try_from(tree::members(self.target, self.fences).len()).unwrap_or(u64::MAX) > max;
        if is_stopped && !is_beyond {
            tree::signal_group(self.target, Signal::CONT);
        }
        is_beyond
    }

    fn sample_memory(&mut self) {
        let mut pids: Vec<u32> = self.target.root.map(|root| root.pid).into_iter().collect();
        if let Some(fence) = self.fences.first() {
            pids.extend(fence.members().into_iter().take(SAMPLED_MAX));
        }
        let largest = pids.into_iter().filter_map(scan::memory_peak).max();
        self.memory_peak = self.memory_peak.max(largest);
    }
}

/// How much of two logs is kept if both together may have `max`.
fn shares(first: u64, second: u64, max: u64) -> [u64; 2] {
    let second_kept = second.min((max / 2).max(max.saturating_sub(first)));
    [first.min(max - second_kept), second_kept]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_log_is_kept_whole_if_it_can_be() {
        assert_eq!(shares(10, 20, 100), [10, 20]);
        assert_eq!(shares(1000, 20, 100), [80, 20]);
        assert_eq!(shares(20, 1000, 100), [20, 80]);
        assert_eq!(shares(1000, 1000, 100), [50, 50]);
        assert_eq!(shares(1000, 1000, 0), [0, 0]);
        assert_eq!(shares(u64::MAX, u64::MAX, 101), [51, 50]);
    }

    #[test]
    fn limits_are_named_as_people_wrote_them() {
        let message = |breach: Breach| breach.outcome().message().unwrap_or_default().to_owned();
        assert_eq!(message(Breach::Logs { bytes_max: 1 << 30 }), "wrote more than 1 GiB of output (log limit)");
        assert_eq!(message(Breach::Logs { bytes_max: 1000 }), "wrote more than 1000 bytes of output (log limit)");
        assert_eq!(message(Breach::Disk { bytes_max: 3 << 20 }), "used more than 3 MiB of disk (disk limit)");
        assert_eq!(message(Breach::Processes { max: 9 }), "had more than 9 processes (process limit)");
    }
}
