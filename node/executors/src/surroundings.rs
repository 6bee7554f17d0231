//! What executors are given of their surroundings: of the daemon, by the owner, and of the machine.

use std::path::PathBuf;

use crate::container::Containers;
use crate::{http, model};

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

/// Whether the kernel is asked to count for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// Control groups are made below the daemon's own.
    #[default]
    Use,
    /// The system's groups are left alone: processes are counted by looking, and memory isn't limited.
    Avoid,
}

/// Whether processes are kept apart in sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandboxes {
    /// Sandboxes are made for the runs that need one.
    #[default]
    Use,
    /// None is made, and runs that need one are refused: for machines on which they misbehave.
    Avoid,
}
