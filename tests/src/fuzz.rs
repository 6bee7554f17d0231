//! Decoders under fire: each is given its samples, the inputs that are kept for it in `tests/fuzz/`, and mutations of
//! both, made by a seeded generator.
//!
//! What is promised of a decoder: it never panics; it reserves no more memory than its input deserves; and what it takes
//! it can write so that it reads the same again. There is no feedback from the code that runs, since that needs another
//! compiler. Instead a mutation is kept as a parent of others if the decoder says something about it that it has not said
//! before: its reasons for refusal lead from one check to the next.
//!
//! `cargo test fuzz` tries some thousand inputs of each decoder, always the same. `JOBMESH_FUZZ_SECONDS=60 cargo test
//! fuzz` goes on for so long with each, from a new seed, which is printed and may be given as `JOBMESH_FUZZ_SEED`.
//! What fails is put into the folder of its decoder, so that from then on it is tried every time. With
//! `JOBMESH_FUZZ_WRITE=1` the inputs that brought something new are put there too.
//!
//! **The hard case** is a length that a decoder believes: the reservation succeeds, as memory is given on first use, and
//! nothing shows. So the test binary's allocator counts, for each thread, what is reserved at a time: see [`Heap`].

mod heap;
mod mutation;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub use heap::Heap;
use mutation::Mutator;

use crate::scaled;

/// What any decoder may reserve, however short its input: buffers, tables, the text of a reason.
const HEAP_FIXED_BYTES: usize = 1 << 20;
/// What it may reserve for each byte of its input, if its target says nothing else: an empty list of two bytes becomes
/// 32 bytes in a vector that doubles.
const HEAP_PER_BYTE: usize = 64;
/// Most parents of a target.
const PARENTS_MAX: usize = 512;
/// Most inputs that one run puts into the folder of a target.
const WRITTEN_MAX: usize = 8;
/// Longest input that is put there for being new.
const WRITTEN_BYTES_MAX: usize = 512;
/// Longest part of a reason that tells it from another.
const REASON_CHARS_MAX: usize = 80;
/// How many inputs between two looks at the clock.
const BATCH: usize = 256;
/// Most attempts at making a failing input shorter.
const CUTS_MAX: usize = 256;

/// A decoder and what is known of its inputs.
#[derive(Debug)]
pub struct Target {
    name: String,
    words: &'static [&'static [u8]],
    heap_per_byte: usize,
    parents: Vec<Vec<u8>>,
    reasons: BTreeSet<String>,
    taken: u64,
    tried: u64,
    written: usize,
}

/// What is wrong with a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    Panicked,
    Greedy { reserved: usize, allowed: usize },
    Unstable,
}

/// What a decoder made of an input: the input written again if that is promised of it, else nothing.
type Decoded = Result<Option<Vec<u8>>, String>;

impl Target {
    /// A decoder of CBOR, whose folder is `tests/fuzz/NAME`.
    #[must_use]
    pub fn cbor(name: &str) -> Self {
        Self::new(name, mutation::CBOR)
    }

    /// A decoder of text, whose folder is `tests/fuzz/NAME`.
    #[must_use]
    pub fn text(name: &str) -> Self {
        Self::new(name, mutation::TEXT)
    }

