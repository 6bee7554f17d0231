//! Scripts of this node: what they tell it while they run, and what they ask of it.

use crate::{bench, node};

#[test]
fn a_script_remembers_for_its_next_attempt_and_tells_its_result() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "if job.attempt == 1 then
            job.checkpoint('page', '42') job.progress(0.5, 'half way') job.fail('once more')
        end
        return {page = job.checkpoints().page, attempt = job.attempt, id = job.id}";
    let job = node.submit(&["--retries", "1", "--backoff", "fixed:1ms", "--lua-script", script]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    let result = node.run(&["result", &job]);
    assert_eq!(result.text().trim(), format!(r#"{{"attempt":2,"id":"{job}","page":"42"}}"#), "{}", result.stderr);
}

#[test]
fn a_script_of_this_node_submits_to_its_queue() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "return job.submit({job_type = 'child', task = {process = {argv = {'echo', 'from the child'}}}})";
    let job = node.submit(&["--lua-script", script]);
    assert_eq!(node.ended(&job)["job"]["state"], "completed");
    let child = node.run(&["result", &job]).text().trim().to_owned();
    assert_eq!(node.ended(&child)["job"]["state"], "completed");
    assert_eq!(node.wrote(&child), "from the child\n");
    let refused = node.submit(&["--lua-script", "job.submit({job_type = 'x', task = {nothing = {}}})"]);
    let shown = node.ended(&refused);
    assert!(shown.to_string().contains("the line can't be read"), "{shown}");
}

/// It ended with 1 and not a word, since its exit code was taken for that of a command, which has said why itself.
#[test]
fn run_says_what_is_wrong_with_a_script_or_a_module() {
    let bench = bench();
    let node = node(&bench, "");
    let no_module = node.file("count.c", b"int main(void) { return 0; }");
    for (work, said) in [
        (["--lua-script", "return ((("], "syntax error"),
        (["--lua-script", "return 0/0"], "NaN"),
        (["--lua-script", "error('no such page')"], "no such page"),
        (["--wasm", &no_module], "module"),
    ] {
        let run = node.run(&[&["run"], &work[..]].concat());
        assert!(run.code == 1 && run.stderr.contains(said), "{work:?}: {} {}", run.code, run.stderr);
    }
    let run = node.run(&["run", "--lua-script", "print('fine')"]);
    assert_eq!((run.code, run.text().as_str(), run.stderr.as_str()), (0, "fine\n", ""));
    let run = node.run(&["run", "--", "sh", "-c", "echo it says so itself >&2; exit 1"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, "it says so itself\n"));
}
