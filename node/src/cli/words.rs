//! What jobs, attempts and events are called in front of people. Lists, details and the demo use the same words.

use jobmesh::api::{EventView, JobView, NodeName, task_words};
use jobmesh_protocol::outcome::{Exit, ModelUse, Usage};
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{AttemptState, DurationMillis, JobState, UnixMillis};

use crate::cli::output::Style;
use crate::cli::time_words::length;

/// How a state of a job stands out.
pub(crate) const fn job_style(state: JobState) -> Style {
    match state {
        JobState::Completed => Style::Good,
        JobState::Discarded | JobState::Cancelled | JobState::Skipped => Style::Bad,
        JobState::Offered | JobState::Running | JobState::Suspended | JobState::Retryable => Style::Busy,
        JobState::Pending | JobState::Scheduled | JobState::Available => Style::Plain,
    }
}

/// How a state of an attempt stands out.
pub(crate) const fn attempt_style(state: AttemptState) -> Style {
    match state {
        AttemptState::Succeeded => Style::Good,
        AttemptState::Awarded | AttemptState::Starting | AttemptState::Running | AttemptState::Uploading => Style::Busy,
        AttemptState::Failed | AttemptState::TimedOut | AttemptState::Lost => Style::Bad,
        AttemptState::Cancelled | AttemptState::Released | AttemptState::Rejected | AttemptState::Superseded => {
            Style::Plain
        }
    }
}

/// A job in one cell: its name if it has one, else its command, else its type.
pub(crate) fn title(job: &JobView) -> String {
    match &job.name {
        Some(name) => name.clone(),
        None if job.command.is_empty() => job.job_type.clone(),
        None => command(&job.command),
    }
}

/// What a task does, in one cell.
pub(crate) fn task(task: &Task) -> String {
    command(&task_words(task))
}

