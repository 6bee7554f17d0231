//! `jobmesh hold`: let jobs wait until they are released.

use clap::Args;
use jobmesh::api::{Action, HoldRequest};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Hold {
    #[command(flatten)]
    target: Target,
    /// Why, for whoever looks at the job later
    #[arg(long, default_value = "held by the user")]
    reason: String,
}

impl Hold {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "hold",
            only: Only::Live,
            done: "is held; `jobmesh release` lets it go on".to_owned(),
            same: "is held already",
            action: Action::Hold(HoldRequest { reason: self.reason }),
        };
        act(context, self.target, deed).await
    }
}
