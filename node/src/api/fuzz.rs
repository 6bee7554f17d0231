//! The bodies of questions on the control socket and the words people type, tried with hostile bytes. Whoever may connect
//! may run jobs anyway; but a program with a mistake must not take the daemon down.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Display;
use std::str::FromStr;

use jobmesh_engine::{Schedule, Timetable};
use jobmesh_protocol::resource::{Amount, Demand, Request, Requests};
use jobmesh_protocol::retry;
use jobmesh_protocol::schedule::{CatchUp, Timing};
use jobmesh_protocol::submission::{Array, Dependency, Start, Tasks};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::{DurationMillis, JobId, JobNumber, JobSpec, Requirement, Submission, Tag, UnixMillis};
use jobmesh_tests::fuzz::{Heap, Target};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;

#[global_allocator]
static HEAP: Heap = Heap;

const AT: UnixMillis = UnixMillis(1_700_000_000_000);

/// A body of this type, written as it was read.
fn body<T: Serialize + DeserializeOwned>(name: &str, samples: &[&str]) {
    let target = samples.iter().fold(Target::text(name), Target::sample);
    target.run_stable(|bytes| -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&serde_json::from_slice::<T>(bytes)?)
    });
}

/// A word of this type, printed as it was read.
fn word<T: FromStr<Err: Display> + Display>(name: &str, samples: &[&str]) {
    let target = samples.iter().fold(Target::text(name), Target::sample);
    target.run_stable(|bytes| -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        text.parse::<T>().map(|found| found.to_string().into_bytes()).map_err(|error| error.to_string())
    });
}

fn plain() -> Submission {
    let mut spec = JobSpec::new("render", Task::Process(ProcessTask::new(vec!["sh".to_owned(), "-c".to_owned()])));
    spec.labels.insert("team".to_owned(), "red".to_owned());
    Submission { idempotency_key: Some("once".to_owned()), ..Submission::new(spec) }
}

fn later() -> Submission {
    let dependency = Dependency { job: JobId::from_bytes([7; 16]), on: None };
    Submission { start: Start::After(DurationMillis(500)), after: vec![dependency], ..plain() }
}

fn array() -> Submission {
    let tasks = Tasks::Ranges(serde_json::from_str("[]").unwrap());
    Submission { array: Some(Array { tasks, at_a_time: Some(3), max_fails: None }), held: true, ..plain() }
}

#[test]
fn fuzz_submissions() {
    let samples = [plain(), later(), array()].map(|it| serde_json::to_string(&it).unwrap());
    let samples = samples.each_ref().map(String::as_str);
    body::<SubmitRequest>("api-submission", &samples);
    let target = samples.iter().fold(Target::text("api-submission-check"), Target::sample);
    target.run(|bytes| -> Result<(), String> {
        let read: SubmitRequest = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        read.check().map_err(|error| error.to_string())
    });
}

fn timing(text: &str) -> Timing {
    Timing { text: text.to_owned(), zone: "Europe/Oslo".to_owned(), jitter_ms: DurationMillis(0) }
}

#[test]
fn fuzz_schedules() {
    let (overlap, catch_up) = (serde_json::from_str("\"skip\"").unwrap(), CatchUp::Window(DurationMillis(3_600_000)));
    let schedule = Schedule { timing: timing("*/5 0-6 * JAN-MAR mon#1"), overlap, catch_up, submission: plain() };
    body::<Schedule>("api-schedule", &[&serde_json::to_string(&schedule).unwrap()]);
    let texts = ["*/5 0-6 * JAN-MAR mon#1", "30 0 0 29 2 *", "@daily", "every 5m", "0 0 L * *"];
    let target = texts.iter().fold(Target::text("cron"), Target::sample);
    target.run(|bytes| -> Result<(), String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        let table = Timetable::parse(&timing(text), AT).map_err(|error| error.to_string())?;
        let next = table.next_after(AT);
        assert!(next.is_none_or(|next| next > AT) && !table.words().is_empty());
        Ok(())
    });
    body::<BackfillRequest>("api-backfill", &[r#"{"from":1700000000000,"to":1800000000000,"dry_run":true}"#]);
}

#[test]
fn fuzz_questions_about_jobs() {
    let select =
        r#"{"jobs":["last","42.3-9","3,7-9"],"filter":{"name":"x","labels":{"a":"b"},"tasks":true},"limit":7}"#;
    body::<SelectRequest>("api-select", &[select]);
    body::<WaitRequest>("api-wait", &[&format!("{{\"select\":{select},\"any\":true,\"timeout_ms\":500}}")]);
    let actions = [r#"{"cancel":{"reason":"x","force":true}}"#, "\"retry\"", r#"{"move":{"queue":"q"}}"#];
    let acts = actions.map(|action| format!("{{\"select\":{select},\"action\":{action}}}"));
    body::<ActRequest>("api-act", &acts.each_ref().map(String::as_str));
    body::<PruneRequest>("api-prune", &[r#"{"ended_before":1700000000000}"#]);
}

#[test]
fn fuzz_other_questions() {
    body::<QueueRequest>("api-queue", &[r#"{"concurrency":null}"#, r#"{"concurrency":4,"rate":null}"#]);
    body::<TypeRequest>("api-type", &[r#"{"parameters":{"url":"x","n":[1,{"a":null}]}}"#]);
    body::<InviteRequest>("api-invite", &[r#"{"ttl_ms":3600000,"role":"member"}"#]);
    body::<JoinRequest>("api-join", &[r#"{"invite":"jm1abc"}"#]);
    let blob = r#"{"hash":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","size":0}"#;
    body::<MissingRequest>("api-missing", &[&format!("{{\"blobs\":[{blob},{blob}]}}")]);
    body::<ShutdownRequest>("api-shutdown", &[r#"{"mode":"drain"}"#]);
    body::<CapabilityRequest>("api-capability", &[r#"{"tags":["gpu","tool:ffmpeg"]}"#]);
}

#[test]
fn fuzz_words() {
    word::<Pick>("word-pick", &["last.3-9", "42.7", "3,7-9", "01890a5d-ac96-774b-bcce-b302099a8057"]);
    word::<JobNumber>("word-number", &["42.7"]);
    word::<Tag>("word-tag", &["tool:ffmpeg"]);
    word::<Requirement>("word-requirement", &["ram>=16GiB", "tool:ffmpeg", "os=linux"]);
    word::<Amount>("word-amount", &["1.5", "4"]);
    word::<Demand>("word-demand", &["gpu=2"]);
    word::<Request>("word-request", &["cpus=1.5", "mem=2GiB"]);
    word::<Requests>("word-requests", &["cpus=1.5,mem=2GiB"]);
    word::<retry::Failure>("word-failure", &["exit=75", "signal=9", "timeout"]);
    word::<CatchUp>("word-catch-up", &["6h", "latest"]);
}
