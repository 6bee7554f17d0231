//! What is the same for the items of every source: their keys, their names, and what each imported job has.

use jobmesh_protocol::job::{NAME_BYTES_MAX, Scope};
use jobmesh_protocol::submission::{Conflict, Span, Unique};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{Hash, JobSpec, Submission, UnixMillis};

use super::{Fate, KEEP, Kind, LABEL_KEY, LABEL_SOURCE, PlannedJob, Release};

/// What makes a job of an item, the same for every source.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// Where it comes from.
    pub(super) kind: Kind,
    /// What it is unique by.
    pub(super) key: String,
    /// What it does.
    pub(super) submission: Submission,
    /// Why it is held in any case.
    pub(super) held_because: Option<String>,
}

impl Draft {
    /// Adds what every imported job has and checks it: a job that this node would refuse is left out, with the reason.
    pub(super) fn finish(mut self, after: Vec<String>, release: Release) -> Fate {
        let spec = &mut self.submission.spec;
        spec.keep_ms = Some(KEEP);
        label(spec, LABEL_KEY, &self.key);
        label(spec, LABEL_SOURCE, self.kind.word());
        self.submission.unique = Some(Unique {
            key: Some(self.key.clone()),
            by: Vec::new(),
            scope: Span::Retained,
            on_conflict: Conflict::Return,
        });
        self.submission.held = release == Release::Hold || self.held_because.is_some();
        if let Err(error) = self.submission.check() {
            return Fate::left_out(error.to_string());
        }
        let Self { key, submission, held_because, .. } = self;
        Fate::Job(Box::new(PlannedJob { key, submission, after, held_because }))
    }
}

/// The key of a job: its kind and a hash of what identifies it at its source.
pub(super) fn key(kind: Kind, parts: &[&str]) -> String {
    format!("import:{}:{}", kind.word(), digest(kind, parts, 32))
}

/// The first `letters` of the hash of a list of texts, each with its length, so that no two lists read the same.
pub(super) fn digest(kind: Kind, parts: &[&str], letters: usize) -> String {
    let mut bytes = kind.word().as_bytes().to_vec();
    for part in parts {
        bytes.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    data_encoding::HEXLOWER.encode(Hash::of(&bytes).as_bytes()).chars().take(letters).collect()
}

/// The spec of a line that a shell reads.
pub(super) fn shell_spec(argv: Vec<String>, line: &str) -> JobSpec {
    let mut spec = JobSpec::new(program_of(line), Task::Process(ProcessTask::new(argv)));
    spec.scope = Scope::Local;
    spec.name = Some(name_of(line)).filter(|name| !name.is_empty());
    spec
}

/// Gives a job a label, unless it would be empty.
pub(super) fn label(spec: &mut JobSpec, name: &str, value: &str) {
    let value = name_of(value);
    if !value.is_empty() {
        spec.labels.insert(name.to_owned(), value);
    }
}

/// A text on one line, cut to what a name may have.
pub(super) fn name_of(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    cut(&line, NAME_BYTES_MAX).trim_end().to_owned()
}

/// The longest start of a text that has at most so many bytes.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at(end).0
}

/// The program that a shell line starts: the base name of its first word that sets no variable.
pub(super) fn program_of(line: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._+-".contains(c);
    let word = line.split_whitespace().find(|word| !word.contains('=')).unwrap_or_default();
    let name = word.rsplit('/').next().unwrap_or_default().trim_start_matches(['(', '{', '!', '"', '\'']);
    let name: String = name.chars().take_while(|c| is_plain(*c)).collect();
    if name.is_empty() { "command".to_owned() } else { cut(&name, NAME_BYTES_MAX).to_owned() }
}

/// Reads a time as databases and programs write it: RFC 3339, a blank for the `T`, no zone meaning UTC, and the
/// short offsets of Postgres. None before 1970.
#[must_use]
pub(super) fn parse_time(text: &str) -> Option<UnixMillis> {
    let mut text = text.trim().replacen(' ', "T", 1);
    let (_, clock) = text.split_once('T')?;
    let offset = clock.rfind(['+', '-']).map(|at| clock.len() - at);
    match offset {
        None if !clock.ends_with(['Z', 'z']) => text.push('Z'),
        Some(3) => text.push_str(":00"),
        None | Some(_) => {}
    }
    let at = chrono::DateTime::parse_from_rfc3339(&text).ok()?;
    u64::try_from(at.timestamp_millis()).ok().map(UnixMillis)
}
