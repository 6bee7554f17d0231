//! `jobmesh rm`: delete jobs that have ended, with their output.

use clap::Args;
use jobmesh::api::Action;

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Rm {
    #[command(flatten)]
    target: Target,
}

impl Rm {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "delete",
            only: Only::Ended,
            done: "is deleted".to_owned(),
            same: "is deleted already",
            action: Action::Remove,
        };
        act(context, self.target, deed).await
    }
}
