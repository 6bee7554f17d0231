//! `jobmesh wait`: until all the jobs named have ended; ends as badly as the worst of them.

use std::time::Instant;

use clap::Args;
use jobmesh::api::{JobDetail, JobView};
use jobmesh_protocol::DurationMillis;
use serde::Serialize;

use crate::cli::time_words::{now, parse_length};
use crate::cli::{Context, Exit, Failure, JobRef, ls};

/// What `wait` takes.
#[derive(Args, Debug)]
#[command(after_help = "Ends with 1 if a job was discarded, 3 if one was cancelled, 4 if one was skipped, \
                        124 if the time is over before all have ended.")]
pub(crate) struct Wait {
    /// The jobs: numbers, ids, or `last`
    #[arg(required = true)]
    jobs: Vec<JobRef>,
    /// Wait no longer than this in all [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_length)]
    timeout: Option<DurationMillis>,
}

/// The jobs that were waited for, in the order in which they were named.
#[derive(Serialize)]
struct Waited {
    jobs: Vec<JobView>,
}

impl Wait {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let started = Instant::now();
        let mut jobs = Vec::with_capacity(self.jobs.len());
        for job in &self.jobs {
            let query = self.timeout.map_or_else(String::new, |limit| format!("?timeout_ms={}", left(limit, started)));
            let detail: JobDetail = client.get(&format!("/v1/jobs/{job}/wait{query}")).await?;
            jobs.push(detail.job);
        }
        let exit = jobs.iter().map(Exit::of_wait).fold(Exit::OK, Exit::worse);
        let waited = Waited { jobs };
        context.output.show(&waited, |colour| ls::table(&waited.jobs, now(), colour))?;
        Ok(exit)
    }
}

/// How much of `limit` is left.
fn left(limit: DurationMillis, started: Instant) -> u64 {
    let gone = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    limit.0.saturating_sub(gone)
}
