//! Telling a peer what its job writes here, while it does.
//!
//! Only the origin of a run is told, by the name that it knows the run by.

use jobmesh_executors::Stream;
use jobmesh_mesh::{LogOutput, LogPiece, LogRequest};
use jobmesh_protocol::{NodeId, RunId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::tail::{Span, Tail};

/// Pieces of up to 64 KiB that may wait for a peer: one to be sent while the next one is read.
const PIECES_MAX: usize = 2;

/// Answers `from` with what a run writes, until it is over or nobody listens any more.
pub(super) async fn serve(
    handle: Handle,
    from: NodeId,
    request: LogRequest,
    reply: oneshot::Sender<Option<mpsc::Receiver<LogPiece>>>,
) {
    let lease = handle.read(move |view| {
        let Some(lease) = view.lease_of(from, request.key)? else { return Ok(None) };
        Ok(view.job(lease.job)?.map(|job| RunId { job: job.id, epoch: job.epoch }))
    });
    let run = match lease.await {
        Ok(run) => run,
        Err(error) => {
            tracing::error!(%error, "could not find out whose run a peer asked for");
            None
        }
    };
    let Some(run) = run else {
        // Whoever asked may have gone.
        let _ = reply.send(None);
        return;
    };
    let (pieces, receiver) = mpsc::channel(PIECES_MAX);
    if reply.send(Some(receiver)).is_err() {
        return;
    }
    let stream = match request.output {
        LogOutput::Stdout => Stream::Stdout,
        LogOutput::Stderr => Stream::Stderr,
    };
    let span = Span { stream, offset: request.offset, follow: request.follow };
    // This task is aborted with the mesh; there is nothing else to close it.
    let tail = Tail::new(handle, run, span, CancellationToken::new());
    tokio::select! {
        // A quiet run may be followed for days by somebody who has gone.
        () = pieces.closed() => {}
        () = send(tail, &pieces) => {}
    }
}

async fn send(mut tail: Tail, pieces: &mpsc::Sender<LogPiece>) {
    loop {
        let piece = match tail.next().await {
            Ok(Some(bytes)) => LogPiece::Bytes(bytes.to_vec()),
            Ok(None) => LogPiece::End,
            Err(error) => {
                tracing::warn!(%error, "the output of a run can't be read for its origin");
                return;
            }
        };
        let is_end = piece == LogPiece::End;
        if pieces.send(piece).await.is_err() || is_end {
            return;
        }
    }
}
