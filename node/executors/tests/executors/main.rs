//! Executors against real processes.

mod conformance;
mod ending;
mod harness;
mod orphans;
mod running;
