//! The chores, done by a node that has something to tidy up.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::time::{Duration, SystemTime};

use jobmesh_engine::Taken;
use jobmesh_protocol::tree::{Entry, Node as Content, Tree};
use jobmesh_protocol::{BlobRef, DurationMillis, JobState, RunId};
use serde_json::{Value, json};

use super::*;
use crate::runtime::fixture::{LIMIT, Node, first_run};

async fn chore(node: &Node, builtin: Builtin) -> Outcome {
    node.on_slot(move |handle| perform(handle, builtin)).await
}

/// Has retention done until it has come to this job: a millisecond after its end at the earliest.
async fn until_deleted(node: &Node, taken: Taken) {
    let trying = async {
        while node.handle().read(move |view| Ok(view.job(taken.job)?.is_some())).await.unwrap() {
            assert_eq!(chore(node, Builtin::Retention).await, Outcome::Ok);
        }
    };
    tokio::time::timeout(LIMIT, trying).await.unwrap();
}

async fn upload(node: &Node, bytes: &'static [u8]) -> BlobRef {
    let stream = futures::stream::iter([Ok::<_, io::Error>(bytes::Bytes::from_static(bytes))]);
    let blob = node.handle().blobs().write(stream).await.unwrap();
    let file = fs::File::open(node.handle().blobs().path_of(blob.hash)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(7 * 86_400)).unwrap();
    blob
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_deletes_what_nobody_needs_and_nothing_else() {
    let node = Node::start_with(|config| config.retention.completed = Some(DurationMillis(1))).await;
    let [unused, used] = [upload(&node, b"unused").await, upload(&node, b"used").await];
    let gone = node.submit("echo gone", json!({})).await;
    node.ended(gone).await;
    let failed = node.submit("echo failed; exit 1", json!({ "spec": { "retry": { "max_attempts": 1 } } })).await;
    node.ended(failed).await;
    let kept = node.submit("echo kept", json!({ "spec": { "keep_ms": 3_600_000 } })).await;
    node.ended(kept).await;
    let cat = json!({ "process": { "argv": ["cat"], "stdin": used } });
    let last = node.submit_task(&cat, json!({ "spec": { "keep_ms": 3_600_000 } })).await;
    node.ended(last).await;
    let home = node.handle().home().clone();
    let lost = home.runs().join("0198c0de-0000-7000-8000-000000000000.1");
    fs::create_dir(&lost).unwrap();
    fs::create_dir(home.runs().join("mine")).unwrap();

    until_deleted(&node, gone).await;

    let jobs = node.handle().read(move |view| Ok([gone, failed, kept, last].map(|taken| view.job(taken.job).unwrap())));
    let found = jobs.await.unwrap().map(|job| job.map(|job| job.state));
    let [completed, discarded] = [JobState::Completed, JobState::Discarded].map(Some);
    assert_eq!(found, [None, discarded, completed, completed]);
    assert!(!lost.exists() && home.runs().join("mine").exists());
    let directory = |taken| home.run(first_run(taken)).exists();
    assert!(directory(failed) && directory(kept) && directory(last));
    assert!(!node.handle().blobs().has(unused) && node.handle().blobs().has(used));
    node.stop().await;
}

/// A tree of one file of this content, both of them old.
async fn upload_tree(node: &Node, bytes: &'static [u8]) -> [BlobRef; 2] {
    let blob = upload(node, bytes).await;
    let entry = Entry { path: "a".to_owned(), node: Content::File { blob, mode: 0o644 } };
    let tree = Tree::new(vec![entry]).unwrap().encode();
    [blob, upload(node, Box::leak(tree.into_boxed_slice())).await]
}

/// What a tree names is needed as long as the tree is: by a job that begins with it, by an attempt that left it, by a
/// schedule.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_tree_stay_as_long_as_it_is_needed() {
    let node = Node::start_with(|config| config.retention.completed = Some(DurationMillis(1))).await;
    let kept = json!({ "keep_ms": 3_600_000 });
    let with = |tree: BlobRef, spec: &Value| {
        let mut spec = spec.clone();
        spec["inputs"] = json!(tree);
        json!({ "spec": spec })
    };
    let unused = upload_tree(&node, b"unused").await;
    let used = upload_tree(&node, b"used").await;
    let first = node.submit("cat a", with(used[1], &kept)).await;
    let passing = upload_tree(&node, b"passing").await;
    let gone = node.submit("cat a", with(passing[1], &json!({}))).await;
    let mut spec = kept.clone();
    spec["outputs"] = json!(["*"]);
    let last = node.submit("printf left > b", json!({ "spec": spec })).await;
    let files = node.ended(last).await;
    assert_eq!(files.state, JobState::Completed);
    node.ended(first).await;
    until_deleted(&node, gone).await;
    let left = BlobRef::of(b"left");
    let week = SystemTime::now() - Duration::from_secs(7 * 86_400);
    for entry in fs::read_dir(node.handle().blobs().folder()).unwrap() {
        fs::File::open(entry.unwrap().path()).unwrap().set_modified(week).unwrap();
    }
    assert_eq!(chore(&node, Builtin::Retention).await, Outcome::Ok);
    let is_there = |blob: BlobRef| node.handle().blobs().path_of(blob.hash).exists();
    assert!(used.into_iter().all(is_there) && is_there(left), "what a job needs is gone");
    assert!(!unused.into_iter().chain(passing).any(is_there), "what nobody needs is there");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_is_counted_and_stays_counted_when_it_is_deleted() {
    let node = Node::start_with(|config| config.retention.completed = Some(DurationMillis(1))).await;
    let first = node.submit("true", json!({})).await;
    node.ended(first).await;
    for line in ["true", "exit 1"] {
        let taken = node.submit(line, json!({ "spec": { "retry": { "max_attempts": 1 } } })).await;
        node.ended(taken).await;
    }
    assert_eq!(chore(&node, Builtin::Metrics).await, Outcome::Ok);
    until_deleted(&node, first).await;
    assert_eq!(chore(&node, Builtin::Metrics).await, Outcome::Ok);
    let metrics = node.handle().read(|view| view.metrics(0)).await.unwrap();
    let count = |state| metrics.iter().filter(|row| row.state == state).map(|row| row.jobs).sum::<u64>();
    assert_eq!((count(JobState::Completed), count(JobState::Discarded)), (2, 1), "{metrics:?}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_of_a_sound_database_empties_its_log() {
    let node = Node::start("").await;
    let taken = node.submit("true", json!({})).await;
    node.ended(taken).await;
    assert_eq!(chore(&node, Builtin::Upkeep).await, Outcome::Ok);
    let taken = node.submit("true", json!({})).await;
    assert_eq!(node.ended(taken).await.state, JobState::Completed);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learnt_is_written_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let node = Node::start("").await;
    let taken = node.submit("true", json!({})).await;
    node.ended(taken).await;
    for _ in 0..2 {
        assert_eq!(chore(&node, Builtin::LearningExport).await, Outcome::Ok);
    }
    let files: Vec<_> =
        fs::read_dir(node.handle().home().exports()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let export: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!((export["version"].as_u64(), export["name"].as_str()), (Some(1), Some("solo")));
    assert_eq!(export["own"][0]["job_type"], "sh", "{export}");
    assert_eq!(export["own"][0]["succeeded"], 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chore_is_a_job_and_one_of_a_node_that_stops_is_given_back() {
    let node = Node::start("").await;
    let taken = node.submit_task(&json!({ "builtin": "upkeep" }), json!({})).await;
    assert_eq!(node.ended(taken).await.state, JobState::Completed);
    node.handle().drain().await.unwrap();
    for builtin in Builtin::ALL.iter().copied() {
        assert_eq!(chore(&node, builtin).await.word(), "released", "{builtin}");
    }
    node.stop().await;
}

#[test]
fn a_directory_of_a_run_is_told_by_its_exact_name() {
    let name = "0198c0de-0000-7000-8000-000000000000.1";
    assert_eq!(RunId::parse(name).unwrap().to_string(), name);
    for other in ["0198C0DE-0000-7000-8000-000000000000.1", "0198c0de-0000-7000-8000-000000000000", "x.1", "", "."] {
        assert_eq!(RunId::parse(other), None, "{other}");
    }
}
