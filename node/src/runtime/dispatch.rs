//! Carries out what the engine decided, in order, without ever waiting for the engine.
//!
//! What takes long has a task of its own here: fetching a blob, ending an orphan, finding out what an order needs
//! before it can start (see [`super::line`]). **The hard case** is an orphan that still runs when its successor is
//! ordered: runs wait until every orphan is gone, and a stop waits with them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use jobmesh_engine::{Ended, Input, Output, Process, Remedy, RunOrder, StopReason, Wanted};
use jobmesh_executors::{Executors, Order, OrphanEnd, ProcessId, Secrets, end_orphan, remove_tree};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::{Isolation, JobId, Outcome, RunId};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{self, AbortHandle, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::adoption;
use super::array::{Arrays, Known, Look};
use super::download;
use super::handle::Handle;
use super::line::{Line, Next, Work};
use super::order::order as for_executors;
use super::{array, reduce, secrets};
use crate::causes::causes;

/// Most looks for processes of an earlier daemon at once: each may go through all that the system has.
const LOOKS_MAX: usize = 8;

// The executors would send back what the engine lets stand behind a run beyond that.
const _: () = assert!(jobmesh_engine::SUCCESSORS_MAX <= jobmesh_executors::FOLLOWERS_MAX);

/// What came of the preparation of a run.
enum Prepared {
    /// It can start; its group was read for that if it is a task, and its secrets were looked up.
    Ready(Box<RunOrder>, Option<Known>, Secrets),
    /// It goes on already, or its end was told by others.
    Underway,
    /// It never will.
    Over(Outcome),
}

struct Dispatch {
    handle: Handle,
    executors: Executors,
    /// Work that waits for orphans to end.
    held: VecDeque<Work>,
    orphans: JoinSet<()>,
    /// Runs that are being prepared, and what waits for them.
    line: Line,
    preparations: JoinSet<(RunId, Prepared)>,
    arrays: Arrays,
    looks: Arc<Semaphore>,
    fetches: JoinSet<()>,
    /// What is on its way, and what ends that.
    fetching: BTreeMap<Wanted, AbortHandle>,
    /// Jobs whose directories are to be deleted; one deletion at a time takes them all.
    forgotten: BTreeSet<JobId>,
    deletion: JoinSet<()>,
    /// Ends that were found here, on their way to the engine.
    reports: JoinSet<()>,
}

/// Runs until the engine thread is gone.
pub(super) async fn run(mut batches: mpsc::Receiver<Vec<Output>>, handle: Handle, executors: Executors) {
    let mut dispatch = Dispatch::new(handle, executors);
    loop {
        tokio::select! {
            batch = batches.recv() => match batch {
                Some(outputs) => dispatch.carry_out(outputs),
                None => break,
            },
            Some(prepared) = dispatch.preparations.join_next() => dispatch.on_preparation_ended(prepared.ok()),
            Some(_) = dispatch.reports.join_next() => {}
            Some(_) = dispatch.deletion.join_next() => dispatch.delete_forgotten(),
            Some(ended) = dispatch.orphans.join_next() => dispatch.on_orphan_ended(ended.is_err()),
            Some(fetched) = dispatch.fetches.join_next_with_id() => dispatch.on_fetch_ended(fetched),
        }
    }
    dispatch.fetches.shutdown().await;
    dispatch.preparations.shutdown().await;
    while dispatch.orphans.join_next().await.is_some() {}
}

impl Dispatch {
    fn new(handle: Handle, executors: Executors) -> Self {
        Self {
            handle,
            executors,
            held: VecDeque::new(),
            orphans: JoinSet::new(),
            line: Line::default(),
            preparations: JoinSet::new(),
            arrays: Arrays::default(),
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            fetches: JoinSet::new(),
            fetching: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            deletion: JoinSet::new(),
            reports: JoinSet::new(),
        }
    }

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
            Output::Shout(bytes) => {
                if let Some(mesh) = link.mesh() {
                    mesh.shout(bytes);
                }
            }
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
            Output::Adopt { order, process } => self.adopt(order, process),
            Output::Forget(job) => self.forget(job),
            Output::Fetch(wanted) => self.fetch(wanted),
            Output::StopFetch(wanted) => {
                if let Some(fetch) = self.fetching.remove(&wanted) {
                    fetch.abort();
                }
            }
            // Without watchers there is nobody to tell.
            Output::Changed(change) => drop(self.handle.changes().send(change)),
        }
    }

    fn work(&mut self, work: Work) {
        if self.orphans.is_empty() {
            self.perform([work].into());
        } else {
            self.held.push_back(work);
        }
    }

    /// Does what need not wait for a run in line, and what waited behind that in turn.
    fn perform(&mut self, mut works: VecDeque<Work>) {
        while let Some(next) = self.line.next(&mut works) {
            match next {
                Next::Run(order) => self.start(order),
                Next::Stop(run, reason) => self.executors.stop(run, stop_reason(reason)),
                Next::Over(run, reason) => self.report(run, stop_reason(reason).outcome()),
            }
        }
    }

    /// Hands an order to the executors, or has it prepared first.
    fn start(&mut self, order: Box<RunOrder>) {
        let is_ready = !order.reduce && order.secrets.is_empty();
        match self.arrays.look(order.number) {
            Look::Plain if is_ready => self.executors.run(for_executors(&self.handle, *order, None)),
            Look::At(place) if is_ready => self.executors.run(for_executors(&self.handle, *order, Some(&place))),
            Look::Plain | Look::At(_) | Look::Unknown => {
                let (run, stopped) = (order.run, self.line.enter(order.run, order.follows));
                let handle = self.handle.clone();
                self.prepare(run, async move { prepare(&handle, order, stopped).await });
            }
        }
    }

    /// Has a run in line prepared. It leaves the line in any case: after a panic it is lost, and not in the way.
    fn prepare(&mut self, run: RunId, preparation: impl Future<Output = Prepared> + Send + 'static) {
        self.preparations.spawn(async move {
            let prepared = AssertUnwindSafe(preparation).catch_unwind().await;
            let failed =
                |_| Prepared::Over(Outcome::Lost { reason: "this node failed to prepare it; see the log".to_owned() });
            (run, prepared.unwrap_or_else(failed))
        });
    }

    /// None if the preparation was aborted, which only the end of this task does.
    fn on_preparation_ended(&mut self, prepared: Option<(RunId, Prepared)>) {
        let Some((run, prepared)) = prepared else { return };
        let mut left = self.line.leave(run);
        if !matches!((&prepared, left.stop), (Prepared::Underway, _) | (Prepared::Ready(..), None)) {
            self.handle.shared().guarded.forget(run);
        }
        if matches!((&prepared, left.stop), (Prepared::Over(_), _) | (Prepared::Ready(..), Some(_))) {
            left.close_up();
        }
        match (prepared, left.stop) {
            (Prepared::Ready(..) | Prepared::Over(_), Some(reason)) => self.report(run, stop_reason(reason).outcome()),
            (Prepared::Ready(order, known, secrets), None) => {
                let place = known.as_ref().and_then(|known| known.place(order.number));
                if let Some(known) = known {
                    self.arrays.learn(order.number.group(), known);
                }
                self.executors.run(Order { secrets, ..for_executors(&self.handle, *order, place.as_ref()) });
            }
            (Prepared::Underway, Some(reason)) => self.executors.stop(run, stop_reason(reason)),
            (Prepared::Underway, None) => {}
            (Prepared::Over(outcome), None) => self.report(run, outcome),
        }
        self.perform(left.behind.into());
    }

    /// Tells the engine of an end that nobody else tells of.
    fn report(&mut self, run: RunId, outcome: Outcome) {
        let ended = Ended {
            outcome,
            exit: Exit::default(),
            outputs: Outputs::default(),
            usage: Usage::default(),
            model: None,
            isolation: Isolation::None,
            ran_micros: 0,
            inline: Vec::new(),
            notice: None,
        };
        let handle = self.handle.clone();
        self.reports.spawn(async move {
            // Without an engine the run is found at the next start.
            handle.tell(Input::Ended { run, ended }).await;
        });
    }

    fn adopt(&mut self, order: Box<RunOrder>, process: Option<Process>) {
        let run = order.run;
        self.line.enter(run, order.follows);
        let (handle, executors, looks) = (self.handle.clone(), self.executors.clone(), Arc::clone(&self.looks));
        self.prepare(run, async move {
            // Closed it never is; if it were, there would only be more looks at once.
            let _permit = looks.acquire().await.ok();
            let look = tokio::task::spawn_blocking(move || adoption::adopt(&handle, &executors, &order, process));
            match look.await {
                Ok(None) => Prepared::Underway,
                Ok(Some(outcome)) => Prepared::Over(outcome),
                Err(_) => Prepared::Over(Outcome::Lost { reason: "the look for its process failed".to_owned() }),
            }
        });
    }

    /// Deletes what lies on disk of a job that is not kept any more.
    fn forget(&mut self, job: JobId) {
        self.forgotten.insert(job);
        self.delete_forgotten();
    }

    /// Starts a deletion unless one is under way: the folder of runs may be long, and is gone through once for all that
    /// was forgotten meanwhile.
    fn delete_forgotten(&mut self) {
        if self.forgotten.is_empty() || !self.deletion.is_empty() {
            return;
        }
        let (jobs, runs) = (std::mem::take(&mut self.forgotten), self.handle.home().runs());
        self.deletion.spawn_blocking(move || {
            for entry in std::fs::read_dir(&runs).into_iter().flatten().flatten() {
                let run = entry.file_name().to_str().and_then(RunId::parse);
                if run.is_some_and(|run| jobs.contains(&run.job))
                    && let Err(error) = remove_tree(&entry.path())
                {
                    tracing::warn!(path = %entry.path().display(), %error, "failed to delete a run's directory");
                }
            }
        });
    }

    fn end_orphan(&mut self, run: RunId, process: Process) {
        let process = ProcessId { pid: process.pid, started: process.started };
        let handle = self.handle.clone();
        self.orphans.spawn_blocking(move || {
            match end_orphan(process, run) {
                OrphanEnd::NotFound => {}
                OrphanEnd::Ended => tracing::info!(%run, "ended what an earlier daemon left running"),
                OrphanEnd::Remains => tracing::error!(%run, "a process of an earlier daemon can't be ended"),
            }
            handle.shared().guarded.discard(handle.home(), run);
        });
    }

    fn on_orphan_ended(&mut self, has_panicked: bool) {
        if has_panicked {
            tracing::error!("ending an orphan ended by a panic");
        }
        while self.orphans.is_empty() {
            let Some(work) = self.held.pop_front() else { break };
            self.perform([work].into());
        }
    }

    /// Brings something here, unless it is on its way: an engine that was built anew asks again.
    fn fetch(&mut self, wanted: Wanted) {
        if !self.fetching.contains_key(&wanted) {
            let fetch = self.fetches.spawn(download::bring(self.handle.clone(), wanted));
            self.fetching.insert(wanted, fetch);
        }
    }

    fn on_fetch_ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        // One that was stopped has no name any more, and another may have taken its place.
        let wanted = self.fetching.iter().find(|(_, fetch)| fetch.id() == id).map(|(wanted, _)| *wanted);
        let Some(wanted) = wanted else { return };
        self.fetching.remove(&wanted);
        if ended.is_err() {
            tracing::error!(blob = wanted.blob.hash.short(), "a transfer ended by a panic");
            let handle = self.handle.clone();
            let reason = "the transfer failed on this node; see its log".to_owned();
            let input = Input::FetchFailed { wanted, reason, remedy: Remedy::Again };
            self.reports.spawn(async move {
                handle.tell(input).await;
            });
        }
    }
}

