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
