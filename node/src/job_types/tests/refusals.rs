//! Every way in which a declaration can be wrong, and what a person is told.

use super::resolve;

/// The body of a declaration, and what is said of it; the header is its first line.
const DECLARATIONS: &[(&str, &str)] = &[
    (
        "executor = \"workflow\"\ncommand = [\"x\"]",
        "2: job_types.t.executor is \"workflow\", which this build of jobmesh does not have; it has process, builtin, noop, container, wasm, lua, http, llm, embedding",
    ),
    ("executor = \"lua\"\ncommand = [\"x\"]", "2: job_types.t is run by lua, but does not say what; add lua = { … }"),
    (
        "executor = \"http\"\nlua = { script = \"return 1\" }",
        "2: job_types.t.executor is \"http\", but job_types.t.lua is what runs; leave the executor out",
    ),
    (
        "command = [\"a\"]\nhttp = { url = \"http://a/\" }",
        "3: job_types.t.http stands beside command; keep one of them",
    ),
    (
        "http = { url = \"ftp://a/\" }",
        "2: job_types.t.http.url is \"ftp://a/\"; it must be an address that begins with http:// or https://",
    ),
    (
        "http = { url = \"http://a/\" }\nllm = { prompt = \"a\" }",
        "3: job_types.t.llm stands beside http; keep one of them",
    ),
    (
        "container = { pull = \"never\" }",
        "2: job_types.t.container has no image; write container = { image = \"docker.io/library/busybox\" }",
    ),
    (
        "wasm = { module = \"a.wasm\" }",
        "2: job_types.t.wasm.module is \"a.wasm\"; it must be the absolute path of a file",
    ),
    ("lua = { script = \"a\", file = \"/a\" }", "2: job_types.t.lua has both a script and a file; keep one of them"),
    (
        "http = { url = \"http://a/{{x}}\" }\nparameters.x = { type = \"string\" }",
        "2: job_types.t.http.url needs a value for {{x}} always; make the parameter required, or give it a default",
    ),
    (
        "llm = { prompt = \"a\", temperature = 3 }",
        "2: job_types.t.llm.temperature is 3; it must be a number from 0 to 2, such as 0.7",
    ),
    ("llm = { prompt = \"a\", sytem = \"b\" }", "2: unknown key `sytem`; did you mean `system`?"),
    (
        "embedding = { texts = [] }",
        "2: job_types.t.embedding has no texts; write embedding = { texts = [\"{{text}}\"] }",
    ),
    (
        "llm = { prompt = \"a\" }\ndirectory = \"/\"",
        "3: job_types.t.directory is for commands of this machine; llm has none",
    ),
    (
        "http = { url = \"http://a/\" }\nenvironment = { A = \"b\" }",
        "3: job_types.t.environment is for code that runs; http has none",
    ),
    (
        "command = [\"a\"]\nisolation = \"none\"",
        "3: job_types.t.isolation is \"none\"; it must be one of contained, sandboxed, untrusted",
    ),
    (
        "executor = \"proces\"\ncommand = [\"x\"]",
        "2: job_types.t.executor is \"proces\"; it must be one of process, builtin, noop, container, wasm, lua, http, llm, embedding; did you mean \"process\"?",
    ),
    (
        "queue = \"a\"",
        "1: job_types.t has nothing to run; add command = [\"program\", \"argument\"] or shell = \"text\"",
    ),
    (
        "command = \"true\"",
        "2: job_types.t.command is \"true\"; it must be a list such as [\"program\", \"argument\"]; for a line that a shell reads, use shell = \"…\"",
    ),
    ("command = []", "2: job_types.t.command is []; it must be a list that begins with the program"),
    ("command = [\"a\", 1]", "2: job_types.t.command[1] is 1; it must be a text in quotes"),
    ("command = [\"a\"]\nshell = \"b\"", "3: job_types.t.shell stands beside command; keep one of them"),
    (
        "command = [\"a\", \"{{ulr}}\"]\nparameters.url = { type = \"string\" }",
        "2: job_types.t.command has {{ulr}}, but there is no parameter \"ulr\"; did you mean \"url\"?",
    ),
    (
        "command = [\"a\", \"{{url}\"]",
        "2: job_types.t.command[1] is \"{{url}\"; it must be closed: write {{url}}, or {{{{ for two braces that are no hole",
    ),
    (
        "command = [\"a\", \"{{x}}\", \"{{y}}\"]\nparameters.x = { type = \"string\" }\nparameters.y = { type = \"string\" }",
        "2: job_types.t.command needs a value for {{x}} always; make the parameter required, or give it a default; or put it behind its option in a list of their own: the next argument would take its place",
    ),
    ("shell = \"echo {{x}}\"", "2: job_types.t.shell has {{x}}, but there is no parameter \"x\""),
    (
        "shell = \"echo '{{x}}'\"\nparameters.x = { type = \"string\" }",
        "2: job_types.t.shell is \"echo '{{x}}'\"; it must be without {{x}} in single quotes, where the shell expands nothing; use double quotes",
    ),
    (
        "command = [\"{{x}}\"]\nparameters.x = { type = \"string\" }",
        "2: job_types.t.command needs a value for {{x}} always; make the parameter required, or give it a default",
    ),
    (
        "command = [\"a\"]\nconcurrency_key = \"{{x}}\"\nparameters.x = { type = \"string\" }",
        "3: job_types.t.concurrency_key needs a value for {{x}} always; make the parameter required, or give it a default",
    ),
    ("command = [\"a\"]\ndirectory = \"b\"", "3: job_types.t.directory is \"b\"; it must be an absolute path"),
    (
        "command = [\"a\"]\nparameters.x = \"string\"",
        "3: job_types.t.parameters.x is \"string\"; it must be a table, such as { type = \"string\", required = true }",
    ),
    (
        "command = [\"a\"]\nparameters.x = {}",
        "3: job_types.t.parameters.x has no type; it must be one of string, integer, number, boolean, path, choice",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"int\" }",
        "3: job_types.t.parameters.x.type is \"int\"; it must be one of string, integer, number, boolean, path, choice; did you mean \"integer\"?",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"choice\" }",
        "3: job_types.t.parameters.x has no choices; name them, such as choices = [\"a\"]",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"path\", min = 1 }",
        "3: job_types.t.parameters.x.min means nothing for the type path",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"integer\", min = 2, max = 1 }",
        "3: job_types.t.parameters.x.min is 2; it must be at most job_types.t.parameters.x.max",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"integer\", min = \"a\" }",
        "3: job_types.t.parameters.x.min is \"a\"; it must be a number of its type",
    ),
    (
        "command = [\"a\"]\nparameters.x = { type = \"integer\", max = 1, default = 2 }",
        "3: job_types.t.parameters.x.default is 2; it must be a whole number, at most 1",
    ),
    (
        "command = [\"a\"]\nparameters.X-y = { type = \"string\" }",
        "3: job_types.t.parameters.X-y is no name of a parameter; it must be a-z, 0-9 and _, with a letter in front",
    ),
    ("command = [\"a\"]\nretries = -1", "3: job_types.t.retries is -1; it must be 0 to 999"),
    (
        "command = [\"a\"]\npriority = 2147483648",
        "3: job_types.t.priority is 2147483648; it must be -2147483648 to 2147483647",
    ),
    ("command = [\"a\"]\ntimeout = \"0s\"", "3: job_types.t.timeout is \"0s\"; it must be 1ms to 366d, or \"none\""),
    (
        "command = [\"a\"]\nbackoff = \"often\"",
        "3: job_types.t.backoff is \"often\"; it must be waits such as \"2s..10m\", \"fixed:30s\" or \"1s,5s,1m\", and maybe \",jitter=none|half|full\"",
    ),
    (
        "command = [\"a\"]\nfail_on = [\n\"exit=1\",\n\"exit=x\"]",
        "5: job_types.t.fail_on[1] is wrong: \"exit=x\" is no failure; write exit=75, exit=1-9, signal=9, timeout or error",
    ),
    (
        "command = [\"a\"]\nrequirements = [\"a b\"]",
        "3: job_types.t.requirements[0] is wrong: \"a b\" is no tag or attribute: write it like tool:gzip, with 1 to 128 letters, digits and . _ - / @ +",
    ),
    (
        "command = [\"a\"]\ncpus = -1",
        "3: job_types.t.cpus is wrong: the amount of cpus can't be read: \"-1\" is no amount: write a number such as 4 or 0.5",
    ),
    (
        "command = [\"a\"]\nscope = \"mesh\"",
        "3: job_types.t.scope is \"mesh\"; it must be one of local, network, hybrid; did you mean \"network\"?",
    ),
    (
        "command = [\"a\"]\nrate = \"60\"",
        "3: job_types.t.rate is \"60\"; it must be a number of starts in a time, such as \"60/1m\", in 1ms to 366d",
    ),
    (
        "command = [\"a\"]\nunique = 1",
        "3: job_types.t.unique is 1; it must be true, a key in quotes, or a table such as { by = [\"type\", \"task\"] }",
    ),
    (
        "command = [\"a\"]\nunique = { for = \"1h\" }",
        "3: job_types.t.unique says not by what; add a key, or by = [\"type\", \"task\"]",
    ),
    (
        "command = [\"a\"]\nunique = { key = \"a\", on_conflict = \"wait\" }",
        "3: job_types.t.unique.on_conflict is \"wait\"; it must be one of return, reject, replace, merge, debounce=5s, throttle=5s",
    ),
    (
        "command = [\"a\"]\nschedule = \"sometimes\"",
        "3: job_types.t.schedule is wrong: the schedule has 1 fields; write 5 (minute, hour, day of the month, month, day of the week), or 6 with the second in front, or a length like every 5m",
    ),
    (
        "command = [\"a\"]\nschedule = \"0 0 30 2 *\"",
        "3: job_types.t.schedule is wrong: the schedule never fires: no date of the next 41 years matches its days and months",
    ),
    (
        "command = [\"a\"]\nschedule.every = \"5m\"\nschedule.zone = \"Europe/Olso\"",
        "4: job_types.t.schedule.zone is wrong: unknown time zone \"Europe/Olso\"; did you mean Europe/Oslo?",
    ),
    (
        "command = [\"a\"]\ncpus = 1\nvariants = [\"none\"]",
        "4: job_types.t.variants stands beside cpus, mem or resources; write what each variant takes into it",
    ),
    (
        "command = [\"a\"]\ncpus = 1\nresources = { cpus = 2 }",
        "4: job_types.t.resources.cpus is said twice; leave one of them out",
    ),
    (
        "command = [\"a\"]\nmem = \"much\"",
        "3: job_types.t.mem is wrong: the amount of mem can't be read: \"much\" is no amount of memory: write bytes, or a number with K, M, G or T, such as 8G",
    ),
    (
        "command = [\"a\"]\nschedule = {}",
        "3: job_types.t.schedule does not say when; add cron = \"0 3 * * *\" or every = \"5m\"",
    ),
    (
        "command = [\"a\"]\nschedule = { cron = \"@daily\", overlap = \"buffer\" }",
        "3: job_types.t.schedule.overlap is \"buffer\"; it must be one of skip, buffer_one, buffer_all, cancel_other, allow",
    ),
    (
        "command = [\"a\", \"{{x}}\"]\nschedule = \"@daily\"\nparameters.x = { type = \"string\", required = true }",
        "3: job_types.t.schedule can't be: t needs the parameter x; `jobmesh types show t` says what for",
    ),
    (
        "extends = \"downlaod\"",
        "2: job_types.t.extends is \"downlaod\", which is no job type; did you mean \"download\"?",
    ),
    ("extends = \"t\"", "2: job_types.t extends itself, or more than 8 types one after the other"),
    (
        "executor = \"builtin\"",
        "1: job_types.t does not say what the node is to do; add builtin = one of metrics, retention, upkeep, learning_export",
    ),
    (
        "command = [\"x\"]\neffects = \"once\"\nretries = 1",
        "3: job_types.t.effects is \"once\", so leave retries out: such a job never runs a second time",
    ),
    (
        "command = [\"x\"]\neffects = \"once\"\nretry_on = [\"timeout\"]",
        "3: job_types.t.effects is \"once\", so leave retry_on out: such a job never runs a second time",
    ),
    (
        "builtin = \"upkeep\"\nscope = \"hybrid\"",
        "3: job_types.t.scope must be \"local\": the node keeps itself in order, not another one",
    ),
    (
        "extends = \"upkeep\"\ncommand = [\"a\"]",
        "3: job_types.t is run by the node itself, so it has no command or shell text; leave it out, or declare a type of another name",
    ),
];

#[test]
fn of_declarations() {
    let refusal = |body: &str| resolve(&format!("[job_types.t]\n{body}")).err().unwrap_or_default();
    let all = DECLARATIONS.iter().map(|(body, expected)| (body, format!("line {expected}"), refusal(body)));
    let different = all.filter(|(_, expected, found)| expected != found);
    let different =
        different.map(|(body, expected, found)| format!("{body}\n  is told    {found}\n  instead of {expected}"));
    let different: Vec<String> = different.collect();
    assert!(different.is_empty(), "\n{}", different.join("\n"));
}

#[test]
fn of_types_that_extend_in_a_circle_or_have_no_name() {
    let circle = resolve("[job_types.a]\nextends = \"b\"\n[job_types.b]\nextends = \"a\"").unwrap_err();
    assert!(circle.contains("extends itself"), "{circle}");
    let nameless = resolve("[job_types.\"a b\"]\ncommand = [\"a\"]").unwrap_err();
    assert_eq!(
        nameless,
        "line 1: job_types.a b is no name of a job type; it must be 1 to 128 letters, digits, - _ and ., with a letter or digit in front"
    );
}
