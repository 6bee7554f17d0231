//! What a node decides. No I/O, no clock, no randomness, no threads: all of that is handed in.
//!
//! The driver's loop is the same in the daemon and in the simulator: begin a transaction, hand every waiting
//! [`Input`] to [`Engine::handle`], call [`Engine::finish`], commit, and only then carry out the [`Output`]s, which [`Outputs::release`]
//! gives up for nothing but the proof of the commit. **Decide, commit, then act.**
//!
//! The hard case is a crash between any two of those: whatever must survive it is a row (a job, an attempt, a
//! lease, an outbox message) and every message is idempotent by ticket and epoch, so doing it again is harmless.
//! What the engine holds in memory is a cache that [`Engine::recover`] rebuilds.

mod command;
mod config;
mod engine;
mod explain;
mod input;
mod mutant;
mod output;

mod admission;
mod alter;
mod auction;
mod award;
mod calendar;
mod cancel;
mod capability;
mod chain;
mod child;
mod contract;
mod dependency;
mod ends;
mod entrust;
mod evidence;
mod fetch;
mod group;
mod isolation;
mod late;
mod learning;
mod matching;
mod membership;
mod message;
mod naming;
mod payload;
mod peers;
mod plan;
pub mod pool;
mod prune;
mod queue;
mod quota;
mod rate;
mod ready;
mod receipt;
mod reconcile;
mod recover;
mod report;
mod rollback;
mod run;
mod schedule;
mod seek;
mod session;
mod slots;
mod start;
mod step;
mod submit;
mod timers;
mod transition;
mod typing;
mod unique;
mod verdict;

pub use calendar::{Timetable, TimetableError};
pub use command::{
    Command, Declared, JobAction, QueueAction, QueueLimits, Report, Retention, Schedule, ScheduleAction,
};
pub use config::{Config, Detected, Timing};
pub use ends::METRICS_KEPT;
pub use engine::Engine;
pub use explain::{Explanation, NodeFit, Reason};
pub use input::{Ended, Input, Process, Remedy, RequestId};
pub use isolation::Policy;
pub use membership::founding;
pub use mutant::Mutant;
pub use naming::NAMED_MAX;
pub use output::{BlobKind, Change, Output, Outputs, Reach, Refusal, Response, RunOrder, StopReason, Taken, Wanted};
pub use quota::Quotas;
pub use schedule::{BACKFILL_MAX, SCHEDULE_BYTES_MAX, instants_missed};
pub use start::SUCCESSORS_MAX;
pub use typing::slips;
