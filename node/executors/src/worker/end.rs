//! How a worker says how its work ended: by its exit code, and by the run's outcome file where that says too little.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::directory::outcome_path;
use crate::event::clip;

/// How the work ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    code: u8,
    word: Option<Word>,
}

/// What is said beside the exit code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// It may work another time, after so many milliseconds at least.
    Error { message: String, retry_after: Option<u64> },
    /// It would fail again.
    Permanent { message: String },
    /// It is to be continued in so many milliseconds.
    Snooze { wait: u64, reason: Option<String> },
    /// It is not wanted any more.
    Cancel { reason: String },
}

/// The form that a run's outcome file has.
#[derive(Serialize)]
struct Written<'a> {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    wait: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

impl End {
    /// It ended with an exit code, and that says all.
    pub(crate) const fn code(code: u8) -> Self {
        Self { code, word: None }
    }

    /// It failed and may work another time.
    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self::from(Word::Error { message: clip(message.into()), retry_after: None })
    }

    /// It failed and would fail again.
    pub(crate) fn permanent(message: impl Into<String>) -> Self {
        Self::from(Word::Permanent { message: clip(message.into()) })
    }

    /// Whether the exit code is all there is to say.
    pub(crate) const fn is_silent(&self) -> bool {
        self.word.is_none()
    }

    /// The exit code of the process.
    pub(crate) const fn exit_code(&self) -> u8 {
        self.code
    }

    /// Writes what there is to say to the outcome file of the run.
    pub(crate) fn tell(&self, directory: &Path) -> ExitCode {
        if let Some(word) = &self.word
            && let Err(error) = word.write(directory)
        {
            eprintln!("failed to write the outcome: {error}");
            return ExitCode::FAILURE;
        }
        ExitCode::from(self.code)
    }
}

impl From<Word> for End {
    fn from(word: Word) -> Self {
        let code = match word {
            Word::Error { .. } | Word::Permanent { .. } => 1,
            Word::Snooze { .. } | Word::Cancel { .. } => 0,
        };
        Self { code, word: Some(word) }
    }
}

impl Word {
    fn write(&self, directory: &Path) -> io::Result<()> {
        let (outcome, message, wait, retry_after) = match self {
            Self::Error { message, retry_after } => ("error", Some(message.as_str()), None, *retry_after),
            Self::Permanent { message } => ("permanent", Some(message.as_str()), None, None),
            Self::Snooze { wait, reason } => ("snooze", reason.as_deref(), Some(*wait), None),
            Self::Cancel { reason } => ("cancel", Some(reason.as_str()), None, None),
        };
        let json = serde_json::to_vec(&Written { outcome, message, wait, retry_after })?;
        let mut file = File::options();
        file.write(true).create(true).truncate(true).mode(0o600);
        file.open(outcome_path(directory))?.write_all(&json)
    }
}
