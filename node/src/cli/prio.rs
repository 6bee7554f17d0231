//! `jobmesh prio`: another place for jobs among those that wait.

use clap::Args;
use jobmesh::api::{Action, PrioritizeRequest};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Prio {
    /// Higher runs first
    #[arg(value_name = "N", allow_negative_numbers = true)]
    priority: i32,
    #[command(flatten)]
    target: Target,
}

impl Prio {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "prioritize",
            only: Only::Live,
            done: format!("has the priority {}", self.priority),
            same: "has that priority already",
            action: Action::Prioritize(PrioritizeRequest { priority: self.priority }),
        };
        act(context, self.target, deed).await
    }
}
