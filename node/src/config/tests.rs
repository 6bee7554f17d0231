#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

mod fuzz;
mod refusals;

struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new(file: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), file).unwrap();
        Self { folder }
    }

    fn write(&self, file: &str) {
        std::fs::write(self.folder.path().join("config.toml"), file).unwrap();
    }

    fn resolve(&self, flags: Overrides, environment: Overrides) -> Result<Config, ConfigError> {
        Config::resolve_with(Home::locate(Some(self.folder.path())).unwrap(), flags, environment)
    }

    fn config(file: impl AsRef<[u8]>) -> Config {
        Self::new(file).resolve(Overrides::default(), Overrides::default()).unwrap()
    }

    /// What is said of a file, from the line on.
    fn refusal(file: impl AsRef<[u8]>) -> String {
        let error = Self::new(file).resolve(Overrides::default(), Overrides::default()).unwrap_err().to_string();
        error.split_once("config.toml ").map_or(error.clone(), |(_, rest)| rest.to_owned())
    }
}

#[test]
fn an_empty_file_leaves_the_defaults() {
    let config = Setting::config("");
    assert_eq!(config.timing, Timing::default());
    assert_eq!(config.listen.len(), 2);
    assert!(config.mdns && config.slots > 0 && !config.name.is_empty());
    assert_eq!(config.drain_wait, DurationMillis::from_secs(10));
    assert_eq!(config.retention, Retention::default());
    assert_eq!(
        config.limits,
        Limits { log_bytes: 1 << 30, processes: 2048, file_bytes: 64 << 30, disk_bytes: 16 << 30 }
    );
    assert_eq!(config.quotas, Quotas::default());
    assert_eq!(config.queues.get("maintenance").unwrap().concurrency, Some(Some(1)));
    assert_eq!(config.queues.len(), 1);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let setting = Setting::new("name = \"file\"\nslots = 2\nmdns = false\n[lease]\nttl = \"5s\"\n");
    let flags = Overrides { name: Some("flag".to_owned()), ..Overrides::default() };
    let environment = Overrides { name: Some("env".to_owned()), slots: Some(3), ..Overrides::default() };
    let config = setting.resolve(flags, environment).unwrap();
    assert_eq!((config.name.as_str(), config.slots, config.mdns), ("flag", 3, false));
    assert_eq!(config.timing.lease, DurationMillis::from_secs(5));
    assert_eq!(config.timing.lease_grace, Timing::default().lease_grace);
    let layer = |key: &str| config.settings().into_iter().find(|it| it.key == key).unwrap().layer;
    assert_eq!(layer("name"), Some(Layer::Flag));
    assert_eq!(layer("slots"), Some(Layer::Environment));
    assert_eq!(layer("lease.ttl"), Some(Layer::File { line: 5 }));
    assert_eq!(layer("lease.grace"), Some(Layer::Default));
}

#[test]
fn queues_retention_limits_and_pools_are_read() {
    let config = Setting::config(
        r#"
        [queues.slow]
        concurrency = 2
        rate = "60/1m"
        [queues.open]
        concurrency = "unlimited"
        rate = "unlimited"
        [queues.maintenance]
        rate = "6/1h"
        [retention]
        completed = "1h30m"
        discarded = "never"
        [limits]
        log_bytes = "10MiB"
        processes = 64
        [resources]
        cpus = 4
        mem = "sum(8G)"
        "gpus/nvidia" = "[0,1]"
        "#,
    );
    let declared = config.declared();
    let limits = |name: &str| *declared.queues.get(name).unwrap();
    let rate = |count, secs| {
        Some(Some(jobmesh_protocol::job::RateLimit { count, period_ms: DurationMillis::from_secs(secs) }))
    };
    assert_eq!(limits("slow"), QueueLimits { concurrency: Some(Some(2)), rate: rate(60, 60) });
    assert_eq!(limits("open"), QueueLimits { concurrency: Some(None), rate: Some(None) });
    assert_eq!(limits("maintenance"), QueueLimits { concurrency: Some(Some(1)), rate: rate(6, 3600) });
    assert_eq!(declared.retention.completed, Some(DurationMillis::from_secs(5400)));
    assert_eq!((declared.retention.discarded, declared.retention.cancelled), (None, Retention::default().cancelled));
    assert_eq!(
        config.limits,
        Limits { log_bytes: 10 << 20, processes: 64, file_bytes: 64 << 30, disk_bytes: 16 << 30 }
    );
    let pools: Vec<_> = config.resources.iter().map(|(name, pool)| format!("{name}={pool}")).collect();
    assert_eq!(pools, ["cpus=4", "gpus/nvidia=[0,1]", "mem=sum(8G)"]);
    let settings = config.settings();
    let value = |key: &str| settings.iter().find(|it| it.key == key).unwrap().value.clone();
    assert_eq!(value("queues.slow"), "concurrency=2 rate=60/1m");
    assert_eq!(value("retention.discarded"), "never");
}

