//! `jobmesh bench`: it measures, says so, and leaves nothing behind.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use jobmesh_tests::{Bench, Pid};

fn bench() -> Bench {
    Bench::new(env!("CARGO_BIN_EXE_jobmesh"))
}

/// What the measurement has left in the data directory.
fn rests(home: &Path) -> Vec<String> {
    let names = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("jobmesh-bench-")).collect()
}

/// The command lines of all processes that were told of a path below `home`.
fn processes(home: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let lines = entries.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(&format!("{}/jobmesh-bench-", home.display()))).collect()
}

#[test]
fn submits_are_measured_beside_the_floor_of_the_disk() {
    let bench = bench();
    let node = bench.node("a");
    let report = node.json(&["bench", "local", "--quick", "--only", "enqueue"]);
    assert!(report["machine"]["cores"].as_u64().is_some_and(|cores| cores > 0), "{report}");
    let rows = report["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row["part"] == "enqueue"), "{report}");
    for what in ["one by one", "from 64 at once"] {
        let row = rows.iter().find(|row| row["what"] == what).unwrap();
        assert_eq!(row["figure"]["unit"], "per_second", "{row}");
        for value in [&row["figure"]["value"], &row["floor"]["value"], &row["ratio"]] {
            assert!(value.as_f64().is_some_and(|value| value > 0.0), "{row}");
        }
    }
    assert_eq!(rests(node.home()), Vec::<String>::new());
    assert_eq!(processes(node.home()), Vec::<String>::new());
}

#[test]
fn a_job_elsewhere_is_measured_beside_the_same_job_here() {
    let bench = bench();
    let node = bench.node("a");
    let report = node.json(&["bench", "mesh", "--quick", "--only", "remote"]);
    let row = |what: &str| {
        let rows = report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["what"] == what).unwrap_or_else(|| panic!("no {what} in {report}"))
    };
    let millis = |what: &str| {
        assert_eq!(row(what)["figure"]["unit"], "millis", "{report}");
        row(what)["figure"]["value"].as_f64().unwrap()
    };
    for what in
        ["round trip, p50", "fdatasync, p50", "spawn + wait of true, p50", "noop here, p95", "noop elsewhere, p95"]
    {
        assert!(millis(what) > 0.0, "{what}: {report}");
    }
    assert!(millis("noop elsewhere, p50") > millis("noop here, p50"), "{report}");
    let promise = row("noop elsewhere, promise");
    let limit = millis("noop here, p50") + 6.0 * millis("fdatasync, p50") + 5.0;
    assert!((promise["floor"]["value"].as_f64().unwrap() - limit).abs() < 0.01, "{report}");
    let words = if millis("noop elsewhere, p50") <= limit { "promise met" } else { "promise missed" };
    assert!(promise["condition"].as_str().unwrap().starts_with(words), "{promise}");
    assert_eq!(rests(node.home()), Vec::<String>::new());
    assert_eq!(processes(node.home()), Vec::<String>::new());
}

#[test]
fn whoever_is_told_to_stop_cleans_up_first() {
    let bench = bench();
    let node = bench.node("a");
    let mut child = node.spawn(&["bench", "local", "--only", "idle"]);
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.contains("idle"), "{said}");
    Pid::new(child.id().into()).terminate();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(rests(node.home()), Vec::<String>::new());
    assert_eq!(processes(node.home()), Vec::<String>::new());
}
