//! `jobmesh __complete`: what a shell offers when a person presses the tab key. Its own errors are nobody's business
//! there, so it writes what it knows and is silent otherwise.

use clap::{Args, ValueEnum};
use jobmesh::api::{JobList, Queues, Schedules, SelectRequest, Types};

use crate::cli::{Context, Exit, Failure, clean, words};

/// Most jobs that are offered: what one can still look over.
const OFFERED_MAX: u32 = 100;

/// Longest word about a name: what fits beside it.
const ABOUT_CHARS_MAX: usize = 60;

#[derive(Args, Debug)]
pub(crate) struct Complete {
    kind: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Jobs,
    Queues,
    Schedules,
    Types,
}

impl Complete {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        // A shell waits for this: no node, no names.
        let names = self.names(context).await.unwrap_or_default();
        let line = |(name, about): &(String, String)| {
            let about: String = clean(about).replace('\n', " ").chars().take(ABOUT_CHARS_MAX).collect();
            format!("{name}\t{about}\n")
        };
        let lines: String = names.iter().map(line).collect();
        context.output.bytes(lines.as_bytes())?;
        Ok(Exit::OK)
    }

    async fn names(&self, context: &Context) -> Result<Vec<(String, String)>, Failure> {
        let client = context.client()?;
        match self.kind {
            Kind::Jobs => {
                let request = SelectRequest { limit: Some(OFFERED_MAX), ..SelectRequest::default() };
                let list: JobList = client.post("/v1/select", &request).await?;
                let about = |job: &jobmesh::api::JobView| format!("{} {}", job.state, words::title(job));
                Ok(list.jobs.iter().map(|job| (job.label(), about(job))).collect())
            }
            Kind::Queues => {
                let queues: Queues = client.get("/v1/queues").await?;
                Ok(queues.queues.into_iter().map(|queue| (queue.name, queue.mode.word().to_owned())).collect())
            }
            Kind::Schedules => {
                let schedules: Schedules = client.get("/v1/schedules").await?;
                Ok(schedules.schedules.into_iter().map(|view| (view.name, view.words)).collect())
            }
            Kind::Types => {
                let types: Types = client.get("/v1/types").await?;
                Ok(types.types.into_iter().map(|view| (view.name, view.description.unwrap_or_default())).collect())
            }
        }
    }
}
