//! How the rest of the daemon asks for things: commands to the engine, reads past it, changes as they come.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use jobmesh_engine::{Change, Command, Detected, Refusal, Response};
use jobmesh_keys::{Invite, Membership, MembershipError, MeshId};
use jobmesh_mesh::{LogError, LogReader, LogRequest};
use jobmesh_protocol::chain::Export;
use jobmesh_protocol::join::{Answer, RefusalReason, Request};
use jobmesh_protocol::{NodeId, RunId, UnixMillis};
use jobmesh_store::{StoreError, Upkeep, View};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot, watch};

use super::download::Downloads;
use super::engine_thread::Message;
use super::guarded::Guarded;
use super::network::Restart;
use super::readers::{ReadError, Readers};
use super::roster::{Roster, Standing};
use super::runs::Runs;
use super::source::{Seed, Source};
use super::task_socket::token::Tokens;
use super::{Adopting, BringError, Shared, clock, link, secrets, type_files};
use crate::blobs::Blobs;
use crate::config::{Config, ConfigError, Reload};
use crate::home::Home;
use crate::job_types::JobTypes;

/// Most changes that a slow watcher may be behind before it misses some and must read again.
const CHANGES_MAX: usize = 1024;
/// How long the whole exchange of joining may take.
const JOIN_LIMIT: Duration = Duration::from_secs(15);

/// Asks a running node for things. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Inner>);

struct Inner {
    home: Home,
    name: String,
    slots: u32,
    seed: Seed,
    booted_at: UnixMillis,
    detected: Detected,
    blobs: Blobs,
    inbox: mpsc::Sender<Message>,
    network: mpsc::Sender<Restart>,
    readers: Readers,
    changes: broadcast::Sender<Change>,
    is_draining: AtomicBool,
    /// What is wrong with the database, once its file was found damaged.
    damage: OnceLock<String>,
    config: RwLock<Arc<Config>>,
    /// One reload at a time, so that what holds is what the engine was told last.
    reloading: tokio::sync::Mutex<()>,
    /// The path of the socket of tasks, as it is told to every run.
    task_socket: String,
    tokens: Tokens,
    shared: Shared,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed stays out of every log.
        f.debug_struct("Inner").field("home", &self.home).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a handle is put together from.
pub(super) struct Parts {
    pub(super) inboxes: (mpsc::Sender<Message>, mpsc::Sender<Restart>),
    pub(super) blobs: Blobs,
    pub(super) tokens: Tokens,
    pub(super) names: std::collections::BTreeMap<NodeId, String>,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The engine says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More waits for the engine than it should.
    #[error("this node has more to do than it can queue")]
    Busy,
    /// The disk is full.
    #[error("the disk that holds the job database is full; nothing that was acknowledged is lost")]
    Full,
    /// The database failed, so nobody knows whether it was written down.
    #[error("the job database failed while this was written down: {0}")]
    Store(String),
    /// The engine is gone.
    #[error("this node is shutting down")]
    Stopped,
}

impl From<&StoreError> for CommandError {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Damaged { .. } | StoreError::Sqlite(_) => Self::Store(error.to_string()),
        }
    }
}

/// Why this node could not join another mesh.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The invite was made by this node.
    #[error("the invite was made by this node; use it on another one")]
    Own,
    /// The invite ran out.
    #[error("the invite has expired")]
    Expired,
    /// The node is a member of that mesh.
    #[error("this node is a member of that mesh already")]
    Member,
    /// The node's own mesh has other members, who would lose it.
    #[error("this node is in a mesh with other members")]
    Elsewhere,
    /// The inviter could not be reached.
    #[error("the node that made the invite did not answer")]
    Unreachable(#[source] jobmesh_mesh::JoinError),
    /// The inviter said no.
    #[error(transparent)]
    Refused(RefusalReason),
    /// The inviter's answer does not hold.
    #[error("the node that made the invite sent a membership that is not good: {0}")]
    Membership(MembershipError),
    /// The inviter's answer does not parse.
    #[error("the node that made the invite sent an answer that can't be read")]
    Malformed,
    /// The engine would not have it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The database could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The mesh did not come up again.
    #[error("this node is a member now, but could not listen again; restart it: {0}")]
    Restart(String),
}

