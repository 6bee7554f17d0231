//! States of pueue 3 and 4, good and hostile.

use jobmesh_protocol::submission::Start;
use jobmesh_protocol::task::Task;

use super::*;
use crate::import::pueue::{Options, read};

pub(super) const VERSION_3: &str = include_str!("../fixtures/pueue-3.json");
pub(super) const VERSION_4: &str = include_str!("../fixtures/pueue-4.json");

fn options(release: Release) -> Options {
    Options { since: None, environment: Environment::Drop, finished: Finished::Count, release }
}

pub(super) fn plan(text: &str, release: Release) -> Plan {
    read("/home/me/.local/share/pueue/state.json", text, &options(release)).unwrap()
}

fn held(plan: &Plan, origin: &str) -> (bool, Option<String>) {
    let job = job(plan, origin);
    (job.submission.held, job.held_because.clone())
}

#[test]
fn version_3_is_read() {
    let plan = plan(VERSION_3, Release::Enqueue);
    assert_eq!((plan.items.len(), plan.finished), (5, 2));
    assert_eq!(held(&plan, "task 1"), (false, None));
    assert_eq!(held(&plan, "task 2"), (true, Some("it was stashed".to_owned())));
    assert_eq!(held(&plan, "task 3"), (true, Some("it was running".to_owned())));
    assert_eq!(held(&plan, "task 4"), (true, Some("its command was being edited".to_owned())));
    assert_eq!(held(&plan, "task 5"), (true, Some("the group \"night\" was paused".to_owned())));
    assert_eq!(job(&plan, "task 2").after, [job(&plan, "task 1").key.clone()]);
    assert_eq!(item(&plan, "task 1").notes, ["task 0, which it waited for, has succeeded"]);
    let spec = &job(&plan, "task 1").submission.spec;
    assert_eq!((spec.name.as_deref(), spec.priority, spec.queue.as_str()), (Some("film a"), 5, "video"));
    let Task::Process(process) = &spec.task else { unreachable!("it is a process") };
    assert_eq!(process.argv, ["sh", "-c", "ffmpeg -i a.mkv a.mp4"]);
    assert_eq!(process.directory.as_deref(), Some("/home/me/video"));
    assert!(process.environment.is_empty(), "secrets stay where they are");
    let queues: Vec<_> = plan.queues.iter().map(|it| (it.name.as_str(), it.limits.concurrency)).collect();
    assert_eq!(queues, [("pueue", Some(Some(2))), ("night", Some(Some(1))), ("video", Some(None))]);
}

#[test]
fn version_4_is_read() {
    let plan = plan(VERSION_4, Release::Enqueue);
    assert_eq!((plan.items.len(), plan.finished), (4, 1));
    assert_eq!(held(&plan, "task 7"), (false, None));
    assert_eq!(job(&plan, "task 7").after, [job(&plan, "task 8").key.clone()]);
    assert_eq!(job(&plan, "task 7").submission.spec.priority, -2);
    assert_eq!(job(&plan, "task 8").submission.start, Start::At(UnixMillis(1_893_452_400_000)));
    assert_eq!(held(&plan, "task 9"), (true, Some("it had begun and was paused".to_owned())));
    assert!(held(&plan, "task 10").0);
    assert!(plan.warnings.iter().any(|it| it.starts_with("2 kept variables are dropped")), "{:?}", plan.warnings);
}

#[test]
fn nothing_runs_unless_it_is_released() {
    for text in [VERSION_3, VERSION_4] {
        assert!(plan(text, Release::Hold).jobs().all(|job| job.submission.held));
    }
}

#[test]
fn the_environment_and_the_finished_come_only_if_asked_for() {
    let all = Options { environment: Environment::Keep, finished: Finished::List, ..options(Release::Hold) };
    let plan = read("x", VERSION_4, &all).unwrap();
    let Task::Process(process) = &job(&plan, "task 7").submission.spec.task else { unreachable!("it is a process") };
    assert_eq!(process.environment.get("SECRET").map(String::as_str), Some("s3cret"));
    assert_eq!(reason(&plan, "task 0"), "it has ended: it could not be started: no such directory");
    assert_eq!(plan.finished, 0);
    let late = Options { since: parse_time("2025-02-01T10:00:03Z"), ..options(Release::Hold) };
    let plan = read("x", VERSION_4, &late).unwrap();
    assert_eq!((plan.items.len(), plan.older), (1, 3));
}