#[test]
fn where_secrets_are_and_which_containers_run_is_read() {
    let config = Setting::config(
        "[secrets.registry]\nfrom = \"env:TOKEN\"\n[container]\nsocket = \"unix:///run/x.sock\"\nimages = \"digest\"\n\
         allow = [\"docker.io/library/*\"]",
    );
    let sources: Vec<_> = config.secrets.iter().map(|(name, kept)| format!("{name} {}", kept.source)).collect();
    assert_eq!(sources, ["registry env:TOKEN"]);
    assert_eq!(config.containers.socket.as_deref(), Some(std::path::Path::new("/run/x.sock")));
    assert_eq!(config.containers.images, jobmesh_executors::Images::Digest);
    assert_eq!(config.containers.allow, ["docker.io/library/*"]);
    for (file, words) in [
        ("[secrets.registry]\nfrom = \"TOKEN\"", "env:VARIABLE"),
        ("[secrets.registry]", "says not where"),
        ("[secrets.\"a b\"]\nfrom = \"env:A\"", "no name of a secret"),
        ("[container]\nimages = \"none\"", "any"),
        ("[container]\nsocket = \"x.sock\"", "the path of a socket"),
        ("[container]\nallow = [\"a[\"]", "a pattern of images"),
    ] {
        let refusal = Setting::refusal(file);
        assert!(refusal.contains(words), "{file}: {refusal}");
    }
}

#[test]
fn the_schedules_of_enabled_types_are_declared() {
    let config = Setting::config("[job_types.upkeep]\nenabled = false\n[job_types.learning-export]\nenabled = true\n");
    let names: Vec<String> = config.declared().schedules.into_keys().collect();
    assert_eq!(names, ["learning-export", "metrics", "retention"]);
}

#[test]
fn providers_models_and_what_requests_may_reach_are_read() {
    let config = Setting::config(
        r#"
        [http]
        response_bytes = "1MiB"
        peers = "none"
        allow = ["10.0.0.0/8", "DB.example.org"]
        [providers.cloud]
        kind = "anthropic"
        key_env = "MY_KEY"
        [providers.here]
        kind = "openai"
        base_url = "http://127.0.0.1:8080/v1"
        [models.big]
        provider = "cloud"
        model = "claude"
        input_price = 3
        output_price = "0.000015"
        fallback = ["small"]
        [models.small]
        provider = "here"
        [models.vec]
        provider = "here"
        kind = "embedding"
        [models.classes]
        complex = "big"
        embedding = "vec"
        [models.types]
        research = "simple"
        poem = "complex"
        "#,
    );
    assert_eq!(config.http.response_bytes_max, 1 << 20);
    let models = &config.models;
    let peers: Vec<bool> = models.providers.values().map(|provider| provider.peers).collect();
    assert_eq!(peers, [false, true], "who has a key is asked for its owner alone");
    let big = models.models.get("big").unwrap();
    assert_eq!((big.input_price_micros, big.output_price_micros), (Some(3_000_000), Some(15)));
    assert_eq!(models.models.get("small").unwrap().model, "small");
    assert_eq!(models.classes.complex.as_deref(), Some("big"));
    let hard = |name: &str| models.types.get(name).unwrap().word();
    assert_eq!((hard("research"), hard("poem"), hard("code-review")), ("simple", "complex", "complex"));
    let settings = config.settings();
    let value = |key: &str| settings.iter().find(|it| it.key == key).unwrap().value.clone();
    assert_eq!(value("http.allow"), "10.0.0.0/8, db.example.org");
    assert_eq!(value("providers.cloud"), "anthropic at https://api.anthropic.com/v1/, key from MY_KEY, not for peers");
    assert_eq!(value("models.vec"), "embedding vec of here");
}

