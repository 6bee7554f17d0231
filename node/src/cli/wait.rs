//! `jobmesh wait`: until all the jobs that are meant have ended; ends as badly as the worst of them.

use clap::{Args, ValueEnum};
use jobmesh::api::{JobList, JobView, WaitRequest};
use jobmesh_protocol::DurationMillis;

use crate::cli::selector::Selector;
use crate::cli::time_words::parse_length;
use crate::cli::{Context, Exit, Failure, ls};

#[derive(Args, Debug)]
#[command(after_help = "Ends with 1 if a job was discarded, 3 if one was cancelled, 4 if one was skipped, \
                        124 if the time is over before all have ended.")]
pub(crate) struct Wait {
    #[command(flatten)]
    selector: Selector,
    /// Until one of them has ended, not all
    #[arg(long)]
    any: bool,
    /// Wait no longer than this in all [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    timeout: Option<DurationMillis>,
    /// Which job the exit code tells of
    #[arg(long, value_name = "WHICH", default_value = "worst")]
    exit_code: ExitCode,
}

/// Which job the exit code tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExitCode {
    /// The one that ended worst
    Worst,
    /// The one that ended first
    First,
    /// None: 0 if they have ended, however they did
    Zero,
}

impl Wait {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let select = self.selector.said()?;
        let question = WaitRequest { select, any: self.any, timeout_ms: self.timeout };
        let waited: JobList = context.client()?.post("/v1/wait", &question).await?;
        ls::show(context, &waited, "No job is like that.\n")?;
        Ok(exit(&waited.jobs, self.exit_code))
    }
}

fn exit(jobs: &[JobView], which: ExitCode) -> Exit {
    let ended = || jobs.iter().filter(|job| job.state.is_final());
    match which {
        ExitCode::Worst => ended().map(Exit::of_wait).fold(Exit::OK, Exit::worse),
        ExitCode::First => ended().min_by_key(|job| job.finished_at).map_or(Exit::OK, Exit::of_wait),
        ExitCode::Zero => Exit::OK,
    }
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::{JobState, UnixMillis};

    use super::*;
    use crate::cli::ls::tests::example;

    #[test]
    fn the_exit_code_tells_of_the_worst_the_first_or_none() {
        let job = |state, ended| JobView { state, finished_at: Some(UnixMillis(ended)), ..example() };
        let running = JobView { state: JobState::Running, finished_at: None, ..example() };
        let jobs = [running, job(JobState::Discarded, 3), job(JobState::Skipped, 1), job(JobState::Completed, 2)];
        assert_eq!(exit(&jobs, ExitCode::Worst), Exit::FAILED);
        assert_eq!(exit(&jobs, ExitCode::First), Exit::SKIPPED);
        assert_eq!(exit(&jobs, ExitCode::Zero), Exit::OK);
        assert_eq!(exit(&[], ExitCode::Worst), Exit::OK);
    }
}
