#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::schedule::{CatchUp, Overlap};
use jobmesh_protocol::submission::{Conflict, Field, Span};
use jobmesh_protocol::task::{Builtin, LuaTask, ProcessTask, Task};
use jobmesh_protocol::{BlobRef, Isolation};

use super::*;

mod refusals;
mod seeds;

fn resolve(file: &str) -> Result<JobTypes, String> {
    let read = || {
        let document = Document::parse(file, Origin::File)?;
        JobTypes::resolve(document.table()?.read("job_types", read_declarations)?.unwrap_or_default())
    };
    read().map_err(|fault| format!("line {}: {}", fault.place.line, fault.problem))
}

fn types(file: &str) -> JobTypes {
    resolve(file).unwrap()
}

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

fn submission(types: &JobTypes, name: &str, pairs: &[(&str, &str)]) -> Submission {
    types.find(name).unwrap().submission(&parameters(pairs)).unwrap()
}

fn process(submission: &Submission) -> &ProcessTask {
    let Task::Process(process) = &submission.spec.task else { unreachable!("the type runs a process") };
    process
}

/// A type that declares everything there is.
const EVERYTHING: &str = r#"
    [job_types.all]
    executor = "process"
    command = ["prog", "--in={{input}}", ["--level", "{{level}}"], "{{flag}}"]
    environment = { MODE = "m {{mode}}", LEVEL = "{{level}}" }
    directory = "/srv/{{mode}}"
    name = "all of {{mode}}"
    labels = { mode = "{{mode}}", level = "{{level}}" }
    queue = "slow"
    priority = -3
    cpus = "1.5 tight"
    mem = "2G"
    resources = { "gpus/nvidia" = 0.5, licences = "all" }
    timeout = "1h"
    kill_grace = "0s"
    heartbeat = "1m"
    start_within = "2h"
    log_limit = "1MiB"
    keep = "3d"
    retries = 4
    backoff = "fixed:3s,jitter=none"
    retry_on = ["exit=75", "timeout"]
    fail_on = ["exit=1-9"]
    crash_limit = 2
    max_snoozes = 7
    requirements = ["tool:gzip", "mode={{mode}}"]
    effects = "pure"
    scope = "local"
    concurrency = 3
    concurrency_key = "k-{{mode}}"
    rate = ["60/1m", "{{mode}}=1/5s"]
    unique = { key = "u-{{mode}}", by = ["type", "label:mode"], for = "1h", on_conflict = "debounce=5s" }
    parameters.input = { type = "string", required = true }
    parameters.level = { type = "integer" }
    parameters.flag = { type = "boolean", default = true }
    parameters.mode = { type = "choice", choices = ["fast", "slow"], default = "fast" }
"#;

#[test]
fn everything_that_is_declared_of_the_work_lands_in_the_submission() {
    let types = types(EVERYTHING);
    let all = submission(&types, "all", &[("input", "a b")]);
    let task = process(&all);
    assert_eq!(task.argv, ["prog", "--in=a b", "true"]);
    assert_eq!(task.environment, BTreeMap::from([("MODE".to_owned(), "m fast".to_owned())]));
    assert_eq!(task.directory.as_deref(), Some("/srv/fast"));
    let spec = &all.spec;
    assert_eq!((spec.job_type.as_str(), spec.name.as_deref()), ("all", Some("all of fast")));
    assert_eq!(spec.labels, BTreeMap::from([("mode".to_owned(), "fast".to_owned())]));
    assert_eq!((spec.queue.as_str(), spec.priority), ("slow", -3));
    assert_eq!(spec.resources.to_string(), "cpus=1.5 tight,gpus/nvidia=0.5,licences=all,mem=2G");
    assert_eq!((spec.effects, spec.scope), (Effects::Pure, Scope::Local));
    assert_eq!(spec.requirements.iter().map(ToString::to_string).collect::<Vec<_>>(), ["tool:gzip", "mode=fast"]);
}

