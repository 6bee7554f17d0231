//! The reading end of a session: judges the hello, then passes frames on as fast as the owner takes them.

use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use jobmesh_keys::NodeId;
use libp2p::{PeerId, Stream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{FRAME_BYTES_MAX, Report};
use crate::context::Context;
use crate::event::{Event, Side};
use crate::frame;
use crate::gate::Gates;
use crate::hello::{self, HELLO_BYTES_MAX, HelloError, Verdict, VerifiedHello};
use crate::peer_id::node_of;

/// How long a peer may take over its hello; an unadmitted peer is disconnected after as long.
const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// How long we wait for a refused peer to read why, before the connection is closed under it.
const VERDICT_READ_DEADLINE: Duration = Duration::from_secs(2);

/// What the task is made of.
pub(crate) struct Inbound {
    pub(crate) context: Arc<Context>,
    pub(crate) gates: Gates,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) peer: PeerId,
    pub(crate) stream: Stream,
}

impl Inbound {
    /// Serves one stream to its end.
    pub(crate) async fn run(mut self) {
        let Some(node) = node_of(&self.peer) else { return };
        let Some(hello) = self.hear_hello(node).await else { return };
        let (go, admitted) = oneshot::channel();
        let cancel = CancellationToken::new();
        let report = Report::Verified { peer: self.peer, hello, go, cancel: cancel.clone() };
        if self.reports.send(report).await.is_err() {
            return;
        }
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.pass_frames(node, admitted, &cancel) => {}
        }
    }

    /// Reads and answers the hello; `None` if this peer has no business here.
    async fn hear_hello(&mut self, node: NodeId) -> Option<VerifiedHello> {
        let counters = &self.context.counters;
        let bytes = match timeout(HELLO_DEADLINE, frame::read(&mut self.stream, HELLO_BYTES_MAX)).await {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return None,
            Ok(Err(error)) => {
                counters.add(error.counter());
                return None;
            }
            Err(_elapsed) => {
                counters.add("hello_late");
                return None;
            }
        };
        match hello::verify(&bytes, &self.context.credentials(), node, (self.context.now)()) {
            Ok(hello) => {
                // Before the peer hears that it is welcome: its next act may be to knock.
                self.gates.open_inbound(&self.peer);
                let welcome = hello::encode_verdict(&Verdict::Welcome);
                frame::send(&mut self.stream, &welcome).await.ok().map(|()| hello)
            }
            Err(HelloError::Garbage(error)) => {
                counters.add("hello_garbage");
                tracing::debug!(peer = %self.peer, %error, "hello is garbage");
                None
            }
            Err(HelloError::Refused(reason)) => {
                self.refuse(reason).await;
                None
            }
        }
    }

    /// Tells the peer why, waits until it has read that, then lets the driver close the connection.
    async fn refuse(&mut self, reason: String) {
        self.context.counters.add("hello_refused");
        let verdict = hello::encode_verdict(&Verdict::Refused(reason.clone()));
        if frame::send(&mut self.stream, &verdict).await.is_ok() {
            let told = async {
                let _ = self.stream.close().await;
                let mut byte = [0_u8; 1];
                let _ = self.stream.read(&mut byte).await;
            };
            let _ = timeout(VERDICT_READ_DEADLINE, told).await;
        }
        let _ = self.reports.send(Report::Refused { peer: self.peer, by: Side::Us, reason }).await;
    }

    /// Waits until the peer is admitted, then passes its frames on until the stream ends.
    ///
    /// The hard case is a stream with much on it whose peer is gone: as long as there is room and more to read, nothing
    /// here waits, and the owner would hear from a peer that it was told to be gone.
    async fn pass_frames(&mut self, node: NodeId, admitted: oneshot::Receiver<()>, cancel: &CancellationToken) {
        if admitted.await.is_err() {
            return;
        }
        loop {
            match frame::read(&mut self.stream, FRAME_BYTES_MAX).await {
                Ok(Some(bytes)) => {
                    // Waiting here stops the reading, so a peer that is too fast slows down to the owner's pace.
                    let Ok(room) = self.context.events.reserve().await else { return };
                    if cancel.is_cancelled() {
                        return;
                    }
                    room.send(Event::Frame { from: node, bytes });
                }
                Ok(None) => return,
                Err(error) => {
                    self.context.counters.add(error.counter());
                    tracing::debug!(peer = %self.peer, %error, "session stream ended");
                    return;
                }
            }
        }
    }
}
