//! What this program does when an executor starts it again: it becomes the interpreter of a module or a script, or the
//! first process of a sandbox.
//!
//! A module that eats memory or a script that runs in circles then is a process like any other: it is limited, stopped,
//! adopted and cleared away by the same means, and takes nothing of the daemon with it.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::sandbox;

/// The first argument of a worker. No command of a person has this name.
pub(crate) const WORKER_WORD: &str = "__worker";

/// Does a worker's work, if that is what this process was started for. To be called first of all, while the process has
/// one thread and has opened nothing.
///
/// `arguments` are those of the process, its name left out.
pub fn work(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != WORKER_WORD {
        return None;
    }
    let kind = arguments.next().unwrap_or_default();
    if let Some(kind @ (sandbox::OUTER_WORD | sandbox::INNER_WORD)) = kind.to_str() {
        return Some(sandbox::work(kind));
    }
    tracing::error!(kind = %kind.display(), "no such worker");
    Some(ExitCode::FAILURE)
}