#[test]
fn everything_that_is_declared_of_times_and_tries_lands_in_the_submission() {
    let types = types(EVERYTHING);
    let all = submission(&types, "all", &[("input", "a b")]);
    let spec = &all.spec;
    let seconds = |secs| Some(DurationMillis::from_secs(secs));
    assert_eq!((spec.timeout_ms, spec.heartbeat_ms, spec.keep_ms), (seconds(3600), seconds(60), seconds(259_200)));
    assert_eq!((spec.kill_grace_ms, spec.log_bytes_max), (DurationMillis(0), Some(1 << 20)));
    let retry = &spec.retry;
    assert_eq!((retry.max_attempts, retry.crash_limit, retry.max_snoozes), (5, 2, Some(7)));
    assert_eq!(retry.backoff.wait(3, 9), DurationMillis(3000));
    let failures = retry.retry_on.iter().chain(&retry.fail_on).map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(failures, ["exit=75", "timeout", "exit=1-9"]);
    assert_eq!(all.start_within_ms, seconds(7200));
}

#[test]
fn everything_that_is_declared_of_others_of_its_kind_lands_in_the_submission() {
    let types = types(EVERYTHING);
    let all = submission(&types, "all", &[("input", "a b")]);
    let spec = &all.spec;
    let concurrency = spec.concurrency.as_ref().unwrap();
    assert_eq!((concurrency.key.as_str(), concurrency.limit), ("k-fast", 3));
    let rates: Vec<_> = spec.rates.iter().map(|rate| (rate.key.as_str(), rate.limit.count)).collect();
    assert_eq!(rates, [("all", 60), ("fast", 1)]);
    let unique = all.unique.unwrap();
    assert_eq!(
        (unique.key.as_deref(), unique.by),
        (Some("u-fast"), vec![Field::Type, Field::Label("mode".to_owned())])
    );
    assert_eq!(unique.scope, Span::Period(DurationMillis::from_secs(3600)));
    assert_eq!(unique.on_conflict, Conflict::Debounce(DurationMillis::from_secs(5)));
}

#[test]
fn a_value_stays_one_argument_and_is_never_read_by_a_shell() {
    let types = types(
        r#"
        [job_types.command]
        command = ["prog", "-a{{x}}b", "{{x}}"]
        parameters.x = { type = "string" }
        [job_types.shell]
        shell = "printf '%s|' {{x}} \"<{{x}}>\" end"
        parameters.x = { type = "string" }
        "#,
    );
    for value in ["$(touch pwned)", "`id`", "a b; rm -rf /", "'", "\"", "\\", "{{x}}", "*", "-n", "a\nb", "${x}", "é"]
    {
        let task = process(&submission(&types, "command", &[("x", value)])).clone();
        assert_eq!(task.argv, ["prog", &format!("-a{value}b"), value]);
        let task = process(&submission(&types, "shell", &[("x", value)])).clone();
        let run = std::process::Command::new(&task.argv[0]).args(&task.argv[1..]).envs(&task.environment).output();
        assert_eq!(String::from_utf8(run.unwrap().stdout).unwrap(), format!("{value}|<{value}>|end|"));
        assert!(!task.argv[2].contains(value) || value == "\"" || value == "'", "{value}");
    }
    assert_eq!(process(&submission(&types, "command", &[])).argv, ["prog"]);
}

