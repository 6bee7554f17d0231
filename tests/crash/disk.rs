//! A disk that is full, for a while: at a submit, at the end of a job, at what a job reports, at a checkpoint.
//!
//! Each node lives on a small file system of its own, in mounts that nobody else sees.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Fifo, Mount, Node, Place, Run, private_mounts};

use crate::bench;
use crate::record::Record;

/// How long a node may need to see that there is room again.
const LIMIT: Duration = Duration::from_secs(60);
/// Most submits until a disk without any room refuses one: what its write-ahead log has room for.
const SUBMITS_MAX: usize = 2000;

/// A node on a small file system, and a file that takes what is left of it.
struct Stage {
    node: Node,
    disk: Mount,
    bench: Bench,
}

impl Stage {
    fn new(mebibytes: u32) -> Self {
        let bench = bench();
        let disk = Mount::new(bench.folder().join("disk"), &format!("size={mebibytes}m"));
        let home = disk.directory().join("home");
        fs::create_dir(&home).unwrap();
        let node = bench.node_at(home);
        node.up();
        Self { node, disk, bench }
    }

    /// Takes all the room but so many bytes.
    fn fill(&self, rest: u64) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.disk.directory().join("filler")).unwrap();
        for size in [1 << 16, 1 << 12] {
            loop {
                match file.write_all(&vec![0; size]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(rest)).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.disk.directory().join("filler")).unwrap();
    }

    fn submit_something(&self) -> Run {
        let fill = format!("FILL={}", "x".repeat(20_000));
        self.node.run(&["submit", "-q", "--env", &fill, "--", "true"])
    }

    /// Submits until the node has no room for more, and returns those that it took.
    fn submit_until_refused(&self) -> Vec<String> {
        let mut taken = Vec::new();
        for _ in 0..SUBMITS_MAX {
            let run = self.submit_something();
            if run.code != 0 {
                assert_eq!(run.code, 75, "{}", run.stderr);
                assert!(run.stderr.contains("the disk that holds the job database is full"), "{}", run.stderr);
                assert!(run.stderr.contains("hint: free some space"), "{}", run.stderr);
                return taken;
            }
            taken.push(run.text().trim().to_owned());
        }
        panic!("a full disk took {SUBMITS_MAX} jobs");
    }

    /// Tries again until the node has seen that there is room, as its hint says.
    fn until_accepted(&self) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let run = self.submit_something();
            if run.code == 0 {
                return run.text().trim().to_owned();
            }
            assert!(run.code == 75 && Instant::now() < deadline, "{}\n{}", run.stderr, self.node.log());
        }
    }

    /// Looks whether everything is there that was acknowledged, while the node runs and after it.
    fn all_is_there(&self, acknowledged: &[String]) {
        self.node.wait_for(acknowledged);
        self.node.down();
        assert!(Record::open(&self.node.database()).is_sound());
        self.node.up();
        self.node.wait_for(acknowledged);
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
    }
}

/// A job that reports something when it is told to, says how that went, and ends when it is told to.
fn reporting(stage: &Stage) -> (String, Fifo, Fifo) {
    let [told, go] = ["told", "go"].map(|name| Fifo::new(stage.bench.folder().join(name)));
    let errors = stage.bench.folder().join("errors");
    let script = "echo ready > \"$1\"
        while read word < \"$2\" && [ \"$word\" != end ]; do
            \"$0\" task checkpoint set place \"$word\" 2> \"$3\"; echo $? > \"$1\"
        done";
    let paths = [told.path(), go.path(), &errors].map(|path: &Path| path.display().to_string());
    let command = ["--", "sh", "-c", script, env!("CARGO_BIN_EXE_jobmesh"), &paths[0], &paths[1], &paths[2]];
    (stage.node.submit(&command), told, go)
}

