//! The built-in types: each makes a valid job, and those whose tools are everywhere do what they say.

use std::path::Path;
use std::process::{Command, Output};

use super::*;

fn examples(it: &JobType) -> BTreeMap<String, Value> {
    let example = |parameter: &Parameter| Some((parameter.name.clone(), Value::from(parameter.example.clone()?)));
    it.parameters().iter().filter_map(example).collect()
}

#[test]
fn every_built_in_type_makes_a_valid_job_from_its_examples() {
    let types = types("");
    let names: Vec<&str> = types.all().map(JobType::name).collect();
    let seeds =
        ["agent-task", "ask", "code-review", "computation", "data-analysis", "download", "embed", "file-process"];
    let more = ["learning-export", "metrics", "request", "research", "retention", "scrape", "testing", "upkeep"];
    assert_eq!(names, [&seeds[..], &more[..]].concat());
    for it in types.all() {
        let made = it.build(&examples(it)).unwrap_or_else(|error| unreachable!("{}: {error}", it.name()));
        made.check().unwrap();
        assert_eq!(it.source(), Source::BuiltIn);
        assert!(it.view().description.is_some(), "{}", it.name());
        assert!(it.parameters().iter().all(|parameter| parameter.description.is_some()), "{}", it.name());
        let needs_example = |parameter: &&Parameter| parameter.is_required && parameter.example.is_none();
        assert_eq!(it.parameters().iter().find(needs_example), None, "{}", it.name());
    }
}

#[test]
fn housekeeping_runs_by_itself_here_and_takes_no_processor() {
    let types = types("");
    let schedules = types.schedules();
    assert_eq!(schedules.keys().collect::<Vec<_>>(), ["metrics", "retention", "upkeep"]);
    assert!(!types.find("learning-export").unwrap().is_enabled());
    for schedule in schedules.values() {
        let spec = &schedule.submission.spec;
        assert!(matches!(spec.task, Task::Builtin(_)));
        assert_eq!((spec.queue.as_str(), spec.scope), ("maintenance", Scope::Local));
        assert_eq!(spec.resources.to_string(), "none");
    }
}

#[test]
fn the_tools_of_enabled_types_are_looked_for() {
    let types =
        types("[job_types.testing]\nenabled = false\n[job_types.research.parameters.program]\ndefault = \"answer\"");
    let tools: Vec<String> = types.tools().into_iter().collect();
    assert_eq!(tools, ["answer", "bc", "curl", "git", "gzip", "llm", "sqlite3"]);
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", folder.path().join("answer")).unwrap();
    std::fs::write(folder.path().join("curl"), "not to be run").unwrap();
    let found = types.detect_tools(folder.path().as_os_str());
    assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tool:answer"]);
}

/// Runs a job of a built-in type as an executor would.
fn run(name: &str, pairs: &[(&str, &str)], folder: &Path) -> Output {
    let types = types("");
    let made = submission(&types, name, pairs);
    let task = process(&made);
    Command::new(&task.argv[0]).args(&task.argv[1..]).envs(&task.environment).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn file_process_reads_any_name_and_writes_whole_files_only() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("a b'$(id).txt");
    std::fs::write(&input, "b\na\n").unwrap();
    let (input, output) = (input.to_str().unwrap(), folder.path().join("out put"));
    let sorted = run("file-process", &[("input", input), ("operation", "sort")], folder.path());
    assert_eq!(text(&sorted.stdout), "a\nb\n", "{}", text(&sorted.stderr));
    let pairs = [("input", input), ("operation", "compress"), ("output", output.to_str().unwrap())];
    assert!(run("file-process", &pairs, folder.path()).status.success());
    let pairs = [("input", output.to_str().unwrap()), ("operation", "decompress")];
    assert_eq!(text(&run("file-process", &pairs, folder.path()).stdout), "b\na\n");
    let missing = [("input", "/nowhere/x"), ("output", "/nowhere/y")];
    assert!(!run("file-process", &missing, folder.path()).status.success());
}

#[test]
fn a_program_reads_its_work_on_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let work = "-n $(id)\n'two' lines";
    let done = run("agent-task", &[("task", work), ("program", "cat")], folder.path());
    assert_eq!(text(&done.stdout), format!("{work}\n"));
    let done = run("computation", &[("input", work), ("program", "cat")], folder.path());
    assert_eq!(text(&done.stdout), format!("{work}\n"));
    let done = run("research", &[("question", work), ("program", "cat")], folder.path());
    assert!(text(&done.stdout).ends_with(&format!("sources.\n\n{work}\n")));
}

#[test]
fn the_tests_of_a_project_are_run_by_the_tool_that_its_files_tell_of() {
    let folder = tempfile::tempdir().unwrap();
    let project = [("project", folder.path().to_str().unwrap())];
    let lost = run("testing", &project, Path::new("/"));
    assert_eq!(lost.status.code(), Some(64), "{}", text(&lost.stderr));
    std::fs::write(folder.path().join("Makefile"), "test:\n\t@echo tested\n").unwrap();
    let bin = folder.path().join("make");
    std::fs::write(&bin, "#!/bin/sh\necho make \"$@\"\n").unwrap();
    std::fs::set_permissions(&bin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let types = types("");
    let made = submission(&types, "testing", &project);
    assert_eq!(made.spec.concurrency.as_ref().unwrap().limit, 1);
    let task = process(&made);
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let done = Command::new(&task.argv[0]).args(&task.argv[1..]).envs(&task.environment).env("PATH", path).output();
    assert_eq!(text(&done.unwrap().stdout), "make test\n");
}

#[test]
fn a_type_is_shown_with_all_that_one_needs_to_use_it() {
    let types = types(
        "[job_types.greet]\ndescription = \"Greets\"\ncommand = [\"echo\", [\"-n\", \"{{word}}\"], \"to {{who}}\"]\ncpus = 0.5\nmem = \"64M\"\nschedule = { every = \"1h\", parameters = { who = \"all\" } }\nparameters.who = { type = \"string\", required = true, example = \"the world\" }\nparameters.word = { type = \"choice\", choices = [\"hi\", \"ho\"], default = \"hi\", description = \"how\" }",
    );
    insta::assert_snapshot!(types.find("greet").unwrap().view(), @r#"
    greet
      Greets.

      source    declared
      executor  process
      queue     default
      takes     cpus=0.5,mem=64M
      schedule  every 1h, overlap skip, catch-up latest
      command   echo [-n {{word}}] "to {{who}}"

    Parameters:
      who           a text; required
      word          one of hi, ho; "hi" unless given
                    how

    Example:
      jobmesh submit --type greet -P who='the world'
    "#);
    insta::assert_snapshot!(types.find("retention").unwrap().view(), @r"
    retention
      Deletes what has been kept long enough: jobs, events, receipts, logs, blobs.

      source    built-in
      executor  builtin
      queue     maintenance
      priority  100
      timeout   10m
      takes     none
      schedule  every 10m, overlap skip, catch-up none
      does      retention
    ");
}
