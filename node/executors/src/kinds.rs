//! The executors of a node, one of each kind, and what they are given of their surroundings.

use std::path::PathBuf;
use std::sync::Arc;

use crate::container::{Container, Containers};
use crate::executor::{Executor, Probe};
use crate::http::{self, Http};
use crate::lua::Lua;
use crate::model::{self, Model};
use crate::process::Process;
use crate::wasm::Wasm;

/// What executors need of the daemon.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where what waits for others runs. It must outlive the executors.
    pub runtime: tokio::runtime::Handle,
    /// This very program, which is started again as a [`worker`](crate::work): the interpreter of a module or a script,
    /// or the first process of a sandbox.
    pub worker: PathBuf,
    /// What the owner says of requests to web servers.
    pub http: http::settings::Settings,
    /// How the names of hosts are looked up for the jobs of others.
    pub names: http::Names,
    /// What the owner says of models.
    pub models: model::settings::Settings,
    /// Where the keys of providers are found.
    pub keys: model::key::Keys,
    /// How containers are made.
    pub containers: Containers,
}

impl Surroundings {
    /// With web servers as anybody may ask them, without models, and with containers of the engine that is found.
    #[must_use]
    pub fn new(runtime: tokio::runtime::Handle, worker: PathBuf) -> Self {
        let (http, names, models, keys, containers) = Default::default();
        Self { runtime, worker, http, names, models, keys, containers }
    }
}

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

    /// What all of them find on this machine.
    pub(crate) fn probe(&self) -> Vec<Probe> {
        let all: [&dyn Executor; 6] = [&*self.process, &self.container, &self.wasm, &self.lua, &self.http, &self.model];
        all.into_iter().map(Executor::probe).chain([self.model.probe_embedding()]).collect()
    }
}
