//! What a run says about its own end: the file that `$JOBMESH_OUTCOME` names.
//!
//! One JSON object of at most [`OUTCOME_BYTES_MAX`]. A person wrote the program that wrote it, so every way of getting
//! it wrong has a message that says what is wrong; none of them passes for a success.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::retry::WAIT_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::files;
use crate::output::RESULT_INLINE_BYTES_MAX;

/// Largest outcome file: a result as large as may travel inline, and as much again for the rest.
pub(super) const OUTCOME_BYTES_MAX: usize = 2 * RESULT_INLINE_BYTES_MAX;

/// What the run said.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) verdict: Verdict,
    /// Its result as JSON, if it is part of the file.
    pub(super) result: Option<String>,
}

/// How it wants its end to be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    Error { message: Option<String>, retry_after: Option<DurationMillis> },
    Permanent { message: Option<String> },
    Snooze { wait: DurationMillis, reason: Option<String> },
    Cancel { reason: Option<String> },
    Release { reason: Option<String> },
}

impl Verdict {
    /// The word that the file has for it.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error { .. } => "error",
            Self::Permanent { .. } => "permanent",
            Self::Snooze { .. } => "snooze",
            Self::Cancel { .. } => "cancel",
            Self::Release { .. } => "release",
        }
    }
}

/// Why what the run said can't be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum WordError {
    #[error("failed to read the outcome file")]
    Read(#[from] io::Error),
    #[error("the outcome file is not a plain file")]
    NotPlain,
    #[error("the outcome file is longer than {OUTCOME_BYTES_MAX} bytes; write a long result to $JOBMESH_RESULT")]
    TooLong,
    #[error("the outcome file is empty; write {{\"outcome\":\"ok\"}} or leave it out")]
    Empty,
    #[error(
        "the outcome file is not one JSON object such as {{\"outcome\":\"error\",\"message\":\"why\"}}: outcome is ok, \
         error, permanent, snooze, cancel or release, and beside it may stand message, retry_after, for and result"
    )]
    Json(#[from] serde_json::Error),
    #[error("the outcome file has `{key}`, which goes with {goes_with} only")]
    Misplaced { key: &'static str, goes_with: &'static str },
    #[error("the outcome file says `snooze` without `for`; add how long, such as \"for\":\"5m\"")]
    NoLength,
    #[error("the outcome file has `{key}`: {text:?}, which is no length of time; write 90000, \"90s\" or \"1h30m\"")]
    Length { key: &'static str, text: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    outcome: Kind,
    message: Option<String>,
    #[serde(rename = "for")]
    wait: Option<Length>,
    retry_after: Option<Length>,
    result: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Ok,
    Error,
    Permanent,
    Snooze,
    Cancel,
    Release,
}

/// Milliseconds as a number, or text with units.
#[derive(Deserialize)]
#[serde(transparent)]
struct Length(serde_json::Value);

impl Length {
    fn checked(&self, key: &'static str) -> Result<DurationMillis, WordError> {
        let length = self.0.as_str().map_or_else(|| self.0.as_u64().map(DurationMillis), parse_length);
        // More than the longest wait is taken for that: it must not cost the attempt.
        length.map(|length| length.min(WAIT_MAX)).ok_or_else(|| {
            let text = self.0.to_string().chars().take(64).collect();
            WordError::Length { key, text }
        })
    }
}

/// Reads `90s`, `1h30m`, `1500ms`: whole numbers with units, largest first or not.
fn parse_length(text: &str) -> Option<DurationMillis> {
    let mut rest = text.trim();
    let mut total = None;
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit())?;
        let (number, after) = rest.split_at_checked(digits)?;
        let unit_end = after.find(|sign: char| sign.is_ascii_digit() || sign == ' ').unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(unit_end)?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        total = Some(total.unwrap_or(0_u64).checked_add(part)?);
        rest = after.trim_start();
    }
    total.map(DurationMillis)
}

