//! `jobmesh retry`: another try for jobs that have ended.

use clap::Args;

use crate::cli::cancel::Answers;
use crate::cli::{Context, Exit, Failure, JobRef};

/// What `retry` takes.
#[derive(Args, Debug)]
pub(crate) struct Retry {
    /// The jobs: numbers, ids, or `last`
    #[arg(required = true)]
    jobs: Vec<JobRef>,
}

impl Retry {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let mut answers = Answers::default();
        for job in self.jobs {
            let done = client.post(&format!("/v1/jobs/{job}/retry"), &serde_json::json!({})).await?;
            answers.push(job, done);
        }
        answers.show(context, ("is queued again", "is queued already"))?;
        Ok(Exit::OK)
    }
}
