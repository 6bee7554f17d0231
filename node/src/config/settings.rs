//! The configuration as a list: every key, what holds, and which layer said so.

use std::collections::BTreeMap;
use std::fmt;

use jobmesh_engine::QueueLimits;
use jobmesh_protocol::schedule::format_length;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::containers::images_word;
use crate::config::file::REACHES;
use crate::config::models;
use crate::config::queues::{format_kept, format_rate};
use crate::config::table::{Lined, format_size};

/// Who said what holds for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// A flag of the command that started the node.
    Flag,
    /// A variable.
    Environment,
    /// This line of the file.
    File {
        /// The line, from 1.
        line: usize,
    },
    /// What is compiled in.
    Default,
    /// What was found on the machine.
    Machine,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment => f.write_str("environment"),
            Self::File { line } => write!(f, "config.toml line {line}"),
            Self::Default => f.write_str("default"),
            Self::Machine => f.write_str("machine"),
        }
    }
}

/// One key and what holds for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The key with its table, such as `lease.ttl`.
    pub key: String,
    /// The value as it could be written in the file, without quotes.
    pub value: String,
    /// Who said so; none for what several layers make together.
    pub layer: Option<Layer>,
}

/// Which layer every key was taken from.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sources(BTreeMap<&'static str, Layer>);

impl Sources {
    /// The value of the first layer that has one: flag and environment, file, default.
    pub(super) fn pick<T: Clone>(
        &mut self,
        key: &'static str,
        [flag, environment]: [&Option<T>; 2],
        file: &Option<Lined<T>>,
        default: &Option<Lined<T>>,
    ) -> Option<T> {
        let in_file = || file.as_ref().map(|file| (file.value.clone(), Layer::File { line: file.place.line }));
        let in_default = || default.as_ref().map(|default| (default.value.clone(), Layer::Default));
        let given = flag.clone().map(|value| (value, Layer::Flag));
        let given = given.or_else(|| environment.clone().map(|value| (value, Layer::Environment)));
        let found = given.or_else(in_file).or_else(in_default);
        self.0.insert(key, found.as_ref().map_or(Layer::Machine, |(_, layer)| *layer));
        found.map(|(value, _)| value)
    }

    /// Takes the sources of these keys from `running`, whose values go on holding.
    pub(super) fn keep(&mut self, running: &Self, is_kept: impl Fn(&str) -> bool) {
        self.0.extend(running.0.iter().filter(|(key, _)| is_kept(key)).map(|(key, layer)| (*key, *layer)));
    }
}

impl Config {
    /// Every key and what holds for it, job types apart, sorted by table as in the file.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut list = Vec::new();
        let mut add = |key: &str, value: String| {
            let layer = self.sources.0.get(key).copied();
            list.push(Setting { key: key.to_owned(), value, layer });
        };
        add("name", self.name.clone());
        add("slots", self.slots.to_string());
        add("listen", self.listen.join(", "));
        add("mdns", self.mdns.to_string());
        add("log", self.log.clone());
        add("lease.ttl", format_length(self.timing.lease));
        add("lease.grace", format_length(self.timing.lease_grace));
        add("lease.bid_window", format_length(self.timing.bid_window));
        add("lease.bid_hold", format_length(self.timing.bid_hold));
        add("learning.publish_after", format_length(self.timing.summary_delay));
        add("drain.wait", format_length(self.drain_wait));
        add("limits.log_bytes", format_size(self.limits.log_bytes));
        add("limits.processes", self.limits.processes.to_string());
        add("limits.file_bytes", format_size(self.limits.file_bytes));
        add("blobs.quota", self.blob_quota.map_or_else(|| "half of the disk".to_owned(), format_size));
        add("limits.disk_bytes", format_size(self.limits.disk_bytes));
        add("isolation.own", self.isolation.own.to_string());
        add("isolation.members", self.isolation.members.to_string());
        add("isolation.network", self.isolation.network.to_string());
        add("isolation.sandbox", self.sandbox.to_string());
        add("mesh.holds_per_peer", self.quotas.holds.to_string());
        add("mesh.leases_per_peer", self.quotas.leases.to_string());
        add("mesh.outbox_per_peer", format_size(self.quotas.outbox_bytes));
        add("mesh.messages_per_second", self.quotas.messages.to_string());
        add("retention.completed", format_kept(self.retention.completed));
        add("retention.cancelled", format_kept(self.retention.cancelled));
        add("retention.discarded", format_kept(self.retention.discarded));
        add("retention.receipts", format_kept(self.retention.receipts));
        add("http.response_bytes", format_size(self.http.response_bytes_max));
        let reach = REACHES.iter().find(|(_, reach)| *reach == self.http.peers).map_or("", |(word, _)| word);
        add("http.peers", reach.to_owned());
        let allow: Vec<String> = self.http.allow.iter().map(ToString::to_string).collect();
        add("http.allow", allow.join(", "));
        for (name, pool) in &self.resources {
            add(&format!("resources.{name}"), pool.clone());
        }
        for (peer, level) in &self.isolation.peers {
            add(&format!("isolation.peers.{peer}"), level.to_string());
        }
        let containers = &self.containers;
        if let Some(socket) = &containers.socket {
            add("container.socket", socket.display().to_string());
        }
        add("container.images", images_word(containers.images).to_owned());
        if !containers.allow.is_empty() {
            add("container.allow", containers.allow.join(", "));
        }
        for (name, kept) in self.secrets.iter() {
            add(&format!("secrets.{name}"), kept.source.to_string());
            if !kept.peers.is_empty() {
                let peers: Vec<String> = kept.peers.iter().map(ToString::to_string).collect();
                add(&format!("secrets.{name}.peers"), peers.join(", "));
            }
        }
        for (name, limits) in &self.queues {
            add(&format!("queues.{name}"), limits_words(*limits));
        }
        for (key, words) in models::words(&self.models) {
            add(&key, words);
        }
        list
    }
}

fn limits_words(limits: QueueLimits) -> String {
    let or_unlimited = |limit: Option<String>| limit.unwrap_or_else(|| "unlimited".to_owned());
    let concurrency = limits.concurrency.map(|most| or_unlimited(most.map(|most| most.to_string())));
    let rate = limits.rate.map(|rate| or_unlimited(rate.map(format_rate)));
    let parts = [("concurrency", concurrency), ("rate", rate)];
    let parts = parts.into_iter().filter_map(|(key, value)| value.map(|value| format!("{key}={value}")));
    parts.collect::<Vec<_>>().join(" ")
}
