//! `jobmesh show`: one job with all its attempts and its history.

use std::fmt::Write as _;

use clap::Args;
use jobmesh::api::{AttemptView, Fire, JobDetail, JobView, Progress, TaskCounts};
use jobmesh_protocol::job::Scope;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::{JobSpec, JobState, Requirement, UnixMillis};

use crate::cli::time_words::{clock, length, now, relative};
use crate::cli::{Cell, Colour, Context, Exit, Failure, JobRef, Style, Table, clean, words};

#[derive(Args, Debug)]
pub(crate) struct Show {
    /// The job: its number, id, or `last`
    job: JobRef,
}

impl Show {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let detail: JobDetail = context.client()?.get(&format!("/v1/jobs/{}", self.job)).await?;
        context.output.one(&detail, &detail.job.label(), |colour| text(&detail, now(), colour))?;
        Ok(Exit::OK)
    }
}

/// A job in full.
pub(crate) fn text(detail: &JobDetail, now: UnixMillis, colour: Colour) -> String {
    let job = &detail.job;
    let state = colour.paint(words::job_style(job.state), job.state.word());
    let mut text = format!("{} {state}\n", colour.paint(Style::Bold, &format!("job {}", job.label())));
    for (label, value) in facts(detail, now) {
        let _ = writeln!(text, "  {label:<10} {}", clean(&value).replace('\n', " "));
    }
    if !detail.attempts.is_empty() {
        let _ = writeln!(text, "\n{}", colour.paint(Style::Bold, "attempts"));
        text.push_str(&attempts(&detail.attempts, now, colour));
    }
    let _ = writeln!(text, "\n{}", colour.paint(Style::Bold, "history (UTC)"));
    for event in &detail.events {
        let _ = writeln!(text, "  {}  {}", clock(event.at), clean(&words::event(event)).replace('\n', " "));
    }
    text
}

fn facts(detail: &JobDetail, now: UnixMillis) -> Vec<(&'static str, String)> {
    let (job, spec) = (&detail.job, &detail.spec);
    let mut facts = vec![("command", words::command(&job.command))];
    facts.extend(job.name.clone().map(|name| ("name", name)));
    facts.push(("type", job.job_type.clone()));
    facts.extend(job.origin.as_ref().map(|origin| ("for", origin.name.clone())));
    if !spec.requirements.is_empty() {
        let needs: Vec<_> = spec.requirements.iter().map(Requirement::to_string).collect();
        facts.push(("needs", needs.join(", ")));
    }
    facts.extend(asked(spec));
    facts.push(("where", place(spec.scope).to_owned()));
    facts.extend(standing(job));
    if !spec.resources.is_default() {
        facts.push(("takes", spec.resources.to_string()));
    }
    if spec.retry.max_attempts > 1 {
        facts.push(("tries", format!("{} failed of at most {}", job.failures, spec.retry.max_attempts)));
    }
    facts.push(("submitted", format!("{} ({})", relative(now, job.created_at), job.created_at.to_rfc3339())));
    facts.extend(job.run_at.map(|at| ("not before", format!("{} ({})", relative(now, at), at.to_rfc3339()))));
    facts.extend(words::took(now, job.started_at, job.stopped_at).map(|took| ("took", length(took))));
    facts.extend(detail.telling_attempt().and_then(|last| words::used(last.usage)).map(|used| ("used", used)));
    facts
        .extend(detail.telling_attempt().and_then(|last| last.isolation).map(|level| ("isolation", level.to_string())));
    facts.extend(detail.telling_attempt().and_then(|last| last.model.as_ref()).into_iter().flat_map(words::model));
    let exit = words::exit(job.exit);
    if !exit.is_empty() {
        facts.push(("exit", exit));
    }
    facts.extend(job.message.clone().map(|message| ("message", message)));
    let result = detail.telling_attempt().and_then(|last| last.outputs.result);
    facts.extend(
        result.map(|result| ("result", format!("{} bytes; see `jobmesh result {}`", result.size, job.label()))),
    );
    if detail.telling_attempt().is_some_and(|last| last.outputs.files.is_some()) {
        facts.push(("files", format!("see `jobmesh artifacts {}`", job.label())));
    }
    let reason = job.finish_reason.filter(|reason| *reason != FinishReason::Ok);
    facts.extend(reason.map(|reason| ("ended", reason.word().replace('_', " "))));
    let is_by_system = matches!(job.state, JobState::Skipped | JobState::Discarded);
    let stopped = if is_by_system { "stopped" } else { "cancelled" };
    facts.extend(job.cancel_reason.clone().map(|reason| (stopped, reason)));
    facts.push(("id", job.id.to_string()));
    facts
}

