//! Keeps a driver running.
//!
//! libp2p has had bugs that a peer could turn into a panic. One must not end the node and its running jobs: the
//! supervisor catches it, tells the owner that every peer is gone, and builds a new swarm on the same ports. What
//! must survive lives outside the driver: the handle's wishes in the [`Context`], the peer book here.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::FutureExt as _;
use jobmesh_keys::{MembershipError, NodeId};
use libp2p::multiaddr::Multiaddr;
use libp2p_stream::AlreadyRegistered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Credentials;
use crate::behaviour::BehaviourError;
use crate::blob::Outboards;
use crate::config::{Config, NAME_BYTES_MAX};
use crate::context::{Context, Routes};
use crate::counters::{Counters, Line};
use crate::driver::{Driver, End};
use crate::event::Event;
use crate::handle::{Command, Mesh};
use crate::hello;
use crate::peer_id::{keypair, peer_of};
use crate::peerbook::{self, PeerBook};
use crate::transport::TransportError;

/// Commands that may wait for the driver.
const COMMANDS_MAX: usize = 256;

/// Events that may wait for the owner.
const EVENTS_MAX: usize = 1024;

/// Pause before a swarm is built anew.
const REBUILD_PAUSE: Duration = Duration::from_secs(1);

/// Says why a mesh did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node's key is of no use to the transport.
    #[error("key of node {} can't be used for connections", .node.short())]
    Key {
        /// The node.
        node: NodeId,
    },
    /// The node's name is not fit to be shown.
    #[error(
        "name {name:?} of the node is not 1 to {NAME_BYTES_MAX} bytes of plain text; change it in the configuration"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The membership is not this node's, or of another mesh.
    #[error("membership of this node does not hold; join the mesh again")]
    Membership(#[source] MembershipError),
    /// An address to listen on is not one.
    #[error("listen address {address:?} can't be used; write it like /ip4/0.0.0.0/udp/0/quic-v1")]
    Address {
        /// The address.
        address: String,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An address can't be listened on.
    #[error("failed to listen on {address}; another program may use the port")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the system says.
        source: io::Error,
    },
    /// There is no transport.
    #[error("failed to set up the network")]
    Transport(#[from] TransportError),
    /// The protocols can't be set up.
    #[error("failed to set up the protocols")]
    Behaviour(#[from] BehaviourError),
    /// Two acceptors want one protocol: a mistake of ours.
    #[error("failed to set up the stream protocols")]
    Streams(#[from] AlreadyRegistered),
    /// The driver went away before it listened.
    #[error("mesh was stopped while it started")]
    Stopped,
}

/// What each swarm is built from.
pub(crate) struct Settings {
    /// Where to listen; ports that the system chose are filled in once known, so that the next swarm has the same.
    pub(crate) listen: Vec<Multiaddr>,
    /// Whether to use mDNS.
    pub(crate) mdns: bool,
}

/// Checks `config` and starts a mesh; see [`Mesh::start`].
pub(crate) async fn start(config: Config) -> Result<(Mesh, mpsc::Receiver<Event>), StartError> {
    let node = config.identity.node();
    check(&config)?;
    let settings = Settings { listen: listen_addresses(&config.listen)?, mdns: config.mdns };
    let mut book = PeerBook::default();
    for (known, addresses) in &config.known {
        if let Some(peer) = peer_of(known).filter(|_| *known != node) {
            book.learn(peer, &peerbook::parse(addresses, &peer, true), Instant::now());
            book.remember(peer, Instant::now());
        }
    }
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    let context = Arc::new(Context {
        key: keypair(&config.identity).ok_or(StartError::Key { node })?,
        events,
        counters: Counters::default(),
        damage_told: Line::default(),
        outboards: Outboards::new(config.outboards),
        now: config.now,
        credentials: RwLock::new(Credentials {
            mesh: config.mesh,
            name: config.name,
            membership: config.membership,
            revoked: BTreeSet::new(),
        }),
        routes: Routes::default(),
        listening: RwLock::default(),
        control: RwLock::default(),
        digest: watch::Sender::new(None),
        keys: watch::Sender::new(BTreeSet::new()),
    });
    let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
    let (cancel, tracker) = (CancellationToken::new(), TaskTracker::new());
    let (ready, started) = oneshot::channel();
    let supervisor = Supervisor {
        context: Arc::clone(&context),
        settings,
        book,
        commands: inbox,
        cancel: cancel.clone(),
        ready: Some(ready),
    };
    tracker.spawn(Box::pin(supervisor.run()));
    started.await.unwrap_or(Err(StartError::Stopped))?;
    Ok((Mesh { context, commands, cancel, tracker }, receiver))
}

/// Checks what would otherwise only be noticed by peers.
fn check(config: &Config) -> Result<(), StartError> {
    if !hello::is_name(&config.name) {
        return Err(StartError::Name { name: config.name.clone() });
    }
    let node = config.identity.node();
    match config.membership.verify(&config.mesh, &node, (config.now)().0) {
        Ok(_) => Ok(()),
        // It may be renewed while we run, and a wrong clock may be set right.
        Err(error @ (MembershipError::Expired { .. } | MembershipError::NotYetValid { .. })) => {
            tracing::warn!(%error, "peers will refuse this node");
            Ok(())
        }
        Err(error) => Err(StartError::Membership(error)),
    }
}

fn listen_addresses(texts: &[String]) -> Result<Vec<Multiaddr>, StartError> {
    let parse = |text: &String| {
        text.parse().map_err(|error| StartError::Address { address: text.clone(), source: Box::new(error) })
    };
    texts.iter().map(parse).collect()
}

struct Supervisor {
    context: Arc<Context>,
    settings: Settings,
    book: PeerBook,
    commands: mpsc::Receiver<Command>,
    cancel: CancellationToken,
    ready: Option<oneshot::Sender<Result<(), StartError>>>,
}

impl Supervisor {
    /// Runs one driver after the other until the mesh is stopped.
    async fn run(mut self) {
        loop {
            match AssertUnwindSafe(Box::pin(self.run_driver())).catch_unwind().await {
                Ok(Ok(End::Stopped)) => return,
                Ok(Err(error)) => match self.ready.take() {
                    Some(ready) => {
                        let _ = ready.send(Err(error));
                        return;
                    }
                    None => tracing::warn!(%error, "swarm can't be built again yet"),
                },
                Ok(Ok(End::Broken)) | Err(_) => {
                    self.context.counters.add("swarm_panicked");
                    tracing::error!("swarm panicked, building a new one");
                }
            }
            self.part_from_all().await;
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = sleep(REBUILD_PAUSE) => {}
            }
        }
    }

    async fn run_driver(&mut self) -> Result<End, StartError> {
        let mut driver = Driver::build(&self.context, &mut self.book, &self.settings)?;
        driver.until_listening(&mut self.settings).await?;
        if let Some(ready) = self.ready.take() {
            // If nobody waits any more, there is no handle either, and the driver stops by itself.
            let _ = ready.send(Ok(()));
        }
        Ok(Box::pin(driver.run(&mut self.commands, &self.cancel)).await)
    }

    /// Tells the owner that every peer is gone, as they went without a word.
    async fn part_from_all(&mut self) {
        *self.context.control.write().unwrap_or_else(PoisonError::into_inner) = None;
        let mut closed: VecDeque<NodeId> = self.context.routes.clear().into();
        while let Some(node) = closed.pop_front() {
            tokio::select! {
                () = self.cancel.cancelled() => return,
                sent = self.context.events.send(Event::Closed { node }) => if sent.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests;
