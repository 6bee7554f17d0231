//! What a script says to its node, over the socket of tasks: one line of JSON each way.
//!
//! The connection is opened when there is something to say, and kept. The node lets go of one that is silent for long, and
//! may itself be started anew in between, so a line that finds the connection dead is said once more on a fresh one.
//! Every line may be said twice: each says what is, not what is new.

use std::cell::RefCell;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Socket;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest answer: all checkpoints that a job may have, or the answer of a web server.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// The other end of the socket.
pub(super) struct Daemon {
    socket: Option<Socket>,
    stream: RefCell<Option<BufReader<UnixStream>>>,
}

/// Why the node was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    #[error("this run was given no socket to its node")]
    None,
    #[error("failed to talk to the node over its socket: {0}")]
    Socket(#[from] io::Error),
    #[error("the node's answer can't be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

impl Daemon {
    pub(super) const fn new(socket: Option<Socket>) -> Self {
        Self { socket, stream: RefCell::new(None) }
    }

    /// Says one thing and returns the answer.
    pub(super) fn tell(&self, key: &str, value: Value) -> Result<Value, TellError> {
        self.tell_all([(key.to_owned(), value)].into_iter().collect())
    }

    /// Says several things in one line.
    pub(super) fn tell_all(&self, line: Map<String, Value>) -> Result<Value, TellError> {
        let socket = self.socket.as_ref().ok_or(TellError::None)?;
        let line = signed(socket, line);
        let was_open = self.stream.borrow().is_some();
        let answer = match self.exchange(socket, line.as_bytes()) {
            Err(_) if was_open => self.exchange(socket, line.as_bytes())?,
            answer => answer?,
        };
        read(&answer)
    }

    /// Asks for what must not be done twice, and may take long: once, on a connection of its own.
    pub(super) fn ask_once(&self, key: &str, value: Value) -> Result<Value, TellError> {
        let socket = self.socket.as_ref().ok_or(TellError::None)?;
        let line = signed(socket, [(key.to_owned(), value)].into_iter().collect());
        let mut stream = connect(socket)?;
        // Whatever it takes: the job has a time limit, and a node that is gone closes the connection.
        stream.get_ref().set_read_timeout(None)?;
        read(&exchange(&mut stream, line.as_bytes())?)
    }

    /// Sends a line and waits for one. A connection that fails is forgotten.
    fn exchange(&self, socket: &Socket, line: &[u8]) -> io::Result<Vec<u8>> {
        let mut kept = self.stream.borrow_mut();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect(socket)?,
        };
        let answer = exchange(&mut stream, line)?;
        *kept = Some(stream);
        Ok(answer)
    }
}

/// A line of a run, with what proves that it is.
fn signed(socket: &Socket, mut line: Map<String, Value>) -> String {
    line.insert("run".to_owned(), json!(socket.run));
    line.insert("token".to_owned(), json!(socket.token));
    let mut line = Value::Object(line).to_string();
    line.push('\n');
    line
}

fn exchange(stream: &mut BufReader<UnixStream>, line: &[u8]) -> io::Result<Vec<u8>> {
    stream.get_mut().write_all(line)?;
    let mut answer = Vec::new();
    stream.by_ref().take(ANSWER_BYTES_MAX).read_until(b'\n', &mut answer)?;
    if answer.last() == Some(&b'\n') { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read(answer: &[u8]) -> Result<Value, TellError> {
    let answer: Value = serde_json::from_slice(answer)?;
    match answer.pointer("/error/message").and_then(Value::as_str) {
        Some(message) => Err(TellError::Refused(message.to_owned())),
        None => Ok(answer),
    }
}

fn connect(socket: &Socket) -> io::Result<BufReader<UnixStream>> {
    let stream = UnixStream::connect(&socket.path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}
