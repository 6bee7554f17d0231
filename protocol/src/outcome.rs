//! How one attempt ended. The same words for a local process and for a peer's receipt.

use serde::{Deserialize, Serialize};

use crate::id::BlobRef;
use crate::time::DurationMillis;

/// Longest message that travels with an outcome, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 2048;

/// What an executor says at the end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It did what it was asked.
    Ok,
    /// It failed and may work another time.
    Error {
        /// What went wrong, for people.
        message: String,
        /// How long to wait at least before another attempt, if it said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<DurationMillis>,
    },
    /// It failed and would fail again: bad spec, no such program.
    Permanent {
        /// What went wrong, for people.
        message: String,
    },
    /// It ran longer than it was allowed to.
    Timeout,
    /// It was stopped because the job was cancelled.
    Cancelled,
    /// It asked to be continued later. Costs no attempt.
    Snoozed {
        /// How much later.
        for_ms: DurationMillis,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It found that the job is not wanted any more.
    SelfCancelled {
        /// Why, for people.
        reason: String,
    },
    /// It was given back without fault: drain, shutdown, no room. Costs no attempt.
    Released {
        /// Why, for people.
        reason: String,
    },
    /// Nobody knows how it ended: the node or the process vanished. Costs no attempt but counts as a crash.
    Lost {
        /// What is known, for people.
        reason: String,
    },
}

impl Outcome {
    /// A failure that may work another time, with nothing said about when.
    pub fn error(message: impl Into<String>) -> Self {
        Self::Error { message: message.into(), retry_after_ms: None }
    }

    /// The word for it in the database, JSON and lists.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error { .. } => "error",
            Self::Permanent { .. } => "permanent",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Snoozed { .. } => "snoozed",
            Self::SelfCancelled { .. } => "self_cancelled",
            Self::Released { .. } => "released",
            Self::Lost { .. } => "lost",
        }
    }

    /// The text for people, if there is one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Error { message, .. } | Self::Permanent { message } => Some(message),
            Self::Snoozed { reason, .. } => reason.as_deref(),
            Self::SelfCancelled { reason } | Self::Released { reason } | Self::Lost { reason } => Some(reason),
            Self::Ok | Self::Timeout | Self::Cancelled => None,
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, if it exited.
    pub code: Option<i32>,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
}

/// What an attempt left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// Everything it wrote to standard output.
    pub stdout: Option<BlobRef>,
    /// Everything it wrote to standard error.
    pub stderr: Option<BlobRef>,
    /// What it said its result is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<BlobRef>,
    /// The files that it left and that were to be kept, as a [`Tree`](crate::tree::Tree).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BlobRef>,
}

impl Outputs {
    /// The outputs that exist: standard output, standard error, result, the tree of files.
    pub fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        [self.stdout, self.stderr, self.result, self.files].into_iter().flatten()
    }
}

/// What an attempt took of its machine, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of all its processes that were waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<DurationMillis>,
    /// Most memory at any time, in bytes: of all its processes where a control group counts, else of the largest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Instructions of a module that were counted; the same on every machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

/// Longest name of a provider, model or finish reason in bytes.
const MODEL_WORD_BYTES_MAX: usize = 128;

/// What a model was asked for and took, as far as its provider says. What is unknown is none, never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelUse {
    /// Who provides it, by its name in the node's configuration.
    pub provider: String,
    /// The model that answered, by its own word if it said so.
    pub model: String,
    /// Tokens of the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The price, in millionths of a US dollar, from the prices in the node's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
    /// Time from the request to the first word of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<DurationMillis>,
    /// Time from the request to the end of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<DurationMillis>,
    /// Why the answer ended, in the provider's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
    /// Numbers in each vector of an embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimension: Option<u32>,
}

impl ModelUse {
    /// Whether its words keep to their limits.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let words = [Some(&self.provider), Some(&self.model), self.finish.as_ref()];
        words.into_iter().flatten().all(|word| word.len() <= MODEL_WORD_BYTES_MAX)
    }
}
