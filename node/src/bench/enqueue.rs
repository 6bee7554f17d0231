//! How fast jobs are taken on. Every answer comes after its commit, with `synchronous=FULL`.

use std::time::Instant;

use super::connection::ANSWER_LIMIT;
use super::crowd::CLIENTS;
use super::error::BenchError;
use super::floor::find;
use super::local::Bench;
use super::plan::Part;
use super::report::{Figure, Row, Rows};
use super::requests::{self, BATCH, Job, Work};
use super::site::Daemon;

const PART: Part = Part::Enqueue;

/// Measures submits one by one, from many at once, in batches, and as one array.
pub(super) fn rows(bench: &Bench) -> Result<Vec<Row>, BenchError> {
    let daemon = bench.site.daemon("enqueue", None)?;
    let held = hold(&daemon)?;
    let job = Job::new(Work::Command(vec![find("true")?.to_string_lossy().into_owned()]));
    let mut rows = Rows::new(PART);
    rows.add("array", || array(bench, &daemon, &job))?;
    rows.add("one by one", || singles(bench, &daemon, &job, held))?;
    rows.add("64 connections", || crowd(bench, &daemon, &job, held))?;
    rows.add("batches", || batches(bench, &daemon, &job, held))?;
    Ok(rows.into_rows())
}

/// Keeps jobs from starting, so that nothing but taking them on is measured.
fn hold(daemon: &Daemon) -> Result<&'static str, BenchError> {
    match daemon.ask(&requests::pause()) {
        Ok(_) => Ok("queue paused"),
        Err(error) if error.is_unknown_question() => Ok("jobs run meanwhile"),
        Err(error) => Err(error),
    }
}

fn singles(bench: &Bench, daemon: &Daemon, job: &Job, held: &str) -> Result<Vec<Row>, BenchError> {
    let (request, count) = (requests::submit(job), bench.sizes.singles);
    let mut connection = daemon.connect()?;
    let start = Instant::now();
    for _ in 0..count {
        connection.ask(&request, ANSWER_LIMIT)?;
    }
    let figure = Figure::rate(count, start.elapsed());
    let condition = format!("1 connection, each awaited, N={count}, {held}");
    Ok(vec![Row::new(PART, "one by one", figure, condition).over(bench.floors.commits()?.single)])
}

fn crowd(bench: &Bench, daemon: &Daemon, job: &Job, held: &str) -> Result<Vec<Row>, BenchError> {
    let (request, count) = (requests::submit(job), bench.sizes.crowd);
    let (elapsed, _) = daemon.crowd()?.ask(&request, count)?;
    let condition = format!("{CLIENTS} connections, each awaited, N={count}, {held}");
    let row = Row::new(PART, "from 64 at once", Figure::rate(count, elapsed), condition);
    Ok(vec![row.over(bench.floors.commits()?.group)])
}

fn batches(bench: &Bench, daemon: &Daemon, job: &Job, held: &str) -> Result<Vec<Row>, BenchError> {
    let (request, count) = (requests::batch(job, BATCH), bench.sizes.batches);
    let mut connection = daemon.connect()?;
    let start = Instant::now();
    for _ in 0..count {
        connection.ask(&request, ANSWER_LIMIT)?;
    }
    let figure = Figure::rate(count * BATCH, start.elapsed());
    let condition = format!("{count} requests of {BATCH} lines, {held}");
    Ok(vec![Row::new(PART, "in batches", figure, condition).over(bench.floors.commits()?.bulk)])
}

fn array(bench: &Bench, daemon: &Daemon, job: &Job) -> Result<Vec<Row>, BenchError> {
    let request = requests::array(job, bench.sizes.array);
    let mut connection = daemon.connect()?;
    let start = Instant::now();
    connection.ask(&request, ANSWER_LIMIT)?;
    let figure = Figure::length(start.elapsed());
    let condition = format!("1 submit of {} tasks; floor: a commit", bench.sizes.array);
    let row = Row::new(PART, "one array", figure, condition);
    Ok(vec![row.over(Figure::length(bench.floors.commits()?.median))])
}
