//! `jobmesh run`: submit, follow, and end as the job does. Needs no set-up: starts a node if none runs.
//!
//! One question does it all: the submit is answered with what becomes of the job until it ends. A short job is over
//! before anything else would have been asked.

use std::io::{self, IsTerminal as _};

use clap::Args;
use jobmesh::api::{FollowLine, JobDetail, Submitted};
use jobmesh::daemon::{self, Started};
use jobmesh_protocol::Submission;
use jobmesh_protocol::task::Task;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::follow::{Followed, Follower, Line, Pace, Talk};
use crate::cli::job_options::{JobOptions, Script};
use crate::cli::submit;
use crate::cli::{Context, Exit, Failure, Kind, note, up};
use crate::client::{Client, ClientError, Lines};

#[derive(Args, Debug)]
#[command(
    after_help = "Ctrl-C or SIGTERM cancels the job; a second one leaves before it has ended. If the terminal is \
                        closed, the job goes on. Starts a node if none runs."
)]
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
        if !self.detach {
            return follow(context, &client, (self.options, None)).await;
        }
        let submission = prepare(context, &client, (self.options, None)).await?;
        let job: Submitted = post(context, &client, &submission).await?;
        submit::show(context, &job)
    }
}

/// Submits, follows the job to its end, and ends as it does.
pub(crate) async fn follow(
    context: &Context,
    client: &Client,
    what: (JobOptions, Option<Script>),
) -> Result<Exit, Failure> {
    let submission = prepare(context, client, what).await?;
    let pace = pace(context, &submission);
    let mut lines = post_and_follow(context, client, &submission).await?;
    let Some(FollowLine::Submitted(job)) = lines.next().await? else {
        let failure = Failure::new(Kind::Internal, "the node does not say which job it has queued");
        return Err(failure.hint("`jobmesh ls` shows whether it has"));
    };
    if context.output.is_json() {
        context.output.line(&Line::Submitted(job))?;
    }
    if job.is_merged && !context.output.is_quiet() {
        note(&format!("merged into job {}, which has the same key; this is its output", job.name()));
    } else if !job.is_new && !context.output.is_quiet() {
        note(&format!(
            "job {} of the same key is there already; nothing new was queued, and this is its output",
            job.name()
        ));
    }
    let is_talkative = !context.output.is_quiet() && (context.verbose > 0 || io::stderr().is_terminal());
    let talk = if is_talkative { Talk::Lines } else { Talk::Silent };
    let follower = Follower::new(client, context.output, job, (pace, talk));
    let followed = follower.run(lines).await.map_err(|failure| kept(failure, &job))?;
    finish(context, &job, &followed, talk)
}

async fn prepare(
    context: &Context,
    client: &Client,
    (options, script): (JobOptions, Option<Script>),
) -> Result<Submission, Failure> {
    if options.asks_first() && !client.is_answered().await {
        start_node(context).await?;
    }
    options.into_submission(client, script.as_ref()).await
}

fn pace(context: &Context, submission: &Submission) -> Pace {
    let is_for_eyes = context.output.is_json() || io::stdout().is_terminal();
    if is_for_eyes || submission.spec.retry.max_attempts <= 1 { Pace::Live } else { Pace::AtTheEnd }
}

fn finish(context: &Context, job: &Submitted, followed: &Followed, talk: Talk) -> Result<Exit, Failure> {
    let name = job.name();
    let detail = match followed {
        Followed::Ended(detail) => detail,
        Followed::Left => {
            note(&format!("left; see what became of job {name} with `jobmesh show {name}`"));
            return Ok(Exit::INTERRUPTED);
        }
    };
    if context.output.is_json() {
        context.output.line(&Line::Ended { job: &detail.job })?;
        return Ok(Exit::of_run(&detail.job));
    }
    let exit = Exit::of_run(&detail.job);
    // The job's own words explain a code of its own. Where the code is ours, we do.
    let is_silent_failure = exit != Exit::OK && !exit.is_of_job(&detail.job);
    let is_interpreter_heard = exit != Exit::OK && is_interpreted(&detail.spec.task);
    if let Some(said) = last_words(detail)
        && (is_silent_failure || is_interpreter_heard || talk == Talk::Lines)
    {
        note(&format!("job {name}: {said}"));
    }
    if is_silent_failure {
        note(&format!("job {name} is {}; see `jobmesh show {name}`", detail.job.state));
    }
    Ok(exit)
}

/// Whether an interpreter ran it. That has an exit code as a command has one, but what it says of a fault, such as where
/// the syntax is wrong, is in the outcome and not in what the job wrote.
const fn is_interpreted(task: &Task) -> bool {
    matches!(task, Task::Lua(_) | Task::Wasm(_))
}

/// What is to be said about the end of a job: what its history has on that, which names what had to be killed.
fn last_words(detail: &JobDetail) -> Option<&str> {
    let noted = detail.events.last().filter(|event| event.state.is_final()).and_then(|event| event.note.as_deref());
    noted.or(detail.job.message.as_deref())
}

/// Says what becomes of the job if it is the node that went away.
fn kept(failure: Failure, job: &Submitted) -> Failure {
    if matches!(failure.kind(), Kind::Unreachable | Kind::Draining) {
        let name = job.name();
        return failure.hint(format!("job {name} is kept; go on with `jobmesh up -d` and `jobmesh logs -f {name}`"));
    }
    failure
}

async fn post<Q: Serialize, T: DeserializeOwned>(
    context: &Context,
    client: &Client,
    question: &Q,
) -> Result<T, Failure> {
    match client.post("/v1/jobs", question).await {
        Err(ClientError::Unreachable { .. }) => {
            start_node(context).await?;
            Ok(client.post("/v1/jobs", question).await?)
        }
        answer => Ok(answer?),
    }
}

async fn post_and_follow<Q: Serialize>(context: &Context, client: &Client, question: &Q) -> Result<Lines, Failure> {
    let path = "/v1/jobs?follow=true";
    match client.post_and_follow(path, question).await {
        Err(ClientError::Unreachable { .. }) => {
            start_node(context).await?;
            Ok(client.post_and_follow(path, question).await?)
        }
        answer => Ok(answer?),
    }
}

/// Starts a node in the background, where none answers.
async fn start_node(context: &Context) -> Result<(), Failure> {
    let started = daemon::start_detached(&context.home).await.map_err(|error| up::not_started(&error))?;
    if started == Started::Now && !context.output.is_quiet() {
        note("started a node in the background; stop it with `jobmesh down`");
    }
    Ok(())
}
