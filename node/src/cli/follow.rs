//! Follows a job to its end: its output byte for byte to ours, its transitions to stderr or as JSON lines.
//!
//! **The hard case** is a job that runs more than once. What stdout gets is always the output of *one* attempt, the
//! last: `run … > out.gz` must not hold half of a first try and all of a second. So where a retry is possible and
//! stdout is no terminal, output waits for the end of the job. At the end the length is compared with what the
//! attempt wrote, and what is missing is fetched: a stream that broke off early can't pass for the whole.
//!
//! A job that is over within [`HEAD_START`] costs one question: little output comes with the news of its end, and
//! only of one that goes on is the output followed as it grows.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use data_encoding::BASE64;
use futures::future::{BoxFuture, FutureExt as _};
use futures::stream::{FuturesUnordered, StreamExt as _};
use jobmesh::api::{
    ATTEMPT_HEADER, CancelRequest, Change, Done, Ended, Explanation, FollowLine, JobDetail, JobView, LogStream, Reason,
    Submitted,
};
use jobmesh_executors::JOB_VARIABLE;
use jobmesh_protocol::{Epoch, JobState};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::cli::output::{ListDocument, note};
use crate::cli::terminal::{Passage, Way};
use crate::cli::{Failure, JobRef, Kind, Output};
use crate::cli::{explain, words};
use crate::client::{Client, ClientError, Lines};

/// Longest line of output in one JSON line; longer ones are cut.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// How long an attempt runs before its output is followed as it grows: longer than short jobs take, and shorter than
/// people notice.
const HEAD_START: Duration = Duration::from_millis(20);

/// How long a job may wait to start before it is told why it does: a busy node is free again by then, more often than
/// not.
const PATIENCE: Duration = Duration::from_secs(2);

/// One JSON line of `run` and `logs`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    /// The job is queued.
    Submitted(Submitted),
    /// The job moved.
    Change(&'a Change),
    /// The job wrote something.
    Output(OutputLine<'a>),
    /// The job ended.
    Ended {
        /// The job.
        job: &'a JobView,
    },
}

/// A line that the job wrote, with its line break, as text or else as base64.
#[derive(Debug, Serialize)]
pub(crate) struct OutputLine<'a> {
    stream: LogStream,
    attempt: Option<u32>,
    /// Which task of a group wrote it, if that is not clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Which bytes of a job's output are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    /// Which output.
    pub(crate) stream: LogStream,
    /// Which attempt; none is the last one.
    pub(crate) attempt: Option<Epoch>,
    /// How many bytes to leave out at the start.
    pub(crate) offset: u64,
    /// Whether to go on until the attempt ends.
    pub(crate) follow: bool,
}

impl Slice {
    fn path(&self, job: &JobRef) -> String {
        let Self { stream, attempt, offset, follow } = self;
        let attempt = attempt.map_or_else(String::new, |epoch| format!("&attempt={epoch}"));
        format!("/v1/jobs/{job}/logs?stream={}&offset={offset}&follow={follow}{attempt}", word(*stream))
    }
}

/// The word for a stream in a query.
pub(crate) const fn word(stream: LogStream) -> &'static str {
    match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    }
}

/// Where output is copied to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'d> {
    /// Where its bytes go, or the lines that hold them.
    pub(crate) output: Output,
    /// The document that its lines become items of, if they are not written one by one.
    pub(crate) document: Option<&'d Mutex<ListDocument>>,
}

impl From<Output> for Place<'_> {
    fn from(output: Output) -> Self {
        Self { output, document: None }
    }
}

/// Copies a slice of a job's output to ours and returns how many bytes that were.
///
/// # Errors
/// [`Failure`] if there is no such output, the daemon goes away, or nobody reads ours.
pub(crate) async fn copy(client: &Client, to: Place<'_>, job: &JobRef, slice: Slice) -> Result<u64, Failure> {
    copy_of_task(client, to, (job, None), slice).await
}

/// Does the same as [`copy`] line by line, each with the task before it that wrote it.
///
/// # Errors
/// As [`copy`].
pub(crate) async fn copy_of_task(
    client: &Client,
    to: Place<'_>,
    (job, task): (&JobRef, Option<&str>),
    slice: Slice,
) -> Result<u64, Failure> {
    let mut answer = client.bytes(&slice.path(job)).await?;
    let attempt = answer.header(ATTEMPT_HEADER).and_then(|value| value.parse().ok());
    let mut sink = Sink::new(to, (slice.stream, attempt, task));
    let mut copied = 0;
    while let Some(piece) = answer.next().await? {
        copied += piece.len() as u64;
        sink.write(&piece)?;
    }
    sink.finish()?;
    Ok(copied)
}

