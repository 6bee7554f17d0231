//! `jobmesh prune`: delete jobs that have been kept long enough.

use clap::Args;
use jobmesh::api::{PruneRequest, Pruned};
use jobmesh_protocol::{DurationMillis, UnixMillis};

use crate::cli::time_words::{length, now, parse_length};
use crate::cli::{Context, Exit, Failure, Kind};

#[derive(Args, Debug)]
#[command(after_help = "The node does this by itself every now and then, by `[retention]` in config.toml.")]
pub(crate) struct Prune {
    /// Delete all that ended longer ago than this, whatever the configuration says
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    older: Option<DurationMillis>,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

impl Prune {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        if let (Some(older), false) = (self.older, self.yes) {
            let message = format!("this would delete every job that ended more than {} ago", length(older));
            return Err(Failure::new(Kind::Usage, message).hint("add --yes if that is meant"));
        }
        let ended_before = self.older.map(|older| UnixMillis(now().0.saturating_sub(older.0)));
        let pruned: Pruned = context.client()?.post("/v1/prune", &PruneRequest { ended_before }).await?;
        context.output.show(&pruned, |_| match pruned.jobs {
            0 => "Nothing has been kept long enough to be deleted.\n".to_owned(),
            1 => "1 job was deleted.\n".to_owned(),
            jobs => format!("{jobs} jobs were deleted.\n"),
        })?;
        Ok(Exit::OK)
    }
}
