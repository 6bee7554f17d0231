//! `jobmesh logs`: what a job wrote, byte for byte, wherever it ran.

use clap::Args;
use futures::future::try_join;
use jobmesh::api::LogStream;
use jobmesh_protocol::Epoch;

use crate::cli::follow::{Slice, copy};
use crate::cli::{Context, Exit, Failure, JobRef, Kind};

// What `logs` takes.
#[derive(Args, Debug)]
#[command(after_help = "Standard output of the job goes to ours, its standard error to ours.")]
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

    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let slice = |stream| Slice { stream, attempt: self.attempt.map(Epoch), offset: 0, follow: self.follow };
        let stream = |stream| copy(&client, context.output, &self.job, slice(stream));
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
        Ok(Exit::OK)
    }
}