/// Takes the bytes of one stream.
struct Sink<'t> {
    to: Place<'t>,
    stream: LogStream,
    attempt: Option<u32>,
    /// What is written before each line.
    task: Option<&'t str>,
    /// The line that has not ended yet, where lines are told apart.
    rest: Vec<u8>,
    passage: Passage,
}

impl<'t> Sink<'t> {
    fn new(to: Place<'t>, (stream, attempt, task): (LogStream, Option<u32>, Option<&'t str>)) -> Self {
        let passage = Passage::new(match stream {
            LogStream::Stdout => Way::Stdout,
            LogStream::Stderr => Way::Stderr,
        });
        Self { to, stream, attempt, task, rest: Vec::new(), passage }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.to.output.is_json() || self.task.is_some() {
            self.rest.extend_from_slice(bytes);
            return self.whole_lines();
        }
        self.passage.write(bytes)
    }

    fn whole_lines(&mut self) -> Result<(), Failure> {
        while let Some(end) = line_end(&self.rest) {
            let rest = self.rest.split_off(end);
            let line = std::mem::replace(&mut self.rest, rest);
            self.line(&line)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let line = std::mem::take(&mut self.rest);
        if !line.is_empty() {
            self.line(&line)?;
        }
        self.passage.finish()
    }

    fn line(&self, line: &[u8]) -> Result<(), Failure> {
        if let Some(task) = self.task.filter(|_| !self.to.output.is_json()) {
            return self.passage.write_line_of(task, line);
        }
        let text = std::str::from_utf8(line).ok();
        let base64 = text.is_none().then(|| BASE64.encode(line));
        let (stream, attempt, task) = (self.stream, self.attempt, self.task);
        let line = Line::Output(OutputLine { stream, attempt, task, text, base64 });
        match self.to.document {
            Some(document) => document.lock().unwrap_or_else(PoisonError::into_inner).add(&line),
            None => self.to.output.line(&line),
        }
    }
}

/// Where the first line of `bytes` ends, if it does.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n').map(|at| at + 1);
    end.or((bytes.len() >= LINE_BYTES_MAX).then_some(LINE_BYTES_MAX))
}

/// When output is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As it comes, of every attempt.
    Live,
    /// That of the last attempt, when the job has ended. Standard error still comes as it is written.
    AtTheEnd,
}

/// What is said about transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// One line each on stderr.
    Lines,
    /// Nothing.
    Silent,
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum Followed {
    /// The job ended.
    Ended(Box<JobDetail>),
    /// A second Ctrl-C: we leave, the job is being cancelled.
    Left,
}

/// A stream of an attempt that has been copied to its end, and how many bytes that were.
struct Copied {
    epoch: Epoch,
    stream: LogStream,
    result: Result<u64, Failure>,
}

/// Follows one job.
pub(crate) struct Follower<'c> {
    client: &'c Client,
    output: Output,
    job: JobRef,
    name: String,
    pace: Pace,
    talk: Talk,
    epoch: Epoch,
    /// Since when the last attempt runs, while its output is not followed yet.
    head_start: Option<Instant>,
    /// When it is told why the job does not start, unless it has.
    wonder: Option<Instant>,
    copies: FuturesUnordered<BoxFuture<'c, Copied>>,
    copied: Vec<(Epoch, LogStream, u64)>,
    interrupts: u32,
}

/// What [`Follower::run`] waits for.
enum Event {
    Line(Option<FollowLine>),
    Copied(Copied),
    Interrupt,
    HeadStartOver,
    PatienceOver,
}

impl<'c> Follower<'c> {
    /// Follows `job`, which was just submitted.
    pub(crate) fn new(client: &'c Client, output: Output, job: Submitted, (pace, talk): (Pace, Talk)) -> Self {
        Self {
            client,
            output,
            job: JobRef::of(job.id),
            name: job.name(),
            pace,
            talk,
            epoch: Epoch(0),
            head_start: None,
            wonder: (!output.is_quiet()).then(|| Instant::now() + PATIENCE),
            copies: FuturesUnordered::new(),
            copied: Vec::new(),
            interrupts: 0,
        }
    }

