//! How well a run is kept apart from the rest of its machine.

use serde::{Deserialize, Serialize};

use crate::state::words;

words!(
    /// A level of isolation. A higher one keeps apart everything that a lower one does.
    Isolation {
        /// Nothing keeps it apart: work of the node itself.
        None = "none",
        /// L1, for a node's own jobs: nothing of it outlives it, its environment is cleared, its use is limited.
        Contained = "contained",
        /// L2, for jobs of trusted peers: it sees no file, process or network of the machine but those it was given.
        Sandboxed = "sandboxed",
        /// L3, for anyone: code that has no way to ask the system for anything, inside a sandbox.
        Untrusted = "untrusted",
    }
);
