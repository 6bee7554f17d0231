//! Every way in which a file can be wrong, and what a person is told.

use super::Setting;

/// Compares them all, and shows all that differ at once.
fn check(table: &[(&str, &str)]) {
    let different: Vec<String> = table
        .iter()
        .map(|(file, expected)| (file, expected, Setting::refusal(file)))
        .filter(|(_, expected, found)| *expected != found)
        .map(|(file, expected, found)| format!("{file}\n  is told    {found}\n  instead of {expected}"))
        .collect();
    assert!(different.is_empty(), "\n{}", different.join("\n"));
}

const KEYS: &[(&str, &str)] = &[
    ("name = \"a\"\nslotz = 4\n", "line 2: unknown key `slotz`; did you mean `slots`?"),
    ("workers = 4", "line 1: unknown key `workers`; did you mean `slots`?"),
    (
        "[lease]\nttl = \"5s\"\nfrobnicate = 1\n",
        "line 3: unknown key `frobnicate` in [lease]; it may have ttl, grace, bid_window, bid_hold",
    ),
    ("ttl = \"5s\"", "line 1: unknown key `ttl` here; it belongs in [lease]"),
    ("[limits]\nname = \"a\"", "line 2: unknown key `name` here; it belongs at the top of the file"),
    ("\n[queue.a]\nrate = \"1/1s\"", "line 2: unknown key `queue`; did you mean `queues`?"),
    ("[queues.a]\n\nlimit = 1", "line 3: unknown key `limit`; did you mean `concurrency`?"),
    ("slots = 1\nslots = 2", "line 2: duplicate key `slots`; it is set twice in the same table, so keep one"),
    ("[drain]\n[drain]", "line 2: duplicate key `drain`; it is set twice in the same table, so keep one"),
    (
        "[resources]\ngpus/nvidia = \"[0]\"",
        "line 2: a key with a slash must stand in quotes; write \"gpus/nvidia\" = …",
    ),
    ("[job_types.a]\ncmd = [\"true\"]", "line 2: unknown key `cmd`; did you mean `command`?"),
    (
        "[job_types.a]\ncommand = [\"true\"]\n[job_types.a.parameters.b]\ntyp = \"path\"",
        "line 4: unknown key `typ`; did you mean `type`?",
    ),
    ("[job_types.upkeep.schedule]\ncron = \"@daily\"\ntz = \"UTC\"", "line 3: unknown key `tz`; did you mean `zone`?"),
];

#[test]
fn of_keys() {
    check(KEYS);
}

const TYPES: &[(&str, &str)] = &[
    ("slots = \"4\"", "line 1: slots is \"4\"; it must be a whole number, 1 to 4096, so leave the quotes out"),
    ("slots = 4.5", "line 1: slots is 4.5; it must be a whole number, 1 to 4096"),
    ("slots = []", "line 1: slots is []; it must be a whole number, 1 to 4096"),
    ("[slots]", "line 1: slots is a table; it must be a whole number, 1 to 4096"),
    ("mdns = \"true\"", "line 1: mdns is \"true\"; it must be true or false, so leave the quotes out"),
    ("mdns = 1", "line 1: mdns is 1; it must be true or false"),
    ("name = 7", "line 1: name is 7; it must be a text in quotes"),
    (
        "listen = \"/ip4/0.0.0.0/tcp/0\"",
        "line 1: listen is \"/ip4/0.0.0.0/tcp/0\"; it must be a list such as [\"a\", \"b\"], so put the text into [ ]",
    ),
    ("listen = [\n  \"/ip4/0.0.0.0/tcp/0\",\n  7,\n]", "line 3: listen[1] is 7; it must be a text in quotes"),
    ("lease = 3", "line 1: lease is 3; it must be a table, such as [lease]"),
    ("queues.a = 3", "line 1: queues.a is 3; it must be a table, such as [queues.a]"),
    (
        "[drain]\nwait = 30",
        "line 2: drain.wait is 30; it must be a length of time such as \"30s\", \"5m\" or \"1h30m\", with its unit",
    ),
    (
        "[drain]\nwait = \"soon\"",
        "line 2: drain.wait is \"soon\"; it must be a length of time such as \"30s\", \"5m\" or \"1h30m\"",
    ),
    (
        "[retention]\ncompleted = \"always\"",
        "line 2: retention.completed is \"always\"; it must be a length of time such as \"30s\", \"5m\" or \"1h30m\", or \"never\"",
    ),
    (
        "[limits]\nlog_bytes = \"big\"",
        "line 2: limits.log_bytes is \"big\"; it must be a size such as 4096, \"64KiB\" or \"1GiB\"",
    ),
    (
        "[resources]\ncpus = true",
        "line 2: resources.cpus is true; it must be a pool such as \"4\", \"2x4\", \"[0,1]\" or \"sum(8G)\", in quotes",
    ),
    ("slots = 4 5", "line 1: slots is 4 5, which is no value; write a text in quotes, such as slots = \"4 5\""),
    ("log = info", "line 1: log is info, which is no value; write a text in quotes, such as log = \"info\""),
    (
        "[lease]\nttl = 30s # long",
        "line 2: ttl is 30s, which is no value; write a text in quotes, such as ttl = \"30s\"",
    ),
    ("name = \"a", "line 1: invalid basic string, expected `\"`"),
];

