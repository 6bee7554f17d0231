//! JSON lines, as the daemon writes them: one value a line, as they come.

use serde::de::DeserializeOwned;

use crate::client::{Answer, ClientError};

/// Longest line: a job with a long history and its output.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Values as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    answer: Answer,
    bytes: Vec<u8>,
    /// How many of the bytes are known to hold no line break.
    searched: usize,
}

impl Lines {
    pub(crate) const fn new(answer: Answer) -> Self {
        Self { answer, bytes: Vec::new(), searched: 0 }
    }

    /// The next value; `None` when the daemon has no more. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`] if the daemon went away or sent what can't be read.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(line) = self.line() {
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|source| ClientError::Answer { question: "a line of the answer".to_owned(), source });
            }
            let Some(piece) = self.answer.next().await? else { return Ok(None) };
            if self.bytes.len() + piece.len() > LINE_BYTES_MAX {
                return Err(ClientError::TooLong {
                    question: "a line of the answer".to_owned(),
                    limit: LINE_BYTES_MAX,
                });
            }
            self.bytes.extend_from_slice(&piece);
        }
    }

    /// Takes the next whole line out.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().skip(self.searched).position(|byte| *byte == b'\n').map(|at| at + self.searched);
        let Some(end) = end else {
            self.searched = self.bytes.len();
            return None;
        };
        let rest = self.bytes.split_off(end + 1);
        self.searched = 0;
        Some(std::mem::replace(&mut self.bytes, rest))
    }
}