#[test]
fn values_are_checked_by_their_type_and_refused_with_what_they_must_be() {
    let types = types(
        r#"
        [job_types.t]
        command = ["prog"]
        [job_types.t.parameters]
        text = { type = "string", min = 2, max = 3, prefix = ["a", "b"], suffix = "z" }
        count = { type = "integer", min = 1, max = 9 }
        share = { type = "number", max = 0.5 }
        flag = { type = "boolean" }
        path = { type = "path", suffix = [".csv"] }
        mode = { type = "choice", choices = ["fast", "slow"] }
        "#,
    );
    let it = types.find("t").unwrap();
    let found = |name: &str, value: Value| match it.submission(&BTreeMap::from([(name.to_owned(), value)])) {
        Ok(_) => "ok".to_owned(),
        Err(error) => error.to_string().replace("the parameter ", ""),
    };
    for (name, value) in
        [("text", "az"), ("count", "9"), ("share", "-1e3"), ("flag", "false"), ("path", "/a.csv"), ("mode", "slow")]
    {
        assert_eq!(found(name, value.into()), "ok", "{name}");
    }
    for (name, value) in [("count", Value::from(9)), ("share", 0.25.into()), ("share", 0.into()), ("flag", true.into())]
    {
        assert_eq!(found(name, value), "ok", "{name}");
    }
    for (name, value, expected) in [
        (
            "text",
            Value::from("axyz"),
            "text of t is \"axyz\"; it must be a text of 2 to 3 letters that begins with a or b that ends with z",
        ),
        (
            "text",
            "cz".into(),
            "text of t is \"cz\"; it must be a text of 2 to 3 letters that begins with a or b that ends with z",
        ),
        ("text", "a\0z".into(), "text of t is \"a\\u0000z\"; it must be at most 16384 bytes without a NUL byte"),
        (
            "text",
            Value::Null,
            "text of t is null; it must be a text of 2 to 3 letters that begins with a or b that ends with z",
        ),
        ("count", 0.into(), "count of t is 0; it must be a whole number, 1 to 9"),
        ("count", (-1).into(), "count of t is -1; it must be a whole number, 1 to 9"),
        ("count", "1.5".into(), "count of t is \"1.5\"; it must be a whole number, 1 to 9"),
        (
            "count",
            "18446744073709551616".into(),
            "count of t is \"18446744073709551616\"; it must be a whole number, 1 to 9",
        ),
        ("share", "NaN".into(), "share of t is \"NaN\"; it must be a number, at most 0.5"),
        ("flag", "yes".into(), "flag of t is \"yes\"; it must be true or false"),
        ("path", "a.csv".into(), "path of t is \"a.csv\"; it must be an absolute path that ends with .csv"),
        ("mode", "slwo".into(), "mode of t is \"slwo\"; it must be one of fast, slow; did you mean \"slow\"?"),
        (
            "cuont",
            1.into(),
            "t has no parameter \"cuont\"; did you mean \"count\"?; it has text, count, share, flag, path, mode",
        ),
    ] {
        assert_eq!(found(name, value), expected);
    }
}

#[test]
fn a_declaration_is_laid_over_the_built_in_type_or_the_one_it_extends() {
    let types = types(
        r#"
        [job_types.scrape]
        queue = "web"
        timeout = "none"
        parameters.user_agent = { default = "me" }
        [job_types.nightly]
        extends = "upkeep"
        queue = "night"
        [job_types.mirror]
        extends = "scrape"
        command = ["wget", "{{url}}"]
        schedule = { cron = "0 3 * * *", zone = "Europe/Oslo", overlap = "cancel_other", catch_up = "6h", jitter = "30s", parameters = { url = "http://a/" } }
        [job_types.metrics]
        schedule = false
        [job_types.download]
        enabled = false
        "#,
    );
    let scrape = types.find("scrape").unwrap();
    assert_eq!(scrape.source(), Source::Changed);
    let made = submission(&types, "scrape", &[("url", "http://a/")]);
    assert_eq!((made.spec.queue.as_str(), made.spec.timeout_ms), ("web", None));
    assert!(process(&made).argv.windows(2).any(|pair| pair == ["--user-agent", "me"]));
    assert_eq!(made.spec.retry.max_attempts, 4);

    let mirror = submission(&types, "mirror", &[("url", "http://a/")]);
    assert_eq!(process(&mirror).argv, ["wget", "http://a/"]);
    assert_eq!((mirror.spec.queue.as_str(), mirror.spec.job_type.as_str()), ("web", "mirror"));
    let schedules = types.schedules();
    let schedule = schedules.get("mirror").unwrap();
    assert_eq!((schedule.timing.text.as_str(), schedule.timing.zone.as_str()), ("0 3 * * *", "Europe/Oslo"));
    assert_eq!(
        (schedule.overlap, schedule.catch_up),
        (Overlap::CancelOther, CatchUp::Window(DurationMillis::from_secs(21_600)))
    );
    assert_eq!(schedule.submission, mirror);

    assert_eq!(submission(&types, "nightly", &[]).spec.task, Task::Builtin(Builtin::Upkeep));
    assert_eq!(schedules.keys().collect::<Vec<_>>(), ["mirror", "retention", "upkeep"]);
    let error = types.find("download").unwrap().submission(&BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(error, "the job type download is disabled; set `enabled = true` in [job_types.download] of config.toml");
    let error = types.find("downlaod").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no job type \"downlaod\"; did you mean \"download\"?; `jobmesh types ls` shows them all"
    );
}

