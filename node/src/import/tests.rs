//! What holds for every source: the same plan each time, keys that outlive changes of state, and no panic on anything.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use jobmesh_protocol::{JobId, UnixMillis};
use jobmesh_store::SQLITE_MAGIC;

use super::pueue::Environment;
use super::*;

mod crontab_source;
mod fuzz;
mod oban_source;
mod pueue_source;

/// A moment in June: 2026-06-01T12:00:00Z.
const NOW: UnixMillis = UnixMillis(1_780_315_200_000);

/// What is there after the plan was carried out.
fn carried_out(plan: &Plan) -> Present {
    let id = |number: usize| JobId::from_bytes([u8::try_from(number % 256).unwrap(); 16]);
    Present {
        jobs: plan.jobs().enumerate().map(|(number, job)| (job.key.clone(), id(number))).collect(),
        schedules: plan.schedules().map(|it| (it.name.clone(), it.schedule.clone())).collect(),
        queues: plan.queues.iter().map(|queue| queue.name.clone()).collect(),
    }
}

/// A second import finds all that the first one made.
fn assert_nothing_new(plan: &Plan) {
    let there = carried_out(plan);
    assert!(plan.rounds(&there).is_empty());
    let totals = Report::new(plan, Some(&there)).totals;
    assert_eq!((totals.jobs, totals.schedules, totals.queues), (0, 0, 0));
    assert_eq!(totals.already_there, plan.jobs().count() + plan.schedules().count());
}

fn item<'p>(plan: &'p Plan, origin: &str) -> &'p Item {
    let found = plan.items.iter().find(|item| item.origin == origin);
    found.unwrap_or_else(|| unreachable!("{origin} is in the plan"))
}

fn job<'p>(plan: &'p Plan, origin: &str) -> &'p PlannedJob {
    let Fate::Job(job) = &item(plan, origin).fate else { unreachable!("{origin}: {:?}", item(plan, origin)) };
    job
}

fn reason<'p>(plan: &'p Plan, origin: &str) -> &'p str {
    match &item(plan, origin).fate {
        Fate::LeftOut { reason } | Fate::NeedsMapping { reason } => reason,
        Fate::Job(_) | Fate::Schedule(_) => "",
    }
}

#[test]
fn times_are_read_in_every_form() {
    let at = UnixMillis(1_735_812_000_250);
    for text in [
        "2025-01-02T10:00:00.250000Z",
        "2025-01-02 10:00:00.25",
        "2025-01-02T10:00:00.250000000",
        "2025-01-02 12:00:00.25+02",
        "2025-01-02T11:00:00.250000000+01:00",
    ] {
        assert_eq!(parse_time(text), Some(at), "{text}");
    }
    for text in ["", "2025-01-02", "yesterday", "1969-01-01 00:00:00", "2025-13-01 00:00:00", "10:00"] {
        assert_eq!(parse_time(text), None, "{text}");
    }
}

#[test]
fn keys_tell_lists_apart_that_read_the_same() {
    assert_ne!(key(Kind::Pueue, &["a", "bc"]), key(Kind::Pueue, &["ab", "c"]));
    assert_ne!(key(Kind::Pueue, &["a"]), key(Kind::Oban, &["a"]));
    assert_eq!(key(Kind::Oban, &["a"]).len(), "import:oban:".len() + 32);
}

#[test]
fn the_program_of_a_line_is_its_first_word() {
    for (line, program) in [
        ("FOO=1 /usr/bin/make -j4", "make"),
        ("(cd /x && y)", "cd"),
        ("\"/opt/my tool\"", "my"),
        ("", "command"),
        ("$(x)", "command"),
        ("grüße", "grüße"),
    ] {
        assert_eq!(program_of(line), program, "{line}");
    }
}

#[test]
fn whoever_waits_is_submitted_later() {
    let plan = pueue_source::plan(pueue_source::VERSION_4, Release::Hold);
    let rounds: Vec<Vec<&str>> = plan
        .rounds(&Present::default())
        .iter()
        .map(|round| round.iter().map(|job| job.submission.spec.name.as_deref().unwrap_or_default()).collect())
        .collect();
    assert_eq!(rounds.len(), 2);
    assert_eq!(rounds.last().unwrap(), &["model 3"]);
}

#[test]
fn a_plan_has_an_end() {
    let mut plan = Plan::new(Kind::Oban, "x");
    let mut taken = BTreeSet::new();
    let item = Item { origin: String::new(), title: String::new(), fate: Fate::left_out("x"), notes: Vec::new() };
    let pushed = (0..=ITEMS_MAX).map(|_| plan.push(item.clone(), &mut taken)).filter(Result::is_err).count();
    assert_eq!((pushed, plan.items.len()), (1, ITEMS_MAX));
}

/// The report of a dry run is made before anything is done, and that of the import of the same things.
#[test]
fn a_report_is_a_function_of_the_plan_and_of_what_is_there() {
    let plan = pueue_source::plan(pueue_source::VERSION_3, Release::Hold);
    let again = pueue_source::plan(pueue_source::VERSION_3, Release::Hold);
    let there = Present::default();
    let report = |plan| serde_json::to_string(&Report::new(plan, Some(&there))).unwrap();
    assert_eq!(report(&plan), report(&again));
    let totals = Report::new(&plan, Some(&there)).totals;
    assert_eq!((totals.jobs, totals.queues, totals.finished, totals.already_there), (5, 3, 2, 0));
}
