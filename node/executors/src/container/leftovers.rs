//! Containers that are still there and belong to nobody: those whose removal failed, and those that an earlier life of the
//! daemon left.
//!
//! **The hard case** is an engine that isn't there when they could be removed: at the start of the machine it may come up
//! later than the node. So what is to be done is remembered until an engine has done it, and each run that meets one has
//! it begin or go on. A run waits for that no longer than [`CLEAR_MAX`], nor beyond the moment when it has to end itself;
//! nothing is forgotten by that.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::query_parameters::ListContainersOptions;
use jobmesh_protocol::RunId;

use super::attempt::{name_of, remove};
use super::body::{NODE_LABEL, RUN_LABEL};
use super::engine::{ContainerError, Engine};
use crate::event::chain;

/// Most names of containers that are remembered for their removal. One more is left to the next life of the daemon.
const NAMES_MAX: usize = 1024;

/// How long a run waits for what others left: ten seconds, in which an engine removes some hundred containers.
pub(super) const CLEAR_MAX: Duration = Duration::from_secs(10);

/// Says whether a run is under way.
pub(crate) type IsLive = Arc<dyn Fn(RunId) -> bool + Send + Sync>;

/// What is to be removed.
#[derive(Default)]
pub(super) struct Leftovers {
    names: Mutex<BTreeSet<String>>,
    /// By which runs to sort what earlier lives left, until that was done.
    unswept: Mutex<Option<IsLive>>,
}

impl fmt::Debug for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leftovers").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Leftovers {
    /// Has every container of this node removed whose run is not under way, once.
    pub(super) fn expect_sweep(&self, is_live: IsLive) {
        *self.unswept.lock().unwrap_or_else(PoisonError::into_inner) = Some(is_live);
    }

    /// Has one removed that could not be.
    pub(super) fn remember(&self, name: String, error: &ContainerError) {
        tracing::warn!(container = name, error = %chain(error), "a container is left; it is removed later");
        self.keep(name);
    }

    /// Has one removed.
    pub(super) fn keep(&self, name: String) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < NAMES_MAX {
            names.insert(name);
        }
    }

    /// Removes what there is. Cancel-safe: what was not done stays to be done.
    pub(super) async fn clear(&self, engine: &Engine, node: &str) {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for name in names {
            match remove(engine, &name).await {
                Ok(()) => {
                    self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                }
                Err(error) => tracing::debug!(container = name, error = %chain(&error), "a container is still left"),
            }
        }
        let unswept = self.unswept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(is_live) = unswept else { return };
        match self.sweep(engine, node, &is_live).await {
            Ok(()) => *self.unswept.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Err(error) => tracing::warn!(%error, "failed to list the containers of this node"),
        }
    }

    async fn sweep(&self, engine: &Engine, node: &str, is_live: &IsLive) -> Result<(), bollard::errors::Error> {
        let filters = Some(HashMap::from([("label".to_owned(), vec![format!("{NODE_LABEL}={node}")])]));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        for container in engine.docker.list_containers(Some(options)).await? {
            let run = container.labels.as_ref().and_then(|labels| RunId::parse(labels.get(RUN_LABEL)?));
            // Asked only now: whatever is in the list and not over was ordered before.
            if let Some(run) = run.filter(|run| !is_live(*run)) {
                match remove(engine, &name_of(run)).await {
                    Ok(()) => tracing::info!(%run, "removed the container of a run that is over"),
                    Err(error) => self.remember(name_of(run), &error),
                }
            }
        }
        Ok(())
    }
}
