#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.toml"), file).unwrap();
        Self { folder }
    }

    fn resolve(&self, flags: Overrides, environment: Overrides) -> Result<Config, ConfigError> {
        Config::resolve_with(Home::locate(Some(self.folder.path())).unwrap(), flags, environment)
    }

    fn refusal(file: &str) -> String {
        Self::new(file).resolve(Overrides::default(), Overrides::default()).unwrap_err().to_string()
    }
}

#[test]
fn an_empty_file_leaves_the_defaults() {
    let config = Setting::new("").resolve(Overrides::default(), Overrides::default()).unwrap();
    assert_eq!(config.timing, Timing::default());
    assert_eq!(config.listen.len(), 2);
    assert!(config.mdns && config.slots > 0 && !config.name.is_empty());
    assert_eq!(config.drain_wait, DurationMillis::from_secs(10));
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
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let error = Setting::refusal("name = \"a\"\nslotz = 4\n");
    assert!(error.ends_with("config.toml line 2: unknown key `slotz`; did you mean `slots`?"), "{error}");
    let error = Setting::refusal("[lease]\nttl = \"5s\"\nfrobnicate = 1\n");
    assert!(error.contains("line 3: unknown key `frobnicate`"), "{error}");
}

#[test]
fn values_out_of_range_are_refused_with_the_range() {
    assert!(Setting::refusal("slots = 0").contains("slots is 0; it must be 1 to 4096"));
    assert!(Setting::refusal("listen = []").contains("1 to 16 addresses"));
    assert!(Setting::refusal("listen = [\"0.0.0.0:80\"]").contains("multiaddress"));
    assert!(Setting::refusal("name = \"\"").contains("printable"));
    let error = Setting::refusal("[lease]\nttl = \"0s\"");
    assert!(error.contains("lease.ttl is 0s; it must be 1s to 1h"), "{error}");
    assert!(Setting::refusal("[lease]\nttl = \"soon\"").contains("no length of time"));
    assert!(Setting::refusal("[lease]\nbid_window = \"9s\"").contains("at least lease.bid_window"));
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
    let error = read("JOBMESH_SLOTS", "many").unwrap_err().to_string();
    assert_eq!(error, "JOBMESH_SLOTS is \"many\"; it must be a whole number");
}
