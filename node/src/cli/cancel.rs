//! `jobmesh cancel`: stop jobs, wherever they run.

use clap::Args;
use jobmesh::api::{Action, CancelRequest};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Cancel {
    #[command(flatten)]
    target: Target,
    /// Why, for whoever looks at the job later
    #[arg(long, default_value = "cancelled by the user")]
    reason: String,
    /// Leave them no time to end by themselves
    #[arg(long, short)]
    force: bool,
}

impl Cancel {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "cancel",
            only: Only::Live,
            done: "is being cancelled".to_owned(),
            same: "was being cancelled, or had ended, already",
            action: Action::Cancel(CancelRequest { reason: self.reason, force: self.force }),
        };
        act(context, self.target, deed).await
    }
}
