//! The writing end of a session: one task per connected peer, from its first connection to its last.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::{PeerId, Stream};
use libp2p_stream::OpenStreamError;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{PROTOCOL, Report};
use crate::context::{Context, QueuedFrame};
use crate::event::Side;
use crate::frame;
use crate::hello::{self, VERDICT_BYTES_MAX, Verdict};

/// How long the peer may take to open the stream, and again to judge our hello.
const STEP_DEADLINE: Duration = Duration::from_secs(4);

/// First pause before another stream is opened after one broke. Two nodes that meet at the same moment may find the
/// other's acceptor busy, so it is short.
const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause before another stream is opened.
const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Frames written between two flushes at most, so that a busy queue does not hold back the first of them.
const BATCH_FRAMES_MAX: usize = 64;

/// What the task is made of.
pub(crate) struct Outbound {
    pub(crate) context: Arc<Context>,
    pub(crate) peer: PeerId,
    /// Names this connected spell in every hello.
    pub(crate) life: u64,
    pub(crate) frames: mpsc::Receiver<QueuedFrame>,
    pub(crate) reports: mpsc::Sender<Report>,
    /// Asks for a new stream with a new hello.
    pub(crate) restart: Arc<Notify>,
    /// Ends the task.
    pub(crate) cancel: CancellationToken,
}

/// Why one stream ended.
enum End {
    /// Another may be opened at once.
    Restart,
    /// Another may be opened after a pause; says whether this one had worked.
    Broken { welcomed: bool },
    /// No other will fare better.
    Final,
}

impl Outbound {
    /// Runs until cancelled or refused.
    pub(crate) async fn run(mut self) {
        let cancel = self.cancel.clone();
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.keep_open() => {}
        }
    }

    async fn keep_open(&mut self) {
        let mut pause = REOPEN_PAUSE_MIN;
        loop {
            match self.one_stream().await {
                End::Final => return,
                End::Restart => pause = REOPEN_PAUSE_MIN,
                End::Broken { welcomed } => {
                    self.context.counters.add("session_broken");
                    pause = if welcomed { REOPEN_PAUSE_MIN } else { (pause * 2).min(REOPEN_PAUSE_MAX) };
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.restart.notified() => {}
                    }
                }
            }
        }
    }

    /// Opens a stream, says hello, and writes frames until something ends it.
    async fn one_stream(&mut self) -> End {
        let mut stream = match self.open().await {
            Ok(stream) => stream,
            // Even a peer that speaks no sessions may be about to: whoever just joined connects again as a member.
            Err(_) => return End::Broken { welcomed: false },
        };
        match self.say_hello(&mut stream).await {
            Ok(Verdict::Welcome) => {}
            Ok(Verdict::Refused(reason)) => {
                let report = Report::Refused { peer: self.peer, by: Side::Them, reason };
                let _ = self.reports.send(report).await;
                // Tells the other side that its verdict arrived.
                let _ = timeout(STEP_DEADLINE, stream.close()).await;
                return End::Final;
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "hello was not answered");
                return End::Broken { welcomed: false };
            }
        }
        if self.reports.send(Report::Welcomed { peer: self.peer, life: self.life }).await.is_err() {
            return End::Final;
        }
        self.write_frames(&mut stream).await
    }

    async fn open(&self) -> Result<Stream, OpenStreamError> {
        let Some(mut control) = self.context.control() else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        timeout(STEP_DEADLINE, control.open_stream(self.peer, PROTOCOL))
            .await
            .unwrap_or_else(|_elapsed| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn say_hello(&self, stream: &mut Stream) -> io::Result<Verdict> {
        let hello = hello::encode(&self.context.credentials(), self.life, &self.context.listening());
        frame::send(stream, &hello).await?;
        let answer = timeout(STEP_DEADLINE, frame::read(stream, VERDICT_BYTES_MAX)).await;
        let answer = answer.map_err(|_elapsed| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
        let answer = answer.ok_or(io::ErrorKind::UnexpectedEof)?;
        hello::decode_verdict(&answer).map_err(io::Error::other)
    }

    async fn write_frames(&mut self, stream: &mut Stream) -> End {
        let mut byte = [0_u8; 1];
        loop {
            let first = tokio::select! {
                biased;
                () = self.restart.notified() => return End::Restart,
                // The acceptor has nothing to say after its verdict: whatever this yields, the stream is over.
                _ = stream.read(&mut byte) => return End::Broken { welcomed: true },
                first = self.frames.recv() => first,
            };
            let Some(first) = first else { return End::Final };
            let written = timeout(frame::BODY_DEADLINE, self.write_batch(stream, first)).await;
            if !matches!(written, Ok(Ok(()))) {
                return End::Broken { welcomed: true };
            }
        }
    }

    /// Writes `first` and what has queued up behind it, then flushes.
    async fn write_batch(&mut self, stream: &mut Stream, first: QueuedFrame) -> io::Result<()> {
        frame::write(stream, &first.bytes).await?;
        for _ in 1..BATCH_FRAMES_MAX {
            let Ok(next) = self.frames.try_recv() else { break };
            frame::write(stream, &next.bytes).await?;
        }
        stream.flush().await
    }
}