/// A new price, fallback or value of a header was taken for no change at all, and held from the next start without a word.
#[test]
fn every_change_of_providers_and_models_waits_for_a_restart_by_name() {
    let file = |header: &str, price: &str, fallback: &str| {
        format!(
            "[providers.p]\nkind = \"openai\"\nheaders = {{ X-Project = \"{header}\" }}\n\
             [models.m]\nprovider = \"p\"\ninput_price = {price}\nfallback = [{fallback}]\n[models.n]\nprovider = \"p\"\n"
        )
    };
    let setting = Setting::new(file("a", "1", ""));
    let config = setting.resolve(Overrides::default(), Overrides::default()).unwrap();
    let pending = |text: String| -> Vec<String> {
        std::fs::write(setting.folder.path().join("config.toml"), text).unwrap();
        let pending = config.reload().unwrap().pending.into_iter();
        pending.map(|it| format!("{}: {} -> {}", it.key, it.running, it.written)).collect()
    };
    assert_eq!(pending(file("a", "1.0", "")), [""; 0], "the same price in other words");
    assert_eq!(
        pending(file("b", "1.25", "\"n\"")),
        [
            "models.m.input_price: 1 -> 1.25",
            "models.m.fallback:  -> n",
            "providers.p.headers: the value of the start -> another value of X-Project"
        ]
    );
}

#[test]
fn the_environment_is_read_and_judged() {
    let read = |name: &str, value: &str| {
        let (name, value) = (name.to_owned(), value.to_owned());
        Overrides::from_environment(move |asked| (asked == name).then(|| value.clone()))
    };
    let listen = read("JOBMESH_LISTEN", "/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1").unwrap().listen.unwrap();
    assert_eq!(listen, ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]);
    assert_eq!(read("JOBMESH_MDNS", "off").unwrap().mdns, Some(false));
    assert_eq!(read("JOBMESH_SLOTS", "").unwrap(), Overrides::default());
    for value in ["many", "-1", "18446744073709551616"] {
        let error = read("JOBMESH_SLOTS", value).unwrap_err().to_string();
        assert_eq!(error, format!("JOBMESH_SLOTS is {value:?}; it must be 1 to 4096"));
    }
}

#[test]
fn a_flag_or_variable_out_of_range_is_named_as_such() {
    let setting = Setting::new("");
    let refusal = |flags, environment| setting.resolve(flags, environment).unwrap_err().to_string();
    let zero = || Overrides { slots: Some(0), ..Overrides::default() };
    assert_eq!(refusal(zero(), Overrides::default()), "--slots is 0; it must be 1 to 4096");
    assert_eq!(refusal(Overrides::default(), zero()), "JOBMESH_SLOTS is \"0\"; it must be 1 to 4096");
    let listen = Overrides { listen: Some(vec!["0.0.0.0:80".to_owned()]), ..Overrides::default() };
    let wanted = "it must be a multiaddress such as /ip4/0.0.0.0/tcp/0";
    assert_eq!(refusal(listen, Overrides::default()), format!("--listen is \"0.0.0.0:80\"; {wanted}"));
}

#[test]
fn a_reload_takes_over_what_can_hold_at_once_and_says_what_waits() {
    let setting = Setting::new("slots = 2\n[queues.a]\nconcurrency = 1\n");
    let flags = Overrides { name: Some("flag".to_owned()), ..Overrides::default() };
    let config = setting.resolve(flags, Overrides::default()).unwrap();
    assert!(config.reload().unwrap().pending.is_empty());

    setting.write(
        "name = \"file\"\nslots = 3\n[queues.b]\nconcurrency = 1\n[drain]\nwait = \"1s\"\n[resources]\ncpus = 2\n",
    );
    let Reload { config, pending } = config.reload().unwrap();
    let waits: Vec<_> = pending.iter().map(|it| format!("{}: {} -> {}", it.key, it.running, it.written)).collect();
    assert_eq!(waits, ["slots: 2 -> 3", "resources.cpus:  -> 2"]);
    assert_eq!((config.name.as_str(), config.slots), ("flag", 2));
    assert_eq!(config.declared().queues.into_keys().collect::<Vec<_>>(), ["b", "maintenance"]);
    assert_eq!(config.drain_wait, DurationMillis::from_secs(1));
    assert_eq!(config.reload().unwrap().pending, pending);

    setting.write("slots = 0\n");
    assert!(config.reload().unwrap_err().to_string().ends_with("line 1: slots is 0; it must be 1 to 4096"));
}
