//! What this program does when an executor starts it again: it becomes the interpreter of a module or a script, or the
//! first process of a sandbox.
//!
//! A module that eats memory or a script that runs in circles then is a process like any other: it is limited, stopped,
//! adopted and cleared away by the same means, and takes nothing of the daemon with it.

mod account;
mod begin;
mod brief;
mod confine;
mod end;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{lua, sandbox, wasm};

pub(crate) use account::Account;
pub(crate) use begin::{BeginError, interpret, raise_walls, read_guest, too_large};
pub(crate) use brief::{Brief, Walls};
pub(crate) use confine::Allowance;
pub(crate) use end::{End, Word};

/// The first argument of a worker. No command of a person has this name.
pub(crate) const WORKER_WORD: &str = "__worker";

/// The kind of worker that only says whether it could be confined.
pub(crate) const PROBE: &str = "probe";

/// Does a worker's work, if that is what this process was started for. To be called first of all, while the process has
/// one thread and has opened nothing.
///
/// `arguments` are those of the process, its name left out.
pub fn work(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != WORKER_WORD {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    Some(match kind.to_str() {
        Some(wasm::KIND) => wasm::work(),
        Some(lua::KIND) => lua::work(),
        Some(PROBE) => confine::probe(),
        Some(kind @ (sandbox::OUTER_WORD | sandbox::INNER_WORD)) => sandbox::work(kind),
        Some(_) | None => {
            eprintln!("{}: no such worker", kind.display());
            ExitCode::FAILURE
        }
    })
}
