//! The states of jobs and attempts, and the one table of legal transitions.
//!
//! The job is the durable promise, the attempt is one execution of it. The table is complete from the start:
//! states and causes that no feature uses yet have their rows, so that a feature adds code, not edges.

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants have one lower-case word each, the same in Rust, SQL and JSON.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in the database, JSON and lists.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Reads the word back.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|it| it.word() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

pub(crate) use words;

words!(
    /// Where a job is in its life. The words are those of Oban and River where these have one.
    JobState {
        /// Preconditions are not met yet.
        Pending = "pending",
        /// Waits for its time.
        Scheduled = "scheduled",
        /// Ready; waits for a slot, resources or a capable node.
        Available = "available",
        /// Out for bids or awarded to a peer that has not confirmed yet. Nothing is known to run.
        Offered = "offered",
        /// An attempt runs, here or on a peer that said so.
        Running = "running",
        /// Waits in the middle of its work and holds no slot.
        Suspended = "suspended",
        /// Failed; waits for its next attempt.
        Retryable = "retryable",
        /// Succeeded. Final.
        Completed = "completed",
        /// Will not be tried again: the dead letter. Final until a person retries it.
        Discarded = "discarded",
        /// Stopped by a person or by itself. Final until a person retries it.
        Cancelled = "cancelled",
        /// Dropped by the system before its end. Final until a person retries it.
        Skipped = "skipped",
    }
);

impl JobState {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Discarded | Self::Cancelled | Self::Skipped => true,
            Self::Pending
            | Self::Scheduled
            | Self::Available
            | Self::Offered
            | Self::Running
            | Self::Suspended
            | Self::Retryable => false,
        }
    }
}

words!(
    /// Why a job moves from one state to another. Written into the event log with every transition.
    Cause {
        /// Its preconditions are met.
        Ready = "ready",
        /// It has a time to wait for.
        Deferred = "deferred",
        /// Its time has come.
        Due = "due",
        /// A slot on this node took it.
        Admitted = "admitted",
        /// It went out for bids.
        Offered = "offered",
        /// The origin gave it to a bidder.
        Awarded = "awarded",
        /// Nobody took the offer, or the winner gave it back before it started.
        Unclaimed = "unclaimed",
        /// The winner said that it runs.
        Accepted = "accepted",
        /// The attempt succeeded.
        Succeeded = "succeeded",
        /// An earlier attempt, which had been given up, succeeded after all.
        Late = "late",
        /// The attempt failed and another one is due.
        Failed = "failed",
        /// The attempt failed and there is none left.
        Exhausted = "exhausted",
        /// The attempt failed in a way that another one would repeat.
        Permanent = "permanent",
        /// The attempt was given back without fault.
        Released = "released",
        /// The attempt vanished; another one may follow.
        Lost = "lost",
        /// The attempt vanished and may not be repeated, or vanished too often.
        Abandoned = "abandoned",
        /// The attempt asked to be continued later.
        Snoozed = "snoozed",
        /// The attempt waits for something.
        Suspended = "suspended",
        /// What it waited for came.
        Woken = "woken",
        /// Someone cancelled it.
        Cancelled = "cancelled",
        /// The system dropped it.
        Skipped = "skipped",
        /// What it had been dropped for is tried again.
        Revived = "revived",
        /// A daemon took over a process that the one before it had started.
        Adopted = "adopted",
        /// A person asked for another try.
        Retried = "retried",
    }
);

/// Every legal transition: from, cause, to.
pub const TRANSITIONS: &[(JobState, Cause, JobState)] = {
    use Cause as C;
    use JobState as S;
    &[
        (S::Pending, C::Ready, S::Available),
        (S::Pending, C::Deferred, S::Scheduled),
        (S::Pending, C::Skipped, S::Skipped),
        (S::Pending, C::Cancelled, S::Cancelled),
        (S::Scheduled, C::Due, S::Available),
        (S::Scheduled, C::Deferred, S::Scheduled),
        (S::Scheduled, C::Late, S::Completed),
        (S::Scheduled, C::Skipped, S::Skipped),
        (S::Scheduled, C::Cancelled, S::Cancelled),
        (S::Available, C::Admitted, S::Running),
        (S::Available, C::Offered, S::Offered),
        (S::Available, C::Awarded, S::Offered),
        (S::Available, C::Deferred, S::Scheduled),
        (S::Available, C::Succeeded, S::Completed),
        (S::Available, C::Late, S::Completed),
        (S::Available, C::Skipped, S::Skipped),
        (S::Available, C::Cancelled, S::Cancelled),
        (S::Offered, C::Awarded, S::Offered),
        (S::Offered, C::Unclaimed, S::Available),
        (S::Offered, C::Released, S::Available),
        (S::Offered, C::Accepted, S::Running),
        (S::Offered, C::Admitted, S::Running),
        (S::Offered, C::Succeeded, S::Completed),
        (S::Offered, C::Late, S::Completed),
        (S::Offered, C::Failed, S::Retryable),
        (S::Offered, C::Exhausted, S::Discarded),
        (S::Offered, C::Permanent, S::Discarded),
        (S::Offered, C::Lost, S::Available),
        (S::Offered, C::Abandoned, S::Discarded),
        (S::Offered, C::Snoozed, S::Scheduled),
        (S::Offered, C::Cancelled, S::Cancelled),
        (S::Offered, C::Skipped, S::Skipped),
        (S::Running, C::Succeeded, S::Completed),
        (S::Running, C::Late, S::Completed),
        (S::Running, C::Failed, S::Retryable),
        (S::Running, C::Exhausted, S::Discarded),
        (S::Running, C::Permanent, S::Discarded),
        (S::Running, C::Released, S::Available),
        (S::Running, C::Lost, S::Available),
        (S::Running, C::Abandoned, S::Discarded),
        (S::Running, C::Snoozed, S::Scheduled),
        (S::Running, C::Adopted, S::Running),
        (S::Running, C::Skipped, S::Skipped),
        (S::Running, C::Suspended, S::Suspended),
        (S::Running, C::Cancelled, S::Cancelled),
        (S::Suspended, C::Woken, S::Available),
        (S::Suspended, C::Late, S::Completed),
        (S::Suspended, C::Cancelled, S::Cancelled),
        (S::Suspended, C::Skipped, S::Skipped),
        (S::Retryable, C::Due, S::Available),
        (S::Retryable, C::Deferred, S::Scheduled),
        (S::Retryable, C::Late, S::Completed),
        (S::Retryable, C::Cancelled, S::Cancelled),
        (S::Retryable, C::Skipped, S::Skipped),
        (S::Retryable, C::Retried, S::Available),
        (S::Completed, C::Retried, S::Available),
        (S::Discarded, C::Retried, S::Available),
        (S::Cancelled, C::Retried, S::Available),
        (S::Skipped, C::Retried, S::Available),
        (S::Skipped, C::Revived, S::Pending),
    ]
};

