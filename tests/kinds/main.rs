//! What every kind of work owes the people who submit it, with the real thing of each kind: a real compiler's module, a real
//! engine's container, a real server, a real model; here, and on another machine that alone can do it.
//!
//! Each kind says how it is asked for something ([`kind::Kind`]), and [`scenario`] asks all of them for the same. A kind
//! whose tools are missing says so loudly and is left out, unless the tools are required.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is the failure of the test")]

mod container;
mod endpoint;
mod http;
mod kind;
mod lua;
mod model;
mod process;
mod relay;
mod scenario;
mod site;
mod wasm;

use jobmesh_tests::Bench;

use kind::Kind;
use site::{Place, Site};

/// The binary that ships.
fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// Puts one kind to the test, if there is all that it needs.
fn holds<K: Kind>(kind: Option<K>, place: Place) {
    if let Some(kind) = kind {
        scenario::all(&Site::start(&kind, place));
    }
}

#[test]
fn a_process_here() {
    holds(Some(process::Process), Place::Here);
}

#[test]
fn a_process_on_a_peer() {
    holds(Some(process::Process), Place::Peer);
}

#[test]
fn a_container_here() {
    holds(container::Container::find(), Place::Here);
}

#[test]
fn a_container_on_a_peer() {
    holds(container::Container::find(), Place::Peer);
}

#[test]
fn a_module_here() {
    holds(wasm::Module::find(), Place::Here);
}

#[test]
fn a_module_on_a_peer() {
    holds(wasm::Module::find(), Place::Peer);
}

#[test]
fn a_script_here() {
    holds(Some(lua::Script), Place::Here);
}

#[test]
fn a_script_on_a_peer() {
    holds(Some(lua::Script), Place::Peer);
}

#[test]
fn a_request_here() {
    holds(Some(http::Http::start()), Place::Here);
}

#[test]
fn a_request_on_a_peer() {
    holds(Some(http::Http::start()), Place::Peer);
}

#[test]
fn a_question_here() {
    holds(model::Question::find(), Place::Here);
}

#[test]
fn a_question_on_a_peer() {
    holds(model::Question::find(), Place::Peer);
}

#[test]
fn an_embedding_here() {
    holds(model::Embedding::find(), Place::Here);
}

#[test]
fn an_embedding_on_a_peer() {
    holds(model::Embedding::find(), Place::Peer);
}
