//! `jobmesh ls`: the jobs of this node, newest first.

use std::time::Duration;

use clap::Args;
use jobmesh::api::{CHANGE_EVENT, Change, JobList, JobView, SELECTED_MAX, SelectRequest, TaskCounts};
use jobmesh_protocol::{JobState, UnixMillis};

use crate::cli::selector::Selector;
use crate::cli::time_words::{length, now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, note, words};
use crate::client::Client;

/// How many jobs are listed unless more are asked for: about one screen.
const LIMIT_DEFAULT: u32 = 50;
/// Least time between two lists that are watched: more would only flicker.
const REDRAW: Duration = Duration::from_millis(100);

#[derive(Args, Debug)]
pub(crate) struct Ls {
    #[command(flatten)]
    selector: Selector,
    /// Only jobs that have not ended
    #[arg(long, short)]
    live: bool,
    /// Only jobs that failed for good, the dead letters
    #[arg(long, conflicts_with_all = ["live", "states"])]
    dead: bool,
    /// At most so many, up to 10 000
    #[arg(long, short = 'n', value_name = "N", default_value_t = LIMIT_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SELECTED_MAX)))]
    limit: u32,
    /// As many as there can be
    #[arg(long, short, conflicts_with = "limit")]
    all: bool,
    /// Go on and list them again whenever something changes
    #[arg(long, short)]
    watch: bool,
}

impl Ls {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let is_narrowed = !self.selector.jobs.is_empty() || self.live || self.dead;
        let limit = if self.all { SELECTED_MAX } else { self.limit };
        let mut request = self.selector.request(Some(limit));
        request.filter.live = self.live;
        if self.dead {
            request.filter.states = vec![JobState::Discarded];
        }
        let empty = match is_narrowed || !request.filter.is_empty() {
            true => "No job is like that. See all with `jobmesh ls`.\n",
            false => "No jobs yet. Run one with `jobmesh run -- echo hello`.\n",
        };
        let client = context.client()?;
        if self.watch {
            return watch(context, &client, (&request, empty)).await;
        }
        let list: JobList = client.post("/v1/select", &request).await?;
        show(context, &list, empty)?;
        Ok(Exit::OK)
    }
}

/// Lists again after every change, until Ctrl-C or the end of the node.
async fn watch(context: &Context, client: &Client, (request, empty): (&SelectRequest, &str)) -> Result<Exit, Failure> {
    let mut changes = client.events("/v1/events").await?;
    loop {
        let list: JobList = client.post("/v1/select", request).await?;
        if context.output.colour() == Colour::On && !context.output.is_json() {
            context.output.bytes(b"\x1b[H\x1b[2J")?;
        }
        show(context, &list, empty)?;
        let Some(_) = changes.next::<Change>(CHANGE_EVENT).await? else { return Ok(Exit::OK) };
        // Changes that come close together are shown together.
        let calm = tokio::time::sleep(REDRAW);
        tokio::pin!(calm);
        loop {
            tokio::select! {
                biased;
                () = &mut calm => break,
                change = changes.next::<Change>(CHANGE_EVENT) => {
                    if change?.is_none() { break }
                }
            }
        }
    }
}

/// Writes a list, or `empty` where there is none.
pub(crate) fn show(context: &Context, list: &JobList, empty: &str) -> Result<(), Failure> {
    let wide = context.output.is_wide();
    context.output.list((list, &list.jobs), JobView::label, |colour| match list.jobs.as_slice() {
        [] => empty.to_owned(),
        jobs if wide => wide_table(jobs, now(), colour),
        jobs => table(jobs, now(), colour),
    })?;
    if list.more && !context.output.is_json() && !context.output.is_quiet() {
        let remedy =
            if list.jobs.len() < SELECTED_MAX as usize { "-n N and --all show more" } else { "name some of them" };
        note(&format!("there are more; these are the first {}: {remedy}", list.jobs.len()));
    }
    Ok(())
}

/// Jobs as a table, with a column for queues and priorities where one of them is unusual.
pub(crate) fn table(jobs: &[JobView], now: UnixMillis, colour: Colour) -> String {
    let has_queues = jobs.iter().any(|job| job.queue != "default" || job.priority != 0);
    if !has_queues {
        let mut table = Table::new(["JOB", "STATE", "COMMAND", "ON", "EXIT", "AGE", "TOOK"]);
        for job in jobs {
            let [on, exit, age, took] = facts(job, now);
            table.push([number(job), state(job), Cell::from(title(job)), on, exit, age, took]);
        }
        return table.render(colour, 0);
    }
    let mut table = Table::new(["JOB", "STATE", "QUEUE", "COMMAND", "ON", "EXIT", "AGE", "TOOK"]);
    for job in jobs {
        let [on, exit, age, took] = facts(job, now);
        table.push([number(job), state(job), queue(job), Cell::from(title(job)), on, exit, age, took]);
    }
    table.render(colour, 0)
}

