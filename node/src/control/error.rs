//! How every refusal looks to a client: a status, a code for programs, a sentence and a hint for people.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jobmesh_engine::Refusal;
use jobmesh_executors::ShelfError;

use crate::api::{ApiError, ErrorBody, ErrorCode};
use crate::blobs::WriteError;
use crate::causes::causes;
use crate::runtime::{CommandError, JoinError, ReadError};

/// A refused request.
#[derive(Clone, Debug)]
pub(super) struct Failure(ApiError);

/// What a handler returns.
pub(super) type Answer<T> = Result<T, Failure>;

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self(ApiError { code, message: message.into(), hint: None })
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says in which line of the body the fault lies.
    pub(super) fn at_line(mut self, line: u64) -> Self {
        self.0.message = format!("line {line}: {}", self.0.message);
        self
    }

    /// The error itself, to be told beside others.
    pub(super) fn into_error(self) -> ApiError {
        self.0
    }

    /// A fault of ours, with everything that is known of it.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        let message = causes(error);
        tracing::error!(message, "a request failed");
        Self::new(ErrorCode::Internal, message).hint("see daemon.log in the data directory")
    }

    /// The job database fails, which is for whoever owns the disk to mend.
    fn database(error: &dyn std::error::Error) -> Self {
        let Self(error) = Self::internal(error);
        Self(ApiError { code: ErrorCode::Database, ..error })
    }

    /// The engine answered a command with something else than that command leads to.
    pub(super) fn unexpected() -> Self {
        Self::new(ErrorCode::Internal, "the engine gave an answer to another question; this is a bug")
    }

    fn draining() -> Self {
        Self::new(ErrorCode::Draining, "this node is shutting down and takes no new work")
            .hint("start it again with `jobmesh up -d`")
    }

    fn full(message: String) -> Self {
        Self::new(ErrorCode::DiskFull, message).hint("free some space on that disk, then try again")
    }
}

const fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Draining => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        ErrorCode::PeerUnreachable => StatusCode::BAD_GATEWAY,
        ErrorCode::PeerRefused => StatusCode::FORBIDDEN,
        ErrorCode::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Database | ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (status(self.0.code), Json(ErrorBody { error: self.0 })).into_response()
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::NoSuchJob(_) => {
                Self::new(ErrorCode::NotFound, message).hint("`jobmesh ls` lists the jobs of this node")
            }
            Refusal::NoSuchTask { number, .. } => Self::new(ErrorCode::NotFound, message)
                .hint(format!("`jobmesh show {}` shows the job itself", number.group())),
            Refusal::WrongState { number, .. } => {
                Self::new(ErrorCode::Conflict, message).hint(format!("`jobmesh show {number}` tells what became of it"))
            }
            Refusal::BadSpec(_)
            | Refusal::BadCheckpoint(_)
            | Refusal::BadQueue(_)
            | Refusal::BadInvite(_)
            | Refusal::BadMembership(_)
            | Refusal::BadSchedule(_)
            | Refusal::ForeignParent
            | Refusal::NoScript
            | Refusal::NoNetwork
            | Refusal::Confined { .. }
            | Refusal::InstantsToCome { .. } => Self::new(ErrorCode::BadRequest, message),
            // What to do about one of several is what to do about it alone.
            Refusal::Submission { refusal, .. } => {
                let Self(alone) = (*refusal).into();
                Self(ApiError { message, ..alone })
            }
            Refusal::Awaited { waiting: number, .. }
            | Refusal::Duplicate(number)
            | Refusal::KeyTaken { holder: number, .. } => {
                Self::new(ErrorCode::Conflict, message).hint(format!("`jobmesh show {number}` shows that job"))
            }
            Refusal::NotOpen(_) => Self::new(ErrorCode::Conflict, message)
                .hint("open a group with `jobmesh submit --open`, and give its number"),
            Refusal::QueueDraining(_)
            | Refusal::PastDeadline { .. }
            | Refusal::ForgottenInstants { .. }
            | Refusal::NotRunning
            | Refusal::TooMany { .. } => Self::new(ErrorCode::Conflict, message),
            Refusal::DeclaredSchedule(name) => Self::new(ErrorCode::Conflict, message).hint(format!(
                "change it under [job_types.{name}] in config.toml, `enabled = false` among others, or `jobmesh cron pause {name}`"
            )),
            Refusal::NoSuchSchedule(_) => Self::new(ErrorCode::NotFound, message),
            Refusal::Draining => Self::draining(),
            Refusal::NotAdmin => {
                Self::new(ErrorCode::Conflict, message).hint("run `jobmesh invite` on the node that you joined by")
            }
            Refusal::TooManyTags(_) => {
                Self::new(ErrorCode::Conflict, message).hint("remove one with `jobmesh capability rm TAG`")
            }
        }
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let message = error.to_string();
        match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Busy => Self::new(ErrorCode::Busy, message).hint("try again in a moment"),
            CommandError::Full => Self::full(message),
            CommandError::Store(_) => Self::database(&error),
            CommandError::Stopped => Self::draining(),
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Store(_) => Self::database(&error),
            ReadError::Interrupted => Self::internal(&error),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Shelf(error) => error.into(),
            WriteError::Cut { .. } | WriteError::Malformed { .. } => {
                Self::new(ErrorCode::BadRequest, error.to_string())
            }
            WriteError::Panicked => Self::internal(&error),
        }
    }
}

