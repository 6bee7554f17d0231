//! The socket by which a running job says how far it is, that it lives, and what its next attempt wants to know.
//!
//! One line of JSON each way, so that `nc -U "$JOBMESH_SOCKET"` is a client. The first line says whose it is; later ones
//! of the same connection need not:
//!
//! ```text
//! {"run":"…","token":"…","progress":0.42,"message":"page 42 of 100"}   {"ok":true}
//! {"heartbeat":true}                                                   {"ok":true}
//! {"checkpoint":{"name":"page","value":"42"}}                          {"ok":true}
//! {"checkpoints":true}                                                 {"ok":true,"checkpoints":{"page":"42"}}
//! {"submit":{"spec":{…}}}                                              {"ok":true,"submitted":{"number":43,…}}
//! {"http":{"url":"https://example.org/"}}                              {"ok":true,"http":{"status":200,…}}
//! {"colour":"red"}                                                     {"error":{"code":"bad_request",…}}
//! ```
//!
//! A line is answered once what it says is the engine's, and only then is the next one read; an error ends nothing but
//! that line, unless the lines themselves can't be told apart. The token proves that a job speaks for itself: see
//! [`token`].
//!
//! One task accepts, with one task for each connection below it; all end by the runtime's token. **The hard case** is
//! the client that does nothing, or keeps others out: whoever has not shown within [`FIRST_LIMIT`] whose it is must go, a
//! line that was begun must end within [`LINE_LIMIT`], and whoever says nothing for [`IDLE_LIMIT`] is let go and may come
//! again. But the one who interprets a script can't come again, since it connects before it raises its walls. So each run
//! may keep one connection for as long as it runs, beside a few of those that all share: see [`seat`]. Whoever has no
//! seat, since its run has enough of them or is over, has one line answered and must go.

mod seat;
mod talk;
pub(super) mod token;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::serve::Listener as _;
use jobmesh_executors::http::Fetcher;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use crate::api::{ApiError, ErrorCode};
use crate::home::Home;
use crate::listener::OwnerListener;
use seat::{Limits, Seat, Seats};
use talk::{Reply, Talk, failure};

/// Most connections at once: a job needs one for a moment, and each that stays takes a descriptor of the daemon.
const LIMITS: Limits = Limits { lobby: 64, shared: 64, of_run: 8 };
/// Longest line: the largest checkpoint, with every byte written as six in JSON.
const LINE_BYTES_MAX: u64 = 128 * 1024;
/// How long a client may take to say whose it is: it knows that when it connects.
const FIRST_LIMIT: Duration = Duration::from_secs(5);
/// How long a line may take from its first byte to its last, and an answer to be taken.
const LINE_LIMIT: Duration = Duration::from_secs(10);
/// How long a connection may be silent that is not the one of its run.
const IDLE_LIMIT: Duration = Duration::from_secs(300);

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
struct Patience {
    idle: Duration,
    line: Duration,
}

impl Patience {
    /// The same, but no longer than until `deadline`.
    fn until(self, deadline: Instant) -> Self {
        let left = deadline.saturating_duration_since(Instant::now());
        Self { idle: self.idle.min(left), line: self.line.min(left) }
    }
}

const PATIENCE: Patience = Patience { idle: IDLE_LIMIT, line: LINE_LIMIT };

/// The bound socket.
pub(super) struct TaskSocket {
    listener: OwnerListener,
    path: PathBuf,
    fetcher: Fetcher,
}

impl TaskSocket {
    /// Binds the socket; who connects from now on is served once [`Self::serve`] runs.
    ///
    /// The caller holds the lock of the data directory, so a socket that is there already is a dead daemon's.
    pub(super) fn bind(home: &Home, fetcher: Fetcher) -> io::Result<Self> {
        let path = home.task_socket();
        Ok(Self { listener: OwnerListener::bind(&path)?, path, fetcher })
    }

    /// Serves jobs until the token is cancelled, then removes the socket.
    pub(super) async fn serve(mut self, handle: Handle, cancel: CancellationToken) {
        let (mut connections, seats) = (JoinSet::new(), Seats::new(LIMITS));
        loop {
            let (stream, ()) = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            let talk = Talk::new(handle.clone(), self.fetcher.clone());
            connections.spawn(Connection::new(stream, talk, seats.enter()).serve());
        }
        connections.shutdown().await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "failed to remove the socket of tasks");
        }
    }
}

/// One client.
struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    talk: Talk,
    seat: Seat,
}

/// What came of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Line(Vec<u8>),
    /// The client has nothing more to say.
    End,
    TooLong,
    TooSlow,
    /// The client says nothing.
    Silent,
}