#[test]
fn of_types() {
    check(TYPES);
}

const RANGES: &[(&str, &str)] = &[
    ("slots = 0", "line 1: slots is 0; it must be 1 to 4096"),
    ("slots = -1", "line 1: slots is -1; it must be 1 to 4096"),
    ("\n\nslots = 18446744073709551616", "line 3: slots is 18446744073709551616; it must be 1 to 4096"),
    (
        "slots = 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ff",
        "line 1: slots is 0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff_ff; it must be 1 to 4096",
    ),
    ("name = \"\"", "line 1: name is \"\"; it must be 1 to 64 printable bytes"),
    ("listen = []", "line 1: listen is 0 addresses; it must be 1 to 16 addresses"),
    (
        "listen = [\"0.0.0.0:80\"]",
        "line 1: listen is \"0.0.0.0:80\"; it must be a multiaddress such as /ip4/0.0.0.0/tcp/0",
    ),
    ("[lease]\nttl = \"0s\"", "line 2: lease.ttl is \"0s\"; it must be 1s to 1h"),
    (
        "[lease]\nttl = \"18446744073709551616ms\"",
        "line 2: lease.ttl is \"18446744073709551616ms\"; it must be a length of time such as \"30s\", \"5m\" or \"1h30m\"",
    ),
    ("[lease]\nbid_window = \"9s\"", "line 2: lease.bid_window is 9s; it must be at most lease.bid_hold, 2s"),
    (
        "[lease]\nbid_window = \"9s\"\nbid_hold = \"8s\"",
        "line 3: lease.bid_hold is 8s; it must be at least lease.bid_window, 9s",
    ),
    (
        "[queues.a]\nconcurrency = 0",
        "line 2: queues.a.concurrency is 0; it must be 1 to 1000000; to start nothing, run `jobmesh queue pause a`",
    ),
    (
        "[queues.a]\nconcurrency = -1",
        "line 2: queues.a.concurrency is -1; it must be 1 to 1000000; for no limit, write \"unlimited\"",
    ),
    (
        "[queues.a]\nconcurrency = 18446744073709551616",
        "line 2: queues.a.concurrency is 18446744073709551616; it must be 1 to 1000000",
    ),
    (
        "[queues.a]\nrate = \"0/1m\"",
        "line 2: queues.a.rate is \"0/1m\"; it must be a number of starts in a time, such as \"60/1m\", in 1ms to 366d",
    ),
    ("[queues.a]\nrate = 60", "line 2: queues.a.rate is 60; it must be a text in quotes"),
    ("[queues.\"\"]", "line 1: queues. is no name of a queue; it must be 1 to 128 printable bytes"),
    ("[retention]\nreceipts = \"0s\"", "line 2: retention.receipts is \"0s\"; it must be 1s to 36600d, or \"never\""),
    ("[limits]\nlog_bytes = -1", "line 2: limits.log_bytes is -1; it must be 1KiB to 1TiB"),
    (
        "[limits]\nlog_bytes = \"17179869184G\"",
        "line 2: limits.log_bytes is \"17179869184G\"; it must be a size such as 4096, \"64KiB\" or \"1GiB\"",
    ),
    ("[mesh]\nholds_per_peer = 0", "line 2: mesh.holds_per_peer is 0; it must be 1 to 64"),
    ("[mesh]\noutbox_per_peer = \"1KiB\"", "line 2: mesh.outbox_per_peer is \"1KiB\"; it must be 1MiB to 64GiB"),
    ("[limits]\nprocesses = 0", "line 2: limits.processes is 0; it must be 1 to 4194304"),
    (
        "[resources]\ncpus = \" \"",
        "line 2: resources.cpus is wrong: \"\" is no pool of cpus: write range(0-3), [a,b], [[0,1],[2,3]], 2x3 or sum(100)",
    ),
    (
        "[resources]\nGPU = 1",
        "line 2: resources.GPU is wrong: \"GPU\" is no resource: write it like cpus or gpus/nvidia, with 1 to 64 of a-z 0-9 _ / . - and a letter first",
    ),
    (
        "log = \"jobmesh=loud\"",
        "line 1: log is \"jobmesh=loud\"; it must be log directives such as info or jobmesh=debug",
    ),
];

#[test]
fn of_ranges() {
    check(RANGES);
}

