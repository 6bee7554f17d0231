//! A memory of signatures that this thread made, for worlds of many nodes in one thread.
//!
//! Where a thousand simulated nodes verify what one of them has signed, nearly all of the time goes into the same
//! check. While the memory is on, [`crate::verify`] takes for good what [`crate::Identity::sign`] made on the same
//! thread, by a hash over key, covered bytes and signature, and checks everything else in full. So the answer is the
//! same with and without it. Compiled only with the feature `memo`, which no build that ships has.

use std::cell::RefCell;
use std::collections::BTreeSet;

use crate::{NodeId, Signature};

/// Signatures that are remembered at most; then all are forgotten, which costs time and nothing else.
const REMEMBERED_MAX: usize = 1 << 20;

thread_local! {
    static MEMORY: RefCell<Option<BTreeSet<[u8; 32]>>> = const { RefCell::new(None) };
}

/// Begins to remember, with an empty memory.
pub fn start() {
    MEMORY.set(Some(BTreeSet::new()));
}

/// Forgets everything and remembers no more.
pub fn stop() {
    MEMORY.set(None);
}

fn name(node: &NodeId, covered: &[u8], signature: &Signature) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("jobmesh 2026 simulation signatures v1");
    hasher.update(node.as_bytes()).update(signature.as_bytes()).update(covered);
    *hasher.finalize().as_bytes()
}

/// Remembers a signature that was just made.
pub(crate) fn remember(node: &NodeId, covered: &[u8], signature: &Signature) {
    MEMORY.with_borrow_mut(|memory| {
        if let Some(memory) = memory {
            if memory.len() >= REMEMBERED_MAX {
                memory.clear();
            }
            memory.insert(name(node, covered, signature));
        }
    });
}

/// Whether this signature was made here.
pub(crate) fn knows(node: &NodeId, covered: &[u8], signature: &Signature) -> bool {
    MEMORY.with_borrow(|memory| memory.as_ref().is_some_and(|memory| memory.contains(&name(node, covered, signature))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Domain, Identity, verify};

    #[test]
    fn what_was_not_signed_here_is_still_checked() {
        let (identity, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        start();
        let signature = identity.sign(Domain::Envelope, b"one");
        let holds = |node, domain, message: &[u8]| verify(&node, domain, message, &signature).is_ok();
        assert!(holds(identity.node(), Domain::Envelope, b"one"));
        assert!(!holds(identity.node(), Domain::Envelope, b"two"));
        assert!(!holds(identity.node(), Domain::Certificate, b"one"));
        assert!(!holds(other.node(), Domain::Envelope, b"one"));
        stop();
        assert!(holds(identity.node(), Domain::Envelope, b"one"));
    }
}
