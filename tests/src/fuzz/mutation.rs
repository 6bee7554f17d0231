//! Inputs made of other inputs, by a seed.

use std::ops::Range;

/// What CBOR breaks on: heads that claim more than there is, lengths without end, tags, floats, deep nesting.
pub(super) const CBOR: &[&[u8]] = &[
    b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x9a\x7f\xff\xff\xff",
    b"\x9a\x00\x10\x00\x00",
    b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x5a\x7f\xff\xff\xff",
    b"\x7a\x00\x10\x00\x00",
    b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\xba\x00\x10\x00\x00",
    b"\x9f",
    b"\xbf",
    b"\x5f",
    b"\x7f",
    b"\xff",
    b"\xc0",
    b"\xd8\x20",
    b"\xf4",
    b"\xf6",
    b"\xf7",
    b"\xf9\x7e\x00",
    b"\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
    b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x1b\x7f\xff\xff\xff\xff\xff\xff\xff",
    b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x00",
    b"\x18\x18",
    b"\x40",
    b"\x60",
    b"\x62\xc3\x28",
    b"\x80",
    b"\xa0",
    b"\x81",
    b"\xa1",
];

/// What text breaks on: brackets, quotes, numbers beyond every type, half characters, marks of order, other line ends.
pub(super) const TEXT: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"'",
    b"\"\"\"",
    b":",
    b",",
    b"=",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"0",
    b"-1",
    b"1e999",
    b"-0",
    b"1.5",
    b"NaN",
    b"18446744073709551616",
    b"18446744073709551615",
    b"-9223372036854775808",
    b"9999999999999999999999999999999999999999",
    b"0x7fffffffffffffff",
    b"\\u0000",
    b"\\ud800",
    b"\\",
    b"\\n",
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"#",
    b"%",
    b"$",
    b"{{",
    b"}}",
    b"*",
    b"*/0",
    b"-",
    b"/",
    b".",
    b"..",
    b"../",
    b"~",
    b"\xc3",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80",
    b"\xff\xfe",
    b"292277026596-12-04T15:30:08Z",
    b"1970-01-01T00:00:00Z",
    b"Z",
    b"d",
    b"99999999d",
];

/// Longest input in bytes, unless a parent is longer.
const LENGTH_MAX: usize = 64 * 1024;
/// How often a part is repeated at most: enough to pass any limit of depth.
const REPEATS_MAX: usize = 4096;
/// Most changes of one parent.
const CHANGES_MAX: usize = 6;

/// Makes inputs.
#[derive(Debug)]
pub(super) struct Mutator {
    state: u64,
    words: &'static [&'static [u8]],
}

impl Mutator {
    pub(super) const fn new(seed: u64, words: &'static [&'static [u8]]) -> Self {
        Self { state: seed, words }
    }

    /// A parent with some changes.
    pub(super) fn next(&mut self, parents: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = parents[self.below(parents.len())].clone();
        let limit = bytes.len().max(LENGTH_MAX);
        // Half of them are changed once only: most of what is changed more often fails at its first change.
        let most = if self.below(2) == 0 { 1 } else { CHANGES_MAX };
        for _ in 0..=self.below(most) {
            self.change(&mut bytes, parents);
            bytes.truncate(limit);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, parents: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(12) {
            0 => self.on_byte(bytes, |_, drawn| drawn),
            1 => self.on_byte(bytes, |byte, drawn| byte ^ (1 << (drawn % 8))),
            2 => self.on_byte(bytes, |byte, drawn| byte.wrapping_add(drawn % 8).wrapping_sub(4)),
            3 => drop(bytes.drain(at..self.end(at, bytes.len()))),
            4 => bytes.truncate(at),
            5 => {
                let word = self.words[self.below(self.words.len())];
                drop(bytes.splice(at..at, word.iter().copied()));
            }
            6 => {
                let word = self.words[self.below(self.words.len())];
                drop(bytes.splice(at..(at + word.len()).min(bytes.len()), word.iter().copied()));
            }
            7 => {
                let part = bytes[at..self.end(at, bytes.len())].to_vec();
                let to = self.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            8 => {
                let other = &parents[self.below(parents.len())];
                let from = self.below(other.len() + 1);
                let part = other[from..self.end(from, other.len())].to_vec();
                drop(bytes.splice(at..self.end(at, bytes.len()), part));
            }
            9 => self.repeat(bytes, at),
            _ => self.exchange(bytes, at, parents),
        }
    }

    /// Puts another word in the place of one: of a parent, or one that breaks things.
    fn exchange(&mut self, bytes: &mut Vec<u8>, at: usize, parents: &[Vec<u8>]) {
        let old = word_from(bytes, at);
        let new = if self.below(3) == 0 {
            self.words[self.below(self.words.len())].to_vec()
        } else {
            let other = &parents[self.below(parents.len())];
            let from = self.below(other.len() + 1);
            other[word_from(other, from)].to_vec()
        };
        drop(bytes.splice(old, new));
    }

    /// Repeats a short part, seldom very often.
    fn repeat(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let part = bytes[at..(at + 1 + self.below(8)).min(bytes.len())].to_vec();
        let most = if self.below(16) == 0 { REPEATS_MAX } else { 20 };
        let times = self.below(most);
        drop(bytes.splice(at..at, part.repeat(times)));
    }

    fn on_byte(&mut self, bytes: &mut [u8], change: impl Fn(u8, u8) -> u8) {
        if bytes.is_empty() {
            return;
        }
        let (at, drawn) = (self.below(bytes.len()), self.draw().to_le_bytes()[0]);
        bytes[at] = change(bytes[at], drawn);
    }

    /// Where a part ends that begins at `from`: mostly soon after.
    fn end(&mut self, from: usize, length: usize) -> usize {
        let left = length - from;
        let most = if self.below(4) == 0 { left } else { left.min(16) };
        from + self.below(most + 1)
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.draw() % count as u64).unwrap_or_default()
    }

    /// splitmix64: <https://prng.di.unimi.it/splitmix64.c>.
    const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Where the next word or number is.
fn word_from(bytes: &[u8], at: usize) -> Range<usize> {
    let is_of_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let start = at + bytes[at..].iter().position(is_of_word).unwrap_or(bytes.len() - at);
    let length = bytes[start..].iter().position(|byte| !is_of_word(byte)).unwrap_or(bytes.len() - start);
    start..start + length
}
