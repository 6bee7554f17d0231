//! Tables of Oban in all three forms, good and hostile.

use std::process::{Command, Stdio};

use jobmesh_protocol::submission::Start;
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{JobSpec, Submission};
use serde_json::{Map, Value};

use super::*;
use crate::import::oban::{Form, JobTypes, Options, TypeError, WorkerMap, read, read_sqlite};

const SQL: &str = include_str!("../fixtures/oban.sql");
const MAP: &str = include_str!("../fixtures/oban-map.toml");
const JSON_LINES: &str = include_str!("../fixtures/oban.jsonl");
const CSV: &str = include_str!("../fixtures/oban.csv");

/// One job type that writes down what it was given.
fn types(name: &str, parameters: &Map<String, Value>) -> Result<Submission, TypeError> {
    if name != "research" {
        return Err(TypeError { message: format!("there is no job type {name:?}") });
    }
    let argv = vec!["research".to_owned(), Value::Object(parameters.clone()).to_string()];
    Ok(Submission::new(JobSpec::new(name, Task::Process(ProcessTask::new(argv)))))
}

fn map() -> WorkerMap {
    WorkerMap::parse(Path::new("map.toml"), MAP).unwrap()
}

fn options<'o>(map: &'o WorkerMap, finished: Finished, release: Release) -> Options<'o> {
    let types: JobTypes<'o> = &types;
    Options { map, types, since: None, finished, release }
}

