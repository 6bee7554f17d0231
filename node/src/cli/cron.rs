//! `jobmesh cron`: jobs that come again by the clock.

use std::fmt::Write as _;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jobmesh::api::{BackfillRequest, Backfilled, Done, INSTANTS_MAX, Instants, Passed, ScheduleView, Schedules};
use jobmesh_engine::Schedule;
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing, format_length};
use jobmesh_protocol::{DurationMillis, UnixMillis};
use serde_json::json;

use crate::cli::job_options::JobOptions;
use crate::cli::selector::make_sure;
use crate::cli::time_words::{now, parse_length, parse_time, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, Style, Table, clean, words};
use crate::client::segment;

#[derive(Args, Debug)]
pub(crate) struct Cron {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Action {
    /// Make a schedule, or change the one of that name
    Add(Box<Add>),
    /// List the schedules
    Ls {},
    /// Show one schedule
    Show(Name),
    /// Fire no more until resumed
    Pause(Name),
    /// Fire again from now on
    Resume(Name),
    /// Submit its job now, beside its instants
    Trigger(Name),
    /// Submit its job for each instant in a time that has not fired
    Backfill(Backfill),
    /// Say when it fires next, by the clock of its zone
    Next(Next),
    /// Forget a schedule; its jobs stay
    Rm(Name),
}

#[derive(Args, Debug)]
struct Name {
    /// The schedule
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
}

#[derive(Args, Debug)]
struct Add {
    /// What to call it
    #[arg(value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    schedule: String,
    /// When: a cron expression of five fields, or six with the second in front, @daily and the like, or "every 5m"
    when: String,
    /// The time zone whose clock it goes by, such as Europe/Oslo
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    tz: String,
    /// What to do while its last job has not ended: skip, buffer-one, buffer-all, cancel-other or allow
    #[arg(long, value_name = "POLICY", default_value = "skip", value_parser = parse_overlap)]
    overlap: Overlap,
    /// What to make up for after the node was down: none, latest, or all of a time such as 6h; an instant that comes less
    /// than a minute late is not missed, unless the next one has come
    #[arg(long, value_name = "POLICY", default_value = "latest")]
    catchup: CatchUp,
    /// How much later than its instant it may fire, so that many do not fire at once
    #[arg(long, value_name = "TIME", value_parser = parse_length, allow_hyphen_values = true)]
    jitter: Option<DurationMillis>,
    #[command(flatten)]
    options: JobOptions,
}

#[derive(Args, Debug)]
struct Backfill {
    /// The schedule
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// After this: 2026-03-01 08:00, 2026-03-01T08:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    from: UnixMillis,
    /// Up to this, which is past [default: now]
    #[arg(long, value_name = "WHEN", value_parser = parse_time)]
    to: Option<UnixMillis>,
    /// Say how many jobs that would be, and submit none
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking, however many jobs it is
    #[arg(long, short)]
    yes: bool,
}

#[derive(Args, Debug)]
struct Next {
    /// The schedule
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    name: String,
    /// How many instants, at most 1000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=i64::from(INSTANTS_MAX)))]
    limit: u32,
}

impl Cron {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self.action {
            Action::Add(add) => Box::pin(add.run(context)).await,
            Action::Ls {} => list(context).await,
            Action::Show(Name { name }) => show(context, &name).await,
            Action::Pause(Name { name }) => act(context, &name, ("pause", "fires no more")).await,
            Action::Resume(Name { name }) => act(context, &name, ("resume", "fires again")).await,
            Action::Trigger(Name { name }) => act(context, &name, ("trigger", "has submitted its job")).await,
            Action::Backfill(backfill) => backfill.run(context).await,
            Action::Next(next) => next.run(context).await,
            Action::Rm(Name { name }) => remove(context, &name).await,
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let submission = self.options.into_submission(&client, None).await?;
        let timing = Timing { text: self.when, zone: self.tz, jitter_ms: self.jitter.unwrap_or_default() };
        let schedule = Schedule { timing, overlap: self.overlap, catch_up: self.catchup, submission };
        let answer: Done = client.put(&path(&self.schedule, ""), &schedule).await?;
        told(context, &self.schedule, answer, "is set")
    }
}

impl Backfill {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let (client, path) = (context.client()?, path(&self.name, "/backfill"));
        let request = BackfillRequest { from: self.from, to: self.to.unwrap_or_else(now), dry_run: true };
        let mut answer: Backfilled = client.post(&path, &request).await?;
        if !self.dry_run && answer.jobs > 0 {
            if answer.jobs > 1 && !self.yes {
                make_sure(&format!("submit {} jobs", answer.jobs), "; --dry-run only counts them")?;
            }
            answer = client.post(&path, &BackfillRequest { dry_run: false, ..request }).await?;
        }
        let verb = if self.dry_run { "would submit" } else { "has submitted" };
        let jobs = if answer.jobs == 1 { "job" } else { "jobs" };
        let said = format!("the schedule {} {verb} {} {jobs}\n", clean(&self.name), answer.jobs);
        context.output.show(&answer, |_| said)?;
        Ok(Exit::OK)
    }
}

impl Next {
    async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let path = path(&self.name, &format!("/next?limit={}", self.limit));
        let instants: Instants = context.client()?.get(&path).await?;
        let now = now();
        let line = |(at, reading): (&UnixMillis, &String)| format!("{}  {}\n", clean(reading), relative(now, *at));
        let name = |at: &UnixMillis| at.to_rfc3339();
        let lines = |_| instants.instants.iter().zip(&instants.readings).map(line).collect();
        context.output.list((&instants, &instants.instants), name, lines)?;
        Ok(Exit::OK)
    }
}

fn path(name: &str, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", segment(name))
}

