//! `jobmesh result`: what a job said its result is, byte for byte.

use clap::Args;

use crate::cli::{Context, Exit, Failure, JobRef};

#[derive(Args, Debug)]
pub(crate) struct JobResult {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// Which attempt [default: the last one]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

impl JobResult {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let attempt = self.attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
        let mut answer = context.client()?.bytes(&format!("/v1/jobs/{}/result{attempt}", self.job)).await?;
        while let Some(piece) = answer.next().await? {
            context.output.bytes(&piece)?;
        }
        Ok(Exit::OK)
    }
}
