//! Many clients at once, on one thread: each has a connection of its own and one question open on it.
//!
//! As many threads as clients would have the processors switch between them instead of working; what is measured is
//! the node.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::connection::{ANSWER_LIMIT, Connection};
use super::error::BenchError;
use super::requests::Request;
use super::stop::{LOOK, Stop};

/// How many clients there are.
pub(super) const CLIENTS: usize = 64;

/// The clients.
#[derive(Debug)]
pub(super) struct Crowd {
    connections: Vec<Connection>,
    stop: Stop,
}

impl Crowd {
    /// Connects all of them to the daemon that listens on `socket`.
    pub(super) fn open(socket: &Path, stop: &Stop) -> Result<Self, BenchError> {
        let connections = (0..CLIENTS).map(|_| Connection::open(socket, stop)).collect::<Result<_, _>>()?;
        Ok(Self { connections, stop: stop.clone() })
    }

    /// Asks `request` so many times, each client its next one after its last was answered. Returns how long that
    /// took, and the answer that came last.
    pub(super) fn ask(&mut self, request: &Request, times: usize) -> Result<(Duration, Vec<u8>), BenchError> {
        let start = Instant::now();
        let (mut asked, mut answered, mut last) = (0, 0, Vec::new());
        for connection in self.connections.iter_mut().take(times) {
            connection.send(request)?;
            asked += 1;
        }
        let mut heard = Instant::now();
        while answered < times {
            let ready = self.ready()?;
            if !ready.is_empty() {
                heard = Instant::now();
            } else if heard.elapsed() >= ANSWER_LIMIT {
                return Err(BenchError::Silent { question: request.question.clone(), limit: ANSWER_LIMIT });
            }
            for index in ready {
                let Some(connection) = self.connections.get_mut(index) else { continue };
                let Some(body) = connection.receive(request)? else { continue };
                (answered, last) = (answered + 1, body);
                if asked < times {
                    connection.send(request)?;
                    asked += 1;
                }
            }
        }
        Ok((start.elapsed(), last))
    }

    /// The clients that have something to read, waiting a moment for one.
    fn ready(&self) -> Result<Vec<usize>, BenchError> {
        self.stop.check()?;
        let mut watched: Vec<_> = self.connections.iter().map(|it| PollFd::new(it, PollFlags::IN)).collect();
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(LOOK.subsec_nanos()) };
        match poll(&mut watched, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                return Err(BenchError::Answer { question: "poll".to_owned(), problem: error.to_string() });
            }
        }
        Ok(watched.iter().enumerate().filter(|(_, fd)| !fd.revents().is_empty()).map(|(index, _)| index).collect())
    }
}
