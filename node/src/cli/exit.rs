//! The exit codes: what a script may rely on. `1` to `4` speak of jobs, `64` and above are those of `sysexits.h`.

use std::process::ExitCode;

use jobmesh::api::JobView;
use jobmesh_protocol::JobState;
use jobmesh_protocol::state::FinishReason;

/// What the help of the program says about exit codes. Kept beside the codes, so that neither changes alone.
pub(crate) const HELP: &str = "\
Exit codes:
    0  everything was done, every job that was waited for completed
    1  a job was discarded, a receipt is not good, or another node said no
    2  wrong usage, or no such thing
    3  a job was cancelled
    4  a job was skipped
   69  the node, or another one, can't be reached; or the data directory is in use
   70  a fault of jobmesh itself
   75  busy, shutting down or out of disk space; try again
   78  a fault in the configuration or the data directory
  124  the time given was over
  `run` ends with the exit code of the job, or with 128 + N if signal N ended it.

Environment:
  JOBMESH_HOME  the data directory     JOBMESH_OUTPUT  the format of results     NO_COLOR  no colour
  A job gets the JOBMESH_HOME of the node it was submitted on, unless it runs on another one.";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    /// Everything was done.
    pub(crate) const OK: Self = Self(0);
    /// A job was discarded, a receipt is not good, or another node said no.
    pub(crate) const FAILED: Self = Self(1);
    /// Wrong usage.
    pub(crate) const USAGE: Self = Self(2);
    /// A job was cancelled.
    pub(crate) const CANCELLED: Self = Self(3);
    /// A job was skipped.
    pub(crate) const SKIPPED: Self = Self(4);
    /// The daemon can't be reached.
    pub(crate) const UNREACHABLE: Self = Self(69);
    /// A fault of our own.
    pub(crate) const INTERNAL: Self = Self(70);
    /// Try again.
    pub(crate) const BUSY: Self = Self(75);
    /// The configuration or the data directory.
    pub(crate) const CONFIG: Self = Self(78);
    /// The time given was over.
    pub(crate) const TIMEOUT: Self = Self(124);
    /// Left by a second Ctrl-C: 128 + SIGINT, as shells have it.
    pub(crate) const INTERRUPTED: Self = Self(130);
    /// Whoever read our output has gone: 128 + SIGPIPE.
    pub(crate) const PIPE: Self = Self(141);

    /// How a wait for `job` ends.
    pub(crate) const fn of_wait(job: &JobView) -> Self {
        match job.state {
            JobState::Discarded => Self::FAILED,
            JobState::Cancelled => Self::CANCELLED,
            JobState::Skipped => Self::SKIPPED,
            JobState::Completed
            | JobState::Pending
            | JobState::Scheduled
            | JobState::Available
            | JobState::Offered
            | JobState::Running
            | JobState::Suspended
            | JobState::Retryable => Self::OK,
        }
    }

    /// How `run` ends after `job` did: with the job's own code, where it has one.
    pub(crate) fn of_run(job: &JobView) -> Self {
        if job.state != JobState::Discarded {
            return Self::of_wait(job);
        }
        let code = job.exit.code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0);
        let signal = job.exit.signal.and_then(|signal| u8::try_from(signal).ok()?.checked_add(128));
        match (job.finish_reason, code.or(signal)) {
            (Some(FinishReason::Timeout), _) => Self::TIMEOUT,
            (_, Some(code)) => Self(code),
            (_, None) => Self::FAILED,
        }
    }

    /// Whether this is the code that `job` itself ended with.
    pub(crate) fn is_of_job(self, job: &JobView) -> bool {
        let is_told = job.state == JobState::Discarded && job.finish_reason != Some(FinishReason::Timeout);
        is_told && self != Self::OK && job.exit.code == Some(i32::from(self.0))
    }

    /// The worse of two: a discarded job is worse than a cancelled one, which is worse than a skipped one.
    pub(crate) const fn worse(self, other: Self) -> Self {
        match (self.0, other.0) {
            (0, _) => other,
            (_, 0) => self,
            (mine, theirs) if theirs < mine => other,
            _ => self,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::outcome;

    use super::*;
    use crate::cli::ls;

    /// A process that ended with 0 and was no success all the same ended `run` with 1, and not a word.
    #[test]
    fn a_code_of_ours_is_not_that_of_the_job() {
        let ended = |state, code, finish_reason| JobView {
            state,
            finish_reason,
            exit: outcome::Exit { code: Some(code), signal: None },
            ..ls::tests::example()
        };
        for (state, code, reason, exit, is_of_job) in [
            (JobState::Discarded, 1, None, Exit::FAILED, true),
            (JobState::Discarded, 0, None, Exit::FAILED, false),
            (JobState::Discarded, 124, Some(FinishReason::Timeout), Exit::TIMEOUT, false),
            (JobState::Cancelled, 3, None, Exit::CANCELLED, false),
            (JobState::Completed, 0, None, Exit::OK, false),
        ] {
            let job = ended(state, code, reason);
            assert_eq!((Exit::of_run(&job), exit.is_of_job(&job)), (exit, is_of_job), "{job:?}");
        }
    }

    #[test]
    fn a_discarded_job_outweighs_a_cancelled_and_a_skipped_one() {
        assert_eq!(Exit::OK.worse(Exit::SKIPPED), Exit::SKIPPED);
        assert_eq!(Exit::SKIPPED.worse(Exit::CANCELLED), Exit::CANCELLED);
        assert_eq!(Exit::CANCELLED.worse(Exit::FAILED), Exit::FAILED);
        assert_eq!(Exit::FAILED.worse(Exit::OK), Exit::FAILED);
    }

    #[test]
    fn the_help_names_every_code() {
        let codes = [
            Exit::OK,
            Exit::FAILED,
            Exit::USAGE,
            Exit::CANCELLED,
            Exit::SKIPPED,
            Exit::UNREACHABLE,
            Exit::INTERNAL,
            Exit::BUSY,
            Exit::CONFIG,
            Exit::TIMEOUT,
        ];
        for Exit(code) in codes {
            assert!(HELP.lines().any(|line| line.starts_with(&format!("{code:>5}  "))), "{code}");
        }
    }
}