/// A command as one would type it into a shell.
pub(crate) fn command(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A number of bytes, short: `512 B`, `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, one)) = UNITS.iter().find(|(_, one)| bytes >= *one) else { return format!("{bytes} B") };
    // In tenths, rounded down: what is there is at least that.
    let tenths = bytes / (one / 10);
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// A node's name, with a mark if it is this one.
pub(crate) fn node(node: &NodeName) -> String {
    if node.is_self { format!("{} (here)", node.name) } else { node.name.clone() }
}

/// An exit code or signal: `0`, `7`, `signal 9`; empty if there is none.
pub(crate) fn exit(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("signal {signal}"),
        (Some(code), None) => code.to_string(),
        (None, None) => String::new(),
    }
}

/// What an attempt took of its machine, as far as that is known.
pub(crate) fn used(usage: Usage) -> Option<String> {
    let cpu = usage.cpu_ms.map(|cpu| format!("{} of processor time", length(cpu)));
    let memory = usage.memory_peak_bytes.map(|bytes| format!("{} MiB of memory at most", bytes.div_ceil(1 << 20)));
    let fuel = usage.fuel.map(|fuel| format!("{fuel} units of fuel"));
    let parts: Vec<String> = cpu.into_iter().chain(memory).chain(fuel).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What a model was asked for and took. What its provider did not say is unknown, and never nothing.
pub(crate) fn model(asked: &ModelUse) -> Vec<(&'static str, String)> {
    let mut facts = vec![("model", format!("{}/{}", asked.provider, asked.model))];
    let count = |tokens: Option<u64>| tokens.map_or_else(|| "unknown".to_owned(), |tokens| tokens.to_string());
    let tokens = match asked.dimension {
        // An embedding has no answer in words.
        Some(_) => format!("{} in", count(asked.input_tokens)),
        None => format!("{} in, {} out", count(asked.input_tokens), count(asked.output_tokens)),
    };
    facts.push(("tokens", tokens));
    facts.push(("cost", asked.cost_micros.map_or_else(|| "unknown".to_owned(), dollars)));
    let first = asked.first_token_ms.map(|time| format!("first word after {}", length(time)));
    let whole = asked.latency_ms.map(|time| format!("all of it after {}", length(time)));
    let times: Vec<String> = first.into_iter().chain(whole).collect();
    if !times.is_empty() {
        facts.push(("answered", times.join(", ")));
    }
    facts.extend(asked.finish.clone().map(|finish| ("finish", finish)));
    facts.extend(asked.dimension.map(|dimension| ("dimension", dimension.to_string())));
    facts
}

/// A price in millionths of a dollar, written out.
fn dollars(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    // Cents always, and below them as far as there is something.
    let cents = text.len() - 4;
    let rest = text.get(cents..).unwrap_or_default().trim_end_matches('0');
    format!("{}{rest} USD", text.get(..cents).unwrap_or_default())
}

/// How long something has taken, or has taken so far.
pub(crate) fn took(now: UnixMillis, started: Option<UnixMillis>, ended: Option<UnixMillis>) -> Option<DurationMillis> {
    started.map(|started| ended.unwrap_or(now).since(started))
}

/// What happened, in words.
pub(crate) fn event(event: &EventView) -> String {
    // A note on a start says that it is none yet: the job was claimed for one.
    if let Some(note) = event.note.as_ref().filter(|_| event.cause == Cause::Admitted) {
        return event.node.as_ref().map_or_else(|| note.clone(), |on| format!("{note} on {}", node(on)));
    }
    let what = happened(event.cause, event.state, event.node.as_ref());
    // Of an award the words have said it all, unless it needed no auction.
    let is_said = |note: &str| event.cause == Cause::Awarded && note.starts_with("awarded to ");
    match &event.note {
        Some(note) if !is_said(note) => format!("{what}: {note}"),
        Some(_) | None => what,
    }
}

/// What `cause` did to a job that is in `state` now.
pub(crate) fn happened(cause: Cause, state: JobState, on: Option<&NodeName>) -> String {
    let name = on.map(node);
    let by = |verb: &str| name.as_ref().map_or_else(|| verb.to_owned(), |name| format!("{verb} on {name}"));
    match cause {
        Cause::Ready => "queued".to_owned(),
        Cause::Deferred => "waits for its time".to_owned(),
        Cause::Revived => "waits again: what it had been dropped for is tried again".to_owned(),
        Cause::Adopted => by("taken over by the next daemon"),
        Cause::Due => "its time has come: queued again".to_owned(),
        Cause::Admitted => by("started"),
        Cause::Offered => "offered to other nodes".to_owned(),
        Cause::Awarded => name.map_or_else(|| "given to another node".to_owned(), |name| format!("given to {name}")),
        Cause::Unclaimed => "no node took it; it waits".to_owned(),
        Cause::Accepted => by("started"),
        Cause::Succeeded => by("completed"),
        Cause::Late => format!("{}, by an attempt that had been given up", by("completed")),
        Cause::Failed => format!("{}; it will be tried again", by("failed")),
        Cause::Exhausted => format!("{}; no attempt is left", by("failed")),
        Cause::Permanent => format!("{}; another attempt would fail too", by("failed")),
        Cause::Released => name.map_or_else(|| "given back".to_owned(), |name| format!("given back by {name}")),
        Cause::Lost => format!("{}; it will run again", by("lost")),
        Cause::Abandoned => format!("{}; it must not run again", by("lost")),
        Cause::Snoozed => "asked to go on later".to_owned(),
        Cause::Suspended => "waits for something".to_owned(),
        Cause::Woken => "what it waited for came".to_owned(),
        Cause::Cancelled if state.is_final() => "cancelled".to_owned(),
        Cause::Cancelled => "is being cancelled".to_owned(),
        Cause::Skipped => "skipped".to_owned(),
        Cause::Retried => "given another try".to_owned(),
    }
}

/// Says of a number or a length of time with a minus sign what is wrong with it: its other readers know no sign.
pub(crate) fn not_below_zero(text: &str) -> Result<(), String> {
    let is_signed =
        text.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'));
    if is_signed { Err(format!("{text} is below zero")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed_again() {
        let words = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(command(&words), r"sh -c 'echo '\''a b'\''' ''");
    }

    #[test]
    fn a_price_has_its_cents_and_no_empty_digits() {
        for (micros, text) in
            [(0, "0.00 USD"), (3, "0.000003 USD"), (1_500_000, "1.50 USD"), (12_345_600, "12.3456 USD")]
        {
            assert_eq!(dollars(micros), text);
        }
    }

    #[test]
    fn a_signal_is_told_from_a_code() {
        assert_eq!(exit(Exit { code: Some(7), signal: None }), "7");
        assert_eq!(exit(Exit { code: None, signal: Some(9) }), "signal 9");
        assert_eq!(exit(Exit::default()), "");
    }
}
