//! Carries out what the engine decided, in order, without ever waiting for the engine.
//!
//! What takes long has a task of its own here: fetching a blob, ending an orphan. **The hard case** is an orphan that
//! still runs when its successor is ordered: runs wait until every orphan is gone, and a stop waits with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jobmesh_engine::{Input, Output, RunOrder, StopReason};
use jobmesh_executors::{Executors, Order, OrphanEnd, ProcessId, end_orphan};
use jobmesh_protocol::id::Hash;
use jobmesh_protocol::job::{ProcessTask, Task};
use jobmesh_protocol::{BlobRef, NodeId, RunId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::handle::Handle;

/// Most transfers at once: enough to fill a line, few enough to leave each a share of it.
const TRANSFERS_MAX: usize = 8;

/// Something for the executors.
enum Work {
    Run(Box<RunOrder>),
    Stop(RunId, StopReason),
}

struct Dispatch {
    handle: Handle,
    executors: Executors,
    /// Work that waits for orphans to end.
    held: VecDeque<Work>,
    orphans: JoinSet<()>,
    fetches: JoinSet<Hash>,
    /// Blobs that are on their way, so that two transfers never write one file.
    fetching: BTreeSet<Hash>,
    transfers: Arc<Semaphore>,
}

/// Runs until the engine thread is gone.
pub(super) async fn run(mut batches: mpsc::Receiver<Vec<Output>>, handle: Handle, executors: Executors) {
    let mut dispatch = Dispatch {
        handle,
        executors,
        held: VecDeque::new(),
        orphans: JoinSet::new(),
        fetches: JoinSet::new(),
        fetching: BTreeSet::new(),
        transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
    };
    loop {
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(outputs) => dispatch.carry_out(outputs),
                None => break,
            },
            Some(ended) = dispatch.orphans.join_next() => dispatch.on_orphan_ended(ended.is_err()),
            Some(fetched) = dispatch.fetches.join_next() => dispatch.on_fetch_ended(fetched.ok()),
        }
    }
    dispatch.fetches.shutdown().await;
    while dispatch.orphans.join_next().await.is_some() {}
}

impl Dispatch {
    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            self.on_output(output);
        }
    }

    fn on_output(&mut self, output: Output) {
        let link = &self.handle.shared().link;
        match output {
            // The engine thread answers by itself.
            Output::Reply(..) => {}
            Output::Send { to, frame } => {
                // A peer that is gone or slow gets it again when its session acknowledges nothing.
                if let Some(Err(error)) = link.mesh().map(|mesh| mesh.send(to, frame)) {
                    tracing::debug!(peer = %to.short(), %error, "frame not sent");
                }
            }
            Output::Publish(digest) => link.publish(digest),
            Output::Provide(keys) => link.provide(keys),
            Output::Find(key) => {
                if let Some(mesh) = link.mesh() {
                    mesh.find(key);
                }
            }
            Output::Dial { node, addresses } => {
                if let Some(mesh) = link.mesh() {
                    mesh.dial(node, addresses);
                }
            }
            Output::Run(order) => self.work(Work::Run(order)),
            Output::Stop { run, reason } => self.work(Work::Stop(run, reason)),
            Output::EndOrphan { run, process } => self.end_orphan(run, process),
            Output::Fetch { from, blob } => self.fetch(from, blob),
            // Without watchers there is nobody to tell.
            Output::Changed(change) => drop(self.handle.changes().send(change)),
        }
    }

    fn work(&mut self, work: Work) {
        if self.orphans.is_empty() {
            self.perform(work);
        } else {
            self.held.push_back(work);
        }
    }

    fn perform(&self, work: Work) {
        match work {
            Work::Run(order) => self.executors.run(self.order(*order)),
            Work::Stop(run, reason) => self.executors.stop(run, stop_reason(reason)),
        }
    }

    fn order(&self, order: RunOrder) -> Order {
        let RunOrder { run, number, task, kill_grace, origin } = order;
        let stdin = task.input().map(|blob| self.handle.blobs().path_of(blob.hash));
        let environment = BTreeMap::from([
            ("JOBMESH_JOB".to_owned(), number.to_string()),
            ("JOBMESH_ATTEMPT".to_owned(), run.epoch.to_string()),
        ]);
        let task = match task {
            // A peer has no say in where on this machine its job runs.
            Task::Process(process) if origin.is_some() => Task::Process(ProcessTask { directory: None, ..process }),
            Task::Process(process) => Task::Process(process),
        };
        Order { run, task, kill_grace, stdin, directory: self.handle.home().run(run), environment }
    }

    fn end_orphan(&mut self, run: RunId, process: jobmesh_engine::Process) {
        let process = ProcessId { pid: process.pid, started: process.started };
        self.orphans.spawn_blocking(move || match end_orphan(process, run) {
            OrphanEnd::NotFound => {}
            OrphanEnd::Ended => tracing::info!(%run, "ended what an earlier daemon left running"),
            OrphanEnd::Remains => tracing::error!(%run, "a process of an earlier daemon can't be ended"),
        });
    }

    fn on_orphan_ended(&mut self, has_panicked: bool) {
        if has_panicked {
            tracing::error!("ending an orphan ended by a panic");
        }
        while self.orphans.is_empty() {
            let Some(work) = self.held.pop_front() else { break };
            self.perform(work);
        }
    }

    fn fetch(&mut self, from: NodeId, blob: BlobRef) {
        if self.fetching.insert(blob.hash) {
            let (handle, transfers) = (self.handle.clone(), Arc::clone(&self.transfers));
            self.fetches.spawn(async move {
                let input = match fetch(&handle, &transfers, from, blob).await {
                    Ok(()) => Input::Fetched(blob.hash),
                    Err(reason) => Input::FetchFailed { hash: blob.hash, reason },
                };
                handle.tell(input).await;
                blob.hash
            });
        }
    }

    fn on_fetch_ended(&mut self, fetched: Option<Hash>) {
        match fetched {
            Some(hash) => {
                self.fetching.remove(&hash);
            }
            None => {
                // Which one it was is lost with the task; the engine asks again for whatever it misses.
                tracing::error!("a transfer ended by a panic");
                self.fetching.clear();
            }
        }
    }
}

async fn fetch(handle: &Handle, transfers: &Semaphore, from: NodeId, blob: BlobRef) -> Result<(), String> {
    if handle.blobs().has(blob) {
        return Ok(());
    }
    let _permit = transfers.acquire().await.map_err(|error| error.to_string())?;
    let mesh = handle.shared().link.mesh().ok_or("this node is not connected to its mesh")?;
    let path = handle.blobs().path_of(blob.hash);
    mesh.fetch(from, blob, &path).await.map_err(|error| error.to_string())
}

const fn stop_reason(reason: StopReason) -> jobmesh_executors::StopReason {
    match reason {
        StopReason::Cancelled => jobmesh_executors::StopReason::Cancel,
        StopReason::Timeout => jobmesh_executors::StopReason::Timeout,
        StopReason::LeaseEnded => jobmesh_executors::StopReason::LeaseEnded,
        StopReason::Draining => jobmesh_executors::StopReason::Shutdown,
    }
}
