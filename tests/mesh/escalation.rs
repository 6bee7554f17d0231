//! The main story: a job goes where it can run, and its bytes and its exit code come back.

use std::process::Command;

use jobmesh_tests::Node;

use crate::{admitted, bench, pair};

fn gunzip(node: &Node, bytes: &[u8]) -> Vec<u8> {
    let packed = node.file("packed.gz", bytes);
    Command::new("gunzip").args(["-c", &packed]).output().expect("gunzip starts").stdout
}

#[test]
fn input_and_output_travel_byte_for_byte() {
    let bench = bench();
    let (a, b) = pair(&bench);
    // More than travels inside a message, in both directions, and not compressible to nothing.
    let content: Vec<u8> = (0..400_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let input = a.file("input", &content);
    let run = a.run(&["run", "--require", "tool:gzip", "--stdin", &input, "--", "gzip", "-9c"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, a.log());
    assert_eq!(gunzip(&a, &run.stdout), content);
    let shown = a.json(&["show", "last"]);
    assert_eq!(shown["attempts"][0]["node"]["name"], b.name());
    assert!(a.run(&["show", "last"]).text().contains(" b"), "show names the node: {}", a.run(&["show", "last"]).text());
}

#[test]
fn a_small_output_comes_with_the_receipt() {
    let bench = bench();
    let (a, _b) = pair(&bench);
    let run = a.run(&["run", "--require", "tool:gzip", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((run.code, run.text().as_str()), (0, "out\n"), "{}", run.stderr);
    assert!(run.stderr.contains("err\n"), "{}", run.stderr);
}

#[test]
fn the_exit_code_of_the_peer_is_the_exit_code_here() {
    let bench = bench();
    let (a, _b) = pair(&bench);
    let run = a.run(&["run", "--require", "tool:gzip", "--", "sh", "-c", "exit 7"]);
    assert_eq!(run.code, 7, "{}\n{}", run.stderr, a.log());
}

/// It was awarded and given back for ever, and nobody was told how much there is room for.
#[test]
fn a_job_whose_input_has_no_room_on_a_peer_is_never_awarded_and_says_why() {
    let bench = bench();
    let b = bench.node_with("b", 2, "[blobs]\nquota = \"1MiB\"\n");
    b.up();
    let (a, b) = admitted(&bench, b);
    let input = a.file("input", &vec![b'x'; 3 << 20]);
    let job = a.submit(&["--require", "tool:gzip", "--stdin", &input, "--", "wc", "-c"]);
    let why = || a.json(&["explain", &job]).to_string();
    a.watch().until(&format!("a refusal of {}", b.name()), |_| {
        why().contains("b has no room for its input: it takes 1024 KiB at most")
    });
    assert_eq!(a.json(&["show", &job])["attempts"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_job_that_nobody_can_run_says_so_and_runs_when_someone_can() {
    let bench = bench();
    let (a, _b) = pair(&bench);
    let job = a.submit(&["--require", "tool:zstd", "--", "true"]);
    let why = a.json(&["explain", &job]);
    assert!(why["summary"].as_str().unwrap().contains("tool:zstd"), "{why}");
    assert_eq!(why["state"], "available");
    let c = bench.up("c");
    assert_eq!(c.run(&["capability", "add", "tool:zstd"]).code, 0);
    a.admit(&c);
    let shown = a.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    assert_eq!(shown["attempts"][0]["node"]["name"], "c");
}

#[test]
fn what_the_mesh_learns_is_seen_on_both_ends() {
    let bench = bench();
    let (a, b) = pair(&bench);
    assert_eq!(a.run(&["run", "--require", "tool:gzip", "--", "true"]).code, 0);
    let own = a.json(&["learn"]);
    assert_eq!(own["own"][0]["job_type"], "true", "{own}");
    // Summaries are published a moment later; each look is a process of its own, so this does not spin.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let heard = loop {
        let heard = b.json(&["learn"])["heard"].clone();
        if heard[0]["author"]["name"] == "a" || std::time::Instant::now() > deadline {
            break heard;
        }
    };
    assert_eq!(heard[0]["cells"][0]["job_type"], "true", "b has heard what a has seen: {heard}");
    let lines = b.run(&["learn", "-o", "jsonl"]).text();
    assert!(
        lines.lines().any(|line| line.starts_with("{\"told_by\":{") && line.contains("\"job_type\":\"true\"")),
        "{lines}"
    );
}
