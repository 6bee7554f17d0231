//! `jobmesh cancel`: stop jobs, wherever they run.

use clap::Args;
use jobmesh::api::{CancelRequest, Done};
use serde::Serialize;

use crate::cli::{Context, Exit, Failure, JobRef};

/// What `cancel` takes.
#[derive(Args, Debug)]
pub(crate) struct Cancel {
    /// The jobs: numbers, ids, or `last`
    #[arg(required = true)]
    jobs: Vec<JobRef>,
    /// Why, for whoever looks at the job later
    #[arg(long, default_value = "cancelled by the user")]
    reason: String,
}

/// What became of each job that was named.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answers {
    jobs: Vec<JobAnswer>,
}

#[derive(Debug, Serialize)]
struct JobAnswer {
    job: JobRef,
    changed: bool,
}

impl Answers {
    /// Takes what the daemon said of `job`.
    pub(crate) fn push(&mut self, job: JobRef, done: Done) {
        self.jobs.push(JobAnswer { job, changed: done.changed });
    }

    /// Shows one line per job.
    pub(crate) fn show(&self, context: &Context, (yes, no): (&str, &str)) -> Result<(), Failure> {
        let line = |answer: &JobAnswer| format!("job {} {}\n", answer.job, if answer.changed { yes } else { no });
        context.output.show(self, |_| self.jobs.iter().map(line).collect())
    }
}

impl Cancel {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let question = CancelRequest { reason: self.reason };
        let mut answers = Answers::default();
        let mut refused = None;
        for job in self.jobs {
            // One job that can't be stopped must not leave those after it running.
            match client.post(&format!("/v1/jobs/{job}/cancel"), &question).await {
                Ok(done) => answers.push(job, done),
                Err(error) => refused = refused.or(Some(Failure::from(error))),
            }
        }
        if let (true, Some(failure)) = (answers.jobs.is_empty() || context.output.is_json(), &refused) {
            return Err(failure.clone());
        }
        answers.show(context, ("is being cancelled", "was being cancelled, or had ended, already"))?;
        refused.map_or(Ok(Exit::OK), Err)
    }
}
