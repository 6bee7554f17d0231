//! What a run on another node writes, as it does: read from there, and at its end from the bytes that came with its
//! receipt.
//!
//! **The hard case** is a connection that breaks: what is read next begins where it did, and if the attempt has ended
//! meanwhile, its output is here, from that place on. A node that tells more than the job may write is not listened to
//! any further.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use jobmesh_engine::Change as EngineChange;
use jobmesh_mesh::{LogError, LogOutput, LogPiece, LogReader, LogRequest};
use jobmesh_protocol::ticket::LeaseKey;
use jobmesh_protocol::{NodeId, RunId};
use jobmesh_store::{Attempt, Job};
use tokio::io::AsyncReadExt as _;
use tokio::sync::broadcast::Receiver;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{CHUNK_BYTES, Source, locate};
use crate::api::{LogStream, LogsQuery};
use crate::control::Control;
use crate::runtime::changed;

/// Wait before a node is asked again that could not be.
const AGAIN: Duration = Duration::from_millis(500);
/// Pieces that may wait for the reader.
const PIECES_MAX: usize = 2;

/// Reads the output of a run of another node.
pub(super) struct Remote {
    control: Control,
    changes: Receiver<EngineChange>,
    job: Job,
    node: NodeId,
    query: LogsQuery,
    /// Where the next byte is.
    offset: u64,
    /// Most bytes that the job may write, if it says so itself; else it goes by what its node allows.
    limit: Option<u64>,
    pieces: Option<mpsc::Receiver<Result<LogPiece, LogError>>>,
    /// Reads from the peer; ended with this.
    reading: JoinSet<()>,
    /// Everything was told that there was.
    is_told: bool,
    /// What is left, which is on this node by now.
    rest: Option<Rest>,
}

/// The rest of an output that is here.
enum Rest {
    Bytes(Bytes),
    File(tokio::fs::File),
    Nothing,
}

/// What happens next.
enum Turn {
    Piece(Option<Result<LogPiece, LogError>>),
    Changed,
    Again,
    Closing,
}

impl Remote {
    /// Asks the node of an attempt that has not ended. If somebody waits for its end, that need not succeed at once.
    pub(super) async fn open(
        control: Control,
        job: &Job,
        attempt: &Attempt,
        query: LogsQuery,
        changes: Receiver<EngineChange>,
    ) -> Result<Self, LogError> {
        let limit = job.spec.log_bytes_max;
        let query = LogsQuery { attempt: Some(attempt.epoch), ..query };
        let mut remote = Self {
            control,
            changes,
            job: job.clone(),
            node: attempt.node,
            query,
            offset: query.offset,
            limit,
            pieces: None,
            reading: JoinSet::new(),
            is_told: false,
            rest: None,
        };
        match remote.ask().await {
            Err(error) if !query.follow => Err(error),
            Ok(()) | Err(_) => Ok(remote),
        }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(futures::stream::unfold(self, |mut remote| async move {
            let chunk = remote.next().await.transpose()?;
            Some((chunk, remote))
        }))
    }

    async fn ask(&mut self) -> Result<(), LogError> {
        let epoch = self.query.attempt.unwrap_or(self.job.epoch);
        let output = match self.query.stream {
            LogStream::Stdout => LogOutput::Stdout,
            LogStream::Stderr => LogOutput::Stderr,
        };
        let key = LeaseKey { ticket: self.job.id.into(), epoch };
        let request = LogRequest { key, output, offset: self.offset, follow: self.query.follow };
        let reader = self.control.handle.read_log(self.node, request).await?;
        let (pieces, receiver) = mpsc::channel(PIECES_MAX);
        // A set of its own, which ends what was read before and keeps nothing of it.
        self.reading = JoinSet::new();
        self.reading.spawn(read(reader, pieces));
        self.pieces = Some(receiver);
        Ok(())
    }

