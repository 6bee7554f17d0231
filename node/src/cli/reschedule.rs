//! `jobmesh reschedule` and `jobmesh snooze`: let jobs that have not started do so at another time.

use clap::Args;
use jobmesh::api::{Action, RescheduleRequest};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use crate::cli::act::{Deed, Only, Target, act};
use crate::cli::selector::Selector;
use crate::cli::time_words::{now, parse_length, parse_time, relative};
use crate::cli::{Context, Exit, Failure, JobRef};

#[derive(Args, Debug)]
pub(crate) struct Reschedule {
    #[command(flatten)]
    target: Target,
    /// When: now, 08:00, tomorrow 08:00, 2026-03-01 08:00, 2026-03-01T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    at: UnixMillis,
}

impl Reschedule {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        put_off(context, self.target, self.at).await
    }
}

#[derive(Args, Debug)]
pub(crate) struct Snooze {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// For how long, from now
    #[arg(value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    time: DurationMillis,
}

impl Snooze {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let selector = Selector { jobs: vec![self.job.pick()], ..Selector::default() };
        put_off(context, Target { selector, yes: true }, now().plus(self.time)).await
    }
}

async fn put_off(context: &Context, target: Target, at: UnixMillis) -> Result<Exit, Failure> {
    let now = now();
    let start = if at <= now { "now".to_owned() } else { format!("{} ({})", relative(now, at), at.to_rfc3339()) };
    let deed = Deed {
        verb: "reschedule",
        only: Only::Live,
        done: format!("may start {start}"),
        same: "starts then already",
        action: Action::Reschedule(RescheduleRequest { at }),
    };
    act(context, target, deed).await
}