/// Why the configuration that holds was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file can't be read, or does not hold. The node goes on by what it has.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file that a job type names can't be given to its jobs.
    #[error(transparent)]
    TypeFile(#[from] BringError),
    /// The engine did not take it over.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The reading thread ended by a panic.
    #[error("reading the configuration was interrupted")]
    Interrupted,
}

impl Handle {
    pub(super) fn new(config: &Config, source: &Source, parts: Parts) -> Self {
        let Parts { inboxes: (inbox, network), blobs, tokens, names } = parts;
        let node = source.seed.identity().node();
        let standing = Standing::of(node, source.mesh, &source.membership, source.booted_at);
        let shared = Shared {
            node,
            link: link::Link::default(),
            roster: Roster::new((node, config.name.clone()), standing, names),
            runs: watch::Sender::new(Runs::default()),
            adopting: Adopting::default(),
            questions: Semaphore::new(secrets::QUESTIONS_MAX),
            guarded: Guarded::new(&config.home),
            downloads: Downloads::default(),
        };
        Self(Arc::new(Inner {
            home: config.home.clone(),
            name: config.name.clone(),
            slots: config.slots,
            seed: source.seed,
            booted_at: source.booted_at,
            detected: source.detected.clone(),
            blobs,
            inbox,
            network,
            readers: Readers::new(config.home.path().to_owned()),
            changes: broadcast::Sender::new(CHANGES_MAX),
            is_draining: AtomicBool::new(false),
            damage: OnceLock::new(),
            config: RwLock::new(Arc::new(config.clone())),
            reloading: tokio::sync::Mutex::default(),
            task_socket: config.home.task_socket().to_string_lossy().into_owned(),
            tokens,
            shared,
        }))
    }

