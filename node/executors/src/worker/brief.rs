//! What a worker is told, in variables of its environment.
//!
//! Not in its arguments, which every user of the machine can read; not in a file, since secrets are among it; and nothing
//! of the job's own environment becomes a variable of the worker, whose loader would heed an `LD_PRELOAD` among them.
//!
//! **The hard case** is a long one: a spec and the values of its secrets, escaped as JSON, are longer than a single
//! variable may be. So it is cut into pieces, each a variable with its number behind the name.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jobmesh_protocol::Isolation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The variable that holds its first piece.
const BRIEF_VARIABLE: &str = "JOBMESH_BRIEF";
/// Longest piece: Linux takes variables of 128 KiB, their names included.
const PIECE_BYTES_MAX: usize = 96 << 10;
/// Most pieces, for a worker that counts them: far more than a system takes.
const PIECES_MAX: usize = 1024;

/// Whether a worker may begin with a wall missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Walls {
    /// It may not.
    Required,
    /// It raises those that this system has.
    AsFound,
}

/// What a worker is told; `P` is what only one kind of worker needs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Brief<P> {
    /// The directory of the run.
    pub(crate) directory: PathBuf,
    pub(crate) walls: Walls,
    /// How well its guest is kept apart with them.
    pub(crate) isolation: Isolation,
    /// Most memory of what is interpreted; none is no limit.
    pub(crate) memory_bytes: Option<u64>,
    /// Largest file that the worker may write; none is no limit.
    pub(crate) file_bytes: Option<u64>,
    /// What is interpreted finds these as its arguments.
    pub(crate) arguments: Vec<String>,
    /// And these as its variables.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) piece: P,
}

/// Why a worker doesn't know what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BriefError {
    #[error("a worker is started by a node, not by a person: it has no {BRIEF_VARIABLE}")]
    Missing,
    #[error("the worker can't read its {BRIEF_VARIABLE}; was this program replaced while its node ran?")]
    Unreadable(#[from] serde_json::Error),
}

impl<P: Serialize> Brief<P> {
    /// The variables that tell it.
    ///
    /// # Errors
    /// [`serde_json::Error`] if a path is not text.
    pub(crate) fn variables(&self) -> Result<BTreeMap<String, String>, serde_json::Error> {
        let text = serde_json::to_string(self)?;
        Ok(pieces(&text).into_iter().enumerate().map(|(at, piece)| (name(at), piece.to_owned())).collect())
    }
}

impl<P: DeserializeOwned> Brief<P> {
    /// Reads what this process was told.
    pub(crate) fn read() -> Result<Self, BriefError> {
        Self::read_from(|name| std::env::var(name).ok())
    }

    fn read_from(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BriefError> {
        let text: String = (0..PIECES_MAX).map_while(|at| variable(&name(at))).collect();
        if text.is_empty() {
            return Err(BriefError::Missing);
        }
        Ok(serde_json::from_str(&text)?)
    }
}

fn name(at: usize) -> String {
    if at == 0 { BRIEF_VARIABLE.to_owned() } else { format!("{BRIEF_VARIABLE}_{at}") }
}

/// Cuts a text, between its characters.
fn pieces(mut text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > PIECE_BYTES_MAX {
        // Every fourth byte at least begins a character.
        let at = (0..=PIECE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(PIECE_BYTES_MAX);
        let (piece, rest) = text.split_at(at);
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    /// A brief of more than 128 KiB failed its job with "argument list too long", whose arguments were short.
    #[test]
    fn a_long_brief_is_told_in_pieces_that_a_system_takes() {
        let brief = |length: usize| Brief {
            directory: PathBuf::from("/run"),
            walls: Walls::Required,
            isolation: Isolation::Sandboxed,
            memory_bytes: None,
            file_bytes: None,
            arguments: vec!["\u{1}é".repeat(length)],
            environment: BTreeMap::new(),
            piece: (),
        };
        for length in [1, 10_000, 60_000] {
            let variables = brief(length).variables().unwrap();
            assert!(variables.iter().all(|(name, value)| name.len() + value.len() + 2 <= 128 << 10));
            assert_eq!(variables.len() > 1, length > 12_000);
            let read: Brief<()> = Brief::read_from(|name| variables.get(name).cloned()).unwrap();
            assert_eq!(read.arguments, brief(length).arguments);
        }
        assert!(matches!(Brief::<()>::read_from(|_| None), Err(BriefError::Missing)));
    }
}
