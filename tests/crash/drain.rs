//! Being stopped in the middle: who waits, who does not, and that a job which was stopped with its node is not blamed.

use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Fifo, Node};

use crate::{bench, count};

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

struct Stage {
    node: Node,
    told: Fifo,
    go: Fifo,
    _bench: Bench,
}

impl Stage {
    /// A node that waits for its jobs for a long time, and one job that runs until it is told to end.
    fn new() -> (Self, String) {
        let bench = bench();
        let node = bench.node("a");
        node.reconfigure("slots = 2\n[drain]\nwait = \"10m\"\n");
        node.up();
        let [told, go] = ["told", "go"].map(|name| Fifo::new(bench.folder().join(name)));
        let mut stage = Self { node, told, go, _bench: bench };
        let job = stage.submit();
        (stage, job)
    }

    fn submit(&mut self) -> String {
        let [told, go] = [self.told.path(), self.go.path()].map(|path| path.display().to_string());
        let script = "echo \"$JOBMESH_ATTEMPT\" > \"$0\"; read x < \"$1\"";
        let job = self.node.submit(&["--", "sh", "-c", script, &told, &go]);
        assert_eq!(self.told.line(), "1");
        job
    }

    /// Asks again and again until the node says that it takes no more work: it tells nobody.
    fn until_draining(&self) {
        let deadline = Instant::now() + LIMIT;
        while self.node.json(&["status"])["is_draining"] != true {
            assert!(Instant::now() < deadline, "the node does not drain\n{}", self.node.log());
        }
    }

    /// Starts the node again, lets the job go on that was stopped with it, and looks whether that cost it anything.
    fn goes_on(&mut self, job: &str) {
        self.node.up();
        assert_eq!(self.told.line(), "2", "the second attempt starts");
        self.go.tell("on");
        let shown = self.node.ended(job);
        assert_eq!(shown["job"]["state"], "completed", "{shown}");
        assert_eq!((&shown["job"]["failures"], &shown["job"]["crashes"]), (&0.into(), &0.into()), "{shown}");
        assert_eq!(count(&shown, "released"), 1, "{shown}");
        assert_eq!(shown["attempts"][0]["state"], "released", "{shown}");
    }
}

#[test]
fn a_node_that_is_asked_to_stop_waits_for_its_jobs() {
    let (mut stage, job) = Stage::new();
    let daemon = stage.node.pid();
    daemon.ask_to_stop();
    stage.until_draining();
    let refused = stage.node.run(&["submit", "--", "true"]);
    assert_eq!(refused.code, 75, "{}", refused.stderr);
    assert!(refused.stderr.contains("shutting down") && refused.stderr.contains("hint:"), "{}", refused.stderr);
    stage.go.tell("on");
    daemon.wait_gone();
    stage.node.up();
    let shown = stage.node.json(&["show", &job]);
    assert_eq!((&shown["job"]["state"], &shown["job"]["epoch"]), (&"completed".into(), &1.into()), "{shown}");
}

#[test]
fn a_node_that_is_asked_twice_does_not_wait() {
    let (mut stage, job) = Stage::new();
    let daemon = stage.node.pid();
    daemon.ask_to_stop();
    stage.until_draining();
    daemon.terminate();
    stage.goes_on(&job);
}

#[test]
fn down_now_puts_the_jobs_back_into_their_queue() {
    let (mut stage, job) = Stage::new();
    let waiting = stage.node.submit(&["--hold", "--", "true"]);
    stage.node.down();
    stage.goes_on(&job);
    let held = stage.node.json(&["show", &waiting]);
    assert_eq!(held["job"]["state"], "available", "{held}");
}

#[test]
fn down_waits_for_the_jobs_and_hurries_when_told() {
    let (mut stage, job) = Stage::new();
    let daemon = stage.node.pid();
    let patient = stage.node.spawn(&["down"]);
    stage.until_draining();
    stage.node.down();
    let output = patient.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!daemon.is_alive());
    stage.goes_on(&job);
}
