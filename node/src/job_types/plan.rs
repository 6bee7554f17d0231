//! When the jobs of a type are submitted by themselves.

use std::collections::BTreeMap;

use jobmesh_engine::{Timetable, TimetableError};
use jobmesh_protocol::schedule::{CatchUp, Overlap, Timing};
use jobmesh_protocol::{DurationMillis, UnixMillis};
use serde_json::Value;

use crate::config::table::{Entry, Fault, Lined};

const KEYS: &[&str] = &["cron", "every", "zone", "overlap", "catch_up", "jitter", "parameters"];
/// Longest jitter: a day, as the longest usual distance of two instants.
const JITTER_MAX: DurationMillis = DurationMillis::from_secs(86_400);

/// A schedule as a job type declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// When it fires.
    pub timing: Timing,
    /// What becomes of an instant while the job of an earlier one has not ended.
    pub overlap: Overlap,
    /// Which of the instants that were missed are made up for.
    pub catch_up: CatchUp,
    /// The parameters of its jobs.
    pub parameters: BTreeMap<String, Value>,
}

/// Reads `schedule`: a text, a table, or `false` for none.
pub(super) fn read_plan(entry: &Entry<'_>) -> Result<Lined<Option<Plan>>, Fault> {
    if entry.as_bool() == Some(false) {
        return Ok(entry.lined(None));
    }
    if entry.as_text().is_some() {
        let timing = read_cron(entry)?.map(Timing::new);
        return Ok(timing.map(|timing| Some(Plan::new(timing))));
    }
    if !entry.is_table() {
        return Err(
            entry.wrong("\"0 3 * * *\", \"@daily\", \"every 5m\", false, or a table such as { cron = \"0 3 * * *\" }")
        );
    }
    let table = entry.table()?;
    table.check_keys(KEYS, &[])?;
    let cron = table.read("cron", read_cron)?;
    let period = DurationMillis::from_secs(1)..=DurationMillis::from_secs(10 * 366 * 86_400);
    let every = table.read("every", |entry| {
        entry.length(period)?;
        Ok(format!("every {}", entry.as_text().unwrap_or_default()))
    })?;
    let text = match (cron, every) {
        (Some(cron), None) => cron.value,
        (None, Some(every)) => every,
        (Some(_), Some(_)) => return Err(entry.fault("has both cron and every; keep one of them")),
        (None, None) => return Err(entry.fault("does not say when; add cron = \"0 3 * * *\" or every = \"5m\"")),
    };
    let zone = table.read("zone", |entry| {
        let zone = entry.text()?.value;
        check(&Timing::new(&text).in_zone(&zone)).map_err(|error| entry.refused(&error))?;
        Ok(zone)
    })?;
    let zone = zone.unwrap_or_else(|| "UTC".to_owned());
    let jitter = table.read("jitter", |entry| entry.length(DurationMillis(0)..=JITTER_MAX))?;
    let jitter_ms = jitter.map(|jitter| jitter.value).unwrap_or_default();
    let timing = Timing { text, zone, jitter_ms };
    if let Some(jitter) = table.entry("jitter") {
        let checked = Timetable::parse(&timing, UnixMillis(0)).and_then(|found| found.check_jitter());
        checked.map_err(|error| jitter.refused(&error))?;
    }
    let overlaps: Vec<(&str, Overlap)> = Overlap::ALL.iter().map(|policy| (policy.word(), *policy)).collect();
    let mut plan = Plan::new(timing);
    if let Some(overlap) = table.read("overlap", |entry| entry.word(&overlaps))? {
        plan.overlap = overlap.value;
    }
    if let Some(catch_up) = table.read("catch_up", Entry::spoken)? {
        plan.catch_up = catch_up.value;
    }
    if let Some(parameters) = table.entry("parameters") {
        for (name, entry) in parameters.table()?.entries() {
            plan.parameters.insert(name.to_owned(), entry.json()?);
        }
    }
    Ok(entry.lined(Some(plan)))
}

impl Plan {
    fn new(timing: Timing) -> Self {
        Self { timing, overlap: Overlap::default(), catch_up: CatchUp::default(), parameters: BTreeMap::new() }
    }
}

/// Says why a timing can't be used.
fn check(timing: &Timing) -> Result<(), TimetableError> {
    // Whether it can be used does not depend on when it began.
    Timetable::parse(timing, UnixMillis(0)).map(drop)
}

/// The text of a schedule that some instants are found for.
fn read_cron(entry: &Entry<'_>) -> Result<Lined<String>, Fault> {
    let text = entry.text()?;
    check(&Timing::new(&text.value)).map_err(|error| entry.refused(&error))?;
    Ok(text)
}
