//! A connection to the daemon that is kept open and costs next to nothing.
//!
//! A client that shares two processors with the daemon is part of what is measured. So this one sends bytes that were
//! written out before and reads only what it must of the answer: status, `content-length`, body (RFC 9112).

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jobmesh::api::ErrorBody;

use super::error::BenchError;
use super::requests::Request;
use super::stop::{LOOK, Stop};

/// How long an answer that needs no waiting may take: a slow disk under full load.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// Largest answer: many times a job with its history.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How much is read at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    socket: PathBuf,
    stop: Stop,
    /// What was read of the answer so far.
    buffer: Vec<u8>,
}

/// Where the parts of an answer lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    status: u16,
    /// Where the body begins.
    body: usize,
    /// Where it ends.
    end: usize,
}

impl Connection {
    /// Connects to the daemon that listens on `socket`.
    pub(super) fn open(socket: &Path, stop: &Stop) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Socket { socket: socket.to_owned(), source };
        let stream = UnixStream::connect(socket).map_err(failed)?;
        stream.set_read_timeout(Some(LOOK)).map_err(failed)?;
        Ok(Self { stream, socket: socket.to_owned(), stop: stop.clone(), buffer: Vec::with_capacity(CHUNK_BYTES) })
    }

    /// Asks and waits for the answer's body.
    pub(super) fn ask(&mut self, request: &Request, limit: Duration) -> Result<Vec<u8>, BenchError> {
        self.send(request)?;
        let deadline = Instant::now() + limit;
        loop {
            if let Some(body) = self.receive(request)? {
                return Ok(body);
            }
            self.stop.check()?;
            if Instant::now() >= deadline {
                return Err(BenchError::Silent { question: request.question.clone(), limit });
            }
        }
    }

    /// Sends a question. The answer to the one before has been read by then.
    pub(super) fn send(&mut self, request: &Request) -> Result<(), BenchError> {
        self.stream.write_all(&request.bytes).map_err(|source| self.failed(source))
    }

    /// Reads what is there, waiting a moment for it. `None` while the answer is not whole.
    pub(super) fn receive(&mut self, request: &Request) -> Result<Option<Vec<u8>>, BenchError> {
        let mut chunk = [0; CHUNK_BYTES];
        let count = match self.stream.read(&mut chunk) {
            Ok(0) => return Err(BenchError::Gone { question: request.question.clone() }),
            Ok(count) => count,
            Err(error) if is_pause(&error) => return Ok(None),
            Err(source) => return Err(self.failed(source)),
        };
        self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let odd =
            |problem: &str| BenchError::Answer { question: request.question.clone(), problem: problem.to_owned() };
        let Some(shape) = shape(&self.buffer).map_err(odd)? else { return Ok(None) };
        if shape.end > ANSWER_BYTES_MAX {
            return Err(odd("it is too long"));
        }
        if self.buffer.len() < shape.end {
            return Ok(None);
        }
        let body = self.buffer.get(shape.body..shape.end).unwrap_or_default().to_vec();
        self.buffer.drain(..shape.end);
        if (200..300).contains(&shape.status) { Ok(Some(body)) } else { Err(refused(request, shape.status, &body)) }
    }

    fn failed(&self, source: io::Error) -> BenchError {
        BenchError::Socket { socket: self.socket.clone(), source }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether a read only ended because [`LOOK`] was over or a signal came.
fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

fn refused(request: &Request, status: u16, body: &[u8]) -> BenchError {
    let message = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    BenchError::Refused { question: request.question.clone(), status, message }
}

/// Finds the parts of the answer that `bytes` begin with; `None` while its head is not whole.
fn shape(bytes: &[u8]) -> Result<Option<Shape>, &'static str> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > CHUNK_BYTES { Err("its head has no end") } else { Ok(None) };
    };
    let head = bytes.get(..end).and_then(|head| std::str::from_utf8(head).ok()).ok_or("its head is no text")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or("it has no status")?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.ok_or("it does not say how long it is")?.map_err(|_| "it does not say how long it is")?;
    let body = end + 4;
    Ok(Some(Shape { status, body, end: body.checked_add(length).ok_or("it is too long")? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n{}rest";

    #[test]
    fn an_answer_is_found_however_much_of_it_is_there() {
        let whole = Shape { status: 200, body: 70, end: 72 };
        for count in 0..ANSWER.len() {
            let found = shape(ANSWER.get(..count).unwrap_or_default());
            assert_eq!(found, Ok((count >= 70).then_some(whole)), "{count} bytes");
        }
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error() {
        assert!(shape(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(shape(b"nonsense\r\n\r\n").is_err());
        assert!(shape(&[b'x'; CHUNK_BYTES + 1]).is_err());
    }

    #[test]
    fn a_refusal_says_what_the_node_says() {
        let request = super::super::requests::pause();
        let body = br#"{"error":{"code":"not_found","message":"there is no such route"}}"#;
        let error = refused(&request, 404, body);
        assert!(error.is_unknown_question());
        assert_eq!(error.to_string(), "the node answers 404 to POST /v1/queues/bench/pause: there is no such route");
    }
}