const MODELS: &[(&str, &str)] = &[
    (
        "[http]\nallow = [\"http://x/\"]",
        "line 2: http.allow[0] is wrong: \"http://x/\" is neither a host such as db.example.org nor addresses such as 10.0.0.5 or 10.1.0.0/16",
    ),
    (
        "[http]\nallow = [\"**\"]",
        "line 2: http.allow[0] is wrong: \"**\" is neither a host such as db.example.org nor addresses such as 10.0.0.5 or 10.1.0.0/16",
    ),
    ("[http]\npeers = \"all\"", "line 2: http.peers is \"all\"; it must be one of public, none"),
    (
        "[providers.a]\nbase_url = \"http://x\"",
        "line 1: providers.a has no kind; say which interface it has: openai, anthropic, gemini or ollama",
    ),
    (
        "[providers.a]\nkind = \"openai\"\nbase_url = \"http://u:p@x\"",
        "line 3: providers.a.base_url is \"http://u:p@x\"; it must be an address such as http://127.0.0.1:8080/v1, without a key",
    ),
    (
        "[providers.a]\nkind = \"ollama\"\nkey_env = \"A\"\nkey_secret = \"b\"",
        "line 4: providers.a has a key_env and a key_secret; one must go",
    ),
    (
        "[providers.\"a b\"]\nkind = \"ollama\"",
        "line 1: providers.a b is no name; it must be 1 to 64 letters, digits, dots, dashes or underscores",
    ),
    (
        "[providers.a]\nkind = \"openai\"\nheaders = { Authorization = \"x\" }",
        "line 3: providers.a.headers.Authorization is a header that the node writes; a key goes into key_env or key_secret",
    ),
    (
        "[providers.a]\nkind = \"openai\"\nheaders = { X-A = \"x\\ny\" }",
        "line 3: providers.a.headers.X-A is \"x\\ny\"; it must be a text of plain letters on one line",
    ),
    ("[providers]\nfind = 3", "line 2: providers.find is 3; it must be true or false"),
    ("[models.m]\nmodel = \"x\"", "line 1: models.m has no provider; name one of [providers]"),
    ("[models.m]\nprovider = \"x\"", "line 2: models.m.provider is \"x\"; it must be the name of one of [providers]"),
    (
        "[providers.p]\nkind = \"ollama\"\n[models.m]\nprovider = \"p\"\ninput_price = -1",
        "line 5: models.m.input_price is -1; it must be US dollars for a million tokens, 0 to 100000, such as 0.15",
    ),
    (
        "[providers.p]\nkind = \"ollama\"\n[models.m]\nprovider = \"p\"\nfallback = [\"n\"]",
        "line 5: models.m falls back to \"n\", which is no model of [models] of the same kind",
    ),
    (
        "[providers.p]\nkind = \"ollama\"\n[models.m]\nprovider = \"p\"\nfallback = [\"m\"]",
        "line 5: models.m falls back to itself; name another model, or none",
    ),
    (
        "[providers.p]\nkind = \"openai\"\nkey_secret = \"prod\"\n[secrets.test]\nfrom = \"env:A\"",
        "line 3: providers.p.key_secret is \"prod\", a secret that is not declared; declare it as [secrets.prod] with from = \"env:VARIABLE\" or \"file:/path\"",
    ),
    (
        "[models.classes]\nmedium = \"m\"",
        "line 2: models.classes.medium is \"m\"; it must be the name of one of [models] of its kind",
    ),
    (
        "[models.types]\npoem = \"hard\"",
        "line 2: models.types.poem is \"hard\"; it must be one of simple, medium, complex",
    ),
];

#[test]
fn of_models_and_requests() {
    check(MODELS);
}

#[test]
fn of_encodings() {
    let utf16 = |text: &str, bom: &[u8]| -> Vec<u8> {
        bom.iter().copied().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
    };
    let refusal = |bytes: &[u8]| Setting::refusal(bytes);
    assert_eq!(Setting::config(b"\xef\xbb\xbfslots = 3\r\n").slots, 3);
    let wide = "line 1: the file is written in UTF-16; save it as UTF-8";
    assert_eq!(refusal(&utf16("slots = 3", b"\xff\xfe")), wide);
    assert_eq!(refusal(&utf16("slots = 3", b"")), wide);
    assert_eq!(refusal(b"\xfe\xff\0s\0l"), wide);
    assert_eq!(refusal(b"\xff\xfe\0\0s\0\0\0"), "line 1: the file is written in UTF-32; save it as UTF-8");
    assert_eq!(refusal(b"slots = 3\nname = \"\xe9\"\n"), "line 2: byte 0xe9 is not UTF-8; save the file as UTF-8");
    assert_eq!(
        refusal(&vec![b'#'; (1 << 20) + 1]),
        "line 1: the file is larger than 1 MiB; is it really a configuration?"
    );
    assert_eq!(Setting::refusal("a.".repeat(10_000)).split_once(':').unwrap().0, "line 1");
    assert_eq!(Setting::refusal("a = ".to_owned() + &"[".repeat(10_000)).split_once(':').unwrap().0, "line 1");
}

#[test]
fn of_things_that_are_no_file() {
    let setting = Setting::new("");
    let path = setting.folder.path().join("config.toml");
    let error = || setting.resolve(super::Overrides::default(), super::Overrides::default()).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(
        error()
            .to_string()
            .ends_with("config.toml is a directory, not a file; move it away, or write the configuration there")
    );
    std::fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(matches!(error(), super::ConfigError::Read { .. }));
    std::fs::remove_file(&path).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert!(error().to_string().contains("is a pipe or socket"));
}
