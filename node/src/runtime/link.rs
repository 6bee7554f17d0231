//! The mesh as the dispatch task sees it: there or not, and told again what it must know when it comes back.
//!
//! The engine says once what to gossip and under which keys to be found. The mesh may start later than that, or be
//! started anew when the node joins another mesh; so the last word is kept here.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jobmesh_mesh::Mesh;
use jobmesh_protocol::id::Hash;

/// The mesh, if it is up.
#[derive(Default)]
pub(crate) struct Link(Mutex<State>);

#[derive(Default)]
struct State {
    mesh: Option<Mesh>,
    digest: Option<Vec<u8>>,
    keys: Option<BTreeSet<Hash>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("is_up", &self.lock().mesh.is_some()).finish()
    }
}

impl Link {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mesh, if it is up.
    pub(crate) fn mesh(&self) -> Option<Mesh> {
        self.lock().mesh.clone()
    }

    /// Puts a mesh in place that has just started, and tells it what the engine said before.
    pub(super) fn up(&self, mesh: Mesh) {
        let mut state = self.lock();
        if let Some(digest) = &state.digest {
            mesh.publish(digest.clone());
        }
        if let Some(keys) = &state.keys {
            mesh.provide(keys.clone());
        }
        state.mesh = Some(mesh);
    }

    /// Takes the mesh away, to be stopped.
    pub(super) fn down(&self) -> Option<Mesh> {
        self.lock().mesh.take()
    }

    pub(super) fn publish(&self, digest: Vec<u8>) {
        let mut state = self.lock();
        if let Some(mesh) = &state.mesh {
            mesh.publish(digest.clone());
        }
        state.digest = Some(digest);
    }

    pub(super) fn provide(&self, keys: BTreeSet<Hash>) {
        let mut state = self.lock();
        if let Some(mesh) = &state.mesh {
            mesh.provide(keys.clone());
        }
        state.keys = Some(keys);
    }
}