/// Reads what a run said, if it said anything.
pub(super) fn read(path: &Path) -> Result<Option<Word>, WordError> {
    let Some(file) = open_plain(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(OUTCOME_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > OUTCOME_BYTES_MAX {
        return Err(WordError::TooLong);
    }
    parse(&bytes).map(Some)
}

/// Opens a file that a run may have made: none if it made none.
pub(super) fn open_plain(path: &Path) -> Result<Option<File>, WordError> {
    match files::open_plain(File::options().read(true), path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Err(WordError::NotPlain),
        Err(error) => Err(error.into()),
    }
}

fn parse(bytes: &[u8]) -> Result<Word, WordError> {
    if bytes.trim_ascii().is_empty() {
        return Err(WordError::Empty);
    }
    let raw: Raw = serde_json::from_slice(bytes)?;
    if raw.wait.is_some() && raw.outcome != Kind::Snooze {
        return Err(WordError::Misplaced { key: "for", goes_with: "`snooze`" });
    }
    if raw.retry_after.is_some() && raw.outcome != Kind::Error {
        return Err(WordError::Misplaced { key: "retry_after", goes_with: "`error`" });
    }
    let retry_after = raw.retry_after.map(|length| length.checked("retry_after")).transpose()?;
    let wait = raw.wait.map(|length| length.checked("for")).transpose()?;
    let message = raw.message;
    let verdict = match raw.outcome {
        Kind::Ok => Verdict::Ok,
        Kind::Error => Verdict::Error { message, retry_after },
        Kind::Permanent => Verdict::Permanent { message },
        Kind::Snooze => Verdict::Snooze { wait: wait.ok_or(WordError::NoLength)?, reason: message },
        Kind::Cancel => Verdict::Cancel { reason: message },
        Kind::Release => Verdict::Release { reason: message },
    };
    Ok(Word { verdict, result: raw.result.map(|result| result.get().to_owned()) })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_tests::fuzz::{Heap, Target};

    use super::*;
    use crate::event::chain;

    #[global_allocator]
    static HEAP: Heap = Heap;

    fn verdict(text: &str) -> Verdict {
        parse(text.as_bytes()).unwrap().verdict
    }

    fn error(text: &str) -> String {
        chain(&parse(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn every_word_is_understood() {
        let message = Some("why".to_owned());
        assert_eq!(verdict(r#"{"outcome":"ok"}"#), Verdict::Ok);
        assert_eq!(
            verdict(r#"{"outcome":"error","message":"why","retry_after":"90s"}"#),
            Verdict::Error { message: message.clone(), retry_after: Some(DurationMillis(90_000)) }
        );
        assert_eq!(verdict(r#"{"outcome":"permanent"}"#), Verdict::Permanent { message: None });
        assert_eq!(
            verdict(r#"{"outcome":"snooze","for":1500,"message":"why"}"#),
            Verdict::Snooze { wait: DurationMillis(1500), reason: message.clone() }
        );
        assert_eq!(verdict(r#"{"outcome":"cancel","message":"why"}"#), Verdict::Cancel { reason: message.clone() });
        assert_eq!(verdict("{\"outcome\":\"release\",\n \"message\":\"why\"}\n"), Verdict::Release { reason: message });
    }

    /// The job was discarded for it.
    #[test]
    fn a_wait_that_is_too_long_is_cut() {
        for length in ["\"2000d\"", "18446744073709551615"] {
            let text = format!(r#"{{"outcome":"snooze","for":{length}}}"#);
            assert_eq!(verdict(&text), Verdict::Snooze { wait: WAIT_MAX, reason: None });
        }
    }

    #[test]
    fn a_result_is_kept_to_the_letter() {
        let word = parse(br#"{"outcome":"ok","result":{"n": 12345678901234567890123, "x":1.10}}"#).unwrap();
        assert_eq!(word.result.unwrap(), r#"{"n": 12345678901234567890123, "x":1.10}"#);
        assert_eq!(parse(br#"{"outcome":"ok","result":null}"#).unwrap().result, None);
    }

    #[test]
    fn what_is_wrong_is_quoted() {
        let cases = [
            ("", "is empty"),
            ("{\"outcome\":\"ok\"", "EOF"),
            ("ok", "expected value at line 1 column 1"),
            (r#"{"outcome":"fine"}"#, "unknown variant `fine`"),
            (r#"{"message":"x"}"#, "missing field `outcome`"),
            (r#"{"outcome":"ok","mesage":"x"}"#, "unknown field `mesage`"),
            (r#"{"outcome":"ok"}{"outcome":"ok"}"#, "trailing characters"),
            (r#"{"outcome":"snooze"}"#, "without `for`"),
            (r#"{"outcome":"snooze","for":"soon"}"#, "`for`: \"\\\"soon\\\"\""),
            (r#"{"outcome":"snooze","for":-5}"#, "no length of time"),
            (r#"{"outcome":"ok","for":"5m"}"#, "goes with `snooze` only"),
            (r#"{"outcome":"permanent","retry_after":"5m"}"#, "goes with `error` only"),
        ];
        for (text, expected) in cases {
            let message = error(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.contains("or release") || !message.contains("JSON"), "{text}: {message}");
        }
    }

    #[test]
    fn fuzz_outcome_files() {
        let samples = [
            r#"{"outcome":"error","message":"why","retry_after":"1h30m"}"#,
            r#"{"outcome":"snooze","for":1500}"#,
            r#"{"outcome":"ok","result":{"n":[1,null,"x"]}}"#,
            r#"{"outcome":"release"}"#,
        ];
        let target = samples.iter().fold(Target::text("outcome"), Target::sample);
        target.run(|bytes| parse(bytes).map(drop).map_err(|error| chain(&error)));
    }

    #[test]
    fn lengths_have_units() {
        let good = [("5m", 300_000), ("1h30m", 5_400_000), ("250ms", 250), ("2d 1s", 172_801_000), ("0s", 0)];
        for (text, length) in good {
            assert_eq!(parse_length(text), Some(DurationMillis(length)), "{text}");
        }
        for text in ["", "5", "m", "5y", "1.5h", "-1s", "99999999999999999999s", "18446744073709551615d", "é"] {
            assert_eq!(parse_length(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_plain_file_of_its_size_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("outcome");
        assert!(read(&path).unwrap().is_none());
        std::fs::write(&path, vec![b' '; OUTCOME_BYTES_MAX + 1]).unwrap();
        assert!(matches!(read(&path), Err(WordError::TooLong)));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &path).unwrap();
        assert!(matches!(read(&path), Err(WordError::NotPlain)));
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(matches!(read(&path), Err(WordError::NotPlain)));
    }
}
