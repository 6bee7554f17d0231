//! Executors against real processes.

mod adoption;
mod conformance;
mod ending;
mod files;
mod harness;
mod limits;
mod lua;
mod orphans;
mod running;
mod saying;
mod succession;
mod wasm;
mod wasm_c;
