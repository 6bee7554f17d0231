//! `jobmesh ls`: the jobs of this node, newest first.

use clap::Args;
use jobmesh::api::{JobList, JobView};
use jobmesh_protocol::{JobState, UnixMillis};

use crate::cli::time_words::{length, now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, words};

/// How many jobs are listed unless more are asked for: about one screen.
const LIMIT_DEFAULT: u32 = 50;
/// The most that the daemon gives at once.
const LIMIT_MAX: u32 = 10_000;

/// What `ls` takes.
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Only jobs in this state
    #[arg(long, value_parser = parse_state)]
    state: Option<JobState>,
    /// Only jobs that have not ended
    #[arg(long, short)]
    live: bool,
    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = LIMIT_DEFAULT)]
    limit: u32,
    /// All of them
    #[arg(long, short, conflicts_with = "limit")]
    all: bool,
}

impl Ls {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let limit = if self.all { LIMIT_MAX } else { self.limit.clamp(1, LIMIT_MAX) };
        let state = self.state.map_or_else(String::new, |state| format!("&state={state}"));
        let path = format!("/v1/jobs?limit={limit}&live={}{state}", self.live);
        let list: JobList = context.client()?.get(&path).await?;
        context.output.show(&list, |colour| self.text(&list, now(), colour))?;
        Ok(Exit::OK)
    }

    fn text(&self, list: &JobList, now: UnixMillis, colour: Colour) -> String {
        if !list.jobs.is_empty() {
            return table(&list.jobs, now, colour);
        }
        if self.live || self.state.is_some() {
            return "No job is like that. See all with `jobmesh ls`.\n".to_owned();
        }
        "No jobs yet. Run one with `jobmesh run -- echo hello`.\n".to_owned()
    }
}

/// Jobs as a table.
pub(crate) fn table(jobs: &[JobView], now: UnixMillis, colour: Colour) -> String {
    let mut table = Table::new(["JOB", "STATE", "COMMAND", "ON", "EXIT", "AGE", "TOOK"]);
    for job in jobs {
        let on = job.node.as_ref().map(words::node).unwrap_or_default();
        let took = words::took(now, job.started_at, job.finished_at).map(length).unwrap_or_default();
        table.push([
            Cell::from(job.number.to_string()),
            Cell::styled(words::job_style(job.state), job.state.word()),
            Cell::from(title(job)),
            Cell::from(on),
            Cell::from(words::exit(job.exit)),
            Cell::styled(Style::Dim, relative(now, job.created_at)),
            Cell::from(took),
        ]);
    }
    table.render(colour, 0)
}

fn title(job: &JobView) -> String {
    match &job.origin {
        Some(origin) => format!("{} (for {})", words::title(job), origin.name),
        None => words::title(job),
    }
}

fn parse_state(word: &str) -> Result<JobState, String> {
    JobState::from_word(word).ok_or_else(|| {
        let known: Vec<_> = JobState::ALL.iter().map(|state| state.word()).collect();
        format!("the states are {}", known.join(", "))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use jobmesh::api::NodeName;
    use jobmesh_protocol::outcome;
    use jobmesh_protocol::{Epoch, JobId, NodeId};

    use super::*;

    /// A job that completed on a peer called gpubox.
    pub(crate) fn example() -> JobView {
        JobView {
            id: JobId::from_bytes([1; 16]),
            number: 12,
            state: JobState::Completed,
            state_since: UnixMillis(61_000),
            name: None,
            job_type: "gzip".to_owned(),
            command: vec!["gzip".to_owned(), "-9c".to_owned()],
            epoch: Epoch(1),
            node: Some(NodeName { node: NodeId::from_bytes([7; 32]), name: "gpubox".to_owned(), is_self: false }),
            origin: None,
            failures: 0,
            crashes: 0,
            outcome: Some("ok".to_owned()),
            message: None,
            exit: outcome::Exit { code: Some(0), signal: None },
            finish_reason: None,
            cancel_reason: None,
            run_at: None,
            created_at: UnixMillis(50_000),
            started_at: Some(UnixMillis(58_900)),
            finished_at: Some(UnixMillis(61_000)),
        }
    }

    #[test]
    fn a_list_reads_well() {
        let waiting = JobView {
            number: 13,
            state: JobState::Available,
            node: None,
            exit: outcome::Exit::default(),
            started_at: None,
            finished_at: None,
            ..example()
        };
        insta::assert_snapshot!(table(&[waiting, example()], UnixMillis(62_000), Colour::Off), @r"
        JOB  STATE      COMMAND   ON      EXIT  AGE       TOOK
        13   available  gzip -9c                12 s ago
        12   completed  gzip -9c  gpubox  0     12 s ago  2.1 s
        ");
    }

    #[test]
    fn an_empty_list_says_what_to_do_next() {
        let ls = Ls { state: None, live: false, limit: 1, all: false };
        let text = ls.text(&JobList { jobs: Vec::new() }, UnixMillis(0), Colour::Off);
        assert!(text.contains("jobmesh run -- echo hello"));
    }
}
