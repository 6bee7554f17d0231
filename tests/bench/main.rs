//! `jobmesh bench local`: it measures, says so, and leaves nothing behind.

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
