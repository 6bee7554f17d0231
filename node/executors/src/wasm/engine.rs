//! What runs a module: the interpreter, or the compiler in a node that is built with the feature `wasm-jit`. Both are
//! asked the same and answer the same.

use super::bounds::Bounds;
#[cfg(feature = "wasm-jit")]
pub(super) use super::compiled::{BESIDE_BYTES, NAME, NEEDS_CODE, run};
#[cfg(not(feature = "wasm-jit"))]
pub(super) use super::interpreted::{BESIDE_BYTES, NAME, NEEDS_CODE, run};

/// The one name under which everything that a module may use is found.
pub(super) const WASI: &str = "wasi_snapshot_preview1";

/// Why a module can't be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("the module is not valid: {problem}")]
    Invalid { problem: String },
    #[error("the module imports {module}.{name}; there is only {WASI}")]
    Import { module: String, name: String },
    #[error("the module has no function `_start`; build it as a command, not as a library")]
    NoStart,
    #[error("WASI can't be set up: {problem}")]
    Wasi { problem: String },
}

impl LoadError {
    /// What an engine says of a module that it doesn't take.
    pub(super) fn invalid(said: &dyn std::fmt::Display) -> Self {
        // What is wrong with text is shown with its line, over several lines.
        let lines = said.to_string();
        let words: Vec<&str> = lines.split_whitespace().collect();
        Self::Invalid { problem: words.join(" ") }
    }
}

/// How a module ran.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) rest: Rest,
    /// The fuel that it used.
    pub(super) used: u64,
    pub(super) bounds: Bounds,
}

/// How it came to rest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Its function returned.
    Returned,
    /// It exited with a code.
    Exited(i32),
    /// It used more than it might.
    OutOfFuel,
    /// It asks WASI for something that it doesn't have, or has with other arguments.
    Unlinked(String),
    /// It did what can't be done.
    Trapped(String),
}
