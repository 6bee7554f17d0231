//! Executors with settings of the test, in a runtime of their own.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use jobmesh_executors::http::Names;
use jobmesh_executors::http::settings::Settings as HttpSettings;
use jobmesh_executors::model::key::{Key, Keys, NoKey};
use jobmesh_executors::model::settings::{
    Classes, KeySource, Model, ModelKind, Provider, ProviderKind, Settings as ModelSettings,
};
use jobmesh_executors::{
    Config, Ended, Event, Executors, Groups, Limits, Order, Sandboxes, Secrets, Shelf, Stream, Surroundings, log_path,
    result_path,
};
use jobmesh_protocol::task::{EmbeddingTask, HttpTask, LlmTask, Task};
use jobmesh_protocol::{DurationMillis, Epoch, Isolation, JobId, Outcome, RunId};
use serde_json::Value;

/// Longer than anything takes, shorter than the patience of a person.
const DEADLINE: Duration = Duration::from_secs(60);

/// A key that must show nowhere.
pub(crate) const CANARY: &str = "sk-canary-5f2e9b81c7";

pub(crate) struct Node {
    pub(crate) executors: Executors,
    pub(crate) home: tempfile::TempDir,
    events: Receiver<Event>,
    // Outlives the executors: fields are dropped in order.
    _runtime: tokio::runtime::Runtime,
}

impl Node {
    pub(crate) fn start(http: HttpSettings, models: ModelSettings) -> Self {
        Self::start_with(http, models, Names::default())
    }

    /// One that looks names up by these.
    pub(crate) fn start_with(http: HttpSettings, models: ModelSettings, names: Names) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (sender, events) = sync_channel(1024);
        let home = tempfile::tempdir().unwrap();
        let blobs = home.path().join("blobs");
        std::fs::create_dir(&blobs).unwrap();
        let shelf = Shelf::open(blobs).unwrap();
        let keys = Keys::new(|source| match source {
            KeySource::Variable(name) => Ok((name == "CANARY").then(|| Key::new(CANARY)).flatten()),
            KeySource::Secret(name) => Err(NoKey { why: format!("others may read /home/me/{name}") }),
        });
        // Nothing here needs a worker.
        let usual = Surroundings::new(runtime.handle().clone(), PathBuf::from("false"));
        let surroundings = Surroundings { http, names, models, keys, ..usual };
        let (slots, groups, sandboxes) = (NonZeroU16::new(2).unwrap(), Groups::Avoid, Sandboxes::Avoid);
        let config = Config { slots, spares: None, groups, sandboxes, shelf, surroundings };
        let report = move |event| drop(sender.send(event));
        let executors = Executors::start(config, report, |_, _| Outcome::Ok).unwrap();
        Self { executors, home, events, _runtime: runtime }
    }

    /// One that has no models.
    pub(crate) fn web() -> Self {
        Self::start(HttpSettings::default(), ModelSettings::default())
    }

    /// One whose only provider is at `url`.
    pub(crate) fn asking(kind: ProviderKind, url: &str) -> Self {
        Self::start(HttpSettings::default(), models(&[("one", kind, url)]))
    }

    pub(crate) fn order(&self, task: Task) -> Order {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&u64::from(std::process::id()).to_be_bytes());
        bytes[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let run = RunId { job: JobId::from_bytes(bytes), epoch: Epoch(1) };
        Order {
            run,
            task,
            follows: None,
            kill_grace: DurationMillis::from_secs(5),
            blobs: self.home.path().join("blobs"),
            stdin: None,
            inputs: None,
            outputs: Vec::new(),
            directory: self.home.path().join("runs").join(run.to_string()),
            environment: BTreeMap::new(),
            secrets: Secrets::default(),
            limits: Limits::default(),
            is_foreign: false,
            network: true,
            isolation: Isolation::Contained,
        }
    }

    /// An order of a peer that asks for the network.
    pub(crate) fn foreign(&self, task: Task) -> Order {
        Order { is_foreign: true, isolation: Isolation::Sandboxed, ..self.order(task) }
    }

    pub(crate) fn event(&self) -> Event {
        self.events.recv_timeout(DEADLINE).unwrap()
    }

    /// The end of `run`, whatever comes before.
    pub(crate) fn ended(&self, expected: RunId) -> Ended {
        loop {
            match self.event() {
                Event::Ended { run, ended } if run == expected => return ended,
                Event::Ended { .. } | Event::Started { .. } | Event::Progress { .. } => {}
            }
        }
    }

    /// Runs an order to its end, after which no key may be anywhere.
    pub(crate) fn end_of(&self, order: Order) -> End {
        let (run, directory) = (order.run, order.directory.clone());
        self.executors.run(order);
        let ended = self.ended(run);
        let read = |path: PathBuf| {
            let mut bytes = Vec::new();
            // The beginning of a large one will do.
            let read = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut bytes));
            String::from_utf8_lossy(read.map_or(&[], |_| bytes.as_slice())).into_owned()
        };
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|stream| read(log_path(&directory, stream)));
        let end = End { ended, stdout, stderr, result: read(result_path(&directory)) };
        let shown = format!("{:?} {} {} {}", end.ended, end.stdout, end.stderr, end.result);
        assert!(!shown.contains("canary"), "a key shows in {shown}");
        end
    }

    pub(crate) fn run(&self, task: Task) -> End {
        self.end_of(self.order(task))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.executors.shutdown();
    }
}