/// What it asked for beside the machine, as far as that is unusual.
fn asked(spec: &JobSpec) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    facts.extend(spec.isolation.map(|level| ("at least", level.to_string())));
    if spec.network {
        facts.push(("network", "asked for, wherever it runs".to_owned()));
    }
    if !spec.secrets.is_empty() {
        let names: Vec<_> = spec.secrets.iter().map(|(variable, name)| format!("{name} as {variable}")).collect();
        facts.push(("secrets", names.join(", ")));
    }
    if !spec.outputs.is_empty() {
        facts.push(("keeps", spec.outputs.join(", ")));
    }
    facts
}

/// Where it stands among the others, as far as that is unusual.
fn standing(job: &JobView) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if job.queue != "default" {
        facts.push(("queue", job.queue.clone()));
    }
    if job.priority != 0 {
        facts.push(("priority", job.priority.to_string()));
    }
    if !job.labels.is_empty() {
        let labels: Vec<_> = job.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        facts.push(("labels", labels.join(" ")));
    }
    facts.extend(job.held.clone().map(|reason| ("held", reason)));
    let instant = |fire: &Fire| format!("{}, for {}", fire.schedule, fire.instant.to_rfc3339());
    facts.extend(job.fire.as_ref().map(|fire| ("schedule", instant(fire))));
    if let Some(TaskCounts { total, ended, failed, dropped, is_open }) = job.tasks {
        let open = if is_open { ", open" } else { "" };
        facts.push(("tasks", format!("{ended} of {total} ended, {failed} failed, {dropped} dropped{open}")));
    }
    if let Some(Progress { done, message, .. }) = &job.progress {
        let done = done.map(|done| format!("{}.{:02} % ", done / 100, done % 100)).unwrap_or_default();
        facts.push(("progress", format!("{done}{}", message.clone().unwrap_or_default())));
    }
    facts
}

const fn place(scope: Scope) -> &'static str {
    match scope {
        Scope::Local => "on this node only",
        Scope::Network => "on another node",
        Scope::Hybrid => "here or on another node",
    }
}

fn attempts(attempts: &[AttemptView], now: UnixMillis, colour: Colour) -> String {
    let mut table = Table::new(["EPOCH", "ON", "STATE", "EXIT", "TOOK", "RECEIPT", "MESSAGE"]);
    for attempt in attempts {
        let took = words::took(now, attempt.started_at, attempt.finished_at).map(length).unwrap_or_default();
        table.push([
            Cell::from(attempt.epoch.to_string()),
            Cell::from(words::node(&attempt.node)),
            Cell::styled(words::attempt_style(attempt.state), attempt.state.word().replace('_', " ")),
            Cell::from(words::exit(attempt.exit)),
            Cell::from(took),
            Cell::from(receipt(attempt)),
            Cell::from(attempt.message.clone().unwrap_or_default()),
        ]);
    }
    table.render(colour, 2)
}

fn receipt(attempt: &AttemptView) -> &'static str {
    match (attempt.verdict, attempt.award) {
        (Some(verdict), _) => verdict.word(),
        (None, Some(_)) => "none yet",
        (None, None) => "",
    }
}

#[cfg(test)]
mod tests {
    use jobmesh::api::{EventView, NodeName};
    use jobmesh_protocol::outcome::{self, ModelUse, Outputs, Usage};
    use jobmesh_protocol::state::Cause;
    use jobmesh_protocol::task::{LlmTask, ProcessTask, Task};
    use jobmesh_protocol::ticket::Verdict;
    use jobmesh_protocol::{AttemptState, AwardId, BlobRef, DurationMillis, Epoch, Isolation, NodeId};

    use super::*;
    use crate::cli::ls::tests::example;

    fn node(name: &str) -> NodeName {
        NodeName { node: NodeId::from_bytes([7; 32]), name: name.to_owned(), is_self: false }
    }

