//! Executors against real processes.

mod adoption;
mod conformance;
mod containers;
mod ending;
mod harness;
mod limits;
mod orphans;
mod podman;
mod running;
mod saying;
mod secrets;
mod succession;