impl Connection {
    fn new(stream: UnixStream, talk: Talk, seat: Seat) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader: BufReader::new(reader), writer, talk, seat }
    }

    /// Serves it until it ends, or has to leave its place to another.
    async fn serve(mut self) {
        let shown_out = self.seat.shown_out();
        let is_shown_out = shown_out.run_until_cancelled(self.listen()).await.is_none();
        if is_shown_out {
            // One that has gone or doesn't read is not waited for: it has no place any more in which it could be counted.
            let _ = self.writer.try_write(&Reply::Error(crowded_out()).line());
        }
    }

    async fn listen(&mut self) {
        let connected = Instant::now();
        loop {
            let is_known = self.talk.run().is_some();
            let patience = if is_known { PATIENCE } else { PATIENCE.until(connected + FIRST_LIMIT) };
            let (reply, goes_on) = match hear(&mut self.reader, patience).await {
                Heard::Line(line) => match self.answer(&line).await {
                    Some(answer) => answer,
                    None => break,
                },
                Heard::TooLong => (Reply::Error(too_long()), false),
                Heard::Silent if self.seat.is_own() && self.talk.is_of_live_run().await => continue,
                Heard::TooSlow | Heard::Silent => (Reply::Error(too_slow()), false),
                Heard::End => break,
            };
            let written = timeout(LINE_LIMIT, self.writer.write_all(&reply.line())).await;
            if !goes_on || !matches!(written, Ok(Ok(()))) {
                break;
            }
        }
    }

    /// Answers a line, and says whether there may be another; none if the client goes away meanwhile. The first line that
    /// says whose it is gets it a seat, if its run goes on: a token is good for longer.
    async fn answer(&mut self, line: &[u8]) -> Option<(Reply, bool)> {
        let mut goes_on = true;
        // Before anything is done: who is in the lobby can be shown out in the middle of it.
        if self.talk.run().is_none()
            && let Some(run) = self.talk.meet(line)
        {
            let is_live = self.talk.is_of_live_run().await;
            goes_on = is_live && self.seat.introduce(run);
            // Whoever is shown out while a job is taken on would try again, and have it twice.
            if is_live && !goes_on && talk::is_submission(line) {
                return Some((Reply::Error(no_seat()), false));
            }
        }
        let reply = self.talk.answer(line, gone(&mut self.reader)).await?;
        Some((reply, goes_on))
    }
}

/// Waits until the client has nothing more to say: one that was ended in the middle of its wait.
async fn gone(reader: &mut (impl AsyncBufRead + Unpin)) {
    match reader.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Waits for a line, without its end. The last one needs none.
async fn hear(reader: &mut (impl AsyncBufRead + Unpin), patience: Patience) -> Heard {
    match timeout(patience.idle, reader.fill_buf()).await {
        Err(_elapsed) => return Heard::Silent,
        Ok(Err(_)) => return Heard::End,
        Ok(Ok([])) => return Heard::End,
        Ok(Ok(_)) => {}
    }
    let mut line = Vec::new();
    let mut limited = reader.take(LINE_BYTES_MAX + 1);
    match timeout(patience.line, limited.read_until(b'\n', &mut line)).await {
        Err(_elapsed) => return Heard::TooSlow,
        Ok(Err(_)) => return Heard::End,
        Ok(Ok(_)) => {}
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() as u64 > LINE_BYTES_MAX {
        return Heard::TooLong;
    }
    Heard::Line(line)
}

fn too_long() -> ApiError {
    let message = format!("the line is longer than {LINE_BYTES_MAX} bytes");
    failure(ErrorCode::TooLarge, message, Some("what is larger belongs into the file $JOBMESH_RESULT"))
}

fn too_slow() -> ApiError {
    let (first, line, idle) = (FIRST_LIMIT.as_secs(), LINE_LIMIT.as_secs(), IDLE_LIMIT.as_secs());
    let message = format!(
        "`run` and `token` must be said within {first} s, a line must end within {line} s, and the next one begin within \
         {idle} s"
    );
    failure(ErrorCode::Timeout, message, Some("connect again when there is something to say"))
}

fn no_seat() -> ApiError {
    let message = format!("this run has {} connections already, and all can't have more", LIMITS.of_run + 1);
    failure(ErrorCode::Busy, message, Some("end one of them, or submit over it, then try again"))
}

fn crowded_out() -> ApiError {
    let message = format!("{} others came meanwhile and have not said yet whose they are, either", LIMITS.lobby);
    failure(ErrorCode::Busy, message, Some("say `run` and `token` at once, then try again"))
}

#[cfg(test)]
mod tests;
