//! What the options make of a submission.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use clap::Parser;
use jobmesh_protocol::retry::Backoff;
use jobmesh_protocol::submission::{Conflict, Rule, Span, Start};
use jobmesh_protocol::{DurationMillis, UnixMillis};

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