#[test]
fn doing_it_twice_changes_nothing() {
    let first = plan(VERSION_3, Release::Hold);
    assert_eq!(first, plan(VERSION_3, Release::Hold));
    assert_nothing_new(&first);
    // A task that has moved on, was given another place in the queue or is released is still the same one.
    let moved = VERSION_3.replace("\"Queued\"", "\"Running\"").replace("\"priority\":5", "\"priority\":9");
    let second = plan(&moved, Release::Enqueue);
    assert_eq!(job(&first, "task 1").key, job(&second, "task 1").key);
}

/// The same state, copied or read from standard input, was imported once more.
#[test]
fn a_copy_of_a_state_is_the_same_state() {
    let [one, other] = ["/a/state.json", "standard input"].map(|source| {
        let plan = read(source, VERSION_4, &options(Release::Hold)).unwrap();
        plan.jobs().map(|job| job.key.clone()).collect::<Vec<_>>()
    });
    assert_eq!(one, other);
}

#[test]
fn a_circle_is_left_out_and_what_waits_for_the_lost_is_held() {
    let task = |id: u32, after: &str, command: &str| {
        format!(r#""{id}":{{"command":"{command}","path":"/","dependencies":[{after}],"status":"Queued"}}"#)
    };
    let long = "x".repeat(100_000);
    let tasks = [task(1, "2", "a"), task(2, "1", "b"), task(3, "99", "c"), task(4, "", &long), task(5, "4", "e")];
    let plan = plan(&format!(r#"{{"tasks":{{{}}}}}"#, tasks.join(",")), Release::Enqueue);
    assert_eq!(reason(&plan, "task 1"), "it waits, in a circle, for itself");
    assert_eq!(held(&plan, "task 3").1.as_deref(), Some("it waited for task 99, which is gone"));
    assert!(reason(&plan, "task 4").starts_with("the job spec takes"));
    assert_eq!(held(&plan, "task 5").1.as_deref(), Some("it waited for task 4, which is not imported"));
    assert_eq!(plan.rounds(&Present::default()).len(), 1);
}

/// That it waited for a task which is gone was told of those only that nothing else held.
#[test]
fn what_waits_for_the_lost_says_so_even_if_it_is_held_anyway() {
    let text =
        r#"{"tasks":{"3":{"command":"c","path":"/","dependencies":[99],"status":{"Stashed":{"enqueue_at":null}}}}}"#;
    let plan = plan(text, Release::Enqueue);
    assert_eq!(held(&plan, "task 3"), (true, Some("it was stashed".to_owned())));
    assert_eq!(item(&plan, "task 3").notes, ["it waited for task 99, which is gone"]);
}

#[test]
fn hostile_text_is_refused() {
    let refused = |text: &str| {
        let error = read("x", text, &options(Release::Hold)).unwrap_err();
        std::error::Error::source(&error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
    };
    let half = VERSION_4.get(..VERSION_4.len() / 2).unwrap();
    assert!(refused(half).contains("EOF while parsing"));
    assert!(refused("[]").contains("invalid length 0"));
    assert!(refused("7").contains("invalid type: integer"));
    assert!(refused(r#"{"groups":{}}"#).contains("missing field `tasks`"));
    assert!(refused(r#"{"tasks":{"-1":{}}}"#).contains("invalid"));
    let one = |status: &str| format!(r#"{{"tasks":{{"3":{{"command":"x","path":"/","status":{status}}}}}}}"#);
    assert_eq!(refused(&one("\"Flying\"")), "task 3: \"Flying\" is no status");
    assert_eq!(refused(&one(r#"{"Stashed":{"enqueue_at":"soon"}}"#)), "task 3: \"soon\" is no time");
    assert_eq!(refused(&one("7")), "task 3: 7 is no status");
    for priority in ["\"high\"", "3000000000", "1.5"] {
        let said = refused(&one(&format!("\"Queued\",\"priority\":{priority}")));
        assert!(said.starts_with(&format!("task 3: its priority is {priority}; it must be")), "{said}");
    }
    assert_eq!(refused(r#"{"tasks":{"4":{"path":"/","status":"Queued"}}}"#), "task 4: missing field `command`");
    assert!(refused("{\n\u{0}}").starts_with("line 2 contains a NUL byte"));
    assert!(refused(&one(&"[".repeat(10 << 20))).contains("recursion limit"));
    assert!(refused(&format!(r#"{{"tasks": "{}"}}"#, "x".repeat(10 << 20))).contains("invalid type"));
}
