//! Executors against real processes.

mod adoption;
mod conformance;
mod ending;
mod harness;
mod limits;
mod orphans;
mod running;
mod sandboxed;
mod saying;
mod succession;
