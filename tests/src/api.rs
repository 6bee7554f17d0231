//! The control socket without the command line: one connection that is kept open, and answers of HTTP/1.1 (RFC 9112).

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take. What is waited for takes less on the slowest machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A connection to a daemon.
#[derive(Debug)]
pub struct Api {
    stream: BufReader<UnixStream>,
}

/// What a daemon answered.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// If the daemon refused, or the body is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The body as JSON lines, of which the last is returned.
    ///
    /// # Panics
    /// If the daemon refused, or the last line is no JSON.
    #[must_use]
    pub fn last_line(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        let line = self.body.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        serde_json::from_slice(line).expect("a JSON line")
    }
}

impl Api {
    /// Connects to the daemon of this data directory.
    ///
    /// # Panics
    /// If none answers.
    #[must_use]
    pub fn open(home: &Path) -> Self {
        let stream = UnixStream::connect(home.join("control.sock")).expect("a daemon that listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
        Self { stream: BufReader::new(stream) }
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Panics
    /// If the daemon goes away or does not answer in time.
    pub fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.try_ask(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Asks and waits for the whole answer.
    ///
    /// # Errors
    /// If the daemon goes away or does not answer in time.
    pub fn try_ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: jobmesh\r\ncontent-type: application/json\r\n");
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(odd)?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse().map_err(|_| odd())?,
                Some(("transfer-encoding", value)) => is_chunked = value.trim() == "chunked",
                Some(_) => {}
                None if line.is_empty() => break,
                None => return Err(odd()),
            }
        }
        let body = if is_chunked { self.chunks()? } else { self.bytes(length)? };
        Ok(Answer { status, body })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let count = usize::from_str_radix(&self.line()?, 16).map_err(|_| odd())?;
            body.extend(self.bytes(count)?);
            self.line()?;
            if count == 0 {
                return Ok(body);
            }
        }
    }
}

fn odd() -> io::Error {
    io::Error::other("the daemon's answer is no HTTP")
}
