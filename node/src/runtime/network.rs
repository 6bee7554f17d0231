//! Turns what the mesh tells into inputs of the engine, and starts the mesh anew when the node joins another one.
//!
//! The task owns the mesh's events. It waits for the engine's inbox, so a flood from peers slows down the mesh and
//! not the node. Questions that take a while (may this stranger join? may this peer have that file?) are answered by
//! tasks of their own; the mesh lets only a few be open at once.
//!
//! **The hard case** is listening: a port that was bound before is taken again, so that peers find the node where
//! it was, and any other port if somebody has it now.

use std::path::PathBuf;
use std::sync::Arc;

use jobmesh_engine::{Command, Input, Response};
use jobmesh_keys::{Membership, MeshId};
use jobmesh_mesh::{Event, Mesh, Side};
use jobmesh_protocol::{NodeId, join};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::roster::Session;
use super::source::{LISTEN, Seed, Source};
use super::uploads::Trees;
use super::{clock, log_server, secrets, uploads};
use crate::api::RefusedBy;
use crate::config::Config;

/// What every start of the mesh needs.
pub(super) struct Settings {
    seed: Seed,
    mesh: MeshId,
    membership: Membership,
    name: String,
    listen: Vec<String>,
    mdns: bool,
    known: Vec<(NodeId, Vec<String>)>,
    /// Where the node listened the last time.
    remembered: Vec<String>,
}

/// Asks for a start in another mesh.
#[derive(Debug)]
pub(super) struct Restart {
    pub(super) mesh: MeshId,
    pub(super) membership: Membership,
    /// Whom to connect to at once.
    pub(super) dial: (NodeId, Vec<String>),
    pub(super) done: oneshot::Sender<Result<(), jobmesh_mesh::StartError>>,
}

/// The owner of the mesh's events.
pub(super) struct Network {
    settings: Settings,
    handle: Handle,
    events: Option<mpsc::Receiver<Event>>,
    answers: JoinSet<()>,
    trees: Arc<Trees>,
}

impl Settings {
    pub(super) fn new(
        config: &Config,
        source: &Source,
        known: Vec<(NodeId, Vec<String>)>,
        remembered: Vec<String>,
    ) -> Self {
        Self {
            seed: source.seed,
            mesh: source.mesh,
            membership: source.membership.clone(),
            name: config.name.clone(),
            listen: config.listen.clone(),
            mdns: config.mdns,
            known,
            remembered,
        }
    }

    fn mesh_config(&self, listen: Vec<String>, outboards: PathBuf) -> jobmesh_mesh::Config {
        jobmesh_mesh::Config {
            identity: self.seed.identity(),
            mesh: self.mesh,
            membership: self.membership.clone(),
            name: self.name.clone(),
            listen,
            mdns: self.mdns,
            known: self.known.clone(),
            outboards,
            now: clock::wall,
        }
    }
}

impl Network {
    /// Starts the mesh. A node whose membership has run out works on alone, until it joins again.
    pub(super) async fn start(settings: Settings, handle: Handle) -> Result<Self, jobmesh_mesh::StartError> {
        let mut this = Self { settings, handle, events: None, answers: JoinSet::new(), trees: Arc::default() };
        match this.listen().await {
            Err(error @ jobmesh_mesh::StartError::Membership(_)) => {
                tracing::error!(%error, "this node works alone");
                Ok(this)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(this),
        }
    }

    /// Runs until the token is cancelled, then stops the mesh.
    pub(super) async fn run(mut self, mut restarts: mpsc::Receiver<Restart>, cancel: CancellationToken) {
        loop {
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                Some(restart) = restarts.recv() => self.on_restart(restart).await,
                Some(_) = self.answers.join_next() => {}
                event = next(&mut self.events) => match event {
                    // While the inbox is full this waits, and cancelling must not.
                    Some(event) => tokio::select! {
                        biased;
                        () = cancel.cancelled() => break,
                        () = self.on_event(event) => {}
                    },
                    None => {
                        tracing::error!("the mesh is gone; this node works alone until it is restarted");
                        self.events = None;
                    }
                },
            }
        }
        self.answers.shutdown().await;
        self.stop_mesh().await;
    }

    /// Starts the mesh on the ports of the last time, or on others if those are taken.
    async fn listen(&mut self) -> Result<(), jobmesh_mesh::StartError> {
        let wanted = self.settings.listen.clone();
        let again: Vec<String> = wanted.iter().map(|address| with_port(address, &self.settings.remembered)).collect();
        let is_same = again == wanted;
        let outboards = self.handle.home().outboards();
        let started = match Box::pin(Mesh::start(self.settings.mesh_config(again, outboards.clone()))).await {
            Err(error) if !is_same => {
                tracing::info!(%error, "the ports of the last time are taken; taking others");
                Box::pin(Mesh::start(self.settings.mesh_config(wanted, outboards))).await
            }
            started => started,
        };
        let (mesh, events) = started?;
        let addresses = mesh.addresses();
        tracing::info!(?addresses, "listening for peers");
        self.handle.remember(LISTEN, addresses.join("\n").into_bytes()).await;
        self.handle.tell(Input::Addresses(addresses.clone())).await;
        self.settings.remembered = addresses;
        self.handle.shared().link.up(mesh);
        self.events = Some(events);
        Ok(())
    }

    async fn stop_mesh(&mut self) {
        if let Some(mesh) = self.handle.shared().link.down() {
            Box::pin(mesh.stop()).await;
        }
        self.events = None;
    }

