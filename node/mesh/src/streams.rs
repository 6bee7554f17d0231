//! Acceptors: one task per stream protocol that takes streams in and serves each in a task of its own.
//!
//! Input: a protocol's incoming streams. Output: served streams. They end with the driver that owns them, and their
//! children with them. libp2p-stream holds one stream per protocol for us and drops the next, so an acceptor does
//! nothing but accept; whoever finds it busy comes again (module `question`).

use std::sync::Arc;

use futures::StreamExt as _;
use libp2p::{PeerId, Stream};
use libp2p_stream::{AlreadyRegistered, Control, IncomingStreams};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::budget::{Budget, Permit};
use crate::context::Context;
use crate::gate::Gates;
use crate::session::inbound::Inbound;
use crate::session::{self, Report};
use crate::{blob, join, log, secret};

/// Session streams per peer: the one in use, its replacement, and one that is being refused.
const SESSIONS_PER_PEER: usize = 3;

/// Session streams in all: the connection limit of 512 and a few that are being replaced.
const SESSIONS_TOTAL: usize = 600;

/// Joins in all; each waits for a decision by the node's owner.
const JOINS_TOTAL: usize = 4;

/// Blob streams per peer.
const BLOBS_PER_PEER: usize = 8;

/// Blob streams in all: each holds an open file and a segment of 256 KiB, however many files it is asked for.
const BLOBS_TOTAL: usize = 64;

/// Streams per peer that follow the output of a run: two for each of eight runs that people look at.
const LOGS_PER_PEER: usize = 16;

/// Streams in all that follow the output of a run.
const LOGS_TOTAL: usize = 128;

/// Streams per peer by which it asks for secrets: it asks for a few jobs at a time.
const SECRETS_PER_PEER: usize = 16;

/// Streams in all by which peers ask for secrets: each may wait for a keyring.
const SECRETS_TOTAL: usize = 64;

/// Starts the acceptors on `tasks`.
pub(crate) fn accept_all(
    context: &Arc<Context>,
    gates: &Gates,
    reports: &mpsc::Sender<Report>,
    control: &mut Control,
    tasks: &mut JoinSet<()>,
) -> Result<(), AlreadyRegistered> {
    let (gates, reports, sessions) = (gates.clone(), reports.clone(), Arc::clone(context));
    let budget = Budget::new(SESSIONS_PER_PEER, SESSIONS_TOTAL);
    let incoming = control.accept(session::PROTOCOL)?;
    tasks.spawn(accept(incoming, Arc::clone(context), budget, "session_over_budget", move |peer, stream| {
        let (context, gates, reports) = (Arc::clone(&sessions), gates.clone(), reports.clone());
        Inbound { context, gates, reports, peer, stream }.run()
    }));

    let joins = Arc::clone(context);
    let incoming = control.accept(join::PROTOCOL)?;
    let budget = Budget::new(1, JOINS_TOTAL);
    tasks.spawn(accept(incoming, Arc::clone(context), budget, "join_over_budget", move |peer, stream| {
        join::serve(Arc::clone(&joins), peer, stream)
    }));

    let blobs = Arc::clone(context);
    let incoming = control.accept(blob::PROTOCOL)?;
    let budget = Budget::new(BLOBS_PER_PEER, BLOBS_TOTAL);
    tasks.spawn(accept(incoming, Arc::clone(context), budget, "blob_over_budget", move |peer, stream| {
        blob::serve(Arc::clone(&blobs), peer, stream)
    }));

    let logs = Arc::clone(context);
    let incoming = control.accept(log::PROTOCOL)?;
    let budget = Budget::new(LOGS_PER_PEER, LOGS_TOTAL);
    tasks.spawn(accept(incoming, Arc::clone(context), budget, "log_over_budget", move |peer, stream| {
        log::serve(Arc::clone(&logs), peer, stream)
    }));

    let secrets = Arc::clone(context);
    let incoming = control.accept(secret::PROTOCOL)?;
    let budget = Budget::new(SECRETS_PER_PEER, SECRETS_TOTAL);
    tasks.spawn(accept(incoming, Arc::clone(context), budget, "secrets_over_budget", move |peer, stream| {
        secret::serve(Arc::clone(&secrets), peer, stream)
    }));
    Ok(())
}

/// Takes streams from `incoming` and serves each with `serve`, within `budget`.
async fn accept<F>(
    mut incoming: IncomingStreams,
    context: Arc<Context>,
    budget: Arc<Budget>,
    over_budget: &'static str,
    serve: impl Fn(PeerId, Stream) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            next = incoming.next() => {
                let Some((peer, stream)) = next else { return };
                match budget.take(peer) {
                    Some(permit) => { tasks.spawn(holding(permit, serve(peer, stream))); }
                    None => context.counters.add(over_budget),
                }
            }
            Some(ended) = tasks.join_next() => {
                if ended.is_err() {
                    context.counters.add("stream_task_panicked");
                }
            }
        }
    }
}

/// Runs `task` and gives `permit` back when it ends, however it ends.
async fn holding(permit: Permit, task: impl Future<Output = ()>) {
    task.await;
    drop(permit);
}