    fn new(name: &str, words: &'static [&'static [u8]]) -> Self {
        Self {
            name: name.to_owned(),
            words,
            heap_per_byte: HEAP_PER_BYTE,
            parents: vec![Vec::new()],
            reasons: BTreeSet::new(),
            taken: 0,
            tried: 0,
            written: 0,
        }
    }

    /// Adds an input that the decoder takes.
    #[must_use]
    pub fn sample(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.parents.push(bytes.as_ref().to_vec());
        self
    }

    /// Lets it reserve so much for each byte of its input.
    #[must_use]
    pub const fn heap_per_byte(mut self, bytes: usize) -> Self {
        self.heap_per_byte = bytes;
        self
    }

    /// Tries a decoder that only takes or refuses.
    ///
    /// # Panics
    /// If it breaks a promise.
    pub fn run<E: ToString>(self, decode: impl Fn(&[u8]) -> Result<(), E>) {
        self.try_all(|bytes| decode(bytes).map(|()| None).map_err(|error| error.to_string()));
    }

    /// Tries a decoder whose findings can be written again: `again` decodes its input and encodes what it found.
    ///
    /// # Panics
    /// If it breaks a promise.
    pub fn run_stable<E: ToString>(self, again: impl Fn(&[u8]) -> Result<Vec<u8>, E>) {
        self.try_all(|bytes| again(bytes).map(Some).map_err(|error| error.to_string()));
    }

    fn try_all(mut self, decode: impl Fn(&[u8]) -> Decoded) {
        assert!(Heap::is_installed(), "the test binary needs `#[global_allocator] static HEAP: Heap = Heap;`");
        self.parents.extend(self.kept());
        for input in self.parents.clone() {
            self.attempt(&decode, &input);
        }
        assert!(self.taken > 0, "{} takes none of its samples: {:?}", self.name, self.reasons);
        let limit = seconds();
        let mut mutator = Mutator::new(seed(&self.name), self.words);
        let began = Instant::now();
        let inputs = scaled(1_000, 100_000);
        loop {
            for _ in 0..BATCH {
                let input = mutator.next(&self.parents);
                self.attempt(&decode, &input);
            }
            let is_over = limit.map_or(self.tried >= inputs as u64, |limit| began.elapsed() >= limit);
            if is_over {
                break;
            }
        }
        let (name, tried, taken, reasons) = (&self.name, self.tried, self.taken, self.reasons.len());
        eprintln!("{name}: {tried} inputs, {taken} taken, {reasons} different answers");
    }

    fn attempt(&mut self, decode: &impl Fn(&[u8]) -> Decoded, input: &[u8]) {
        self.tried += 1;
        match self.judge(decode, input) {
            Ok(answer) => {
                self.taken += u64::from(answer.is_ok());
                self.learn(input, &answer);
            }
            Err(defect) => self.fail(decode, input, defect),
        }
    }

    /// One input, all promises.
    fn judge(&self, decode: &impl Fn(&[u8]) -> Decoded, input: &[u8]) -> Result<Decoded, Defect> {
        let allowed = HEAP_FIXED_BYTES + self.heap_per_byte * input.len();
        let (answer, reserved) = Heap::measure(|| catch_unwind(AssertUnwindSafe(|| decode(input))));
        let answer = answer.map_err(|_| Defect::Panicked)?;
        if reserved > allowed {
            return Err(Defect::Greedy { reserved, allowed });
        }
        if let Ok(Some(written)) = &answer {
            let again = catch_unwind(AssertUnwindSafe(|| decode(written))).map_err(|_| Defect::Panicked)?;
            if again.as_ref() != Ok(&Some(written.clone())) {
                return Err(Defect::Unstable);
            }
        }
        Ok(answer)
    }

    /// Keeps an input as a parent if the answer to it is a new one.
    fn learn(&mut self, input: &[u8], answer: &Decoded) {
        let reason = match answer {
            Ok(written) => format!("taken {}", written.as_ref().map_or(0, Vec::len).next_power_of_two()),
            Err(reason) => essence(reason),
        };
        if !self.reasons.insert(reason) || self.parents.len() >= PARENTS_MAX {
            return;
        }
        self.parents.push(input.to_vec());
        let is_wanted = std::env::var_os("JOBMESH_FUZZ_WRITE").is_some() && self.written < WRITTEN_MAX;
        if is_wanted && (1..=WRITTEN_BYTES_MAX).contains(&input.len()) {
            self.written += 1;
            self.write("new", input);
        }
    }

    fn fail(&self, decode: &impl Fn(&[u8]) -> Decoded, input: &[u8], defect: Defect) -> ! {
        let mut shortest = input.to_vec();
        let is_same = |other: Defect| std::mem::discriminant(&other) == std::mem::discriminant(&defect);
        let (mut length, mut cuts) = (shortest.len() / 2, 0);
        while length > 0 && cuts < CUTS_MAX {
            let starts = (0..shortest.len()).step_by(length);
            let shorter = starts.map(|start| without(&shortest, start, length)).find(|candidate| {
                cuts += 1;
                self.judge(decode, candidate).is_err_and(is_same)
            });
            match shorter {
                Some(shorter) => shortest = shorter,
                None => length /= 2,
            }
        }
        let path = self.write("found", &shortest);
        let shown = String::from_utf8_lossy(&shortest).chars().take(300).collect::<String>();
        panic!("{} {defect:?} by {shown:?}, which is now {}", self.name, path.display());
    }

    fn folder(&self) -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz")).join(&self.name)
    }

    /// The inputs in its folder, by name.
    fn kept(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.folder()).into_iter().flatten().flatten();
        let files: BTreeMap<_, _> =
            entries.filter_map(|it| Some((it.file_name(), fs::read(it.path()).ok()?))).collect();
        files.into_values().collect()
    }

    fn write(&self, why: &str, input: &[u8]) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        input.hash(&mut hasher);
        let path = self.folder().join(format!("{why}-{:016x}", hasher.finish()));
        // Sources may be read-only where a test runs; the input is shown, too.
        let _ = fs::create_dir_all(self.folder()).and_then(|()| fs::write(&path, input));
        path
    }
}

