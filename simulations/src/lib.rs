//! Whole nodes in virtual time: the real engine over the real store, on a network that one number decides.
//!
//! A [`Plan`] (a seed, how many nodes, how long) becomes a world: nodes with real keys and the real SQLite on simulated disks, a
//! network that delays, loses, doubles and cuts, daemons that crash between any two steps, executors that fail, a
//! member that forges. One thread takes one event after the other off a queue that is ordered by time and number,
//! so the same plan gives the same run, byte for byte; [`Report::trace`] is the proof of that.
//!
//! After every step the oracle reads the node's database and holds it against the named invariants of the module
//! `invariants`. When the faults end, the world heals and every job that some node can run must end.
//!
//! **The hard case** is to be worse than the real world without being impossible: a frame is lost only while its
//! session lives, a paused daemon is still paused when its peers give it up, a process dies with the daemon that
//! started it, and what was committed stays.

mod plan;
mod random;
mod trace;

mod draw;
mod fault;
mod workload;

mod disk;
mod executor;
mod faults;
mod forger;
mod network;
mod node;

mod invariants;
mod marks;
mod oracle;
mod report;
mod traffic;
mod world;

mod bugs;
mod cost;
mod power;
mod scope;
mod shrink;

pub use bugs::{Bug, BugError, Kept};
pub use cost::{AUCTIONED_MAX, Cost, LEASED_MAX, auctioned, leased};
pub use disk::{DiskFault, Loss};
pub use draw::{Draw, End, Tier};
pub use executor::{Ending, Writes};
pub use fault::{
    Clog, DiskStrike, Fault, FaultKind, FrameFault, LinkFault, NodeFault, RunFault, Shape, Trap, What, When,
};
pub use invariants::Violation;
pub use jobmesh_engine::Mutant;
pub use marks::{CAUSES, COUNTERS, EXCUSED, MET, missing};
pub use plan::{Disks, MUTANTS, MutantName, NODES_MAX, NODES_MIN, NodePlan, POWER_MUTANTS, Plan, PlanError, Watch};
pub use power::{Drive, PowerFailure, PowerPlan, PowerReport, cut_power};
pub use report::{Failure, Pace, Report, run};
pub use scope::{Injection, ScopeReport, Strike, search};
pub use shrink::{Shrunk, shrink};
pub use traffic::Traffic;
pub use workload::{Act, Operation, Work};
