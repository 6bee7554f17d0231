//! When a job may start, and before which others.

use clap::Args;
use jobmesh_protocol::submission::Start;
use jobmesh_protocol::{DurationMillis, UnixMillis};

use super::Draft;
use crate::cli::time_words::{parse_length, parse_time};

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "When")]
pub(super) struct WhenOptions {
    /// The queue it waits in [default: default]
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    queue: Option<String>,
    /// Higher runs first [default: 0]
    #[arg(long, short, alias = "prio", value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Start no sooner than after this time
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true, conflicts_with = "at")]
    delay: Option<DurationMillis>,
    /// Start no sooner than then: 08:00, tomorrow 08:00, 2026-03-01 08:00, 2026-03-01T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    at: Option<UnixMillis>,
    /// Skip it if no attempt has started so long after it could have: after its submission, its time, or the end of
    /// what it waits for
    #[arg(long, value_name = "TIME", value_parser = parse_some_length, allow_hyphen_values = true)]
    start_within: Option<DurationMillis>,
    /// Stop or skip it if it is not over by then
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    deadline: Option<UnixMillis>,
    /// Let it wait until `jobmesh release`
    #[arg(long)]
    hold: bool,
}

impl WhenOptions {
    pub(super) fn lay_over(self, draft: &mut Draft) {
        let submission = &mut draft.submission;
        let spec = &mut submission.spec;
        spec.priority = self.priority.unwrap_or(spec.priority);
        if let Some(queue) = self.queue {
            spec.queue = queue;
        }
        if let Some(start) = self.at.map(Start::At).or(self.delay.map(Start::After)) {
            submission.start = start;
        }
        submission.start_within_ms = self.start_within.or(submission.start_within_ms);
        submission.deadline = self.deadline.or(submission.deadline);
        submission.held |= self.hold;
    }
}

fn parse_some_length(text: &str) -> Result<DurationMillis, String> {
    match parse_length(text)? {
        DurationMillis(0) => Err("nothing starts within no time; write one such as 10m".to_owned()),
        length => Ok(length),
    }
}
