//! A running daemon reads its configuration again when it is told to by a signal.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

use std::process::Command;

use jobmesh_tests::{Bench, until_folder};

#[test]
fn a_hang_up_reloads_and_a_file_that_is_wrong_changes_nothing() {
    let bench = Bench::new(env!("CARGO_BIN_EXE_jobmesh"));
    let node = bench.up("a");
    let pid = node.json(&["status"])["pid"].as_u64().unwrap().to_string();
    let path = node.home().join("config.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let hang_up = || assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    // Whatever it does about its configuration, it says so in the log beside it.
    let until = |what: &dyn Fn() -> bool| until_folder(node.home(), "the configuration is read again", what);
    assert_ne!(node.run(&["types", "show", "hello"]).code, 0);
    std::fs::write(&path, format!("{before}\n[job_types.hello]\ncommand = [\"echo\", \"hello\"]\n")).unwrap();
    hang_up();
    until(&|| node.run(&["types", "show", "hello"]).code == 0);
    std::fs::write(&path, format!("colour = 1\n{before}")).unwrap();
    hang_up();
    until(&|| node.log().contains("the configuration was not taken over"));
    assert_eq!(node.run(&["types", "show", "hello"]).code, 0, "it goes on as it was");
    assert_eq!(node.json(&["status"])["pid"].as_u64().unwrap().to_string(), pid);
}