/// Finds out what an order needs before it can start. Leaves early once it is `stopped`.
async fn prepare(handle: &Handle, order: Box<RunOrder>, stopped: CancellationToken) -> Prepared {
    let number = order.number;
    let known = match number.index() {
        Some(_) => match handle.read(move |view| array::read(view, number)).await {
            Ok(known) => Some(known),
            Err(error) => {
                return Prepared::Over(Outcome::error(format!("the item of the task can't be read: {error}")));
            }
        },
        None => None,
    };
    let secrets = match secrets::of(handle, &order, &stopped).await {
        Ok(secrets) => secrets,
        Err(outcome) => return Prepared::Over(outcome),
    };
    if !order.reduce {
        return Prepared::Ready(order, known, secrets);
    }
    let (handle, run) = (handle.clone(), order.run);
    match tokio::task::spawn_blocking(move || reduce::write(&handle, run, number, &stopped)).await {
        Ok(Ok(())) => Prepared::Ready(order, known, secrets),
        Ok(Err(error)) => Prepared::Over(Outcome::error(causes(&error))),
        Err(_) => Prepared::Over(Outcome::error("the results of the jobs before it could not be written; see the log")),
    }
}

const fn stop_reason(reason: StopReason) -> jobmesh_executors::StopReason {
    match reason {
        StopReason::Cancelled => jobmesh_executors::StopReason::Cancel,
        StopReason::Killed => jobmesh_executors::StopReason::Kill,
        StopReason::Withdrawn => jobmesh_executors::StopReason::Withdraw,
        StopReason::Timeout => jobmesh_executors::StopReason::Timeout,
        StopReason::LeaseEnded => jobmesh_executors::StopReason::LeaseEnded,
        StopReason::Draining => jobmesh_executors::StopReason::Shutdown,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::Epoch;

    use super::super::fixture::Node;
    use super::*;

    /// Its run stayed in line, with everything that was said of it, until the daemon's end.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_run_whose_preparation_panics_leaves_the_line() {
        let node = Node::start("").await;
        let (handle, executors) = node.parts();
        let mut dispatch = Dispatch::new(handle, executors);
        let run = RunId { job: JobId::from_bytes([7; 16]), epoch: Epoch(1) };
        let stopped = dispatch.line.enter(run, None);
        dispatch.prepare(run, async { std::panic::panic_any("a broken preparation") });
        let prepared = dispatch.preparations.join_next().await.unwrap().ok();
        assert!(matches!(&prepared, Some((told, Prepared::Over(Outcome::Lost { .. }))) if *told == run));
        dispatch.on_preparation_ended(prepared);
        assert_eq!(dispatch.reports.len(), 1, "the engine is told");
        dispatch.perform([Work::Stop(run, StopReason::Cancelled)].into());
        assert!(!stopped.is_cancelled(), "nothing waits for it any more");
        drop(dispatch);
        node.stop().await;
    }
}
