//! `jobmesh dead`: the jobs that failed for good and are kept for someone to look at.

use clap::{Args, Subcommand};
use jobmesh::api::{JobList, Pick};
use jobmesh_protocol::JobState;

use crate::cli::act::Target;
use crate::cli::selector::Selector;
use crate::cli::{Context, Exit, Failure, ls, retry};

#[derive(Args, Debug)]
pub(crate) struct Dead {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List them, newest first
    Ls(Which),
    /// Give them another try
    Retry {
        #[command(flatten)]
        target: Target,
        /// All of them, without asking
        #[arg(long, short)]
        all: bool,
    },
}

#[derive(Args, Debug)]
struct Which {
    #[command(flatten)]
    selector: Selector,
}

impl Dead {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.action {
            Action::Ls(Which { mut selector }) => {
                selector.filter.states = vec![JobState::Discarded];
                let list: JobList = context.client()?.post("/v1/select", &selector.request(None)).await?;
                ls::show(context, &list, "No job has failed for good.\n")?;
                Ok(Exit::OK)
            }
            Action::Retry { mut target, all } => {
                target.selector.filter.states = vec![JobState::Discarded];
                if all {
                    target.selector.jobs.push(Pick::All);
                    target.yes = true;
                }
                retry::retry(context, target).await
            }
        }
    }
}
