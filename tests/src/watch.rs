//! The events of a node as they happen: how a test waits for something to become of a job.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Node;

/// The events of a node, from the first one on.
#[derive(Debug)]
pub struct Watch {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    pub(crate) fn begin(node: &Node) -> Self {
        let mut command = Command::new("timeout");
        command.arg("60").arg(node.binary()).args(["events", "--follow", "--from", "0", "--json"]);
        command.env("JOBMESH_HOME", node.home()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("timeout starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// Waits for the next event that is like this, and returns it.
    ///
    /// # Panics
    /// If none comes before the node goes, or within a minute.
    pub fn until(&mut self, what: &str, mut is_it: impl FnMut(&Value) -> bool) -> Value {
        for line in self.lines.by_ref() {
            let event: Value = serde_json::from_str(&line.expect("a line")).expect("an event");
            if is_it(&event) {
                return event;
            }
        }
        panic!("{what} did not happen");
    }

    /// Waits until a job, which is no task, is in this state.
    ///
    /// # Panics
    /// As [`Self::until`].
    pub fn until_state(&mut self, job: &str, state: &str) -> Value {
        let (what, number) = (format!("job {job} becoming {state}"), job.parse().ok());
        self.until(&what, |event| {
            event["number"].as_u64() == number && event["task"].is_null() && event["state"] == state
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It has ended already, or it ends with the node.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
