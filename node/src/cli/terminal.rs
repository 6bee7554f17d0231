//! What jobs wrote, on its way out: byte for byte to files and programs, and to a terminal without what it would obey.
//!
//! A job of anybody may write whatever it likes, and a terminal does as it is told: it moves the cursor, hides what was
//! written before, renames windows, and some answer as if somebody had typed. So nothing is passed on to one but text, line
//! breaks, tabs and returns; all else is shown as a mark. **The hard case** is a character that comes in two pieces, and
//! the control characters of eight bits, which are two bytes in UTF-8 and one where the terminal reads no UTF-8.

use std::io::{self, IsTerminal as _};

use crate::cli::Failure;
use crate::cli::output::{clean, error_bytes, output_bytes};

/// One of the two ways out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The way out of what one job wrote.
#[derive(Debug)]
pub(crate) struct Passage {
    way: Way,
    /// What is between it and a terminal, if there is one.
    filter: Option<Filter>,
}

impl Passage {
    /// A way out as it is.
    pub(crate) fn new(way: Way) -> Self {
        let is_terminal = match way {
            Way::Stdout => io::stdout().is_terminal(),
            Way::Stderr => io::stderr().is_terminal(),
        };
        Self { way, filter: is_terminal.then(Filter::default) }
    }

    /// Passes bytes on.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match &mut self.filter {
            None => self.put(bytes),
            Some(filter) => {
                let text = filter.text_of(bytes);
                self.put(text.as_bytes())
            }
        }
    }

    /// Passes a line on behind the name of who wrote it, which must not be written over.
    pub(crate) fn write_line_of(&self, name: &str, line: &[u8]) -> Result<(), Failure> {
        let mut labelled = format!("{name} | ").into_bytes();
        match self.filter {
            None => labelled.extend_from_slice(line),
            Some(_) => {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                labelled.extend_from_slice(clean(&String::from_utf8_lossy(line)).as_bytes());
            }
        }
        if labelled.last() != Some(&b'\n') {
            labelled.push(b'\n');
        }
        self.put(&labelled)
    }

    /// Passes on what was held back for its second half, which does not come.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        match self.filter.take() {
            Some(filter) if !filter.rest.is_empty() => self.put(MARK.to_string().as_bytes()),
            Some(_) | None => Ok(()),
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Failure> {
        match self.way {
            Way::Stdout => output_bytes(bytes),
            Way::Stderr => error_bytes(bytes),
        }
    }
}

/// Shown for what is not passed on.
const MARK: char = '\u{fffd}';

/// Makes text of bytes that come in pieces.
#[derive(Debug, Default)]
struct Filter {
    /// The beginning of a character, at most three bytes.
    rest: Vec<u8>,
}

impl Filter {
    fn text_of(&mut self, bytes: &[u8]) -> String {
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let (mut text, mut rest) = (String::with_capacity(all.len()), all.as_slice());
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(good) => {
                    text.extend(good.chars().map(harmless));
                    return text;
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(error.valid_up_to());
            text.extend(String::from_utf8_lossy(good).chars().map(harmless));
            let Some(count) = error.error_len() else {
                self.rest = bad.to_vec();
                return text;
            };
            text.push(MARK);
            rest = bad.get(count..).unwrap_or_default();
        }
    }
}

fn harmless(c: char) -> char {
    match c {
        '\n' | '\t' | '\r' => c,
        c if c.is_control() => MARK,
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(pieces: &[&[u8]]) -> String {
        let mut filter = Filter::default();
        pieces.iter().map(|piece| filter.text_of(piece)).collect()
    }

    #[test]
    fn text_passes_and_nothing_that_a_terminal_obeys() {
        let plain = "grün ✓ 🦀\r\n\tx";
        assert_eq!(filtered(&[plain.as_bytes()]), plain);
        assert_eq!(
            filtered(&[b"\x1b]0;title\x07\x1b[2Ja\x08\x7f\x0e"]),
            "\u{fffd}]0;title\u{fffd}\u{fffd}[2Ja\u{fffd}\u{fffd}\u{fffd}"
        );
        // Of eight bits: in UTF-8, and bare.
        assert_eq!(filtered(&["\u{9b}2J".as_bytes(), b"\x9b2J"]), "\u{fffd}2J\u{fffd}2J");
    }

    #[test]
    fn a_character_in_pieces_is_one_and_half_of_one_is_none() {
        let crab = "🦀".as_bytes();
        for cut in 1..crab.len() {
            let (one, two) = crab.split_at(cut);
            assert_eq!(filtered(&[one, two]), "🦀", "{cut}");
            assert_eq!(filtered(&[one, b"\x1b[m"]), "\u{fffd}\u{fffd}[m", "{cut}");
        }
        // Half of what would be a control character once it is whole.
        assert_eq!(filtered(&[b"\xc2", b"\x9b", b"2J"]), "\u{fffd}2J");
    }
}