fn without(bytes: &[u8], start: usize, length: usize) -> Vec<u8> {
    let end = (start + length).min(bytes.len());
    [&bytes[..start], &bytes[end..]].concat()
}

/// What a reason says, without the words that it quotes and what it counts: those would make every input a new one. A
/// quoted sentence is another program's reason.
fn essence(reason: &str) -> String {
    let quoted = |sign: char| reason.split(sign).zip([false, true].into_iter().cycle());
    let sentences = quoted('"').filter(|(part, is_quoted)| !is_quoted || part.contains(' ')).map(|(part, _)| part);
    let kept: String = sentences.collect();
    let words = kept.split('`').zip([true, false].into_iter().cycle()).filter(|(_, is_kept)| *is_kept);
    words.flat_map(|(part, _)| part.chars()).filter(|it| !it.is_ascii_digit()).take(REASON_CHARS_MAX).collect()
}

fn seconds() -> Option<Duration> {
    let text = std::env::var("JOBMESH_FUZZ_SECONDS").ok()?;
    Some(Duration::from_secs(text.parse().unwrap_or_else(|_| panic!("JOBMESH_FUZZ_SECONDS={text:?} is no number"))))
}

/// Always the same for a brief run, another one for each long run that is given none.
fn seed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let own = hasher.finish();
    if let Ok(text) = std::env::var("JOBMESH_FUZZ_SEED") {
        return own ^ text.parse::<u64>().unwrap_or_else(|_| panic!("JOBMESH_FUZZ_SEED={text:?} is no number"));
    }
    if seconds().is_none() {
        return own;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    eprintln!("{name}: JOBMESH_FUZZ_SEED={}", since.as_secs());
    own ^ since.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static HEAP: Heap = Heap;

    fn refused(text: &str) -> Decoded {
        Err(text.to_owned())
    }

    #[test]
    fn each_broken_promise_is_noticed() {
        let target = Target::text("none");
        let judged = |decode: &dyn Fn(&[u8]) -> Decoded| target.judge(&decode, b"12").err();
        assert_eq!(judged(&|_| refused("no")), None);
        assert_eq!(judged(&|_| panic!("as a decoder might")), Some(Defect::Panicked));
        let greedy = |_: &[u8]| refused(&format!("{}", Vec::<u8>::with_capacity(1 << 30).capacity()));
        assert!(matches!(judged(&greedy), Some(Defect::Greedy { .. })));
        let growing = |bytes: &[u8]| Ok(Some([bytes, b"0"].concat()));
        assert_eq!(judged(&growing), Some(Defect::Unstable));
    }

    /// Byte by byte, each with a reason of its own: blind mutation would need 2^32 inputs.
    #[test]
    fn reasons_lead_to_what_is_behind_them() {
        let mut target = Target::text("none").sample("xxxx");
        let decode = |bytes: &[u8]| -> Decoded {
            for (at, (found, word)) in bytes.iter().zip(b"fuzz").enumerate() {
                if found != word {
                    return Err(format!("after {}", ["none", "one", "two", "three"][at]));
                }
            }
            if bytes.len() < 4 { refused("short") } else { Ok(None) }
        };
        let mut mutator = Mutator::new(1, mutation::TEXT);
        for _ in 0..200_000 {
            let input = mutator.next(&target.parents);
            target.attempt(&decode, &input);
        }
        assert!(target.taken > 0, "{:?}", target.reasons);
    }

    #[test]
    fn a_reason_is_told_from_what_it_quotes() {
        assert_eq!(essence("line 7: unknown field `abc`, expected \"d\""), "line : unknown field , expected ");
        assert_eq!(essence("Semantic(None, \"no such variant\")"), "Semantic(None, no such variant)");
    }
}
