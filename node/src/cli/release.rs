//! `jobmesh release`: let jobs that are held go on.

use clap::Args;
use jobmesh::api::Action;

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Release {
    #[command(flatten)]
    target: Target,
}

impl Release {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "release",
            only: Only::Live,
            done: "goes on".to_owned(),
            same: "was not held",
            action: Action::Release,
        };
        act(context, self.target, deed).await
    }
}