    /// Follows to the end, as told by `lines`. A Ctrl-C or SIGTERM cancels the job, a second one leaves.
    ///
    /// # Errors
    /// [`Failure`] if the daemon goes away, nobody reads our output, or a part of the output can't be had.
    pub(crate) async fn run(mut self, mut lines: Lines) -> Result<Followed, Failure> {
        let fault = |error: std::io::Error| Failure::of(Kind::Internal, &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
        let ended = loop {
            match self.event(&mut lines, [&mut interrupt, &mut terminate]).await? {
                Event::Line(Some(FollowLine::Change(change))) => self.on_change(&change)?,
                Event::Line(Some(FollowLine::Ended(ended))) => break Some(*ended),
                Event::Line(Some(FollowLine::Submitted(_))) => {}
                Event::Line(None) => break None,
                Event::Copied(copied) => self.on_copied(copied).await?,
                Event::Interrupt if self.interrupts > 0 => return Ok(Followed::Left),
                Event::Interrupt => self.on_interrupt().await?,
                Event::HeadStartOver => self.follow_output(),
                Event::PatienceOver => self.say_why().await,
            }
        };
        while let Some(copied) = self.copies.next().await {
            self.on_copied(copied).await?;
        }
        let ended = match ended {
            Some(ended) => ended,
            // The news broke off; this waits for the rest, if there is a daemon to tell it.
            None => {
                let detail = self.client.get(&format!("/v1/jobs/{}/wait", self.job)).await?;
                Ended { detail, stdout: None, stderr: None }
            }
        };
        self.complete(&ended).await?;
        Ok(Followed::Ended(Box::new(ended.detail)))
    }

    async fn event(
        &mut self,
        lines: &mut Lines,
        [interrupt, terminate]: [&mut Signal; 2],
    ) -> Result<Event, ClientError> {
        let until = async |due: Option<Instant>| match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        };
        let head_start = until(self.head_start.map(|since| since + HEAD_START));
        let patience = until(self.wonder);
        tokio::select! {
            biased;
            Some(()) = interrupt.recv() => Ok(Event::Interrupt),
            Some(()) = terminate.recv() => Ok(Event::Interrupt),
            line = lines.next() => Ok(Event::Line(line?)),
            Some(copied) = self.copies.next() => Ok(Event::Copied(copied)),
            () = head_start => Ok(Event::HeadStartOver),
            () = patience => Ok(Event::PatienceOver),
        }
    }

    fn on_change(&mut self, change: &Change) -> Result<(), Failure> {
        if self.output.is_json() {
            self.output.line(&Line::Change(change))?;
        } else if self.talk == Talk::Lines {
            let what = words::happened(change.cause, change.state, change.node.as_ref());
            note(&format!("job {}: {what}", self.name));
        }
        if change.state == JobState::Running {
            self.wonder = None;
        }
        if change.state == JobState::Running && change.epoch > self.epoch {
            // What the attempt before it wrote in its short life is not told with the end.
            self.follow_output();
            self.epoch = change.epoch;
            self.head_start = Some(Instant::now());
        }
        Ok(())
    }

    /// Says once why the job waits, if the node knows a reason.
    async fn say_why(&mut self) {
        self.wonder = None;
        // Whoever can't be asked has nothing to add; the job is followed all the same.
        let explanation = self.client.get::<Explanation>(&format!("/v1/jobs/{}/explain", self.job)).await;
        let explanation = explanation.ok();
        if let Some(why) = explanation.as_ref().and_then(explain::brief) {
            note(&format!("job {} {why}", self.name));
        }
        let lacks_room = |reason: &Reason| matches!(reason.kind.as_str(), "no_slot" | "no_room");
        if let Ok(outer) = std::env::var(JOB_VARIABLE)
            && explanation.is_some_and(|explanation| explanation.reasons.iter().any(lacks_room))
        {
            note(&format!(
                "hint: this runs inside job {outer}, which keeps its slot and resources meanwhile; if job {} needs them, \
                 queue it with `jobmesh submit` and let job {outer} end, or give the node more slots",
                self.name
            ));
        }
    }

    /// Copies the output of the last attempt from now on, if that has not begun.
    fn follow_output(&mut self) {
        if self.head_start.take().is_none() {
            return;
        }
        self.copy_from_start(self.epoch, LogStream::Stderr);
        if self.pace == Pace::Live {
            self.copy_from_start(self.epoch, LogStream::Stdout);
        }
    }