/// A SQLite file as Oban's migration makes it, written by another program.
fn sqlite(sql: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    use std::io::Write as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.db");
    let script = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.executescript(sys.stdin.read()); d.close()";
    let mut python = Command::new("python3");
    let mut child = python.args(["-c", script]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    (directory, path)
}

fn plan(finished: Finished, release: Release) -> Plan {
    let (_directory, path) = sqlite(SQL);
    read_sqlite("app.db", &path, &options(&map(), finished, release)).unwrap()
}

fn argv(job: &PlannedJob) -> Vec<&str> {
    let Task::Process(process) = &job.submission.spec.task else { unreachable!("it is a process") };
    process.argv.iter().map(String::as_str).collect()
}

#[test]
fn each_state_becomes_what_it_was() {
    let plan = plan(Finished::List, Release::Enqueue);
    let held = |origin: &str| (job(&plan, origin).submission.held, job(&plan, origin).held_because.as_deref());
    assert_eq!(reason(&plan, "job 1"), "it has completed");
    assert_eq!(held("job 2"), (false, None));
    assert_eq!(job(&plan, "job 3").submission.start, Start::At(parse_time("2025-02-01T00:00:00Z").unwrap()));
    assert_eq!(job(&plan, "job 4").submission.start, Start::At(parse_time("2025-01-04T11:00:00Z").unwrap()));
    assert_eq!(held("job 5"), (true, Some("it was executing, and may have done its work")));
    assert_eq!(held("job 6"), (true, Some("it was suspended")));
    assert_eq!(held("job 7"), (true, Some("it was discarded: a dead letter")));
    assert_eq!(reason(&plan, "job 8"), "it was cancelled");
    assert_eq!(reason(&plan, "job 9"), "no entry for \"MyApp.Mailer\" in the map");
    assert_eq!(reason(&plan, "job 10"), "the map asks for args.url, which it does not have");
    assert_eq!(reason(&plan, "job 11"), "the map says to skip it");
}

#[test]
fn a_row_keeps_its_arguments_attempts_priority_and_tags() {
    let plan = plan(Finished::Count, Release::Hold);
    assert_eq!(plan.finished, 3);
    let download = job(&plan, "job 2");
    assert_eq!(argv(download), ["curl", "-fLO", "https://example.org/a b"]);
    let spec = &download.submission.spec;
    assert_eq!((spec.priority, spec.retry.max_attempts, spec.queue.as_str()), (-2, 5, "media"));
    assert_eq!(spec.labels.get("tags").map(String::as_str), Some("nightly,big"));
    assert_eq!(spec.labels.get("worker").map(String::as_str), Some("MyApp.Download"));
    assert_eq!(spec.timeout_ms, Some(DurationMillis::from_secs(600)));
    let left = |origin: &str| job(&plan, origin).submission.spec.retry.max_attempts;
    assert_eq!((left("job 4"), left("job 5")), (2, 1));
    let report = job(&plan, "job 3");
    assert_eq!(argv(report), ["research", r#"{"count":3,"topic":"month 2025-01"}"#]);
    assert_eq!(report.submission.spec.queue, "reports");
    assert_eq!(item(&plan, "job 3").notes, ["its meta is left out: cron, cron_expr"]);
    assert!(plan.jobs().all(|job| job.submission.held));
}

#[test]
fn all_forms_lead_to_the_same_keys() {
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let sqlite = plan(Finished::Count, Release::Hold);
    for text in [JSON_LINES, CSV] {
        let dump = read("dump", text, &options).unwrap();
        assert_eq!((dump.items.len(), dump.finished), (2, 1));
        for origin in ["job 2", "job 4"] {
            assert_eq!(job(&dump, origin), job(&sqlite, origin), "{origin}");
        }
    }
    assert_eq!(Form::of(SQLITE_MAGIC), Form::Sqlite);
    assert_eq!((Form::of(b" {"), Form::of(b"id,"), Form::of(b"")), (Form::JsonLines, Form::Csv, Form::Csv));
}

#[test]
fn doing_it_twice_changes_nothing() {
    let first = plan(Finished::Count, Release::Hold);
    assert_eq!(first, plan(Finished::Count, Release::Hold));
    assert_nothing_new(&first);
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let twice = read("dump", &format!("{JSON_LINES}{JSON_LINES}"), &options).unwrap();
    assert_eq!(twice.jobs().count(), 2);
    let later = read("later", &JSON_LINES.replace("retryable", "available"), &options).unwrap();
    assert_eq!(job(&later, "job 4").key, job(&first, "job 4").key);
}

#[test]
fn without_a_map_every_worker_needs_one() {
    let map = WorkerMap::default();
    let plan = read("dump", CSV, &options(&map, Finished::Count, Release::Hold)).unwrap();
    assert_eq!(Report::new(&plan, None).totals.needs_mapping, 2);
    let any = WorkerMap::parse(Path::new("m"), "['*']\ntype = 'nonsense'").unwrap();
    let plan = read("dump", CSV, &options(&any, Finished::Count, Release::Hold)).unwrap();
    assert_eq!(reason(&plan, "job 2"), "there is no job type \"nonsense\"");
}

#[test]
fn hostile_dumps_are_refused_with_their_line() {
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let refused = |text: &str| read("x", text, &options).unwrap_err().to_string();
    assert!(refused("").starts_with("the first line must name the columns, among them id"));
    assert!(refused("1,available,MyApp.X\n").starts_with("the first line must name"));
    assert!(
        refused("id,state,worker,args\n1,available\n").starts_with("the record that starts on line 2 has 2 fields")
    );
    assert_eq!(refused("id,state,worker,args\nx,available,W,{}\n"), "line 2: its id is a text, not a whole number");
    assert!(refused("id,state,worker,args\n1,available,W,\"{\n").starts_with("the quote that opens on line 2"));
    assert_eq!(refused("{\"id\":1}"), "line 1: its state is missing");
    let row = |change: &str| format!("\n{{\"id\":1,\"state\":\"available\",\"worker\":\"W\",\"args\":{{}},{change}}}");
    assert_eq!(refused(&row("\"attempt\":-1")), "line 2: its attempt is -1, which is out of range");
    assert_eq!(refused(&row("\"meta\":[]")), "line 2: its meta is a list, not a JSON object");
    assert_eq!(refused(&row("\"scheduled_at\":\"soon\"")), "line 2: its scheduled_at is \"soon\", which is no time");
    assert_eq!(refused("{\"id\":1,\n"), "failed to read the JSON on line 1");
    assert!(refused(&format!("{{\"id\":\"{}\"}}", "x".repeat(10 << 20))).starts_with("line 1 has more than"));
    assert!(refused("{\"id\":\"\u{0}\"}").starts_with("line 1 contains a NUL byte"));
}

/// One row of an unknown state kept all the others out.
#[test]
fn a_row_of_an_unknown_state_is_left_out_and_the_others_come() {
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let plan = read("x", &format!("{JSON_LINES}{}", JSON_LINES.replace("retryable", "flying")), &options).unwrap();
    assert_eq!(plan.jobs().count(), 2);
    let flying = plan.items.last().unwrap();
    assert!(matches!(&flying.fate, Fate::LeftOut { reason } if reason.contains("\"flying\"")), "{flying:?}");
    let totals = Report::new(&plan, None).totals;
    assert_eq!((totals.jobs, totals.left_out), (2, 2));
}

#[test]
fn rows_of_one_id_are_noted() {
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let other = JSON_LINES.replace("2025-01", "2024-01");
    assert_ne!(other, JSON_LINES);
    let plan = read("x", &format!("{JSON_LINES}{other}"), &options).unwrap();
    assert_eq!(plan.jobs().count(), 4, "they are other jobs all the same");
    let noted = |item: &&Item| item.notes.iter().any(|note| note.contains("has the same id"));
    assert_eq!(plan.items.iter().filter(noted).count(), 2);
}

#[test]
fn another_database_is_refused() {
    let map = map();
    let options = options(&map, Finished::Count, Release::Hold);
    let (_directory, path) = sqlite("CREATE TABLE jobs (id INTEGER)");
    assert!(read_sqlite("x", &path, &options).unwrap_err().to_string().contains("has no table \"oban_jobs\""));
    let (_directory, path) = sqlite("CREATE TABLE oban_jobs (id TEXT); INSERT INTO oban_jobs VALUES (x'ff')");
    assert_eq!(read_sqlite("x", &path, &options).unwrap_err().to_string(), "row 1: its id is 1 bytes of no text");
}