impl From<ShelfError> for Failure {
    fn from(error: ShelfError) -> Self {
        match &error {
            ShelfError::Full { .. } => Self::full(error.to_string()),
            ShelfError::OverQuota { .. } => Self::new(ErrorCode::DiskFull, error.to_string()),
            ShelfError::AboveQuota { .. } | ShelfError::TooLarge { .. } => {
                Self::new(ErrorCode::TooLarge, error.to_string())
            }
            ShelfError::Missing { .. } => Self::new(ErrorCode::NotFound, error.to_string()),
            ShelfError::Damaged { .. } | ShelfError::File { .. } | ShelfError::Stopped => Self::internal(&error),
        }
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let message = causes(&error);
        match error {
            JoinError::Own => Self::new(ErrorCode::BadRequest, message),
            JoinError::Expired => Self::new(ErrorCode::BadRequest, message).hint("ask for a new one: `jobmesh invite`"),
            JoinError::Member => Self::new(ErrorCode::Conflict, message).hint("`jobmesh peers` shows who is in it"),
            JoinError::Elsewhere => Self::new(ErrorCode::Conflict, message)
                .hint("give this machine a second node with `--home DIR`, and join with that"),
            JoinError::Unreachable(_) => Self::new(ErrorCode::PeerUnreachable, message)
                .hint("check that its daemon runs and that this machine can reach one of the addresses in the invite"),
            JoinError::Refused(_) => {
                Self::new(ErrorCode::PeerRefused, message).hint("ask for a new invite: `jobmesh invite`")
            }
            JoinError::Membership(_) | JoinError::Malformed => Self::new(ErrorCode::PeerRefused, message)
                .hint("check the clocks of both machines and that both run the same version"),
            JoinError::Command(error) => error.into(),
            JoinError::Read(error) => error.into(),
            JoinError::Restart(_) => {
                Self::new(ErrorCode::Internal, message).hint("`jobmesh down`, then `jobmesh up -d`")
            }
        }
    }
}

pub(super) async fn no_such_route() -> Failure {
    std::future::ready(Failure::new(ErrorCode::NotFound, "there is no such route")).await
}

pub(super) async fn no_such_method() -> Failure {
    std::future::ready(Failure::new(ErrorCode::BadRequest, "the route has no such method")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_with_the_remedy() {
        let Failure(error) = Failure::from(CommandError::Full);
        assert_eq!(error.code, ErrorCode::DiskFull);
        assert!(error.message.contains("nothing that was acknowledged is lost"));
        assert!(error.hint.is_some_and(|hint| hint.contains("free some space")));
    }

    #[test]
    fn a_chain_does_not_repeat_what_it_said() {
        let error = ReadError::Store(jobmesh_store::StoreError::Full);
        assert_eq!(causes(&error), "the disk that holds the job database is full");
    }
}