    /// The next bytes; none at the end.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(rest) = &mut self.rest {
                return rest.next().await;
            }
            match self.turn().await {
                Turn::Closing => return Ok(None),
                Turn::Changed => self.look().await,
                Turn::Again => {
                    self.look().await;
                    if self.rest.is_none() && self.pieces.is_none() && !self.is_told {
                        // If it can't be asked, it is asked again.
                        let _ = self.ask().await;
                    }
                }
                Turn::Piece(Some(Ok(LogPiece::Bytes(bytes)))) => {
                    let bytes = self.clip(bytes);
                    if !bytes.is_empty() {
                        return Ok(Some(bytes.into()));
                    }
                }
                Turn::Piece(Some(Ok(LogPiece::End))) => {
                    self.pieces = None;
                    self.is_told = true;
                    if !self.query.follow {
                        return Ok(None);
                    }
                    // The receipt is on its way, or here.
                    self.look().await;
                }
                Turn::Piece(Some(Err(_)) | None) => {
                    self.pieces = None;
                    if !self.query.follow {
                        return Err(io::ErrorKind::ConnectionReset.into());
                    }
                }
            }
        }
    }

    /// Leaves out what is more than the job may write: it is cut off at the run's end. Nothing more is asked for then.
    fn clip(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        let room = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.offset));
        if bytes.len() as u64 > room {
            bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            self.pieces = None;
            self.is_told = true;
        }
        self.offset = self.offset.saturating_add(bytes.len() as u64);
        bytes
    }

    async fn turn(&mut self) -> Turn {
        let piece = async {
            match &mut self.pieces {
                Some(pieces) => pieces.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.control.closing.cancelled() => Turn::Closing,
            // What was written before the end comes first.
            piece = piece => Turn::Piece(piece),
            changed = changed(&mut self.changes, self.job.id) => if changed { Turn::Changed } else { Turn::Closing },
            () = tokio::time::sleep(AGAIN) => Turn::Again,
        }
    }

    /// Looks whether the attempt has ended, and where its output is then.
    async fn look(&mut self) {
        let query = LogsQuery { offset: self.offset, ..self.query };
        let source = match locate(&self.control, &self.job, query).await {
            Ok(source) => source,
            Err(failure) => {
                tracing::debug!(?failure, "the rest of a followed output is not here");
                Source::Nothing(None)
            }
        };
        self.rest = match source {
            Source::Remote(_) | Source::NotYet(_) => return,
            Source::Bytes(_, bytes) => {
                let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(bytes.len());
                Some(Rest::Bytes(Bytes::from(bytes).slice(start..)))
            }
            Source::Whole(_, path) => {
                let file = crate::runtime::open_at(&path, self.offset).await;
                Some(file.map_or(Rest::Nothing, Rest::File))
            }
            Source::Run(_) | Source::Nothing(_) => Some(Rest::Nothing),
        };
    }
}

impl Rest {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Self::File(file) => {
                let mut chunk = bytes::BytesMut::with_capacity(CHUNK_BYTES);
                file.read_buf(&mut chunk).await?;
                Ok((!chunk.is_empty()).then(|| chunk.freeze()))
            }
            Self::Nothing => Ok(None),
        }
    }
}

/// Reads until the end, an error, or until nobody listens.
async fn read(mut reader: LogReader, pieces: mpsc::Sender<Result<LogPiece, LogError>>) {
    loop {
        let piece = reader.next().await;
        let is_last = !matches!(piece, Ok(LogPiece::Bytes(_)));
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// The name of an attempt of which nothing can be read yet, for people.
pub(super) fn unreachable(job: &Job, attempt: &Attempt, name: &str, error: &LogError) -> String {
    let run = RunId { job: attempt.job, epoch: attempt.epoch };
    let what = format!("the output of attempt {} of job {} comes from {name}", run.epoch, job.number);
    format!("{what}, which can't be asked for it now: {error}")
}