    async fn on_restart(&mut self, restart: Restart) {
        let Restart { mesh, membership, dial: (node, addresses), done } = restart;
        self.stop_mesh().await;
        for node in self.handle.roster().disconnect_all() {
            self.handle.tell(Input::Disconnected(node)).await;
        }
        self.handle.roster().forget_refused();
        (self.settings.mesh, self.settings.membership) = (mesh, membership);
        self.settings.known = vec![(node, addresses.clone())];
        let started = self.listen().await;
        if let (Ok(()), Some(mesh)) = (&started, self.handle.shared().link.mesh()) {
            mesh.dial(node, addresses);
        }
        // Whoever asked may have gone; the node is a member all the same.
        let _ = done.send(started);
    }

    async fn on_event(&mut self, event: Event) {
        match event {
            Event::Admitted { node, name, role, not_after, addresses } => {
                tracing::info!(peer = %node.short(), name, "connected");
                self.handle.roster().connected(node, &name, Session { role, not_after });
                self.handle.tell(Input::Connected { node, name, addresses }).await;
            }
            Event::Closed { node } => {
                tracing::info!(peer = %node.short(), "disconnected");
                self.handle.roster().disconnected(node);
                self.handle.tell(Input::Disconnected(node)).await;
            }
            Event::Refused { node, by, reason } => {
                let by = match by {
                    Side::Us => RefusedBy::Us,
                    Side::Them => RefusedBy::Them,
                };
                tracing::debug!(peer = %node.short(), ?by, reason, "refused");
                self.handle.roster().refuse(node, by, &reason, clock::wall());
            }
            Event::Frame { from, bytes } => {
                self.handle.tell(Input::Frame { from, bytes }).await;
            }
            Event::Gossip { via, author: _, bytes } => {
                self.handle.tell(Input::Gossip { via, bytes }).await;
            }
            // The mesh connects to them by itself; the engine hears of that.
            Event::Found { key, providers } => {
                tracing::debug!(key = key.short(), providers = providers.len(), "providers found");
            }
            Event::Join { from, request, reply } => {
                let handle = self.handle.clone();
                self.answers.spawn(async move { admit(&handle, from, request, reply).await });
            }
            Event::BlobRequested { from, hash, within, reply } => {
                let (handle, trees) = (self.handle.clone(), Arc::clone(&self.trees));
                self.answers.spawn(async move {
                    let path = match within {
                        Some(tree) => trees.path_for(&handle, from, (tree, hash)).await,
                        None => uploads::path_for(&handle, from, hash).await,
                    };
                    // Whoever asked may have gone.
                    let _ = reply.send(path);
                });
            }
            Event::LogRequested { from, request, reply } => {
                self.answers.spawn(log_server::serve(self.handle.clone(), from, request, reply));
            }
            Event::SecretsRequested { from, request, reply } => {
                self.answers.spawn(secrets::serve(self.handle.clone(), from, request, reply));
            }
            Event::Addresses(addresses) => {
                tracing::info!(?addresses, "addresses changed");
                self.handle.tell(Input::Addresses(addresses)).await;
            }
        }
    }
}

async fn next(events: &mut Option<mpsc::Receiver<Event>>) -> Option<Event> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// Has the engine judge a stranger. Without an answer the stranger's question ends by itself.
async fn admit(handle: &Handle, from: NodeId, request: Vec<u8>, reply: oneshot::Sender<Vec<u8>>) {
    match handle.command(Command::Admit { from, request }).await {
        Ok(Response::Judged(answer)) => {
            if let Ok(join::Answer::Refused(reason)) = join::Answer::decode(&answer) {
                tracing::warn!(peer = %from.short(), %reason, "turned away a node that wanted to join");
                handle.roster().refuse(from, RefusedBy::Us, &reason.to_string(), clock::wall());
            }
            let _ = reply.send(answer);
        }
        Ok(
            Response::Submitted(_)
            | Response::Pruned(_)
            | Response::Done
            | Response::Unchanged
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Counted(_)
            | Response::Granted(_),
        ) => tracing::error!("the engine answered a request to join with something else"),
        Err(error) => tracing::warn!(peer = %from.short(), %error, "a request to join could not be judged"),
    }
}

/// Puts the port of the last time in place of port 0.
fn with_port(wanted: &str, remembered: &[String]) -> String {
    let parts: Vec<&str> = wanted.split('/').collect();
    let ["", family, _, transport, "0", ..] = parts.as_slice() else { return wanted.to_owned() };
    let port = remembered.iter().find_map(|address| {
        let bound: Vec<&str> = address.split('/').collect();
        match bound.as_slice() {
            ["", its_family, _, its_transport, port, ..] if its_family == family && its_transport == transport => {
                Some((*port).to_owned())
            }
            _ => None,
        }
    });
    let Some(port) = port else { return wanted.to_owned() };
    let replaced = parts.iter().enumerate().map(|(at, part)| if at == 4 { port.as_str() } else { part });
    replaced.collect::<Vec<&str>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_bound_is_asked_for_again() {
        let bound = ["/ip4/10.0.0.7/tcp/4001".to_owned(), "/ip4/10.0.0.7/udp/4002/quic-v1".to_owned()];
        assert_eq!(with_port("/ip4/0.0.0.0/tcp/0", &bound), "/ip4/0.0.0.0/tcp/4001");
        assert_eq!(with_port("/ip4/0.0.0.0/udp/0/quic-v1", &bound), "/ip4/0.0.0.0/udp/4002/quic-v1");
        assert_eq!(with_port("/ip6/::/tcp/0", &bound), "/ip6/::/tcp/0");
        assert_eq!(with_port("/ip4/0.0.0.0/tcp/9", &bound), "/ip4/0.0.0.0/tcp/9");
        assert_eq!(with_port("nonsense", &bound), "nonsense");
    }
}
