//! `jobmesh close`: take no more tasks into open groups.

use clap::Args;
use jobmesh::api::Action;

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Close {
    #[command(flatten)]
    target: Target,
}

impl Close {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "close",
            only: Only::Live,
            done: "takes no more tasks".to_owned(),
            same: "takes no more tasks already",
            action: Action::Close,
        };
        act(context, self.target, deed).await
    }
}
