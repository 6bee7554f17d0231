//! How well a run is kept apart from the rest of its machine.

use serde::{Deserialize, Serialize};

use crate::requirement::Tag;
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

impl Isolation {
    /// The tag of a node that can keep tasks of this executor apart so well. The lower levels need none: whoever runs
    /// something at all gives them.
    #[must_use]
    pub fn tag(self, executor: &str) -> Option<Tag> {
        match self {
            Self::None | Self::Contained => None,
            Self::Sandboxed | Self::Untrusted => format!("isolation:{executor}:{}", self.word()).parse().ok(),
        }
    }

    /// The tags of a node that keeps tasks of this executor apart so well at best: one for each level that needs one.
    pub fn tags_up_to(self, executor: &str) -> impl Iterator<Item = Tag> {
        Self::ALL.iter().filter(move |level| **level <= self).filter_map(move |level| level.tag(executor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_advertises_each_level_that_is_not_a_matter_of_course() {
        let tags = |level: Isolation| level.tags_up_to("wasm").map(String::from).collect::<Vec<_>>();
        assert_eq!(tags(Isolation::Contained), Vec::<String>::new());
        assert_eq!(tags(Isolation::Sandboxed), ["isolation:wasm:sandboxed"]);
        assert_eq!(tags(Isolation::Untrusted), ["isolation:wasm:sandboxed", "isolation:wasm:untrusted"]);
        assert!(Isolation::Untrusted > Isolation::Sandboxed && Isolation::Contained > Isolation::None);
    }
}
