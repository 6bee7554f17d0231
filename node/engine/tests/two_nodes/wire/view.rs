//! What the nodes of a wire have in their databases.

use jobmesh_engine::{Command, Response};
use jobmesh_protocol::{JobId, NodeId};
use jobmesh_store::{Attempt, Job, ReceiptRow};

use super::{A, B, Wire};

impl Wire {
    pub(crate) fn counter(&mut self, index: usize, name: &str) -> u64 {
        match self.command(index, Command::Counters) {
            Response::Counted(counts) => counts.get(name).copied().unwrap_or(0),
            Response::Submitted(_)
            | Response::Pruned(_)
            | Response::Done
            | Response::Unchanged
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Judged(_)
            | Response::Granted(_) => panic!("no counters"),
        }
    }

    pub(crate) fn job(&mut self, index: usize, job: JobId) -> Job {
        self.nodes[index].store.begin().unwrap().view().job(job).unwrap().unwrap()
    }

    pub(crate) fn has(&mut self, index: usize, job: JobId) -> bool {
        self.nodes[index].store.begin().unwrap().view().job(job).unwrap().is_some()
    }

    pub(crate) fn attempts(&mut self, index: usize, job: JobId) -> Vec<Attempt> {
        self.nodes[index].store.begin().unwrap().view().attempts(job).unwrap()
    }

    pub(crate) fn receipts(&mut self, index: usize, job: JobId) -> Vec<ReceiptRow> {
        self.nodes[index].store.begin().unwrap().view().receipts(job).unwrap()
    }

    pub(crate) fn summaries(&mut self, index: usize) -> Vec<NodeId> {
        let rows = self.nodes[index].store.begin().unwrap().view().summaries(0).unwrap();
        rows.iter().map(|row| row.head.author).collect()
    }

    pub(crate) fn outbox_is_empty(&mut self) -> bool {
        [A, B].iter().all(|index| self.nodes[*index].store.begin().unwrap().view().outbox_peers().unwrap().is_empty())
    }

    /// Everything that a job or session of a node consists of.
    pub(crate) fn dump(&mut self, index: usize) -> String {
        let other = self.nodes[1 - index].id;
        let txn = self.nodes[index].store.begin().unwrap();
        let view = txn.view();
        format!("{:?} {:?} {:?}", view.live_jobs().unwrap(), view.inbound(other).unwrap(), view.outbox_peers().unwrap())
    }
}
