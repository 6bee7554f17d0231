//! Executors against real processes.

mod adoption;
mod conformance;
mod containers;
mod ending;
mod files;
mod harness;
mod limits;
mod lua;
mod orphans;
mod podman;
mod running;
mod sandboxed;
mod saying;
mod secrets;
mod succession;
mod wasm;
mod wasm_c;
