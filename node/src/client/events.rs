//! Server-sent events, as the daemon writes them (WHATWG HTML, "Server-sent events"): lines `event:` and `data:`,
//! a blank line ends an event, a line that begins with a colon only keeps the connection alive.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::client::{Answer, ClientError};

/// Longest event: many times what a change takes.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Events as they come.
#[derive(Debug)]
pub(crate) struct EventStream {
    answer: Answer,
    parser: Parser,
}

impl EventStream {
    pub(crate) fn new(answer: Answer) -> Self {
        Self { answer, parser: Parser::default() }
    }

    /// The next event called `name`; events of other names are passed over. `None` when the daemon has no more.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError`] if the daemon went away or sent what can't be read.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, ClientError> {
        loop {
            while let Some(event) = self.parser.event() {
                if event.name == name {
                    return serde_json::from_str(&event.data)
                        .map(Some)
                        .map_err(|source| ClientError::Answer { question: format!("the event {name}"), source });
                }
            }
            let Some(bytes) = self.answer.next().await? else { return Ok(None) };
            if !self.parser.feed(&bytes) {
                return Err(ClientError::TooLong { question: format!("the event {name}"), limit: EVENT_BYTES_MAX });
            }
        }
    }
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    name: String,
    data: String,
}

/// Cuts bytes into events.
#[derive(Debug, Default)]
struct Parser {
    bytes: Vec<u8>,
}

impl Parser {
    /// Takes bytes; `false` if they make no event within the bound.
    fn feed(&mut self, bytes: &Bytes) -> bool {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() <= EVENT_BYTES_MAX
    }

    /// Takes the next whole event out.
    fn event(&mut self) -> Option<Event> {
        let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
        let rest = self.bytes.split_off(end + 2);
        let block = std::mem::replace(&mut self.bytes, rest);
        Some(read(&String::from_utf8_lossy(&block)))
    }
}

fn read(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "data" if event.data.is_empty() => value.clone_into(&mut event.data),
            "data" => {
                event.data.push('\n');
                event.data.push_str(value);
            }
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: &str) -> Option<Event> {
        Some(Event { name: name.to_owned(), data: data.to_owned() })
    }

    #[test]
    fn events_come_out_whole_however_the_bytes_are_cut() {
        let text = b": hello\n\nevent: change\ndata: {\"a\":\ndata: 1}\n\nevent:x\ndata:y\n\n";
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for byte in text {
            assert!(parser.feed(&Bytes::copy_from_slice(&[*byte])));
            events.extend(parser.event());
        }
        let expected = [event("", ""), event("change", "{\"a\":\n1}"), event("x", "y")];
        assert_eq!(events.into_iter().map(Some).collect::<Vec<_>>(), expected);
        assert_eq!(parser.event(), None);
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.feed(&Bytes::from(vec![b'x'; EVENT_BYTES_MAX])));
        assert!(!parser.feed(&Bytes::from_static(b"x")));
    }
}