    fn attempt(epoch: u32, on: &str, state: AttemptState, verdict: Option<Verdict>) -> AttemptView {
        AttemptView {
            epoch: Epoch(epoch),
            state,
            node: node(on),
            pid: None,
            outcome: None,
            message: None,
            exit: outcome::Exit { code: Some(0), signal: None },
            outputs: Outputs::default(),
            usage: Usage::default(),
            model: None,
            isolation: None,
            award: Some(AwardId::from_bytes([3; 16])),
            receipt: None,
            verdict,
            created_at: UnixMillis(50_000),
            started_at: Some(UnixMillis(58_900)),
            finished_at: Some(UnixMillis(61_000)),
        }
    }

    fn event(at: u64, cause: Cause, state: JobState, on: Option<&str>) -> EventView {
        EventView { id: at, at: UnixMillis(at), state, cause, epoch: Epoch(1), node: on.map(node), note: None }
    }

    #[test]
    fn a_question_to_a_model_tells_what_it_took() {
        let told = AttemptView {
            usage: Usage { fuel: Some(7), ..Usage::default() },
            isolation: Some(Isolation::Sandboxed),
            model: Some(ModelUse {
                provider: "local".to_owned(),
                model: "small".to_owned(),
                input_tokens: Some(28),
                cost_micros: Some(1_500),
                latency_ms: Some(DurationMillis(900)),
                finish: Some("stop".to_owned()),
                ..ModelUse::default()
            }),
            outputs: Outputs { files: Some(BlobRef::of(b"tree")), ..Outputs::default() },
            ..attempt(1, "gpubox", AttemptState::Succeeded, None)
        };
        let mut spec = JobSpec::new("small", Task::Llm(LlmTask::new("why?")));
        spec.network = true;
        spec.isolation = Some(Isolation::Contained);
        spec.outputs = vec!["out/*.png".to_owned()];
        spec.secrets = [("TOKEN".to_owned(), "registry".to_owned())].into();
        let (attempts, events, receipts) = (vec![told], Vec::new(), Vec::new());
        let detail = JobDetail { job: example(), spec, attempts, events, receipts };
        let facts = facts(&detail, UnixMillis(62_000));
        let lines: Vec<String> = facts.iter().map(|(label, value)| format!("{label}: {value}")).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        command: gzip -9c
        type: gzip
        at least: contained
        network: asked for, wherever it runs
        secrets: registry as TOKEN
        keeps: out/*.png
        where: here or on another node
        submitted: 12 s ago (1970-01-01T00:00:50.000Z)
        took: 2.1 s
        used: 7 units of fuel
        isolation: sandboxed
        model: local/small
        tokens: 28 in, unknown out
        cost: 0.0015 USD
        answered: all of it after 900 ms
        finish: stop
        exit: 0
        files: see `jobmesh artifacts 12`
        id: 01010101-0101-0101-0101-010101010101
        ");
    }

    #[test]
    fn a_job_with_two_attempts_reads_well() {
        let detail = JobDetail {
            job: example(),
            spec: JobSpec::new("gzip", Task::Process(ProcessTask::new(example().command))),
            attempts: vec![
                attempt(1, "server", AttemptState::Lost, Some(Verdict::Superseded)),
                attempt(2, "gpubox", AttemptState::Succeeded, Some(Verdict::Accepted)),
            ],
            events: vec![
                event(50_000, Cause::Ready, JobState::Available, None),
                event(52_000, Cause::Lost, JobState::Available, Some("server")),
                event(61_000, Cause::Succeeded, JobState::Completed, Some("gpubox")),
            ],
            receipts: Vec::new(),
        };
        insta::assert_snapshot!(text(&detail, UnixMillis(62_000), Colour::Off), @r"
        job 12 completed
          command    gzip -9c
          type       gzip
          where      here or on another node
          submitted  12 s ago (1970-01-01T00:00:50.000Z)
          took       2.1 s
          exit       0
          id         01010101-0101-0101-0101-010101010101

        attempts
          EPOCH  ON      STATE      EXIT  TOOK   RECEIPT     MESSAGE
          1      server  lost       0     2.1 s  superseded
          2      gpubox  succeeded  0     2.1 s  accepted

        history (UTC)
          00:00:50.000  queued
          00:00:52.000  lost on server; it will run again
          00:01:01.000  completed on gpubox
        ");
    }
}
