//! The report of an import for people.

use std::fmt::Write as _;

use jobmesh::import::report::{Line, QueueLine, Totals, Verdict};
use jobmesh::import::{Kind, LABEL_SOURCE, Release, Report};

use crate::cli::{Cell, Colour, Style, Table, clean};

/// The whole report.
pub(super) fn report(report: &Report, colour: Colour) -> String {
    let mut text = format!("{}\n", colour.paint(Style::Bold, &clean(&report.source)));
    if report.items.is_empty() {
        text.push_str("  nothing to import\n");
    } else {
        text.push_str(&items(&report.items, colour));
    }
    if !report.queues.is_empty() {
        let _ = write!(text, "\n{}", queues(&report.queues, colour));
    }
    let notes = notes(report);
    if !notes.is_empty() {
        let _ = write!(text, "\n{}\n{notes}", colour.paint(Style::Bold, "notes"));
    }
    if let Some(replacement) = &report.replacement {
        let head = "the crontab with these lines switched off, so that cron does not run them, too";
        let _ = writeln!(text, "\n{}", colour.paint(Style::Bold, head));
        // A tab does no harm here, and is part of a command that is to stay as it is.
        for line in replacement.split('\n').map(|line| line.split('\t').map(clean).collect::<Vec<_>>().join("\t")) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "\n{}", totals(&report.totals));
    text
}

fn items(lines: &[Line], colour: Colour) -> String {
    let mut table = Table::new(["ITEM", "BECOMES", "NEXT", "COMMAND"]);
    for line in lines {
        let (style, becomes) = verdict(line);
        table.push([
            Cell::from(&line.origin),
            Cell::styled(style, becomes),
            Cell::from(line.next.as_deref().unwrap_or_default()),
            Cell::from(&line.title),
        ]);
    }
    table.render(colour, 2)
}

const fn verdict(line: &Line) -> (Style, &'static str) {
    match (line.verdict, line.is_held) {
        (Verdict::Job, true) => (Style::Good, "held job"),
        (Verdict::Job, false) => (Style::Good, "job"),
        (Verdict::Schedule, true) => (Style::Good, "paused schedule"),
        (Verdict::Schedule, false) => (Style::Good, "schedule"),
        (Verdict::Changed, _) => (Style::Good, "another zone"),
        (Verdict::AlreadyThere, _) => (Style::Dim, "already there"),
        (Verdict::NeedsMapping, _) => (Style::Busy, "needs a mapping"),
        (Verdict::LeftOut, _) => (Style::Bad, "left out"),
    }
}

fn queues(lines: &[QueueLine], colour: Colour) -> String {
    let mut table = Table::new(["GROUP", "QUEUE", "AT ONCE", ""]);
    for line in lines {
        let limit = line.concurrency.map_or_else(|| "no limit".to_owned(), |limit| limit.to_string());
        let there = if line.is_there { "has limits already, which stay" } else { "" };
        table.push([
            Cell::from(&line.origin),
            Cell::from(&line.name),
            Cell::from(limit),
            Cell::styled(Style::Dim, there),
        ]);
    }
    table.render(colour, 2)
}

/// What is different here from there, a line each.
fn notes(report: &Report) -> String {
    let mut text = String::new();
    for line in &report.items {
        for note in line.reason.iter().chain(&line.notes) {
            let _ = writeln!(text, "  {}: {}", clean(&line.origin), clean(note));
        }
    }
    for line in &report.queues {
        for note in &line.notes {
            let _ = writeln!(text, "  queue {}: {}", clean(&line.name), clean(note));
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  {}", clean(warning));
    }
    if !report.is_node_known {
        text.push_str("  the node does not run, so that nobody knows what is there already\n");
    }
    text
}

fn totals(totals: &Totals) -> String {
    let counts = [
        (totals.jobs, "new job", "new jobs"),
        (totals.schedules, "new schedule", "new schedules"),
        (totals.queues, "queue with limits", "queues with limits"),
        (totals.changed, "schedule with another zone", "schedules with another zone"),
        (totals.already_there, "already there", "already there"),
        (totals.needs_mapping, "needs a mapping", "need a mapping"),
        (totals.left_out, "left out", "left out"),
        (totals.finished, "ended there", "ended there"),
        (totals.older, "older", "older"),
    ];
    let told = counts.iter().filter(|(count, ..)| *count > 0);
    let parts = told.map(|(count, one, many)| format!("{count} {}", if *count == 1 { one } else { many }));
    let line = parts.collect::<Vec<_>>().join(", ");
    if line.is_empty() { "nothing".to_owned() } else { line }
}

/// What a person does next.
pub(super) fn next_step(report: &Report, is_dry_run: bool, release: Release) -> String {
    let totals = &report.totals;
    if is_dry_run {
        return "dry run: nothing was changed".to_owned();
    }
    if totals.jobs + totals.schedules == 0 && totals.changed > 0 {
        return "the schedules go by their new zone".to_owned();
    }
    if totals.jobs + totals.schedules == 0 {
        let is_all = totals.needs_mapping + totals.left_out == 0 && totals.already_there > 0;
        let why = if is_all { "everything is there already" } else { "there is nothing new that can be" };
        return format!("{why}: nothing was changed");
    }
    match (report.kind, release) {
        (_, Release::Enqueue) => "imported".to_owned(),
        (Kind::Crontab, Release::Hold) => {
            "imported, paused; let one fire with `jobmesh cron resume NAME` once cron does not run it any more"
                .to_owned()
        }
        (Kind::Pueue | Kind::Oban, Release::Hold) => {
            let label = format!("{LABEL_SOURCE}={}", report.kind.word());
            format!("imported, held; let them run with `jobmesh release --label {label}`")
        }
    }
}
