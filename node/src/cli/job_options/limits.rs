//! How long a job may take, how much it may write, and how long it is kept.

use clap::Args;
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::requirement::parse_size;

use super::Draft;
use crate::cli::time_words::parse_length;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Limits")]
pub(super) struct LimitsOptions {
    /// Stop an attempt that runs longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    timeout: Option<DurationMillis>,
    /// How long it may take to end by itself before it is killed [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    kill_grace: Option<DurationMillis>,
    /// Stop an attempt that says nothing by `jobmesh task` for so long
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    heartbeat: Option<DurationMillis>,
    /// Stop it when it has written more than this, such as 10M [default: the node's own limit]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    log_limit: Option<u64>,
    /// How long it is kept after its end [default: up to the node, by how it ended]
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    keep: Option<DurationMillis>,
}

impl LimitsOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) {
        let spec = &mut draft.submission.spec;
        spec.timeout_ms = self.timeout.or(spec.timeout_ms);
        spec.kill_grace_ms = self.kill_grace.unwrap_or(spec.kill_grace_ms);
        spec.heartbeat_ms = self.heartbeat.or(spec.heartbeat_ms);
        spec.log_bytes_max = self.log_limit.or(spec.log_bytes_max);
        spec.keep_ms = self.keep.or(spec.keep_ms);
    }
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "write it as a size such as 10M or 1GiB".to_owned())
}
