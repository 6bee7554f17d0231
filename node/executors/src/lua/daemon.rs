//! What a script says to its node, over the socket of tasks: one line of JSON each way.
//!
//! The connection is opened before the walls stand, behind which no socket can be made or connected, so that a hole in the
//! interpreter leads to no other socket of the machine. It says at once whose it is, and the node keeps it for as long as
//! the run goes on; the answer to that is read when there is something to say.
//!
//! **The hard case** is a node that is started anew while its script runs: the connection is gone for good. What the node
//! may as well not hear is then said to nobody; what the script waits for fails.

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
    line: RefCell<Line>,
}

/// The connection.
enum Line {
    /// The run was given no socket.
    None,
    /// What was said first is not answered yet.
    New(BufReader<UnixStream>),
    Open(BufReader<UnixStream>),
    /// It is gone, or never was there.
    Lost(String),
}

/// Why the node was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    #[error("this run was given no socket to its node")]
    None,
    #[error("the connection to the node is lost, and a script can't open another: {0}")]
    Lost(String),
    #[error("the node's answer can't be read: {0}")]
    Answer(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

impl Daemon {
    /// Connects to the node, if the run was given a socket. To be called before the walls stand.
    pub(super) fn connect(socket: Option<Socket>) -> Self {
        let line = match socket.map(|socket| connect(&socket)) {
            None => Line::None,
            Some(Ok(stream)) => Line::New(stream),
            Some(Err(error)) => Line::Lost(error.to_string()),
        };
        Self { line: RefCell::new(line) }
    }

    /// Whether there is a connection, over which something may be said behind the walls.
    pub(super) fn is_connected(&self) -> bool {
        matches!(&*self.line.borrow(), Line::New(_) | Line::Open(_))
    }

    /// Says one thing and returns the answer.
    pub(super) fn tell(&self, key: &str, value: Value) -> Result<Value, TellError> {
        self.tell_all([(key.to_owned(), value)].into_iter().collect())
    }

    /// Asks for what may take long: the job has a time limit, and a node that is gone closes the connection.
    pub(super) fn ask(&self, key: &str, value: Value) -> Result<Value, TellError> {
        self.exchange([(key.to_owned(), value)].into_iter().collect(), None)
    }

    /// Says several things in one line.
    pub(super) fn tell_all(&self, line: Map<String, Value>) -> Result<Value, TellError> {
        self.exchange(line, Some(PATIENCE))
    }

    fn exchange(&self, line: Map<String, Value>, patience: Option<Duration>) -> Result<Value, TellError> {
        let mut kept = self.line.borrow_mut();
        let (mut stream, is_new) = match std::mem::replace(&mut *kept, Line::None) {
            Line::None => return Err(TellError::None),
            Line::New(stream) => (stream, true),
            Line::Open(stream) => (stream, false),
            Line::Lost(why) => {
                *kept = Line::Lost(why.clone());
                return Err(TellError::Lost(why));
            }
        };
        let limited = stream.get_ref().set_read_timeout(patience);
        match limited.and_then(|()| exchange(&mut stream, line, is_new)) {
            Ok(answer) => {
                *kept = Line::Open(stream);
                drop(kept);
                read(&answer)
            }
            Err(error) => {
                *kept = Line::Lost(error.to_string());
                Err(TellError::Lost(error.to_string()))
            }
        }
    }

    /// Says what the node may as well not hear.
    pub(super) fn mention(&self, line: Map<String, Value>) -> Result<(), TellError> {
        match self.tell_all(line) {
            Ok(_) | Err(TellError::Lost(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Sends a line and waits for one. Of a new connection, the answer to what was said first comes before it.
fn exchange(stream: &mut BufReader<UnixStream>, line: Map<String, Value>, is_new: bool) -> io::Result<Vec<u8>> {
    if is_new && let Err(error) = read(&hear(stream)?) {
        return Err(io::Error::other(error.to_string()));
    }
    send(stream, line)?;
    hear(stream)
}

fn send(stream: &mut BufReader<UnixStream>, line: Map<String, Value>) -> io::Result<()> {
    let mut line = Value::Object(line).to_string();
    line.push('\n');
    stream.get_mut().write_all(line.as_bytes())
}

fn hear(stream: &mut BufReader<UnixStream>) -> io::Result<Vec<u8>> {
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
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut stream = BufReader::new(stream);
    let own = [("run".to_owned(), json!(socket.run)), ("token".to_owned(), json!(socket.token))];
    send(&mut stream, own.into_iter().collect())?;
    Ok(stream)
}
