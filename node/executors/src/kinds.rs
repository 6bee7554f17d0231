//! The executors of a node, one of each kind, and how all of them are probed.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use jobmesh_protocol::Isolation;

use crate::container::Container;
use crate::executor::{Executor, Probe};
use crate::http::Http;
use crate::lua::Lua;
use crate::model::Model;
use crate::process::Process;
use crate::surroundings::Surroundings;
use crate::wasm::Wasm;

/// How long each kind may look around: ten seconds. A try takes milliseconds; a socket may not answer, but an engine that has
/// just been started with everything else on a small machine takes more than five seconds (Podman 4.3, two processors).
pub(crate) const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// One of each.
pub(crate) struct Kinds {
    pub(crate) process: Arc<Process>,
    pub(crate) container: Container,
    pub(crate) wasm: Wasm,
    pub(crate) lua: Lua,
    pub(crate) http: Http,
    pub(crate) model: Model,
}

impl Kinds {
    pub(crate) fn new(process: Process, surroundings: &Surroundings) -> Self {
        let process = Arc::new(process);
        Self {
            container: Container::new(surroundings),
            wasm: Wasm::new(surroundings, Arc::clone(&process)),
            lua: Lua::new(surroundings, Arc::clone(&process)),
            process,
            http: Http::new(surroundings),
            model: Model::new(surroundings),
        }
    }

    /// What all of them find on this machine, each on a thread of its own. One that looks for longer than `patience` is
    /// taken for missing, however well the others are: a socket may not answer, a disk may sleep.
    pub(crate) fn probe(self: &Arc<Self>, patience: Duration) -> Vec<Probe> {
        let (told, found) = mpsc::sync_channel(LOOKS.len());
        for (place, (name, look)) in LOOKS.into_iter().enumerate() {
            let (kinds, told) = (Arc::clone(self), told.clone());
            let named = std::thread::Builder::new().name(format!("jobmesh-probe-{name}"));
            // Without a thread, as without an answer, it is missing.
            let _ = named.spawn(move || told.send((place, look(&kinds))));
        }
        drop(told);
        let until = Instant::now() + patience;
        let mut probes = LOOKS.map(|(name, _)| unprobed(name, patience));
        while let Ok((place, probe)) = found.recv_timeout(until.saturating_duration_since(Instant::now())) {
            if let Some(missing) = probes.get_mut(place) {
                *missing = probe;
            }
        }
        probes.into()
    }
}

/// How one kind looks around.
type Look = fn(&Kinds) -> Probe;

/// Every kind by its name.
const LOOKS: [(&str, Look); 7] = [
    (PROCESS, |kinds| kinds.process.probe()),
    ("container", |kinds| kinds.container.probe()),
    ("wasm", |kinds| kinds.wasm.probe()),
    ("lua", |kinds| kinds.lua.probe()),
    ("http", |kinds| kinds.http.probe()),
    ("llm", |kinds| kinds.model.probe()),
    ("embedding", |kinds| kinds.model.probe_embedding()),
];

/// The kind that every machine has: own commands can be run.
const PROCESS: &str = "process";

/// What is said of a kind that has not answered.
fn unprobed(name: &'static str, patience: Duration) -> Probe {
    let lack =
        format!("it gave no answer within {} s; see what it waits for and start the node again", patience.as_secs());
    let level = (name == PROCESS).then_some(Isolation::Contained);
    Probe { isolation: level, ..Probe::missing(name, lack) }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;
    use crate::process::Host;
    use crate::surroundings::{Groups, Sandboxes};

    #[test]
    fn an_engine_that_says_nothing_costs_the_others_nothing() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        // Connections wait in its queue for ever.
        let _silent = UnixListener::bind(&socket).unwrap();
        let mut surroundings = Surroundings::new(runtime.handle().clone(), PathBuf::from("/nowhere/jobmesh"));
        surroundings.containers.socket = Some(socket);
        let host = Host::look(None, Groups::Avoid, (Sandboxes::Avoid, surroundings.worker.clone()));
        let kinds = Arc::new(Kinds::new(Process::new(host), &surroundings));
        let probes = kinds.probe(Duration::from_secs(2));
        let names: Vec<_> = probes.iter().map(|probe| probe.executor).collect();
        assert_eq!(names, LOOKS.map(|(name, _)| name));
        let of = |name| probes.iter().find(|probe| probe.executor == name).unwrap();
        assert_eq!(of("container").isolation, None);
        assert!(of("container").lacks.iter().any(|lack| lack.contains("no answer within 2 s")), "{probes:?}");
        assert!(of("process").isolation.is_some() && of("http").isolation.is_some(), "{probes:?}");
    }
}
