//! Executors against real processes.

mod adoption;
mod conformance;
mod ending;
mod files;
mod harness;
mod limits;
mod orphans;
mod running;
mod saying;
mod succession;