fn wide_table(jobs: &[JobView], now: UnixMillis, colour: Colour) -> String {
    let head = ["JOB", "STATE", "QUEUE", "TYPE", "COMMAND", "ON", "TRY", "EXIT", "AGE", "TOOK", "LABELS", "ID"];
    let mut table = Table::new(head);
    for job in jobs {
        let [on, exit, age, took] = facts(job, now);
        let labels: Vec<String> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.push([
            number(job),
            state(job),
            queue(job),
            Cell::from(&job.job_type),
            Cell::from(title(job)),
            on,
            Cell::from(job.epoch.to_string()),
            exit,
            age,
            took,
            Cell::from(labels.join(",")),
            Cell::from(job.id.to_string()),
        ]);
    }
    table.render(colour, 0)
}

fn number(job: &JobView) -> Cell {
    Cell::from(job.label())
}

/// The state, and what makes it other than it sounds.
fn state(job: &JobView) -> Cell {
    let word = job.state.word();
    let text = match (&job.tasks, &job.held, &job.progress) {
        (Some(tasks), Some(_), _) if !job.state.is_final() => format!("{} (held)", tasks_of(tasks, job.state)),
        (Some(tasks), _, _) => tasks_of(tasks, job.state),
        (None, Some(_), _) if !job.state.is_final() => format!("{word} (held)"),
        (None, _, Some(progress)) if job.state == JobState::Running => match progress.done {
            Some(done) => format!("{word} {} %", done / 100),
            None => word.to_owned(),
        },
        (None, _, _) => word.to_owned(),
    };
    Cell::styled(words::job_style(job.state), text)
}

/// `running 7/100, 1 failed`.
fn tasks_of(tasks: &TaskCounts, state: JobState) -> String {
    let TaskCounts { total, ended, failed, is_open, .. } = tasks;
    let open = if *is_open { "+" } else { "" };
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    format!("{} {ended}/{total}{open}{failed}", state.word())
}

fn queue(job: &JobView) -> Cell {
    match job.priority {
        0 => Cell::from(&job.queue),
        priority => Cell::from(format!("{} {priority:+}", job.queue)),
    }
}

fn facts(job: &JobView, now: UnixMillis) -> [Cell; 4] {
    let took = words::took(now, job.started_at, job.stopped_at).map(length).unwrap_or_default();
    [
        Cell::from(job.node.as_ref().map(words::node).unwrap_or_default()),
        Cell::from(words::exit(job.exit)),
        Cell::styled(Style::Dim, relative(now, job.created_at)),
        Cell::from(took),
    ]
}

fn title(job: &JobView) -> String {
    match &job.origin {
        Some(origin) => format!("{} (for {})", words::title(job), origin.name),
        None => words::title(job),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use jobmesh::api::NodeName;
    use jobmesh_protocol::outcome;
    use jobmesh_protocol::{Epoch, JobId, NodeId};

    use super::*;

    /// A job that completed on a peer called gpubox.
    pub(crate) fn example() -> JobView {
        JobView {
            id: JobId::from_bytes([1; 16]),
            number: 12,
            task: None,
            state: JobState::Completed,
            state_since: UnixMillis(61_000),
            name: None,
            job_type: "gzip".to_owned(),
            queue: "default".to_owned(),
            priority: 0,
            labels: BTreeMap::new(),
            held: None,
            fire: None,
            tasks: None,
            progress: None,
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
            stopped_at: Some(UnixMillis(61_000)),
            finished_at: Some(UnixMillis(61_000)),
        }
    }

    fn waiting() -> JobView {
        JobView {
            number: 13,
            state: JobState::Available,
            node: None,
            exit: outcome::Exit::default(),
            started_at: None,
            stopped_at: None,
            finished_at: None,
            ..example()
        }
    }

    /// A job that waited for its next attempt seemed to run longer and longer.
    #[test]
    fn a_wait_for_another_attempt_is_not_counted() {
        let waits = JobView { state: JobState::Retryable, finished_at: None, ..example() };
        let listed = table(&[waits], UnixMillis(9_000_000), Colour::Off);
        assert!(listed.trim_end().ends_with("2.1 s"), "{listed}");
    }

    #[test]
    fn a_list_reads_well() {
        insta::assert_snapshot!(table(&[waiting(), example()], UnixMillis(62_000), Colour::Off), @r"
        JOB  STATE      COMMAND   ON      EXIT  AGE       TOOK
        13   available  gzip -9c                12 s ago
        12   completed  gzip -9c  gpubox  0     12 s ago  2.1 s
        ");
    }

    #[test]
    fn queues_groups_and_holds_show_where_there_are_any() {
        let tasks = TaskCounts { total: 100, ended: 7, failed: 1, dropped: 0, is_open: true };
        let group = JobView { state: JobState::Running, tasks: Some(tasks), queue: "slow".to_owned(), ..waiting() };
        let task = JobView { task: Some(7), priority: -3, ..example() };
        let held = JobView { held: Some("later".to_owned()), ..waiting() };
        let both = JobView { tasks: Some(TaskCounts { total: 3, ..TaskCounts::default() }), ..held.clone() };
        insta::assert_snapshot!(table(&[group, task, held, both], UnixMillis(62_000), Colour::Off), @r"
        JOB   STATE                     QUEUE       COMMAND   ON      EXIT  AGE       TOOK
        13    running 7/100+, 1 failed  slow        gzip -9c                12 s ago
        12.7  completed                 default -3  gzip -9c  gpubox  0     12 s ago  2.1 s
        13    available (held)          default     gzip -9c                12 s ago
        13    available 0/3 (held)      default     gzip -9c                12 s ago
        ");
    }
}
