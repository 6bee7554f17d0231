//! Reading the file again while the node runs.
//!
//! Flags and environment go on winning, as at the start. What can only hold from a start on (the name that peers
//! know, the sockets, the threads) keeps its running value and is reported, each time until the restart: a node
//! that showed the new value while working by the old one would lie.

use crate::config::{Config, ConfigError};

/// What a reload found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    /// What holds now.
    pub config: Config,
    /// What the file says but holds only after a restart, in the order of [`Config::settings`].
    pub pending: Vec<Pending>,
}

/// A key whose new value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    /// The key.
    pub key: String,
    /// What the node works by.
    pub running: String,
    /// What the file says; empty if it says nothing any more.
    pub written: String,
}

/// What is looked at only at the start, by key or table.
const NEEDS_RESTART: &[&str] = &[
    "name",
    "slots",
    "listen",
    "mdns",
    "log",
    "lease.",
    "learning.",
    "resources.",
    "isolation.sandbox",
    "http.",
    "providers.",
    "models.",
    "container.",
];

fn needs_restart(key: &str) -> bool {
    NEEDS_RESTART.iter().any(|known| key == *known || (known.ends_with('.') && key.starts_with(known)))
}

impl Config {
    /// Reads the file again. The queues, schedules, retention, quotas, isolation, secrets, blobs and job
    /// types of the result hold at once, the limits and `drain.wait` for whatever starts next.
    ///
    /// # Errors
    /// [`ConfigError`] as at the start; the node then goes on by what it has.
    pub fn reload(&self) -> Result<Reload, ConfigError> {
        let mut config = Self::resolve_with(self.home.clone(), self.flags.clone(), self.environment.clone())?;
        let pending = self.pending(&config);
        config.name.clone_from(&self.name);
        config.slots = self.slots;
        config.listen.clone_from(&self.listen);
        config.mdns = self.mdns;
        config.log.clone_from(&self.log);
        config.timing = self.timing;
        config.resources.clone_from(&self.resources);
        config.containers.clone_from(&self.containers);
        config.sandbox = self.sandbox;
        config.http.clone_from(&self.http);
        config.models.clone_from(&self.models);
        config.sources.keep(&self.sources, needs_restart);
        Ok(Reload { config, pending })
    }

    fn pending(&self, written: &Self) -> Vec<Pending> {
        let value = |settings: &[super::Setting], key: &str| {
            settings.iter().find(|setting| setting.key == key).map(|setting| setting.value.clone()).unwrap_or_default()
        };
        let (before, after) = (self.settings(), written.settings());
        let mut keys: Vec<&str> = before.iter().map(|setting| setting.key.as_str()).collect();
        keys.extend(after.iter().map(|setting| setting.key.as_str()).filter(|key| value(&before, key).is_empty()));
        let both =
            |key: &str| Pending { key: key.to_owned(), running: value(&before, key), written: value(&after, key) };
        let found = keys.into_iter().filter(|key| needs_restart(key)).map(both);
        found.filter(|pending| pending.running != pending.written).chain(self.pending_headers(written)).collect()
    }

    /// The headers of providers whose names are the same and whose values are not, which are shown to nobody.
    fn pending_headers(&self, written: &Self) -> impl Iterator<Item = Pending> {
        self.models.providers.iter().filter_map(|(name, running)| {
            let headers = &written.models.providers.get(name)?.headers;
            let is_named_alike = headers.keys().eq(running.headers.keys());
            let is_other = |header: &&String| headers.get(*header) != running.headers.get(*header);
            let other: Vec<&str> = headers.keys().filter(is_other).map(String::as_str).collect();
            let key = format!("providers.{name}.headers");
            let written = format!("another value of {}", other.join(", "));
            (is_named_alike && !other.is_empty()).then(|| Pending {
                key,
                running: "the value of the start".to_owned(),
                written,
            })
        })
    }
}
