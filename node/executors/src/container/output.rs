//! What a container says, as it says it.
//!
//! Two ways lead to it. A connection made before the start carries every byte live, and the input the other way. The
//! engine's own record can be read again from the start: that is how a later life of the daemon, or this one after the
//! engine was restarted, goes on without a gap.
//!
//! **The hard case** is the change from one to the other: bytes are counted for each stream, and the record is read from
//! its start with as many left out.

use std::fs::File;
use std::io::Read as _;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::{AttachContainerOptions, LogsOptions};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::engine::{ContainerError, Engine};
use crate::output::Stream;
use crate::stage::{Stage, StageError};

/// How much input is handed over at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Time until the record is looked at again if it ended while its container goes on.
const AGAIN: Duration = Duration::from_millis(200);

/// A connection to a container that has not started yet.
pub(super) struct Line {
    output: BoxStream<'static, Result<LogOutput, bollard::errors::Error>>,
    input: Option<(std::pin::Pin<Box<dyn AsyncWrite + Send>>, File)>,
}

impl Line {
    /// Connects; `stdin` is what the command will read.
    pub(super) async fn open(engine: &Engine, name: &str, stdin: Option<File>) -> Result<Self, ContainerError> {
        let options = AttachContainerOptions {
            stream: true,
            stdin: stdin.is_some(),
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = engine.docker.attach_container(name, Some(options)).await;
        // Podman prepares the command already when somebody attaches.
        let attached = attached.map_err(|source| ContainerError::unstarted("attach to the container", source))?;
        Ok(Self { output: attached.output, input: stdin.map(|file| (attached.input, file)) })
    }
}

/// How a stream of words ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// There is no more.
    Over,
    /// The connection broke.
    Broken,
}

/// What was kept of what a container said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    stdout: u64,
    stderr: u64,
}

impl Heard {
    const fn of(&mut self, stream: Stream) -> &mut u64 {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Takes a connection to its end, handing over the input meanwhile.
    pub(super) async fn attend(&mut self, line: &mut Line, stage: &mut Stage<'_>) -> Result<Flow, StageError> {
        let Line { output, input } = line;
        let mut feeding = std::pin::pin!(async {
            if let Some((sink, file)) = input.take() {
                feed(sink, file).await;
            }
        });
        let mut is_fed = false;
        loop {
            tokio::select! {
                said = output.next() => match said {
                    None => return Ok(Flow::Over),
                    Some(Ok(said)) => self.keep(&said, stage)?,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the connection to a container broke");
                        return Ok(Flow::Broken);
                    }
                },
                () = &mut feeding, if !is_fed => is_fed = true,
            }
        }
    }

    fn keep(&mut self, said: &LogOutput, stage: &mut Stage<'_>) -> Result<(), StageError> {
        let Some((stream, bytes)) = parts(said) else { return Ok(()) };
        *self.of(stream) += bytes.len() as u64;
        stage.say(stream, bytes)
    }

    /// Reads the engine's record from its start and keeps what was not heard before. With `follow`, until the container
    /// ends; what an error leaves out comes with the next reading.
    pub(super) async fn read_record(
        &mut self,
        engine: &Engine,
        name: &str,
        follow: bool,
        stage: &mut Stage<'_>,
    ) -> Result<Flow, StageError> {
        let options = LogsOptions { follow, stdout: true, stderr: true, ..LogsOptions::default() };
        let mut record = std::pin::pin!(engine.docker.logs(name, Some(options)));
        let mut known = *self;
        while let Some(said) = record.next().await {
            let said = match said {
                Ok(said) => said,
                Err(error) => {
                    tracing::debug!(%error, "the record of a container broke off");
                    return Ok(Flow::Broken);
                }
            };
            let Some((stream, bytes)) = parts(&said) else { continue };
            let skipped = (*known.of(stream)).min(bytes.len() as u64);
            *known.of(stream) -= skipped;
            let fresh = usize::try_from(skipped).ok().and_then(|skipped| bytes.get(skipped..)).unwrap_or_default();
            *self.of(stream) += fresh.len() as u64;
            stage.say(stream, fresh)?;
        }
        Ok(Flow::Over)
    }

    /// Follows the engine's record for as long as it is polled.
    pub(super) async fn follow_record(
        &mut self,
        engine: &Engine,
        name: &str,
        stage: &mut Stage<'_>,
    ) -> Result<std::convert::Infallible, StageError> {
        loop {
            self.read_record(engine, name, true, stage).await?;
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn parts(said: &LogOutput) -> Option<(Stream, &[u8])> {
    match said {
        LogOutput::StdOut { message } | LogOutput::Console { message } => Some((Stream::Stdout, message)),
        LogOutput::StdErr { message } => Some((Stream::Stderr, message)),
        LogOutput::StdIn { .. } => None,
    }
}

/// Hands over a file and closes. A command that doesn't read it to the end is no failure.
async fn feed(mut sink: std::pin::Pin<Box<dyn AsyncWrite + Send>>, mut file: File) {
    let mut chunk = vec![0_u8; CHUNK_BYTES];
    loop {
        let count = match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "failed to read the input of a container");
                break;
            }
        };
        if sink.write_all(chunk.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
    if let Err(error) = sink.shutdown().await {
        tracing::debug!(%error, "failed to close the input of a container");
    }
}
