//! Modules and scripts that only another machine can run.

use crate::{bench, pair};

/// Copies its input to its output, piece by piece, and ends with the number 7.
const COPY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $again
            (i32.store (i32.const 0) (i32.const 64))
            (i32.store (i32.const 4) (i32.const 4096))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))
            (if (i32.load (i32.const 16)) (then
                (i32.store (i32.const 4) (i32.load (i32.const 16)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
                (br $again))))
        (call $exit (i32.const 7))))"#;

#[test]
fn a_module_is_run_by_a_peer_with_its_input_and_a_receipt() {
    let bench = bench();
    let (a, b) = pair(&bench);
    let content: Vec<u8> = (0..50_000_u32).flat_map(u32::to_le_bytes).collect();
    let (module, input) = (a.file("copy.wat", COPY.as_bytes()), a.file("input", &content));
    let run = a.run(&["run", "--require", "tool:gzip", "--stdin", &input, "--wasm", &module]);
    assert_eq!(run.code, 7, "{}\n{}", run.stderr, a.log());
    assert_eq!(run.stdout, content);
    let shown = a.json(&["show", "last"]);
    let attempt = &shown["attempts"][0];
    assert_eq!(attempt["node"]["name"], b.name(), "{shown}");
    assert_eq!(a.run(&["receipt", "verify", "last"]).code, 0);
}

#[test]
fn a_script_is_run_by_a_peer_and_has_no_say_in_its_queue() {
    let bench = bench();
    let (a, b) = pair(&bench);
    let input = a.file("input", b"from a");
    let script = "print(job.input(), job.args[1])
        local ok, why = pcall(job.submit, {job_type = 't', task = {process = {argv = {'true'}}}})
        print(ok, why)
        -- Whether a file is there is none of its business either.
        local away = {hash = string.rep('0', 64), size = 4}
        print(pcall(job.submit, {job_type = 't', task = {process = {argv = {'cat'}, stdin = away}}}))";
    let run = a.run(&["run", "--require", "tool:gzip", "--stdin", &input, "--lua-script", script, "--", "x"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, a.log());
    assert!(run.text().starts_with("from a\tx\nfalse\t"), "{}", run.text());
    assert_eq!(run.text().matches("only a job of this node may submit").count(), 2, "{}", run.text());
    assert!(b.listed(&["--all"]).len() <= 1, "it put a job into the queue of the node that it was sent to");
    assert_eq!(a.json(&["show", "last"])["attempts"][0]["node"]["name"], b.name());
    assert_eq!(a.run(&["receipt", "verify", "last"]).code, 0);
}
