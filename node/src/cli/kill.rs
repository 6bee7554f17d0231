//! `jobmesh kill`: stop jobs at once.

use clap::Args;
use jobmesh::api::{Action, CancelRequest};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::{Context, Exit, Failure};

#[derive(Args, Debug)]
pub(crate) struct Kill {
    #[command(flatten)]
    target: Target,
    /// Why, for whoever looks at the job later
    #[arg(long, default_value = "killed by the user")]
    reason: String,
}

impl Kill {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let deed = Deed {
            verb: "kill",
            only: Only::Live,
            done: "is being killed".to_owned(),
            same: "had ended already",
            action: Action::Cancel(CancelRequest { reason: self.reason, force: true }),
        };
        act(context, self.target, deed).await
    }
}
