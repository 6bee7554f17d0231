//! What a node has, what a job takes of it, and what the job is told.

use jobmesh_tests::Gate;

use crate::{bench, kinds, node, reasons};

#[test]
fn a_job_is_told_what_it_was_given() {
    let bench = bench();
    let node = node(&bench, "licence = \"sum(3)\"\ndevices = \"[left,right]\"\n");
    let job = node.submit(&["--cpus", "2", "--resource", "licence=2", "--resource", "devices=1", "--", "env"]);
    node.wait_for(std::slice::from_ref(&job));
    let variables = node.wrote(&job);
    for line in ["JOBMESH_CPUS=0,1", "JOBMESH_RESOURCE_LICENCE=2", "JOBMESH_RESOURCE_DEVICES=left"] {
        assert!(variables.lines().any(|it| it == line), "{line}: {variables}");
    }
}

#[test]
fn nobody_gets_what_another_job_has() {
    let bench = bench();
    let node = node(&bench, "devices = \"[left,right]\"\n");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let script = "echo $JOBMESH_RESOURCE_DEVICES; cat $0";
    let jobs =
        gates.each_ref().map(|gate| node.submit(&["--resource", "devices=1", "--", "sh", "-c", script, gate.path()]));
    assert_eq!((node.state(&jobs[2]).as_str(), kinds(&node, &jobs[2])), ("available", vec!["no_room".to_owned()]));
    let words = reasons(&node, &jobs[2])[0]["words"].as_str().unwrap().to_owned();
    assert!(words.contains("devices=1 is wanted, and 0 of 2 is free"), "{words}");
    gates[1].open();
    gates[2].open();
    gates[0].open();
    node.wait_for(&jobs);
    assert_eq!(jobs.each_ref().map(|job| node.wrote(job)), ["left\n", "right\n", "right\n"]);
}

#[test]
fn fractions_of_one_resource_add_up() {
    let bench = bench();
    let node = node(&bench, "licence = \"sum(1)\"\n");
    let gates = ["1", "2", "3"].map(|name| Gate::new(bench.folder(), name));
    let jobs = gates.each_ref().map(|gate| node.submit(&["--resource", "licence=0.5", "--", "cat", gate.path()]));
    assert_eq!(jobs.each_ref().map(|job| node.state(job)), ["running", "running", "available"]);
    gates.iter().for_each(Gate::open);
    node.wait_for(&jobs);
}

#[test]
fn another_variant_is_taken_where_the_first_has_no_room() {
    let bench = bench();
    let node = node(&bench, "gpu = \"[a]\"\n");
    let gate = Gate::new(bench.folder(), "gate");
    let first = node.submit(&["--resource", "gpu=1", "--", "cat", gate.path()]);
    let script = "echo $JOBMESH_RESOURCE_VARIANT $JOBMESH_CPUS";
    let other = node.submit(&["--resource", "gpu=1", "--or", "cpus=3", "--", "sh", "-c", script]);
    node.wait_for(std::slice::from_ref(&other));
    assert_eq!(node.wrote(&other), "1 1,2,3\n");
    gate.open();
    node.wait_for(&[first]);
}

#[test]
fn more_than_the_node_has_is_explained_and_waits() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--cpus", "99", "--", "true"]);
    let [reason] = &reasons(&node, &job)[..] else { panic!("one reason") };
    assert_eq!(reason["kind"], "incapable");
    assert!(reason["words"].as_str().unwrap().contains("cpus=99 (has 8)"), "{reason}");
    assert!(reason["remedy"].as_str().unwrap().contains("--where any"), "{reason}");
    node.wait_for(&[node.submit(&["--", "true"])]);
    assert_eq!(node.state(&job), "available", "and holds up nobody else");
}