/// Where `cause` leads from `from`; `None` if that is not legal.
#[must_use]
pub fn transition(from: JobState, cause: Cause) -> Option<JobState> {
    TRANSITIONS.iter().find(|(f, c, _)| *f == from && *c == cause).map(|(_, _, to)| *to)
}

words!(
    /// Why a job ended.
    FinishReason {
        /// It succeeded.
        Ok = "ok",
        /// Every attempt failed.
        Exhausted = "exhausted",
        /// It failed in a way that another attempt would repeat.
        Permanent = "permanent",
        /// It vanished with its node too often.
        CrashLimit = "crash_limit",
        /// It vanished and may not be repeated.
        Lost = "lost",
        /// Its last attempt ran too long.
        Timeout = "timeout",
        /// A person cancelled it.
        User = "user",
        /// It cancelled itself.
        Itself = "itself",
        /// It asked to be continued later too often.
        Snoozes = "snoozes",
        /// It was not over when it had to be.
        Deadline = "deadline",
        /// It could not start in time.
        Expired = "expired",
        /// A job that it waited for did not end as it should.
        UpstreamFailed = "upstream_failed",
        /// Tasks of the group failed.
        TasksFailed = "tasks_failed",
        /// Too many tasks of its group failed.
        MaxFails = "max_fails",
        /// A newer job took its place.
        Replaced = "replaced",
    }
);

words!(
    /// Where one execution of a job is.
    AttemptState {
        /// Awarded to a peer that has not confirmed yet.
        Awarded = "awarded",
        /// Its input is on the way, or its process is about to start.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// It ended on a peer; its output is on the way here.
        Uploading = "uploading",
        /// It did what it was asked. Final.
        Succeeded = "succeeded",
        /// It failed. Final.
        Failed = "failed",
        /// It ran too long. Final.
        TimedOut = "timed_out",
        /// It was cancelled. Final.
        Cancelled = "cancelled",
        /// It was given back without fault. Final.
        Released = "released",
        /// The peer would not take it. Final.
        Rejected = "rejected",
        /// Nobody knows how it ended. Final.
        Lost = "lost",
        /// The result of another attempt counted when its own came. Final.
        Superseded = "superseded",
    }
);

impl AttemptState {
    /// Whether the attempt has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Awarded | Self::Starting | Self::Running | Self::Uploading => false,
            Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::Released
            | Self::Rejected
            | Self::Lost
            | Self::Superseded => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_and_a_cause_lead_to_one_place_only() {
        for (index, (from, cause, _)) in TRANSITIONS.iter().enumerate() {
            let again = TRANSITIONS.iter().skip(index + 1).any(|(f, c, _)| f == from && c == cause);
            assert!(!again, "{from} {cause} stands twice");
        }
    }

    #[test]
    fn only_a_retry_leaves_a_final_state() {
        for (from, cause, _) in TRANSITIONS.iter().filter(|(from, ..)| from.is_final()) {
            let is_revival = (*from, *cause) == (JobState::Skipped, Cause::Revived);
            assert!(*cause == Cause::Retried || is_revival, "{from}");
        }
    }

    #[test]
    fn every_live_state_can_be_cancelled_and_every_state_reached() {
        for state in JobState::ALL.iter().copied() {
            assert_eq!(transition(state, Cause::Cancelled).is_some(), !state.is_final(), "{state}");
            let is_entry = state == JobState::Pending;
            assert!(is_entry || TRANSITIONS.iter().any(|(_, _, to)| *to == state), "{state} is unreachable");
        }
    }

    #[test]
    fn words_read_back() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_word(state.word()), Some(*state));
        }
        assert_eq!(JobState::from_word("done"), None);
    }
}