fn parse_overlap(word: &str) -> Result<Overlap, String> {
    let known = "the policies are skip, buffer-one, buffer-all, cancel-other and allow";
    Overlap::from_word(word).ok_or_else(|| known.to_owned())
}

async fn act(context: &Context, name: &str, (verb, done): (&str, &str)) -> Result<Exit, Failure> {
    let answer: Done = context.client()?.post(&path(name, &format!("/{verb}")), &json!({})).await?;
    told(context, name, answer, done)
}

async fn remove(context: &Context, name: &str) -> Result<Exit, Failure> {
    let answer: Done = context.client()?.delete(&path(name, ""), &json!({})).await?;
    told(context, name, answer, "is forgotten")
}

fn told(context: &Context, name: &str, answer: Done, done: &str) -> Result<Exit, Failure> {
    let already = if answer.changed { "" } else { ", as it was" };
    context.output.show(&answer, |_| format!("the schedule {} {done}{already}\n", clean(name)))?;
    Ok(Exit::OK)
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let schedules: Schedules = context.client()?.get("/v1/schedules").await?;
    let name = |schedule: &ScheduleView| schedule.name.clone();
    let text = |colour| table(&schedules.schedules, now(), colour);
    context.output.list((&schedules, &schedules.schedules), name, text)?;
    Ok(Exit::OK)
}

async fn show(context: &Context, name: &str) -> Result<Exit, Failure> {
    let schedule: ScheduleView = context.client()?.get(&path(name, "")).await?;
    context.output.one(&schedule, &schedule.name, |colour| text(&schedule, now(), colour))?;
    Ok(Exit::OK)
}

fn table(schedules: &[ScheduleView], now: UnixMillis, colour: Colour) -> String {
    if schedules.is_empty() {
        return "No schedules yet. Make one with `jobmesh cron add nightly '0 3 * * *' -- CMD`.\n".to_owned();
    }
    let mut table = Table::new(["SCHEDULE", "WHEN", "ZONE", "NEXT", "LAST", "COMMAND"]);
    for view in schedules {
        let timing = &view.schedule.timing;
        table.push([
            Cell::from(&view.name),
            Cell::from(&timing.text),
            Cell::from(&timing.zone),
            next(view, now),
            Cell::styled(Style::Dim, view.last.map(|last| relative(now, last)).unwrap_or_default()),
            Cell::from(words::task(&view.schedule.submission.spec.task)),
        ]);
    }
    table.render(colour, 0)
}

fn next(view: &ScheduleView, now: UnixMillis) -> Cell {
    match (view.is_paused, view.next) {
        (true, _) => Cell::styled(Style::Busy, "paused"),
        (false, Some(next)) => Cell::from(relative(now, next)),
        (false, None) => Cell::styled(Style::Bad, "never"),
    }
}

fn text(view: &ScheduleView, now: UnixMillis, colour: Colour) -> String {
    let Schedule { timing, overlap, catch_up, submission } = &view.schedule;
    let state = if view.is_paused { colour.paint(Style::Busy, "paused") } else { "active".to_owned() };
    let mut text = format!("{} {state}\n", colour.paint(Style::Bold, &clean(&view.name)));
    let at = |at: Option<UnixMillis>| {
        at.map_or_else(|| "never".to_owned(), |at| format!("{} ({})", relative(now, at), at.to_rfc3339()))
    };
    let mut facts = vec![
        ("when", format!("{} ({})", timing.text, view.words)),
        ("zone", timing.zone.clone()),
        ("overlap", overlap.word().replace('_', " ")),
        ("catch up", catch_up.to_string()),
        ("command", words::task(&submission.spec.task)),
        ("queue", submission.spec.queue.clone()),
        ("next", if view.is_paused { "when it is resumed".to_owned() } else { at(view.next) }),
        ("last", at(view.last)),
        ("made", if view.is_declared { "by config.toml" } else { "by hand" }.to_owned()),
    ];
    if let Some(Passed { at, why }) = &view.passed {
        facts.push(("passed", format!("{} ({}): {why}", relative(now, *at), at.to_rfc3339())));
    }
    if timing.jitter_ms.0 > 0 {
        facts.push(("jitter", format_length(timing.jitter_ms)));
    }
    for (label, value) in facts {
        let _ = writeln!(text, "  {label:<10} {}", clean(&value));
    }
    text
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::task::{ProcessTask, Task};
    use jobmesh_protocol::{JobSpec, Submission};

    use super::*;

    #[test]
    fn schedules_read_well() {
        let task = Task::Process(ProcessTask::new(vec!["backup".to_owned(), "/home".to_owned()]));
        let view = ScheduleView {
            name: "nightly".to_owned(),
            schedule: Schedule {
                timing: Timing::new("0 3 * * *").in_zone("Europe/Oslo"),
                overlap: Overlap::BufferOne,
                catch_up: CatchUp::Latest,
                submission: Submission::new(JobSpec::new("backup", task)),
            },
            words: "at 03:00 every day".to_owned(),
            is_paused: false,
            is_declared: false,
            last: None,
            next: Some(UnixMillis(7_200_000)),
            passed: None,
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&view), UnixMillis(0), Colour::Off), @r"
        SCHEDULE  WHEN       ZONE         NEXT    LAST  COMMAND
        nightly   0 3 * * *  Europe/Oslo  in 2 h        backup /home
        ");
        insta::assert_snapshot!(text(&view, UnixMillis(0), Colour::Off), @r"
        nightly active
          when       0 3 * * * (at 03:00 every day)
          zone       Europe/Oslo
          overlap    buffer one
          catch up   latest
          command    backup /home
          queue      default
          next       in 2 h (1970-01-01T02:00:00.000Z)
          last       never
          made       by hand
        ");
    }
}
