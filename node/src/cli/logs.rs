//! `jobmesh logs`: what a job wrote, byte for byte, wherever it ran.

mod group;

use std::sync::{Mutex, PoisonError};

use clap::Args;
use futures::future::try_join;
use jobmesh::api::{JobDetail, JobView, LogStream};
use jobmesh_protocol::Epoch;

use crate::cli::follow::{Place, Slice, copy};
use crate::cli::output::ListDocument;
use crate::cli::{Context, Exit, Failure, JobRef, Kind};
use crate::client::Client;
use group::Tasks;

#[derive(Args, Debug)]
#[command(
    after_help = "Standard output of the job goes to ours, its standard error to ours. Of a group, what its tasks \
                        wrote is written line by line, with the task before each. With -f, -o json and -o yaml write \
                        one JSON line each, else one document."
)]
pub(crate) struct Logs {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// Go on until the attempt ends
    #[arg(long, short)]
    follow: bool,
    /// Only standard output
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only standard error
    #[arg(long)]
    stderr: bool,
    /// Which attempt [default: the last one]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

impl Logs {
    /// The same, going on until the attempt ends.
    pub(crate) fn followed(self) -> Self {
        Self { follow: true, ..self }
    }

    fn streams(&self) -> Vec<LogStream> {
        match (self.stdout, self.stderr) {
            (true, _) => vec![LogStream::Stdout],
            (false, true) => vec![LogStream::Stderr],
            (false, false) => vec![LogStream::Stdout, LogStream::Stderr],
        }
    }

    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        // Before the look at the job, so that no task begins unheard.
        let events = if self.follow { Some(client.events("/v1/events").await?) } else { None };
        let job = client.get::<JobDetail>(&format!("/v1/jobs/{}", self.job)).await?.job;
        let document = (context.output.is_document() && !self.follow)
            .then(|| Mutex::new(ListDocument::new(context.output, "lines")));
        let to = Place { output: context.output, document: document.as_ref() };
        if job.tasks.is_some() {
            let streams = self.streams();
            let attempt = self.attempt.map(Epoch);
            let tasks = Tasks { client: &client, to, group: &job, streams: &streams, attempt };
            match events {
                Some(events) => tasks.follow(events).await?,
                None => tasks.write().await?,
            }
        } else {
            drop(events);
            self.copy(&client, to, &job).await?;
        }
        if let Some(document) = document {
            document.into_inner().unwrap_or_else(PoisonError::into_inner).end()?;
        }
        Ok(Exit::OK)
    }

    /// Copies what a single job wrote.
    async fn copy(&self, client: &Client, to: Place<'_>, job: &JobView) -> Result<(), Failure> {
        // `last` must not become another job on the way.
        let job = JobRef::of(job.id);
        let slice = |stream| Slice { stream, attempt: self.attempt.map(Epoch), offset: 0, follow: self.follow };
        let stream = |stream| copy(client, to, &job, slice(stream));
        if self.stderr {
            stream(LogStream::Stderr).await?;
        } else if self.stdout {
            stream(LogStream::Stdout).await?;
        } else {
            let stderr = async {
                match stream(LogStream::Stderr).await {
                    // There may be one output without the other; if there is none at all, stdout says so.
                    Err(failure) if failure.kind() == Kind::NotFound => Ok(0),
                    result => result,
                }
            };
            try_join(stream(LogStream::Stdout), stderr).await?;
        }
        Ok(())
    }
}