#[test]
fn what_ends_or_reports_on_a_full_disk_is_kept_and_new_work_is_refused() {
    let test = "disk::what_ends_or_reports_on_a_full_disk_is_kept_and_new_work_is_refused";
    if private_mounts(test) == Place::Outside {
        return;
    }
    let stage = Stage::new(24);
    assert_eq!(stage.node.run(&["cron", "add", "daily", "@daily", "--", "true"]).code, 0);
    let (job, mut told, mut go) = reporting(&stage);
    assert_eq!(told.line(), "ready");
    go.tell("first");
    let errors = || fs::read_to_string(stage.bench.folder().join("errors")).unwrap();
    assert_eq!(told.line(), "0", "{}", errors());
    stage.fill(0);
    let mut acknowledged = stage.submit_until_refused();
    // What is submitted by a schedule's name is new work like any other.
    let since = ["--from", "2019-12-31 12:00", "--to", "2020-01-02 12:00", "--yes"];
    for cron in [["cron", "trigger", "daily"].as_slice(), &[["cron", "backfill", "daily"].as_slice(), &since].concat()]
    {
        let run = stage.node.run(cron);
        assert!(run.code == 75 && run.stderr.contains("full"), "{cron:?}: {}", run.stderr);
    }
    // By now the node has given up its own reserve, which is taken too: not even a report fits.
    stage.fill(0);
    go.tell("second");
    assert_eq!(told.line(), "75", "{}{}", errors(), stage.node.log());
    assert!(errors().contains("full"), "{}", errors());
    go.tell("end");
    let timeout = stage.node.run(&["wait", &job, "--timeout", "200ms"]);
    assert!(matches!(timeout.code, 0 | 124), "{}", timeout.stderr);
    stage.free();
    acknowledged.push(stage.until_accepted());
    acknowledged.push(job.clone());
    stage.all_is_there(&acknowledged);
    let checkpoints = stage.node.api().ask("GET", &format!("/v1/jobs/{job}/checkpoints"), None).json();
    assert!(checkpoints.to_string().contains("first"), "{checkpoints}");
    assert_eq!(stage.node.json(&["show", &job])["job"]["epoch"], 1);
}

/// It was completed, and what it wrote was gone without a word.
#[test]
fn a_job_whose_output_the_disk_did_not_take_fails_and_says_so() {
    let test = "disk::a_job_whose_output_the_disk_did_not_take_fails_and_says_so";
    if private_mounts(test) == Place::Outside {
        return;
    }
    let stage = Stage::new(24);
    let [mut told, mut go] = ["told", "go"].map(|name| Fifo::new(stage.bench.folder().join(name)));
    let script = "echo ready > \"$0\"; read word < \"$1\"; yes 2> /dev/null | head -c 12000000; echo done > \"$0\"";
    let paths = [told.path(), go.path()].map(|path: &Path| path.display().to_string());
    let job = stage.node.submit(&["--", "sh", "-c", script, &paths[0], &paths[1]]);
    assert_eq!(told.line(), "ready");
    stage.fill(0);
    go.tell("go");
    assert_eq!(told.line(), "done");
    // Should the node have no reserve left by now, it can write the end down only later.
    let _ = stage.node.run(&["wait", &job, "--timeout", "2s"]);
    stage.free();
    let shown = stage.node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    assert!(shown.to_string().contains("its output could not be kept: No space left"), "{shown}");
    let kept = stage.node.run(&["logs", &job]).stdout;
    assert!(kept.starts_with(b"y\ny\n") && kept.len() < 12_000_000, "{}", kept.len());
}

#[test]
fn whatever_room_is_left_nothing_acknowledged_is_lost() {
    let test = "disk::whatever_room_is_left_nothing_acknowledged_is_lost";
    if private_mounts(test) == Place::Outside {
        return;
    }
    let stage = Stage::new(32);
    let mut acknowledged = Vec::new();
    // From no room at all to enough for the log but not for the pages that a checkpoint brings into the database.
    for rest in [0, 1 << 14, 1 << 17, 1 << 20, 3 << 20, 5 << 20] {
        stage.fill(rest);
        acknowledged.extend(stage.submit_until_refused());
        stage.free();
        acknowledged.push(stage.until_accepted());
    }
    assert!(acknowledged.len() > 20, "{acknowledged:?}");
    stage.all_is_there(&acknowledged);
}

#[test]
fn a_node_that_was_killed_on_a_full_disk_starts_on_it() {
    let test = "disk::a_node_that_was_killed_on_a_full_disk_starts_on_it";
    if private_mounts(test) == Place::Outside {
        return;
    }
    let stage = Stage::new(24);
    stage.fill(0);
    let mut acknowledged = stage.submit_until_refused();
    stage.node.kill();
    let started = stage.node.run(&["up", "-d"]);
    if started.code == 0 {
        stage.node.adopt();
    } else {
        assert_eq!(started.code, 75, "{}", started.stderr);
        assert!(started.stderr.contains("full"), "{}", started.stderr);
    }
    stage.free();
    stage.node.up();
    acknowledged.push(stage.until_accepted());
    stage.all_is_there(&acknowledged);
    assert!(File::open(stage.node.home().join("ballast")).is_ok(), "the reserve is there again");
}
