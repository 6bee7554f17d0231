//! `jobmesh retry`: another try for jobs that have ended. Of a group, for the tasks that did not complete.

use clap::Args;
use jobmesh::api::{Action, Pick};
use jobmesh_protocol::JobState;

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
#[command(after_help = "Of an array or a group, the tasks that did not complete are tried again.")]
pub(crate) struct Retry {
    #[command(flatten)]
    target: Target,
    /// Only those that failed for good, the dead letters
    #[arg(long, alias = "failed")]
    dead: bool,
    /// All that are like that, without asking
    #[arg(long, short)]
    all: bool,
}

impl Retry {
    pub(crate) async fn run(mut self, context: &Context) -> Result<Exit, Failure> {
        if self.dead {
            self.target.selector.filter.states.push(JobState::Discarded);
        }
        if self.all {
            self.target.selector.jobs.push(Pick::All);
            self.target.yes = true;
        }
        retry(context, self.target).await
    }
}

/// Gives jobs another try.
pub(crate) async fn retry(context: &Context, target: Target) -> Result<Exit, Failure> {
    let deed = Deed {
        verb: "retry",
        only: Only::Failed,
        done: "is queued again".to_owned(),
        same: "is queued already",
        action: Action::Retry,
    };
    act(context, target, deed).await
}
