//! `jobmesh submit`: queue a job and return.

use std::io::{self, IsTerminal as _};

use clap::Args;
use jobmesh::api::{SubmitRequest, Submitted};

use crate::cli::job_options::JobOptions;
use crate::cli::{Context, Exit, Failure, note};

/// What `submit` takes.
#[derive(Args, Debug)]
#[command(after_help = "Writes the number of the job. When it has done so, the job survives a power cut.")]
pub(crate) struct Submit {
    #[command(flatten)]
    options: JobOptions,
}

impl Submit {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let spec = self.options.into_spec(&client).await?;
        let job: Submitted = client.post("/v1/jobs", &SubmitRequest { spec }).await?;
        show(context, &job)
    }
}

/// Shows a job that was just submitted: its number, so that a script can take it as it is.
pub(crate) fn show(context: &Context, job: &Submitted) -> Result<Exit, Failure> {
    context.output.show(job, |_| format!("{}\n", job.number))?;
    if !context.output.is_json() && io::stdout().is_terminal() {
        note(&format!("queued; follow it with `jobmesh logs -f {}`", job.number));
    }
    Ok(Exit::OK)
}
