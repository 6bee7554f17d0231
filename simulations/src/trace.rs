//! What happened, in order: hashed whole to compare runs, kept at its end to explain a failure.

use std::collections::VecDeque;
use std::fmt;

use jobmesh_protocol::MonoMillis;

/// The record of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: blake3::Hasher,
    tail: VecDeque<String>,
    tail_lines: usize,
}

impl Trace {
    /// An empty record that keeps its last `tail_lines` lines.
    pub(crate) fn new(tail_lines: usize) -> Self {
        Self { hasher: blake3::Hasher::new(), tail: VecDeque::new(), tail_lines }
    }

    /// Appends a line.
    pub(crate) fn line(&mut self, at: MonoMillis, text: fmt::Arguments<'_>) {
        let line = format!("{:>5}.{:03} s  {text}", at.0 / 1000, at.0 % 1000);
        self.hasher.update(line.as_bytes());
        if self.tail.len() >= self.tail_lines {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Appends bytes that count but say nothing to people.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}