    /// Hands a command to the engine and waits until what it decided is durable.
    ///
    /// Cancel-safe in this sense: dropped early, the command may or may not be carried out.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn command(&self, command: Command) -> Result<Response, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.0.inbox.try_send(Message::Ask(command, answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CommandError::Busy,
            mpsc::error::TrySendError::Closed(_) => CommandError::Stopped,
        })?;
        answered.await.unwrap_or(Err(CommandError::Stopped))
    }

    /// Does the same as [`Self::command`] on a thread that may block, which no thread of the async runtime may. Waits for
    /// room where that one is refused as busy.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn command_blocking(&self, command: Command) -> Result<Response, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.0.inbox.blocking_send(Message::Ask(command, answer)).map_err(|_| CommandError::Stopped)?;
        answered.blocking_recv().unwrap_or(Err(CommandError::Stopped))
    }

    /// Has the owner of the database keep its files in order, between two commits. For a thread that may block.
    ///
    /// # Errors
    /// [`CommandError`].
    pub(super) fn upkeep_blocking(&self) -> Result<Upkeep, CommandError> {
        let (answer, answered) = oneshot::channel();
        self.0.inbox.blocking_send(Message::Upkeep(answer)).map_err(|_| CommandError::Stopped)?;
        answered.blocking_recv().unwrap_or(Err(CommandError::Stopped))
    }

    /// Runs queries over the last commit. Cancel-safe.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read<T, F>(&self, query: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(View<'_>) -> Result<T, StoreError> + Send + 'static,
    {
        let answer = self.0.readers.read(query).await;
        if let Err(ReadError::Store(error)) = &answer {
            self.note_damage(error);
        }
        answer
    }

    /// Remembers that the database is damaged, if that is what an error says. No new work is taken on from then on: it
    /// might never be read again.
    pub(super) fn note_damage(&self, error: &StoreError) {
        if error.is_damage() {
            self.0.damage.get_or_init(|| error.to_string());
        }
    }

    /// What is wrong with the database, if it is damaged.
    pub(super) fn damage(&self) -> Option<&str> {
        self.0.damage.get().map(String::as_str)
    }

    /// Lets the database go, before the writer does. Reads fail from then on.
    pub(super) async fn close_readers(&self) {
        self.0.readers.close().await;
    }

    /// Every change from now on. Subscribe first, then read, and nothing is missed.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The data directory.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.0.home
    }

    /// The folder of blobs.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.0.blobs
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.0.shared.node
    }

    /// This node's name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What holds of the configuration now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the configuration file again and has it hold from now on, as far as it can without a restart; the rest is
    /// pending.
    ///
    /// Cancel-safe in this sense: dropped early, the engine may go by the new one while [`Self::config`] is the old one,
    /// until the next reload.
    ///
    /// # Errors
    /// [`ReloadError`]; nothing was changed then, unless the database failed.
    pub async fn reload(&self) -> Result<Reload, ReloadError> {
        let _alone = self.0.reloading.lock().await;
        let running = self.config();
        let reading = tokio::task::spawn_blocking(move || running.reload());
        let reload = reading.await.map_err(|_| ReloadError::Interrupted)??;
        type_files::bring_scheduled(self.blobs(), &reload.config.job_types).await?;
        self.command(Command::Configure(Box::new(super::declared(&reload.config)))).await?;
        super::set_blob_quota(self.blobs(), &reload.config);
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reload.config.clone());
        for pending in &reload.pending {
            tracing::warn!(
                key = pending.key,
                running = pending.running,
                written = pending.written,
                "holds after a restart"
            );
        }
        tracing::info!(pending = reload.pending.len(), "read the configuration again");
        Ok(reload)
    }

    /// The job types that hold now: those of [`Self::config`].
    #[must_use]
    pub fn job_types(&self) -> JobTypes {
        self.config().job_types.clone()
    }

    /// Where runs report.
    pub(super) fn task_socket(&self) -> &str {
        &self.0.task_socket
    }

    /// What runs prove themselves by.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// How many jobs run here at once.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.0.slots
    }

    /// When this daemon started.
    #[must_use]
    pub fn booted_at(&self) -> UnixMillis {
        self.0.booted_at
    }

    /// What time it is, for dates.
    #[must_use]
    pub fn wall(&self) -> UnixMillis {
        clock::wall()
    }

    /// Whether the node takes no new work any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Relaxed)
    }

    /// Takes no new work from now on; what runs goes on. Whatever was to be started has been ordered by then.
    ///
    /// # Errors
    /// [`CommandError`] if the engine can't be told.
    pub async fn drain(&self) -> Result<(), CommandError> {
        self.0.is_draining.store(true, Ordering::Relaxed);
        self.command(Command::Drain).await?;
        // Replies leave ahead of orders, but after those of the batch before.
        self.command(Command::Counters).await.map(drop)
    }

    /// What was found on this machine at start.
    #[must_use]
    pub fn detected(&self) -> &Detected {
        &self.0.detected
    }

    /// Who is who.
    #[must_use]
    pub(crate) fn roster(&self) -> &Roster {
        &self.0.shared.roster
    }

    /// Runs that were ordered and whose end is not committed yet.
    #[must_use]
    pub fn runs(&self) -> BTreeSet<RunId> {
        self.0.shared.runs.borrow().all()
    }

    /// Those of them that have not begun, since the run that they follow goes on: they are claimed and take no slot.
    #[must_use]
    pub fn claimed(&self) -> BTreeSet<RunId> {
        self.0.shared.runs.borrow().claimed()
    }

    /// Waits until nothing runs here any more. Cancel-safe.
    pub async fn runs_ended(&self) {
        // The sender is part of `self`, so the wait can't fail.
        let _ = self.0.shared.runs.subscribe().wait_for(Runs::is_empty).await;
    }

    /// Where the node listens now; empty while the mesh is down.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.0.shared.link.mesh().map(|mesh| mesh.addresses()).unwrap_or_default()
    }

    /// What the mesh counts: refused bytes and the like.
    #[must_use]
    pub fn mesh_counters(&self) -> std::collections::BTreeMap<&'static str, u64> {
        self.0.shared.link.mesh().map(|mesh| mesh.counters()).unwrap_or_default()
    }

    /// Asks a member for the output of a run that it has for this node.
    ///
    /// # Errors
    /// [`LogError`] if it is not connected, knows no such run, or does not answer.
    pub(crate) async fn read_log(&self, from: NodeId, request: LogRequest) -> Result<LogReader, LogError> {
        match self.0.shared.link.mesh() {
            Some(mesh) => mesh.read_log(from, request).await,
            None => Err(LogError::NotConnected { node: from }),
        }
    }

    /// Signs an export of receipts as this node, and returns the bytes of the file.
    #[must_use]
    pub fn sign_export(&self, export: &Export) -> Vec<u8> {
        export.seal(&self.0.seed.identity())
    }

    /// Shows an invite to the node that made it, and becomes a member of its mesh.
    ///
    /// Not cancel-safe: dropped after the inviter's answer, the membership may be lost; the same invite gives it again.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(&self, invite: &Invite) -> Result<Standing, JoinError> {
        let terms = invite.terms();
        self.check_invite(invite).await?;
        let identity = self.0.seed.identity();
        let request = Request { secret: *terms.secret.as_bytes(), name: self.0.name.clone() }.encode();
        let asked = jobmesh_mesh::join(&identity, terms.inviter, &terms.addresses, request, JOIN_LIMIT);
        let answer = Box::pin(asked).await.map_err(JoinError::Unreachable)?;
        let membership = match Answer::decode(&answer).map_err(|_| JoinError::Malformed)? {
            Answer::Welcome(membership) => Membership::decode(&membership).map_err(JoinError::Membership)?,
            Answer::Refused(reason) => return Err(JoinError::Refused(reason)),
        };
        let verified = membership.verify(&terms.mesh, &self.node(), clock::wall().0).map_err(JoinError::Membership)?;
        let not_after = UnixMillis(verified.not_after_ms());
        let standing = Standing { mesh: terms.mesh, role: verified.role(), not_after };
        let enroll = Command::Enroll { mesh: terms.mesh, membership: Box::new(membership.clone()) };
        self.command(enroll).await?;
        self.roster().set_standing(standing);
        self.restart_mesh((terms.mesh, membership), (terms.inviter, terms.addresses.clone())).await?;
        Ok(standing)
    }

    async fn check_invite(&self, invite: &Invite) -> Result<(), JoinError> {
        let terms = invite.terms();
        if terms.inviter == self.node() {
            return Err(JoinError::Own);
        }
        let (standing, now) = (self.roster().standing(), clock::wall());
        // With a membership that has run out, the way back in is the way in.
        if terms.mesh == standing.mesh && standing.not_after > now {
            return Err(JoinError::Member);
        }
        if invite.is_expired(now.0) {
            return Err(JoinError::Expired);
        }
        if terms.mesh != standing.mesh && self.read(|view| Ok(!view.peers()?.is_empty())).await? {
            return Err(JoinError::Elsewhere);
        }
        Ok(())
    }

    async fn restart_mesh(
        &self,
        (mesh, membership): (MeshId, Membership),
        dial: (NodeId, Vec<String>),
    ) -> Result<(), JoinError> {
        let (done, is_done) = oneshot::channel();
        let gone = || JoinError::Restart("the network task is gone".to_owned());
        self.0.network.send(Restart { mesh, membership, dial, done }).await.map_err(|_| gone())?;
        let started = is_done.await.map_err(|_| gone())?;
        started.map_err(|error| JoinError::Restart(error.to_string()))
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(super) fn changes(&self) -> &broadcast::Sender<Change> {
        &self.0.changes
    }

    /// Tells the engine what a driver saw; waits while it is busy. `false` if it is gone.
    pub(super) async fn tell(&self, input: jobmesh_engine::Input) -> bool {
        self.0.inbox.send(Message::Driver(input)).await.is_ok()
    }

    /// Has a fact written down with the next commit. Nothing is lost but convenience if it can't be.
    pub(super) async fn remember(&self, name: &'static str, value: Vec<u8>) {
        let _ = self.0.inbox.send(Message::Remember(name, value)).await;
    }
}
