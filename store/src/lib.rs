//! What a node keeps: one SQLite file, written by one owner in one kind of transaction.
//!
//! [`Store`] owns the only write connection. [`Store::begin`] starts the transaction in which the engine handles
//! inputs, and [`Txn::commit`] returns the [`Committed`] token without which the engine's outputs can't be
//! released. Readers open connections of their own ([`Reader`]) and never wait for the writer.
//!
//! **The hard case** is a commit that returns an error: it is *unknown*, never *did not happen*. Whoever gets one
//! must drop what it holds in memory and read the database again.

mod error;
mod foreign;
mod link;
mod lock;
mod migration;
mod open;
mod reader;
mod txn;
mod view;

mod alarm;
mod attempt;
mod capability;
mod dependency;
mod event;
mod group;
mod idempotency;
mod invite;
mod job;
mod lease;
mod meta;
mod outbox;
mod peer;
mod queue;
mod receipt;
mod report;
mod retention;
mod row;
mod schedule;
mod selection;
mod summary;
mod upkeep;

pub use alarm::{Alarm, AlarmKind};
pub use attempt::{Attempt, EndedAttempt, NewAttempt};
pub use capability::Choice;
pub use dependency::Edge;
pub use error::{Fault, OpenError, StoreError};
pub use event::{Event, NewEvent};
pub use foreign::{CELL_BYTES_MAX, ForeignCell, ForeignError, SQLITE_MAGIC, read_foreign_table};
pub use group::{Group, Items, TaskRow};
pub use invite::InviteRow;
pub use job::{Job, Move, NewJob, Plan};
pub use lease::{Lease, LeasePhase};
pub use link::{LinkRow, Side};
pub use lock::{Holder, Lock, find_holder};
pub use open::{DATABASE_NAME, Store, find_database};
pub use outbox::{Inbound, Queued};
pub use peer::PeerRow;
pub use queue::QueueRow;
pub use reader::Reader;
pub use receipt::ReceiptRow;
pub use report::{Checkpoint, Progress};
pub use retention::{Ended, InUse, Metric};
pub use schedule::ScheduleRow;
pub use selection::Selection;
pub use summary::SummaryRow;
pub use txn::{Committed, Txn};
pub use upkeep::Upkeep;
pub use view::View;
