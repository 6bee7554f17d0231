//! `jobmesh queue`: what waits where, and how much of it may run.

use std::fmt::Write as _;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jobmesh::api::{Done, QueueMode, QueueRequest, QueueView, Queues, Schedules, Types};
use jobmesh_protocol::JobState;
use jobmesh_protocol::job::RateLimit;
use jobmesh_protocol::schedule::format_length;
use serde_json::json;

use crate::cli::job_options::parse_rate_limit;
use crate::cli::{Cell, Colour, Context, Exit, Failure, Kind, Style, Table, clean, note};
use crate::client::{Client, segment};

#[derive(Args, Debug)]
pub(crate) struct Queue {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the queues
    Ls {},
    /// Show one queue
    #[command(visible_alias = "stats")]
    Show(Name),
    /// Change limits: concurrency=4, rate=60/1m; =none takes one away
    Set {
        /// The queue
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        name: String,
        /// What to change
        #[arg(required = true, value_name = "LIMIT=VALUE")]
        limits: Vec<String>,
    },
    /// Start nothing from a queue; what runs goes on
    Pause(Name),
    /// Start jobs from it again
    Resume(Name),
    /// Take nothing new into it, and run what is in it
    Drain(Name),
    /// Forget what was set by hand and go by config.toml again
    Reset(Name),
}