/// How a run ended, and where it left what.
pub(crate) struct End {
    pub(crate) ended: Ended,
    stdout: String,
    stderr: String,
    result: String,
}

impl End {
    pub(crate) fn word(&self) -> &'static str {
        self.ended.outcome.word()
    }

    pub(crate) fn message(&self) -> &str {
        self.ended.outcome.message().unwrap_or_default()
    }

    pub(crate) fn retry_after(&self) -> Option<u64> {
        let Outcome::Error { retry_after_ms, .. } = &self.ended.outcome else {
            panic!("{:?} is no error", self.ended.outcome)
        };
        retry_after_ms.map(|wait| wait.0)
    }

    /// The beginning of it.
    pub(crate) fn stdout(&self) -> &str {
        &self.stdout
    }

    pub(crate) fn stderr(&self) -> &str {
        &self.stderr
    }

    pub(crate) fn result(&self) -> Value {
        serde_json::from_str(&self.result).unwrap()
    }

    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.ended.outcome, Outcome::Ok, "{}", self.stderr());
        self
    }
}

pub(crate) fn get(url: impl Into<String>) -> Task {
    Task::Http(HttpTask::new(url))
}

pub(crate) fn ask(question: &str) -> Task {
    Task::Llm(LlmTask::new(question))
}

pub(crate) fn embed(texts: &[&str]) -> Task {
    Task::Embedding(EmbeddingTask::new(texts.iter().copied()))
}

/// Settings of providers by name, kind and address, whose keys are canaries. Each has a chat model `NAME-chat` and an
/// embedding model `NAME-vectors`; the first answers what names none, and falls back to those of the others.
pub(crate) fn models(providers: &[(&str, ProviderKind, &str)]) -> ModelSettings {
    let mut settings = ModelSettings::default();
    for (name, kind, url) in providers {
        let key = Some(KeySource::Variable("CANARY".to_owned()));
        let provider = Provider { base_url: Some((*url).to_owned()), key, peers: true, ..Provider::new(*kind) };
        settings.providers.insert((*name).to_owned(), provider);
        for (what, kind) in [("chat", ModelKind::Chat), ("vectors", ModelKind::Embedding)] {
            let model = Model {
                provider: (*name).to_owned(),
                model: format!("{name}-{what}"),
                kind,
                input_price_micros: Some(1_000_000),
                output_price_micros: Some(2_000_000),
                fallback: Vec::new(),
            };
            settings.models.insert(format!("{name}-{what}"), model);
        }
    }
    let name = |at: usize, what| providers.get(at).map(|(name, ..)| format!("{name}-{what}"));
    settings.classes = Classes { medium: name(0, "chat"), embedding: name(0, "vectors"), ..Classes::default() };
    if let Some(first) = settings.classes.medium.clone() {
        let others = (1..providers.len()).filter_map(|at| name(at, "chat")).collect();
        settings.models.get_mut(&first).unwrap().fallback = others;
    }
    settings
}