#[test]
fn a_job_that_names_something_of_this_machine_stays_here() {
    let types = types("");
    let place = |name: &str, pairs: &[(&str, &str)]| submission(&types, name, pairs).spec.scope;
    assert_eq!(place("download", &[("url", "https://a/")]), Scope::Hybrid);
    assert_eq!(place("download", &[("url", "https://a/"), ("output", "/tmp/a")]), Scope::Local);
    assert_eq!(place("upkeep", &[]), Scope::Local);
}

#[test]
fn other_work_than_a_command_is_declared_with_holes_too() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("m.wasm");
    std::fs::write(&module, b"module").unwrap();
    let mut types = types(&format!(
        r#"
        [job_types.box]
        container = {{ image = "a/{{{{image}}}}", command = ["ls", ["-l", "{{{{folder}}}}"]], pull = "always" }}
        environment = {{ A = "{{{{folder}}}}" }}
        network = true
        isolation = "sandboxed"
        outputs = ["out/*.png"]
        secrets = {{ TOKEN = "registry" }}
        parameters.image = {{ type = "string", default = "busybox" }}
        parameters.folder = {{ type = "string" }}
        [job_types.count]
        wasm = {{ module = "{}", arguments = ["{{{{x}}}}"], fuel = 1000 }}
        parameters.x = {{ type = "string", required = true }}
        [job_types.script]
        lua = {{ script = "return '{{{{x}}}}'" }}
        [job_types.search]
        http = {{ url = "https://a.org/?q={{{{x}}}}", headers = {{ Accept = "text/plain", X = "{{{{y}}}}" }}, expect = [200, 404] }}
        parameters.x = {{ type = "string", required = true }}
        parameters.y = {{ type = "string" }}
        [job_types.ask-nicely]
        llm = {{ prompt = "{{{{x}}}}, please", system = "be brief", complexity = "simple", tokens = 9, temperature = 0.7 }}
        parameters.x = {{ type = "string", required = true }}
        [job_types.vectors]
        embedding = {{ texts = ["{{{{x}}}}", "{{{{y}}}}"], model = "m" }}
        parameters.x = {{ type = "string", required = true }}
        parameters.y = {{ type = "string" }}
        [job_types.scrape]
        command = ["fetch", "{{{{url}}}}"]
        "#,
        module.display()
    ));
    types.read_files().unwrap();
    let made = submission(&types, "box", &[("folder", "/")]).spec;
    let Task::Container(container) = &made.task else { unreachable!("an image is a container") };
    assert_eq!((container.image.as_str(), container.argv.join(" ").as_str()), ("a/busybox", "ls -l /"));
    assert_eq!((container.environment.len(), made.network, made.isolation), (1, true, Some(Isolation::Sandboxed)));
    assert_eq!((made.outputs.len(), made.secrets.len(), made.scope), (1, 1, Scope::Local));
    let task = |name: &str, pairs: &[(&str, &str)]| submission(&types, name, pairs).spec.task;
    let Task::Wasm(wasm) = task("count", &[("x", "a")]) else { unreachable!("a module is a module") };
    assert_eq!((wasm.module, wasm.fuel), (BlobRef::of(b"module"), Some(1000)));
    let files: Vec<_> = types.find("count").unwrap().files().collect();
    assert_eq!(files, [(module.as_path(), BlobRef::of(b"module"))]);
    assert_eq!(task("script", &[]), Task::Lua(LuaTask::new("return '{{x}}'")), "a script has no holes");
    let Task::Http(http) = task("search", &[("x", "a&b c")]) else { unreachable!("an address is a request") };
    assert_eq!((http.url.as_str(), http.headers.len()), ("https://a.org/?q=a%26b%20c", 1));
    let Task::Llm(llm) = task("ask-nicely", &[("x", "why")]) else { unreachable!("a question is for a model") };
    assert_eq!((llm.messages.len(), llm.tokens_max, llm.temperature_milli), (2, Some(9), Some(700)));
    let Task::Embedding(embedding) = task("vectors", &[("x", "a")]) else { unreachable!("texts are embedded") };
    assert_eq!((embedding.texts.len(), embedding.model.as_deref()), (1, Some("m")));
    assert_eq!(process(&submission(&types, "scrape", &[("url", "http://a/")])).argv, ["fetch", "http://a/"]);
    std::fs::remove_file(&module).unwrap();
    assert!(types.read_files().unwrap_err().problem.starts_with("job_types.count names the file"));
}

