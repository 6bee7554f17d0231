//! Real nodes on this machine's loopback: what peers see of each other.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event and skips all others")]

#[path = "loopback/admission.rs"]
mod admission;
#[path = "loopback/blob.rs"]
mod blob;
#[path = "loopback/contract.rs"]
mod contract;
#[path = "loopback/discovery.rs"]
mod discovery;
#[path = "loopback/harness.rs"]
mod harness;
#[path = "loopback/join.rs"]
mod join;
#[path = "loopback/log.rs"]
mod log;
#[path = "loopback/secret.rs"]
mod secret;
#[path = "loopback/session.rs"]
mod session;
#[path = "loopback/stranger.rs"]
mod stranger;
