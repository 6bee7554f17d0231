//! The wire: its bytes stay as they are, and no bytes from a peer break a decoder.
//!
//! [`samples`] holds one fixed value of every type that leaves a node. [`golden`] compares their bytes with
//! files; [`hostile`] bends, cuts and swells them. [`chains`] does the same to what an auditor is given.
//! [`fuzz`] goes on where the others stop, by a seed.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod chains;
mod fuzz;
mod golden;
mod hostile;
mod samples;