#[test]
fn a_path_that_is_brought_does_not_bind_a_job_to_this_machine() {
    let text = r#"
        [job_types.resize]
        command = ["resize", "in/{{width}}.png"]
        requirements = ["tool:resize"]
        inputs = ["{{photo}}:in/{{width}}.png", "/srv/lib/", "{{more}}"]
        outputs = ["out/*.png"]
        parameters.photo = { type = "path", required = true }
        parameters.more = { type = "path" }
        parameters.width = { type = "integer", default = 640 }
        [job_types.both]
        extends = "resize"
        command = ["resize", "{{photo}}"]
        "#;
    let types = types(text);
    let given = BTreeMap::from([("photo".to_owned(), Value::from("/a/b.png"))]);
    let (made, inputs) = types.find("resize").unwrap().draft(&given).unwrap();
    assert_eq!((made.spec.scope, made.spec.inputs), (Scope::Hybrid, None));
    let input = |path: &str, name: &str| Input { path: path.into(), name: name.to_owned() };
    assert_eq!(inputs, [input("/a/b.png", "in/640.png"), input("/srv/lib/", "")]);
    let (made, _) = types.find("both").unwrap().draft(&given).unwrap();
    assert_eq!(made.spec.scope, Scope::Local, "what is named by its path is here");
    let refused = types.find("resize").unwrap().submission(&given).unwrap_err();
    assert_eq!(refused, ParameterError::Files { job_type: "resize".to_owned() });
    assert_eq!(types.find("resize").unwrap().view().inputs.len(), 3);
    for (more, problem) in [
        ("schedule = \"@daily\"", "has a schedule"),
        ("directory = \"/srv\"", "directory stands beside inputs"),
        ("inputs = [\"{{photos}}\"]", "did you mean \"photo\""),
        ("inputs = [\"photo\"]", "absolute path"),
    ] {
        let fault = resolve(&format!("{text}{more}\n")).unwrap_err();
        assert!(fault.contains(problem), "{more}: {fault}");
    }
}

#[test]
fn what_is_taken_is_laid_over_resource_by_resource_or_by_variants() {
    let types = types(
        r#"
        [job_types.a]
        command = ["a"]
        mem = "1G"
        [job_types.b]
        extends = "a"
        cpus = 0
        [job_types.c]
        extends = "b"
        variants = ["gpus/nvidia=1", "cpus=8,mem=4G"]
        [job_types.d]
        extends = "b"
        cpus = 2
        "#,
    );
    let taken = |name| submission(&types, name, &[]).spec.resources.to_string();
    assert_eq!(
        ["a", "b", "c", "d"].map(taken),
        ["cpus=1,mem=1G", "mem=1G", "gpus/nvidia=1 | cpus=8,mem=4G", "cpus=2,mem=1G"]
    );
}
