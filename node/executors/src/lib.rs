//! How a node works: it runs what a job asks for and says how that ended.
//!
//! An [`Executors`] takes an [`Order`] per attempt and answers each with exactly one [`Event::Ended`], after an
//! [`Event::Started`] if a process came to life. It decides nothing: when to run, when to stop and what an outcome
//! means for the job are the engine's business, which this crate doesn't know.
//!
//! The hard case is the end. A command may ignore TERM, leave children in the background, or hide them in sessions of
//! their own; none of them may outlive its attempt, or a job that was given to another node would still run here.
//! [`process`] tells how they are found.

mod container;
mod control;
mod directory;
mod event;
mod executor;
mod executors;
mod files;
pub mod http;
mod interpreter;
mod kinds;
mod lua;
pub mod model;
mod order;
mod output;
pub mod process;
mod redact;
mod sandbox;
mod secret;
mod shelf;
mod stage;
mod surroundings;
mod variable;
mod wasm;
mod worker;

pub use container::{Containers, IMAGE_PATTERNS_MAX, Images, check_image_pattern};
pub use directory::{log_path, result_path};
pub use event::{Ended, Event, ProcessId};
pub use executor::Probe;
pub use executors::{AdoptError, Config, Executors, FOLLOWERS_MAX, StartError, probe};
pub use files::{Existing, Ground, GroundError, PatternError, Selection, check_patterns, remove_tree, set_file_mode};
pub use order::{Adopt, Confinement, KILL_GRACE_MAX, Limits, Order, STOP_GRACE_MAX, StopReason};
pub use output::{INLINE_BYTES_MAX, RESULT_INLINE_BYTES_MAX, Stream};
pub use process::{Enforced, Enforcement, OrphanEnd, end_orphan, find_run, tells_exits};
pub use redact::{Redaction, discard_unsearched};
pub use secret::{Secret, Secrets};
pub use shelf::{BLOB_BYTES_MAX, Draft, Room, Shelf, ShelfError, TreeReadError, Written};
pub use surroundings::{Groups, Sandboxes, Surroundings};
pub use variable::{
    ATTEMPT_VARIABLE, JOB_VARIABLE, OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE, SOCKET_VARIABLE, TOKEN_VARIABLE,
};
pub use worker::work;