#[derive(Args, Debug)]
struct Name {
    /// The queue
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

impl Queue {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.action {
            Action::Ls {} => list(context).await,
            Action::Show(Name { name }) => show(context, &name).await,
            Action::Set { name, limits } => set(context, &name, &limits).await,
            Action::Pause(Name { name }) => act(context, &name, ("pause", "is paused")).await,
            Action::Resume(Name { name }) => act(context, &name, ("resume", "starts jobs again")).await,
            Action::Drain(Name { name }) => act(context, &name, ("drain", "takes no new jobs")).await,
            Action::Reset(Name { name }) => act(context, &name, ("reset", "goes by config.toml")).await,
        }
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let queues: Queues = context.client()?.get("/v1/queues").await?;
    let name = |queue: &QueueView| queue.name.clone();
    context.output.list((&queues, &queues.queues), name, |colour| table(&queues.queues, colour))?;
    Ok(Exit::OK)
}

async fn show(context: &Context, name: &str) -> Result<Exit, Failure> {
    let queue: QueueView = context.client()?.get(&format!("/v1/queues/{}", segment(name))).await?;
    context.output.one(&queue, &queue.name, |colour| text(&queue, colour))?;
    Ok(Exit::OK)
}

async fn act(context: &Context, name: &str, (verb, done): (&str, &str)) -> Result<Exit, Failure> {
    let path = format!("/v1/queues/{}/{verb}", segment(name));
    let client = context.client()?;
    let is_used = is_used(&client, name).await;
    let answer: Done = client.post(&path, &json!({})).await?;
    if !is_used {
        note(&format!("no job, schedule or declared type is of the queue {name} now; `jobmesh queue ls` lists queues"));
    }
    told(context, name, answer, done)
}

/// Whether anything is known of a queue: a name that nobody else uses may be a slip. What can't be found out counts as
/// used, since the request itself will tell what is wrong.
async fn is_used(client: &Client, name: &str) -> bool {
    let Ok(queues) = client.get::<Queues>("/v1/queues").await else { return true };
    if queues.queues.iter().any(|queue| queue.name == name) {
        return true;
    }
    let Ok(schedules) = client.get::<Schedules>("/v1/schedules").await else { return true };
    if schedules.schedules.iter().any(|view| view.schedule.submission.spec.queue == name) {
        return true;
    }
    client.get::<Types>("/v1/types").await.is_ok_and(|types| types.types.iter().any(|view| view.queue == name))
}

async fn set(context: &Context, name: &str, limits: &[String]) -> Result<Exit, Failure> {
    let request = parse_limits(limits)?;
    let answer: Done = context.client()?.put(&format!("/v1/queues/{}", segment(name)), &request).await?;
    told(context, name, answer, "has the new limits")
}

fn told(context: &Context, name: &str, answer: Done, done: &str) -> Result<Exit, Failure> {
    let already = if answer.changed { "" } else { " already" };
    context.output.show(&answer, |_| format!("the queue {} {done}{already}\n", clean(name)))?;
    Ok(Exit::OK)
}

/// What is wrong with the second value of a limit.
const TWICE: &str = "the limit stands there twice";

fn parse_limits(words: &[String]) -> Result<QueueRequest, Failure> {
    let mut request = QueueRequest::default();
    for word in words {
        let bad = |problem: String| {
            Failure::new(Kind::Usage, format!("{word:?}: {problem}"))
                .hint("the limits of a queue are concurrency=4 and rate=60/1m; =none takes one away")
        };
        match word.split_once('=') {
            Some(("concurrency", _)) if request.concurrency.is_some() => return Err(bad(TWICE.to_owned())),
            Some(("rate", _)) if request.rate.is_some() => return Err(bad(TWICE.to_owned())),
            Some(("concurrency", "none")) => request.concurrency = Some(None),
            Some(("concurrency", count)) => {
                let count = count.parse().map_err(|_| bad("the concurrency is a number of jobs".to_owned()))?;
                request.concurrency = Some(Some(count));
            }
            Some(("rate", "none")) => request.rate = Some(None),
            Some(("rate", rate)) => request.rate = Some(Some(parse_rate_limit(rate).map_err(bad)?)),
            Some((key, _)) => return Err(bad(format!("a queue has no limit called {key:?}"))),
            None => return Err(bad("a limit is written with its value".to_owned())),
        }
    }
    Ok(request)
}

fn table(queues: &[QueueView], colour: Colour) -> String {
    if queues.is_empty() {
        return "No queue holds a job or has a limit.\n".to_owned();
    }
    let mut table = Table::new(["QUEUE", "IS", "RUNNING", "WAITING", "LIMIT", "RATE"]);
    for queue in queues {
        let count = |state: JobState| queue.jobs.get(&state).copied().unwrap_or(0);
        let live: u64 = queue.jobs.iter().filter(|(state, _)| !state.is_final()).map(|(_, count)| count).sum();
        let running = count(JobState::Running);
        table.push([
            Cell::from(&queue.name),
            Cell::styled(mode_style(queue.mode), queue.mode.word()),
            Cell::from(running.to_string()),
            Cell::from((live - running).to_string()),
            Cell::from(queue.concurrency.map(|limit| limit.to_string()).unwrap_or_default()),
            Cell::from(queue.rate.map(rate).unwrap_or_default()),
        ]);
    }
    table.render(colour, 0)
}

const fn mode_style(mode: QueueMode) -> Style {
    match mode {
        QueueMode::Open => Style::Plain,
        QueueMode::Paused | QueueMode::Draining => Style::Busy,
    }
}

/// A rate as it is typed: `60/1m`.
fn rate(rate: RateLimit) -> String {
    format!("{}/{}", rate.count, format_length(rate.period_ms))
}

fn text(queue: &QueueView, colour: Colour) -> String {
    let name = colour.paint(Style::Bold, &clean(&queue.name));
    let mut text = format!("{name} {}\n", colour.paint(mode_style(queue.mode), queue.mode.word()));
    let none = || "none".to_owned();
    let by = if queue.is_set_by_hand { "by hand, over config.toml" } else { "by config.toml" };
    for (label, value) in [
        ("at once", queue.concurrency.map_or_else(none, |limit| limit.to_string())),
        ("rate", queue.rate.map_or_else(none, rate)),
        ("set", by.to_owned()),
    ] {
        let _ = writeln!(text, "  {label:<10} {value}");
    }
    for (state, count) in &queue.jobs {
        let _ = writeln!(text, "  {:<10} {count}", state.word());
    }
    text
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use jobmesh_protocol::DurationMillis;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn limits_are_set_and_taken_away() {
        let request = parse_limits(&words("concurrency=4 rate=none")).unwrap();
        assert_eq!((request.concurrency, request.rate), (Some(Some(4)), Some(None)));
        for line in ["concurrency", "concurrency=x", "rate=5", "speed=1", "concurrency=-1"] {
            let failure = parse_limits(&words(line)).unwrap_err();
            assert!(failure.text().contains("concurrency=4"), "{}", failure.text());
        }
    }

    #[test]
    fn queues_read_well() {
        let queue = QueueView {
            name: "slow".to_owned(),
            mode: QueueMode::Paused,
            concurrency: Some(4),
            rate: Some(RateLimit { count: 60, period_ms: DurationMillis(60_000) }),
            is_set_by_hand: true,
            jobs: [(JobState::Running, 1), (JobState::Available, 7), (JobState::Completed, 3)].into(),
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&queue), Colour::Off), @r"
        QUEUE  IS      RUNNING  WAITING  LIMIT  RATE
        slow   paused  1        7        4      60/1m
        ");
        insta::assert_snapshot!(text(&queue, Colour::Off), @r"
        slow paused
          at once    4
          rate       60/1m
          set        by hand, over config.toml
          available  7
          running    1
          completed  3
        ");
    }
}
