//! How long one job takes that another node runs, beside the same job here and what both are made of.
//!
//! The two are measured in turns, so that whatever disturbs one disturbs the other.

use std::time::{Duration, Instant};

use super::connection::{ANSWER_LIMIT, Connection};
use super::error::BenchError;
use super::local::Bench;
use super::meshed::Meshed;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{self, Job, Request, Work};
use super::statistics::Samples;

const PART: Part = Part::Remote;
/// What lies between two jobs: the last words of two nodes about the one before, and what they sync of them.
const REST: Duration = Duration::from_millis(20);
/// What a job elsewhere may cost beyond the same job here: so many flushes, and so much time.
const FLUSHES: u32 = 6;
const ALLOWANCE: Duration = Duration::from_millis(5);

/// What was measured in turns.
struct Turns {
    here: Samples,
    elsewhere: Samples,
}

/// Measures one job at a time, on this node and on another.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let mut rows = Rows::new(PART);
    rows.add("what it is made of", || parts(bench))?;
    rows.add("noop elsewhere", || {
        let turns = turns(bench)?;
        let (trip, commit) = (bench.floors.round_trips()?.median, bench.floors.commits()?.median);
        let mut rows = pair("noop here", &turns.here, 2 * commit, "2 commits");
        rows.extend(pair("noop elsewhere", &turns.elsewhere, 5 * commit + 2 * trip, "5 commits, 2 round trips"));
        rows.push(promise(&turns, bench.floors.flushes()?.median));
        Ok(rows)
    })?;
    Ok(rows.into_rows())
}

/// The floors under a job elsewhere.
fn parts(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let trips = bench.floors.round_trips()?;
    let (flush, spawn) = (bench.floors.flushes()?.median, bench.floors.spawns()?.median);
    let condition = "300 bytes on an open session of libp2p, in one process";
    let row = |what: &str, length, condition: &str| Row::new(PART, what, Figure::length(length), condition);
    Ok(vec![
        row("round trip, p50", trips.median, condition),
        row("round trip, p95", trips.slow, condition),
        row("fdatasync, p50", flush, "append of 4 KiB"),
        row("spawn + wait of true, p50", spawn, "one by one; a noop needs none"),
    ])
}

fn pair(what: &str, samples: &Samples, floor: Duration, parts: &str) -> Vec<Row> {
    let condition = format!("N={}, API to API, durable on every node; floor: {parts}", samples.len());
    let row =
        |share: &str, length, condition| Row::new(PART, format!("{what}, {share}"), Figure::length(length), condition);
    let p50 = row("p50", samples.median(), condition).over(Figure::length(floor));
    vec![p50, row("p95", samples.percentile(95), String::new())]
}

/// The median beside what was promised of it.
fn promise(turns: &Turns, flush: Duration) -> Row {
    let limit = turns.here.median() + FLUSHES * flush + ALLOWANCE;
    let elsewhere = turns.elsewhere.median();
    let verdict = if elsewhere <= limit { "met" } else { "missed" };
    let condition = format!("promise {verdict}: p50 here + {FLUSHES} fdatasync + {} ms at most", ALLOWANCE.as_millis());
    Row::new(PART, "noop elsewhere, promise", Figure::length(elsewhere), condition).over(Figure::length(limit))
}

fn turns(bench: &Bench) -> Result<Turns, BenchError> {
    let mut nodes = Meshed::build(&bench.site, "remote")?;
    nodes.grow(&bench.site)?;
    let here = requests::submit(&Job::new(Work::Noop));
    let elsewhere = requests::submit(&Job::elsewhere(Work::Noop));
    let mut connection = nodes.origin().connect()?;
    let mut turns = Turns { here: Samples::default(), elsewhere: Samples::default() };
    for _ in 0..bench.sizes.remote {
        bench.stop.rest(REST)?;
        turns.here.add(one(&mut connection, &here)?);
        bench.stop.rest(REST)?;
        turns.elsewhere.add(one(&mut connection, &elsewhere)?);
    }
    Ok(turns)
}

/// Submits a job and waits for its end.
fn one(connection: &mut Connection, request: &Request) -> Result<Duration, BenchError> {
    let start = Instant::now();
    let number = requests::submitted(request, &connection.ask(request, ANSWER_LIMIT)?)?.number;
    let wait = requests::wait(number);
    let ended = connection.ask(&wait, ANSWER_LIMIT)?;
    let length = start.elapsed();
    requests::completed(&wait, &ended).map(|()| length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promised(elsewhere_ms: u64) -> String {
        let samples = |ms| [Duration::from_millis(ms)].into_iter().collect();
        let turns = Turns { here: samples(3), elsewhere: samples(elsewhere_ms) };
        serde_json::to_value(promise(&turns, Duration::from_millis(2))).unwrap_or_default()["condition"].to_string()
    }

    #[test]
    fn the_promise_is_met_up_to_its_limit() {
        assert!(promised(20).contains("promise met"), "{}", promised(20));
        assert!(promised(21).contains("promise missed"), "{}", promised(21));
    }
}
