//! Why a command was not carried out, ready to be shown: what, why, and what to type next.
//!
//! Every error ends here once, at the edge. On a terminal it is `error: …` with its causes and a `hint: …`; with
//! `--json` one document on stderr, so that stdout holds data or nothing.

use std::error::Error;
use std::fmt::Write as _;

use jobmesh::api::{ApiError, ErrorCode};
use jobmesh::causes::causes;
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::output::clean;

/// The sort of a failure: decides the exit code and the `code` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was typed makes no sense.
    Usage,
    /// There is no such thing.
    NotFound,
    /// The state of things does not allow it.
    Conflict,
    /// The daemon does not answer.
    Unreachable,
    /// Another daemon has the data directory.
    InUse,
    /// Another node does not answer.
    PeerUnreachable,
    /// Another node said no.
    PeerRefused,
    /// Try again later.
    Busy,
    /// The node is shutting down.
    Draining,
    /// No room on the disk.
    DiskFull,
    /// The time given is over.
    Timeout,
    /// The configuration or the data directory.
    Config,
    /// The job database can't be read or written.
    Database,
    /// A receipt is not good.
    BadReceipt,
    /// A file of the user can't be read or written.
    File,
    /// A fault of our own.
    Internal,
    /// Whoever read our output has gone; nothing to say and nobody to say it to.
    Pipe,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Usage => "bad_request",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unreachable => "daemon_unreachable",
            Self::InUse => "in_use",
            Self::PeerUnreachable => "peer_unreachable",
            Self::PeerRefused => "peer_refused",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::DiskFull => "disk_full",
            Self::Timeout => "timeout",
            Self::Config => "config",
            Self::Database => "database",
            Self::BadReceipt => "bad_receipt",
            Self::File => "file",
            Self::Internal => "internal",
            Self::Pipe => "pipe",
        }
    }

    const fn exit(self) -> Exit {
        match self {
            Self::Usage | Self::NotFound | Self::Conflict | Self::File => Exit::USAGE,
            Self::Unreachable | Self::InUse | Self::PeerUnreachable => Exit::UNREACHABLE,
            Self::PeerRefused | Self::BadReceipt => Exit::FAILED,
            Self::Busy | Self::Draining | Self::DiskFull => Exit::BUSY,
            Self::Timeout => Exit::TIMEOUT,
            Self::Config | Self::Database => Exit::CONFIG,
            Self::Internal => Exit::INTERNAL,
            Self::Pipe => Exit::PIPE,
        }
    }
}

impl From<ErrorCode> for Kind {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadRequest | ErrorCode::TooLarge => Self::Usage,
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::Conflict => Self::Conflict,
            ErrorCode::Busy => Self::Busy,
            ErrorCode::Draining => Self::Draining,
            ErrorCode::DiskFull => Self::DiskFull,
            ErrorCode::Database => Self::Database,
            ErrorCode::PeerUnreachable => Self::PeerUnreachable,
            ErrorCode::PeerRefused => Self::PeerRefused,
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::Internal => Self::Internal,
        }
    }
}

/// A failure with everything that is to be said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// A failure that says `message`: a lower-case fragment that names the object.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A failure that says what `error` and all its causes say, each once.
    pub(crate) fn of(kind: Kind, error: &dyn Error) -> Self {
        Self::new(kind, causes(error))
    }

    /// Adds what to type next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What went wrong, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What sort it is.
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// How the program ends.
    pub(crate) const fn exit(&self) -> Exit {
        self.kind.exit()
    }

    /// The lines for a person.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("error: {}\n", clean(&self.message));
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {}", clean(hint));
        }
        text
    }

    /// The document for a program.
    pub(crate) fn json(&self) -> String {
        json!({"error": {"code": self.kind.word(), "hint": self.hint, "message": self.message}}).to_string()
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { kind: error.code.into(), message: error.message, hint: error.hint }
    }
}

impl From<crate::client::ClientError> for Failure {
    fn from(error: crate::client::ClientError) -> Self {
        use crate::client::ClientError as E;
        match error {
            E::Refused(refused) => refused.into(),
            E::Unreachable { .. } => Self::of(Kind::Unreachable, &error).hint("start the node with `jobmesh up -d`"),
            E::Broken { .. } => {
                Self::of(Kind::Unreachable, &error).hint("see whether the node still runs with `jobmesh status`")
            }
            E::Input { .. } => Self::of(Kind::File, &error),
            E::Answer { .. } | E::TooLong { .. } => {
                let hint = "restart the node with `jobmesh down` and `jobmesh up -d`, so that it runs this version";
                Self::of(Kind::Internal, &error).hint(hint)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_a_text_and_a_document() {
        let failure = Failure::new(Kind::NotFound, "there is no job 9").hint("see `jobmesh ls`");
        assert_eq!(failure.text(), "error: there is no job 9\nhint: see `jobmesh ls`\n");
        insta::assert_snapshot!(
            failure.json(),
            @r#"{"error":{"code":"not_found","hint":"see `jobmesh ls`","message":"there is no job 9"}}"#
        );
        assert_eq!(failure.exit(), Exit::USAGE);
    }

    #[test]
    fn a_message_from_elsewhere_can_not_move_the_cursor() {
        let failure = Failure::new(Kind::PeerRefused, "no\u{1b}[2Jthing");
        assert!(!failure.text().contains('\u{1b}'));
    }
}
