//! What the options make of a submission.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use clap::Parser;
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::submission::{Conflict, Rule, Span, Start};
use jobmesh_protocol::task::Pull;
use jobmesh_protocol::{BlobRef, DurationMillis, Isolation, UnixMillis};

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: JobOptions,
}

fn draft(line: &str) -> Result<Draft, Failure> {
    let words = std::iter::once("run").chain(line.split(' '));
    made(Line::try_parse_from(words).unwrap().options)
}

fn made(options: JobOptions) -> Result<Draft, Failure> {
    options.source.check()?;
    let base = options.source.draft()?;
    options.over(base)
}

fn spec(line: &str) -> JobSpec {
    draft(line).unwrap().submission.spec
}

fn refusal(line: &str) -> String {
    let words = std::iter::once("run").chain(line.split(' '));
    match Line::try_parse_from(words) {
        Ok(line) => made(line.options).unwrap_err().text(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_job_that_says_nothing_of_its_needs_stays_here() {
    assert_eq!(spec("-- true").scope, Scope::Local);
    assert_eq!(spec("--require tool:gzip -- gzip").scope, Scope::Hybrid);
    assert_eq!(spec("--where mesh -- gzip").scope, Scope::Network);
}

#[test]
fn options_land_in_the_spec() {
    let line = "-p -3 --retries 4 --backoff 1s..1m --label a=b=c --timeout 90s -Q slow --log-limit 10M --keep 7d \
                --concurrency-key c:2 --rate api=60/1m -- /bin/echo -n";
    let spec = spec(line);
    assert_eq!((spec.priority, spec.retry.max_attempts, spec.job_type.as_str()), (-3, 5, "echo"));
    assert_eq!(spec.retry.backoff, Backoff::exponential(DurationMillis(1000), DurationMillis(60_000)));
    assert_eq!(spec.labels.get("a").unwrap(), "b=c");
    assert_eq!(spec.timeout_ms, Some(DurationMillis(90_000)));
    assert_eq!((spec.queue.as_str(), spec.log_bytes_max), ("slow", Some(10 << 20)));
    assert_eq!((spec.concurrency.unwrap().limit, spec.rates.len()), (2, 1));
}

#[test]
fn options_land_in_the_submission() {
    let line = "--delay 5m --start-within 1h --deadline 2100-01-01T00:00:00Z --hold --array 1-10:3%2 --max-fails 50% \
                --after 7:done,8 --after-rule all-done --reduce --unique k:reject --unique-for 1h -- true";
    let Draft { submission, after, .. } = draft(line).unwrap();
    assert_eq!(submission.start, Start::After(DurationMillis(300_000)));
    assert_eq!(submission.start_within_ms, Some(DurationMillis(3_600_000)));
    assert_eq!(submission.deadline, Some(UnixMillis(4_102_444_800_000)));
    assert!(submission.held && submission.reduce);
    let array = submission.array.unwrap();
    assert_eq!((array.count(), array.at_a_time, array.max_fails), (4, Some(2), Some(2)));
    assert_eq!((after.len(), submission.rule), (2, Rule::AllDone));
    let unique = submission.unique.unwrap();
    assert_eq!((unique.on_conflict, unique.scope), (Conflict::Reject, Span::Period(DurationMillis(3_600_000))));
}

#[test]
fn a_shell_line_is_one_argument() {
    let Task::Process(process) = spec("--shell -- sort|uniq >out").task else { unreachable!("a command is a process") };
    assert_eq!(process.argv, ["sh", "-c", "sort|uniq >out"]);
}

#[test]
fn a_file_holds_a_whole_submission_and_options_are_laid_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let (toml, json) = (folder.path().join("a"), folder.path().join("b"));
    let text = "held = true\n[spec]\njob_type = 'x'\npriority = 3\nscope = 'network'\ntask = { noop = {} }\n";
    std::fs::write(&toml, text).unwrap();
    std::fs::write(&json, r#"{"spec":{"job_type":"x","task":{"noop":{}}}}"#).unwrap();
    let submission = draft(&format!("-f {} --queue slow", toml.display())).unwrap().submission;
    let spec = &submission.spec;
    assert_eq!((submission.held, spec.priority, spec.scope, spec.queue.as_str()), (true, 3, Scope::Network, "slow"));
    assert_eq!(draft(&format!("-f {}", json.display())).unwrap().submission.spec.scope, Scope::Hybrid);
    std::fs::write(&toml, "[spec]\njob_type = 'x'\ncolour = 1\n").unwrap();
    assert!(refusal(&format!("-f {}", toml.display())).contains("line 3"));
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    for (line, problem) in [
        ("--require tool:x --cwd / -- x", "hint: add --where local"),
        ("--retries 5", "nothing says what to run"),
        ("--max-fails 3 -- x", "--array"),
        ("--unique-for 1h -- x", "--unique KEY"),
        ("--reduce -- x", "--after"),
        ("--array 5-1 -- x", "write 1-5"),
        ("--array 1-5 --open -- x", "not several"),
        ("--open -- x", "with --into"),
        ("--delay 1h --deadline 2020-01-01T00:00:00Z -- x", "its deadline is 2020-01-01"),
        ("--at 2100-01-02T00:00:00Z --deadline 2100-01-01T00:00:00Z -- x", "may not start before 2100-01-02"),
        ("--array 1,1 -- x", "1 comes behind 1"),
        ("--array 5,3 -- x", "3 comes behind 5"),
        ("--array 1-5:0 -- x", "in steps of 0"),
        ("--delay 1m --at 08:00 -- x", "cannot be used with"),
        ("--delay soon -- x", "--delay"),
        ("--retry-on oops -- x", "exit=75"),
        ("--after 7:maybe -- x", ":ok, :done or :failed"),
        ("--start-within 0s -- x", "within no time"),
        ("--retries 1000 -- x", "0..1000"),
        ("-P a=1 -P a=2 --type t", "a is given twice"),
        ("--timeout 0s -- x", "timeout is 0"),
        ("--env NO_SUCH_VARIABLE_HERE -- x", "is not set here"),
    ] {
        let text = refusal(line);
        assert!(text.contains(problem), "{line}: {text}");
    }
}

#[test]
fn every_kind_of_work_has_its_option() {
    let Task::Container(container) = spec("--container a.org/busybox:1 --pull never -- ls -l").task else {
        unreachable!("an image is a container")
    };
    assert_eq!((container.argv.len(), container.pull), (2, Some(Pull::Never)));
    let Draft { submission, uploads, .. } = draft("--wasm x/count.wasm --fuel 7 --env A=1 -- -v").unwrap();
    let Task::Wasm(wasm) = &submission.spec.task else { unreachable!("a module is a module") };
    assert_eq!((wasm.fuel, wasm.argv.len(), wasm.environment.len(), uploads.len()), (Some(7), 1, 1, 1));
    assert_eq!(submission.spec.job_type, "count.wasm");
    assert_eq!(spec("--lua-script x -- a").task.executor(), "lua");
    let line = "--http https://a.org/x --header A:b --header B:c --body hello --expect 200,409 --network";
    let http = spec(line);
    let Task::Http(request) = &http.task else { unreachable!("an address is a request") };
    assert_eq!((request.method.as_str(), request.headers.len(), request.expect.len()), ("POST", 2, 2));
    assert_eq!((http.job_type.as_str(), http.scope, http.network), ("a.org", Scope::Local, true));
    let llm = "--llm why? --system brief --model local/m --complexity simple --tokens 9 --temperature 0.5";
    let Task::Llm(llm) = spec(llm).task else { unreachable!("a question is for a model") };
    assert_eq!((llm.messages.len(), llm.tokens_max, llm.temperature_milli), (2, Some(9), Some(500)));
    let line = "--embed one --embed @two --isolation sandboxed --where any";
    let Draft { submission: Submission { spec, .. }, uploads, .. } = draft(line).unwrap();
    let Task::Embedding(embedding) = &spec.task else { unreachable!("texts are embedded") };
    assert_eq!((embedding.texts.len(), uploads.len(), spec.job_type.as_str()), (2, 1, "embedding"));
    assert_eq!((spec.isolation, spec.scope), (Some(Isolation::Sandboxed), Scope::Hybrid));
}

#[test]
fn a_file_takes_its_place_in_the_task_once_it_is_with_the_node() {
    let blob = BlobRef::of(b"sent");
    let lines = ["--wasm a", "--lua -", "--http http://a/ --body @b", "--llm @q --system -", "--embed x --embed @y"];
    for line in lines {
        let Draft { submission, uploads, .. } = draft(line).unwrap();
        let mut task = submission.spec.task;
        uploads.iter().for_each(|upload| upload.place(&mut task, blob));
        assert_eq!(task.blobs(), [blob], "{line}");
    }
}

#[test]
fn an_option_of_another_kind_is_refused_with_the_kind_that_it_is_for() {
    for (line, problem) in [
        ("--pull never -- x", "--pull goes with --container, but this job is one for process"),
        ("--lua-script x --fuel 7", "--fuel goes with --wasm"),
        ("--http http://a/ --model m", "--model goes with --llm or --embed"),
        ("--embed x --tokens 7", "--tokens goes with --llm"),
        ("--llm x --expect 200", "--expect goes with --http"),
        ("--llm x -- y", "--llm runs no command, and here is one: y"),
        ("--llm x --http http://a/", "cannot be used with"),
        ("--shell --container a -- x", "cannot be used with"),
        ("--http ftp://a/", "must begin with http://"),
        ("--container a --cwd /", "--cwd is for commands of this machine"),
        ("--http http://a/ --env A=1", "this job runs none"),
        ("--isolation none -- x", "contained, sandboxed or untrusted"),
        ("--fuel 0 --wasm x", "fuel is 0"),
        ("--http http://a/?k={{secret:nope}}", "--secret VARIABLE=NAME"),
        ("--env T=x --secret T=canary -- x", "T is given a value and a secret"),
        ("--llm=", "the question is empty"),
    ] {
        let text = refusal(line);
        assert!(text.contains(problem), "{line}: {text}");
    }
}

#[test]
fn variables_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("env");
    std::fs::write(&path, "# comment\nA=1\nexport B=\"two words\"\n\nC='x=y'\n").unwrap();
    let Task::Process(process) = spec(&format!("--env-file {} --env A=3 -- x", path.display())).task else {
        unreachable!("a command is a process")
    };
    let value = |key: &str| process.environment.get(key).cloned().unwrap();
    assert_eq!([value("A"), value("B"), value("C")], ["3", "two words", "x=y"]);
    std::fs::write(&path, "A=1\nnonsense\n").unwrap();
    assert!(refusal(&format!("--env-file {} -- x", path.display())).contains("line 2"));
}
