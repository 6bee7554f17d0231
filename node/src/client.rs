//! The other end of the control socket: asks the daemon, and reads answers, bytes and events.
//!
//! Every question has a connection of its own on the Unix socket, so a stream that is read slowly holds up nothing
//! else. The connection is driven by a task that belongs to the answer: dropping the answer closes the connection,
//! which is how a follower leaves. Nothing here retries or polls; waiting is done by the daemon.

mod events;
mod lines;

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use jobmesh::api::{ApiError, ErrorBody, ErrorCode};
use jobmesh_protocol::BlobRef;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio_util::io::ReaderStream;

pub(crate) use events::EventStream;
pub(crate) use lines::Lines;

/// Largest JSON answer: a list of 10 000 jobs with long commands, with room.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Asks one daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No daemon listens.
    #[error("no node answers at {}", socket.display())]
    Unreachable {
        /// The control socket.
        socket: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The daemon went away in the middle.
    #[error("the connection to the node broke during {question}")]
    Broken {
        /// What was asked.
        question: String,
        /// What the connection says.
        source: hyper::Error,
    },
    /// The bytes to upload could not be read.
    #[error("failed to read the input")]
    Input {
        /// What the system says.
        source: io::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(ApiError),
    /// The daemon answered something that this version does not understand.
    #[error("the node's answer to {question} can't be read")]
    Answer {
        /// What was asked.
        question: String,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// The daemon answered more than anything should take.
    #[error("the node's answer to {question} is longer than {limit} bytes")]
    TooLong {
        /// What was asked.
        question: String,
        /// The bound.
        limit: usize,
    },
}

impl Client {
    /// A client of the daemon that listens on `socket`. Connects with each question only.
    pub(crate) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Whether anyone answers.
    pub(crate) async fn is_answered(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }

    /// The process that listens, if the system says so.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub(crate) async fn pid(&self) -> Result<Option<u32>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let peer = stream.peer_cred().map_err(unreachable)?;
        Ok(peer.pid().and_then(|pid| u32::try_from(pid).ok()))
    }

    /// Asks for what is at `path`.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, empty()).await?.json().await
    }

    /// Asks `path` to do what `question` says.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn post<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<T, ClientError> {
        self.ask(Method::POST, path, encode(path, question)?).await?.json().await
    }

    /// Asks `path` to be what `question` says.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn put<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<T, ClientError> {
        self.ask(Method::PUT, path, encode(path, question)?).await?.json().await
    }

    /// Sends bytes that are JSON already, or lines of it.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn post_bytes<T: DeserializeOwned>(&self, path: &str, bytes: Bytes) -> Result<T, ClientError> {
        self.ask(Method::POST, path, whole(bytes)).await?.json().await
    }

    /// Asks `path` to do what `question` says, and to tell how it goes.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn post_and_follow<Q: Serialize>(&self, path: &str, question: &Q) -> Result<Lines, ClientError> {
        Ok(Lines::new(self.ask(Method::POST, path, encode(path, question)?).await?))
    }

    /// Asks `path` to take away what `question` says.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn delete<Q: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        question: &Q,
    ) -> Result<T, ClientError> {
        self.ask(Method::DELETE, path, encode(path, question)?).await?.json().await
    }

    /// Uploads everything that `input` holds and returns its name by content.
    ///
    /// # Errors
    /// Every variant of [`ClientError`].
    pub(crate) async fn upload<R: AsyncRead + Send + 'static>(&self, input: R) -> Result<BlobRef, ClientError> {
        use futures::TryStreamExt as _;
        let body = StreamBody::new(ReaderStream::with_capacity(input, 64 * 1024).map_ok(Frame::data));
        self.ask(Method::POST, "/v1/blobs", body.boxed_unsync()).await?.json().await
    }

    /// Asks for the raw bytes at `path`.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Answer, ClientError> {
        self.ask(Method::GET, path, empty()).await
    }

    /// Asks for the events at `path`.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn events(&self, path: &str) -> Result<EventStream, ClientError> {
        Ok(EventStream::new(self.bytes(path).await?))
    }

    /// Asks for the JSON lines at `path`.
    ///
    /// # Errors
    /// Every variant of [`ClientError`] but `Input`.
    pub(crate) async fn lines(&self, path: &str) -> Result<Lines, ClientError> {
        Ok(Lines::new(self.bytes(path).await?))
    }

    async fn ask(&self, method: Method, path: &str, body: Body) -> Result<Answer, ClientError> {
        let question = format!("{method} {path}");
        let unreachable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let broken = |source| ClientError::Broken { question: question.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A fault of the connection shows in the answer or its body, where it is reported.
            let _ = connection.await;
        });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "jobmesh")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| ClientError::Input { source: io::Error::other(error) })?;
        let response = sender.send_request(request).await.map_err(|error| sort(error, broken))?;
        Answer { response, question, _driver: driver }.accepted().await
    }
}

/// A name as a part of a path: whatever could be taken for something else is written as `%XX`.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// Tells a fault of the input, which the body reports, from one of the connection.
fn sort(error: hyper::Error, broken: impl FnOnce(hyper::Error) -> ClientError) -> ClientError {
    if !error.is_user() {
        return broken(error);
    }
    let input = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match input {
        Some(cause) => ClientError::Input { source: io::Error::new(cause.kind(), cause.to_string()) },
        None => broken(error),
    }
}

fn empty() -> Body {
    whole(Bytes::new())
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn encode<Q: Serialize>(path: &str, question: &Q) -> Result<Body, ClientError> {
    let bytes =
        serde_json::to_vec(question).map_err(|source| ClientError::Answer { question: path.to_owned(), source })?;
    Ok(whole(Bytes::from(bytes)))
}

/// An answer whose body has yet to be read. Dropping it closes its connection.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response<Incoming>,
    question: String,
    _driver: JoinSet<()>,
}

impl Answer {
    /// The value of a header, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// The next piece of the body; `None` at its end. Cancel-safe: a piece that was not returned comes next time.
    ///
    /// # Errors
    /// [`ClientError::Broken`] if the daemon went away.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|source| ClientError::Broken { question: self.question.clone(), source })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The body as a value.
    async fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let bytes = self.whole().await?;
        serde_json::from_slice(&bytes).map_err(|source| ClientError::Answer { question: self.question, source })
    }

    async fn whole(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            if bytes.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::TooLong { question: self.question.clone(), limit: ANSWER_BYTES_MAX });
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    async fn accepted(mut self) -> Result<Self, ClientError> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let bytes = self.whole().await?;
        let error = match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => body.error,
            Err(_) => plain(status, &self.question),
        };
        Err(ClientError::Refused(error))
    }
}

/// What is known of a refusal that is no [`ErrorBody`], such as a route that an older daemon lacks.
fn plain(status: StatusCode, question: &str) -> ApiError {
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ErrorCode::Internal,
        status if status.is_client_error() => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    };
    let hint = "if the node runs another version, restart it with `jobmesh down` and `jobmesh up -d`";
    ApiError { code, message: format!("the node answers {status} to {question}"), hint: Some(hint.to_owned()) }
}