    fn copy_from_start(&self, epoch: Epoch, stream: LogStream) {
        let (client, to, job) = (self.client, self.output.into(), self.job.clone());
        let slice = Slice { stream, attempt: Some(epoch), offset: 0, follow: true };
        let copying = async move { Copied { epoch, stream, result: copy(client, to, &job, slice).await } };
        self.copies.push(copying.boxed());
    }

    async fn on_copied(&mut self, copied: Copied) -> Result<(), Failure> {
        match copied.result {
            Ok(bytes) => {
                self.copied.push((copied.epoch, copied.stream, bytes));
                Ok(())
            }
            // An attempt that vanished, or was given back, has left nothing.
            Err(failure) if failure.kind() == Kind::NotFound => Ok(()),
            Err(failure) if failure.kind() == Kind::Pipe => {
                // As in a shell: when the reader goes, the writer ends.
                let _ = self.cancel("nobody reads its output").await;
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn on_interrupt(&mut self) -> Result<(), Failure> {
        self.interrupts += 1;
        note(&format!("cancelling job {}; press Ctrl-C again to leave before it has ended", self.name));
        self.cancel("interrupted").await
    }

    async fn cancel(&self, reason: &str) -> Result<(), Failure> {
        let question = CancelRequest { reason: reason.to_owned(), force: false };
        let answer: Result<Done, ClientError> =
            self.client.post(&format!("/v1/jobs/{}/cancel", self.job), &question).await;
        match answer {
            Ok(_) => Ok(()),
            // It ended in this very moment.
            Err(ClientError::Refused(refused)) if Kind::from(refused.code) == Kind::Conflict => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Copies what the attempt wrote whose result counts and has not been copied yet.
    async fn complete(&self, ended: &Ended) -> Result<(), Failure> {
        let Some(last) = ended.detail.telling_attempt() else { return Ok(()) };
        let told = [(LogStream::Stdout, &ended.stdout), (LogStream::Stderr, &ended.stderr)];
        for ((stream, told), blob) in told.into_iter().zip([last.outputs.stdout, last.outputs.stderr]) {
            let Some(blob) = blob else { continue };
            let of_last = |copied: &&(Epoch, LogStream, u64)| (copied.0, copied.1) == (last.epoch, stream);
            let offset = self.copied.iter().find(of_last).map_or(0, |(_, _, bytes)| *bytes);
            if offset >= blob.size {
                continue;
            }
            let told = told.as_ref().filter(|_| offset == 0).and_then(|told| BASE64.decode(told.as_bytes()).ok());
            let copied = match told {
                Some(bytes) => self.write_told(last.epoch, stream, &bytes)?,
                None => {
                    let slice = Slice { stream, attempt: Some(last.epoch), offset, follow: false };
                    offset + copy(self.client, self.output.into(), &self.job, slice).await?
                }
            };
            if copied < blob.size {
                return Err(self.incomplete(stream, (copied, blob.size)));
            }
        }
        Ok(())
    }

    fn write_told(&self, epoch: Epoch, stream: LogStream, bytes: &[u8]) -> Result<u64, Failure> {
        let mut sink = Sink::new(self.output.into(), (stream, Some(epoch.0), None));
        sink.write(bytes)?;
        sink.finish()?;
        Ok(bytes.len() as u64)
    }

    fn incomplete(&self, stream: LogStream, (copied, size): (u64, u64)) -> Failure {
        let (name, word) = (&self.name, word(stream));
        let message = format!("only {copied} of the {size} bytes that job {name} wrote to {word} could be had");
        Failure::new(Kind::Internal, message).hint(format!("try again with `jobmesh logs {name} --{word}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_hold_one_line_or_a_bounded_piece() {
        assert_eq!(line_end(b"ab\ncd"), Some(3));
        assert_eq!(line_end(b"abcd"), None);
        assert_eq!(line_end(&vec![b'x'; LINE_BYTES_MAX + 5]), Some(LINE_BYTES_MAX));
    }

    #[test]
    fn a_slice_is_asked_for_in_full() {
        let slice = Slice { stream: LogStream::Stderr, attempt: Some(Epoch(2)), offset: 5, follow: true };
        assert_eq!(
            slice.path(&JobRef::of(jobmesh_protocol::JobId::from_bytes([0; 16]))),
            "/v1/jobs/00000000-0000-0000-0000-000000000000/logs?stream=stderr&offset=5&follow=true&attempt=2"
        );
    }
}
