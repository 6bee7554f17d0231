//! `jobmesh move`: put jobs into another queue.

use clap::Args;
use jobmesh::api::{Action, MoveRequest};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Move {
    #[command(flatten)]
    target: Target,
    /// The queue to put them into
    #[arg(long = "to", value_name = "QUEUE")]
    to: String,
}

impl Move {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "move",
            only: Only::Live,
            done: format!("is in the queue {}", self.to),
            same: "is in that queue already",
            action: Action::Move(MoveRequest { queue: self.to }),
        };
        act(context, self.target, deed).await
    }
}
