//! `jobmesh run`: submit, follow, and end as the job does. Needs no set-up: starts a node if none runs.

use std::io::{self, IsTerminal as _};

use clap::Args;
use jobmesh::api::{Status, SubmitRequest, Submitted};
use jobmesh::daemon::{self, Started};

use crate::cli::follow::{Followed, Follower, Line, Pace, Talk};
use crate::cli::job_options::JobOptions;
use crate::cli::submit;
use crate::cli::{Context, Exit, Failure, Kind, note, up};
use crate::client::{Client, ClientError};

/// What `run` takes.
#[derive(Args, Debug)]
#[command(after_help = "Ctrl-C cancels the job; a second one leaves before it has ended.")]
pub(crate) struct Run {
    /// Queue the job and return at once
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    options: JobOptions,
}

impl Run {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        ensure_node(context, &client).await?;
        let pace = pace(context, &self.options);
        let spec = self.options.into_spec(&client).await?;
        let job: Submitted = client.post("/v1/jobs", &SubmitRequest { spec }).await?;
        if self.detach {
            return submit::show(context, &job);
        }
        if context.output.is_json() {
            context.output.line(&Line::Submitted(job))?;
        }
        let talk = if context.verbose > 0 || io::stderr().is_terminal() { Talk::Lines } else { Talk::Silent };
        let followed = Follower::new(&client, context.output, job, (pace, talk)).run().await;
        let followed = followed.map_err(|failure| kept(failure, &job))?;
        finish(context, &job, &followed, talk)
    }
}

fn pace(context: &Context, options: &JobOptions) -> Pace {
    let is_for_eyes = context.output.is_json() || io::stdout().is_terminal();
    if is_for_eyes || !options.may_retry() { Pace::Live } else { Pace::AtTheEnd }
}

fn finish(context: &Context, job: &Submitted, followed: &Followed, talk: Talk) -> Result<Exit, Failure> {
    let detail = match followed {
        Followed::Ended(detail) => detail,
        Followed::Left => {
            note(&format!("left; see what became of job {0} with `jobmesh show {0}`", job.number));
            return Ok(Exit::INTERRUPTED);
        }
    };
    if context.output.is_json() {
        context.output.line(&Line::Ended { job: &detail.job })?;
        return Ok(Exit::of_run(&detail.job));
    }
    let exit = Exit::of_run(&detail.job);
    // The job's own words explain a code of its own. Where it had no chance to speak, we do.
    let is_silent_failure = exit != Exit::OK && detail.job.exit.code.is_none();
    if let Some(message) = &detail.job.message
        && (is_silent_failure || talk == Talk::Lines)
    {
        note(&format!("job {}: {message}", job.number));
    }
    if is_silent_failure {
        note(&format!("job {} is {}; see `jobmesh show {}`", job.number, detail.job.state, job.number));
    }
    Ok(exit)
}

/// Says what becomes of the job if it is the node that went away.
fn kept(failure: Failure, job: &Submitted) -> Failure {
    match failure.kind() {
        Kind::Unreachable | Kind::Draining => {
            let number = job.number;
            failure.hint(format!("job {number} is kept; go on with `jobmesh up -d` and `jobmesh logs -f {number}`"))
        }
        Kind::Usage
        | Kind::NotFound
        | Kind::Conflict
        | Kind::InUse
        | Kind::PeerUnreachable
        | Kind::PeerRefused
        | Kind::Busy
        | Kind::DiskFull
        | Kind::Timeout
        | Kind::Config
        | Kind::BadReceipt
        | Kind::File
        | Kind::Internal
        | Kind::Pipe => failure,
    }
}

/// Starts a node in the background if none answers.
async fn ensure_node(context: &Context, client: &Client) -> Result<(), Failure> {
    match client.get::<Status>("/v1/status").await {
        Ok(_) => Ok(()),
        Err(ClientError::Unreachable { .. }) => {
            let started = daemon::start_detached(&context.home).await.map_err(|error| up::not_started(&error))?;
            if started == Started::Now {
                note("started a node in the background; stop it with `jobmesh down`");
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
