//! Two engines, a perfect wire and a hand-turned clock.

#[path = "wire/view.rs"]
mod view;

use std::collections::VecDeque;

use jobmesh_engine::pool::PoolKind;
use jobmesh_engine::{
    Command, Config, Detected, Ended, Engine, Input, Output, Process, Refusal, RequestId, Response, RunOrder, Timing,
    Wanted,
};
use jobmesh_keys::{Grant, Identity, Membership, MeshId, MeshRoot, Role, Serial};
use jobmesh_protocol::Submission;
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::id::BootId;
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::resource::{Amount, Name};
use jobmesh_protocol::session::Frame;
use jobmesh_protocol::ticket::{Settle, Verdict};
use jobmesh_protocol::{
    BlobRef, DurationMillis, Hash, Incarnation, Isolation, JobId, JobSpec, MonoMillis, NodeId, Now, Outcome, RunId,
    UnixMillis,
};
use jobmesh_store::{AlarmKind, DATABASE_NAME, Event, LinkRow, Side, Store};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::Serialize;
use serde_bytes::ByteBuf;
use tempfile::TempDir;

pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

struct Node {
    id: NodeId,
    store: Store,
    engine: Option<Engine>,
    inputs: VecDeque<Input>,
    runs: Vec<RunId>,
    orders: Vec<RunOrder>,
    fetches: Vec<(NodeId, BlobRef)>,
    wanted: Vec<Wanted>,
    unwanted: Vec<Wanted>,
    stops: usize,
    stopped: Vec<RunId>,
    boot: u8,
    /// Where its database is, if not in memory.
    home: Option<TempDir>,
    shouts: Vec<Vec<u8>>,
    dials: Vec<NodeId>,
    finds: usize,
    replies: Vec<Result<Response, Refusal>>,
}

/// Puts another signed message into the place of one that a node sends; the same one if it returns none.
type Bend = Box<dyn FnMut(usize, &Envelope) -> Option<Vec<u8>>>;

pub(crate) struct Wire {
    nodes: Vec<Node>,
    bend: Option<Bend>,
    sent: Vec<Vec<u8>>,
    said: Vec<(usize, Kind, Vec<u8>)>,
    rng: ChaCha8Rng,
    now: Now,
    is_up: bool,
    /// What is under way and does not arrive for now, by the node that it is for.
    held: Option<Vec<(usize, Input)>>,
    trace: Vec<String>,
    /// How well runs that end from now on were kept apart.
    pub(crate) isolation: Isolation,
}

/// The key of a node.
pub(crate) fn identity(node: usize) -> Identity {
    Identity::from_seed([u8::try_from(node).unwrap() + 1; 32])
}

fn root() -> MeshRoot {
    MeshRoot::new(Identity::from_seed([9; 32]))
}

fn ended(
    (outcome, exit): (Outcome, Exit),
    (outputs, usage): (Outputs, Usage),
    ran_micros: u64,
    inline: Vec<Vec<u8>>,
) -> Ended {
    let (model, isolation, notice) = (None, Isolation::None, None);
    Ended { outcome, exit, outputs, usage, model, isolation, ran_micros, inline, notice }
}

/// The mesh of both nodes.
pub(crate) fn mesh() -> MeshId {
    root().mesh()
}

/// A message as a node would sign it.
pub(crate) fn seal<T: Serialize>(node: usize, kind: Kind, body: &T) -> Vec<u8> {
    Envelope::seal(&identity(node), &mesh(), kind, body)
}

fn config(node: usize, boot: u8) -> Config {
    let (root, identity) = (root(), identity(node));
    let grant = Grant {
        member: identity.node(),
        role: Role::Member,
        sponsor: identity.node(),
        issued_at_ms: 0,
        not_after_ms: u64::MAX,
        serial: Serial::from_bytes([0; 16]),
    };
    Config {
        mesh: root.mesh(),
        membership: Membership::issue_root(&root, &grant),
        identity,
        root: None,
        boot: BootId::from_bytes([boot; 16]),
        booted_at: UnixMillis(1_000_000 + u64::from(boot)),
        name: ["a", "b"][node].to_owned(),
        detected: Detected {
            tags: ["executor:process", "isolation:process:sandboxed"].map(|tag| tag.parse().unwrap()).into(),
            attributes: Default::default(),
            pools: [(Name::CPUS, PoolKind::numbered(2)), (Name::MEM, PoolKind::Sum(Amount::whole(1 << 30)))].into(),
            slots: 2,
        },
        timing: Timing::default(),
        declared: Default::default(),
        has_rebooted: false,
        mutant: None,
    }
}

impl Wire {
    pub(crate) fn new() -> Self {
        let now = Now { mono: MonoMillis(5_000), wall: UnixMillis(1_800_000_000_000) };
        let mut wire = Self {
            nodes: Vec::new(),
            bend: None,
            sent: Vec::new(),
            said: Vec::new(),
            rng: ChaCha8Rng::seed_from_u64(1),
            now,
            is_up: false,
            held: None,
            trace: Vec::new(),
            isolation: Isolation::Contained,
        };
        for index in [A, B] {
            let fresh = Incarnation::from_bytes([u8::try_from(index).unwrap(); 16]);
            let id = identity(index).node();
            let store = Store::open_in_memory(fresh).unwrap();
            wire.nodes.push(Node {
                id,
                store,
                engine: None,
                inputs: VecDeque::new(),
                runs: Vec::new(),
                orders: Vec::new(),
                fetches: Vec::new(),
                wanted: Vec::new(),
                unwanted: Vec::new(),
                stops: 0,
                stopped: Vec::new(),
                boot: 0,
                home: None,
                shouts: Vec::new(),
                dials: Vec::new(),
                finds: 0,
                replies: Vec::new(),
            });
            wire.boot(index);
        }
        wire
    }

    /// The same with the database of a node on disk, so that it can be set back.
    pub(crate) fn with_backups_of(index: usize) -> Self {
        let mut wire = Self::new();
        let home = tempfile::tempdir().unwrap();
        wire.nodes[index].store = Store::open(home.path(), Incarnation::from_bytes([7; 16])).unwrap();
        wire.nodes[index].home = Some(home);
        wire.boot(index);
        wire
    }

    /// Stops a node and puts another database into the place of its own, if one is given. Returns what was there.
    #[expect(clippy::disallowed_methods, reason = "a backup is a file, put back while no engine runs")]
    pub(crate) fn set_back(&mut self, index: usize, backup: Option<&[u8]>) -> Vec<u8> {
        self.cut();
        let node = &mut self.nodes[index];
        (node.engine, node.runs, node.inputs) = (None, Vec::new(), VecDeque::new());
        let nothing = Store::open_in_memory(Incarnation::from_bytes([0; 16])).unwrap();
        assert!(std::mem::replace(&mut node.store, nothing).close().unwrap());
        let home = node.home.as_ref().unwrap().path();
        let path = home.join(DATABASE_NAME);
        let found = std::fs::read(&path).unwrap();
        if let Some(backup) = backup {
            std::fs::write(&path, backup).unwrap();
        }
        node.store = Store::open(home, Incarnation::from_bytes([8; 16])).unwrap();
        self.boot(index);
        self.settle();
        found
    }

    /// What a node was alarmed by, and with whom.
    pub(crate) fn alarms(&mut self, index: usize) -> Vec<(AlarmKind, NodeId)> {
        let alarms = self.nodes[index].store.begin().unwrap().view().alarms().unwrap();
        alarms.into_iter().map(|alarm| (alarm.kind, alarm.node)).collect()
    }

    /// What a node gossiped once.
    pub(crate) fn shouts(&self, index: usize) -> &[Vec<u8>] {
        &self.nodes[index].shouts
    }

    /// Whom a node tried to connect to.
    pub(crate) fn dials(&self, index: usize) -> &[NodeId] {
        &self.nodes[index].dials
    }

    /// How often a node looked into Kademlia.
    pub(crate) fn finds(&self, index: usize) -> usize {
        self.nodes[index].finds
    }

    /// Lets a node hear gossip.
    pub(crate) fn hear(&mut self, index: usize, bytes: Vec<u8>) {
        let via = self.nodes[1 - index].id;
        self.step(index, Input::Gossip { via, bytes });
        self.settle();
    }

    /// Delivers what the last injected bytes led to.
    pub(crate) fn settled(&mut self) {
        self.settle();
    }

    fn boot(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        node.boot += 1;
        let txn = node.store.begin().unwrap();
        let mut engine = Engine::recover(config(index, node.boot), self.now, &mut self.rng, &txn).unwrap();
        let proof = txn.commit().unwrap();
        let outputs = engine.take_outputs().release(proof);
        node.engine = Some(engine);
        self.carry_out(index, outputs);
    }

    pub(crate) fn restart(&mut self, index: usize) {
        self.cut();
        self.nodes[index].engine = None;
        self.nodes[index].runs.clear();
        self.nodes[index].inputs.clear();
        self.boot(index);
        self.settle();
    }

    fn step(&mut self, index: usize, input: Input) {
        let node = &mut self.nodes[index];
        let Some(engine) = &mut node.engine else { return };
        let txn = node.store.begin().unwrap();
        engine.handle(self.now, &mut self.rng, &txn, input).unwrap();
        engine.finish(self.now, &mut self.rng, &txn).unwrap();
        let proof = txn.commit().unwrap();
        let outputs = engine.take_outputs().release(proof);
        self.carry_out(index, outputs);
    }

    fn carry_out(&mut self, index: usize, outputs: Vec<Output>) {
        for output in outputs {
            self.trace.push(format!("{index}: {output:?}").chars().take(120).collect());
            match output {
                Output::Send { to, frame } if self.is_up => {
                    let frame = self.bent(index, frame);
                    self.sent.push(frame.clone());
                    let other = self.nodes.iter().position(|node| node.id == to).unwrap();
                    let from = self.nodes[index].id;
                    let input = Input::Frame { from, bytes: frame };
                    match &mut self.held {
                        Some(held) => held.push((other, input)),
                        None => self.nodes[other].inputs.push_back(input),
                    }
                }
                Output::Run(order) => {
                    let process = Process { pid: 1, started: 1 };
                    self.nodes[index].runs.push(order.run);
                    let node = &mut self.nodes[index];
                    let is_behind = order.follows.is_some_and(|ahead| node.runs.contains(&ahead));
                    node.orders.push(RunOrder::clone(&order));
                    if !is_behind {
                        node.inputs.push_back(Input::Started { run: order.run, process });
                    }
                }
                Output::Adopt { order, .. } => {
                    // Nothing outlives a daemon here.
                    let outcome = Outcome::Lost { reason: "the daemon stopped while it ran".to_owned() };
                    let (exit, outputs, usage) = (Exit::default(), Outputs::default(), Usage::default());
                    let ended = ended((outcome, exit), (outputs, usage), 0, Vec::new());
                    self.nodes[index].inputs.push_back(Input::Ended { run: order.run, ended });
                }
                Output::Shout(bytes) => self.nodes[index].shouts.push(bytes),
                Output::Dial { node, .. } => self.nodes[index].dials.push(node),
                Output::Find(_) => self.nodes[index].finds += 1,
                Output::Stop { run, .. } => {
                    self.nodes[index].stops += 1;
                    self.nodes[index].stopped.push(run);
                }
                Output::Fetch(wanted) => {
                    self.nodes[index].wanted.push(wanted);
                    self.nodes[index].fetches.push((wanted.from, wanted.blob));
                }
                Output::StopFetch(wanted) => self.nodes[index].unwanted.push(wanted),
                Output::Reply(_, answer) => self.nodes[index].replies.push(answer),
                Output::Send { .. }
                | Output::Publish(_)
                | Output::Provide(_)
                | Output::Forget(_)
                | Output::EndOrphan { .. }
                | Output::Changed(_) => {}
            }
        }
    }

    /// What travels of a frame that a node sends.
    fn bent(&mut self, index: usize, bytes: Vec<u8>) -> Vec<u8> {
        let mut frame = Frame::decode(&bytes).unwrap();
        let envelopes: Vec<&mut ByteBuf> = match &mut frame {
            Frame::Data { messages, .. } => messages.iter_mut().map(|message| &mut message.envelope).collect(),
            Frame::Note { envelope } => vec![envelope],
            Frame::Ack { .. } | Frame::Meet { .. } => Vec::new(),
        };
        for envelope in envelopes {
            let opened = Envelope::open(envelope, &mesh()).unwrap();
            self.said.push((index, opened.kind(), envelope.to_vec()));
            if let Some(other) = self.bend.as_mut().and_then(|bend| bend(index, &opened)) {
                *envelope = ByteBuf::from(other);
            }
        }
        frame.encode()
    }

    /// Changes what nodes say from now on.
    pub(crate) fn bend(&mut self, bend: impl FnMut(usize, &Envelope) -> Option<Vec<u8>> + 'static) {
        self.bend = Some(Box::new(bend));
    }

    /// Lets both nodes say what they mean again.
    pub(crate) fn unbend(&mut self) {
        self.bend = None;
    }

    /// What a node said of a kind, before anything was bent.
    pub(crate) fn said(&self, index: usize, kind: Kind) -> Vec<Vec<u8>> {
        let is_it = |said: &&(usize, Kind, Vec<u8>)| (said.0, said.1) == (index, kind);
        self.said.iter().filter(is_it).map(|(_, _, envelope)| envelope.clone()).collect()
    }

    /// Every frame that travelled.
    pub(crate) fn sent(&self) -> &[Vec<u8>] {
        &self.sent
    }

    /// Delivers everything that is under way.
    fn settle(&mut self) {
        while let Some(index) = self.nodes.iter().position(|node| !node.inputs.is_empty()) {
            let input = self.nodes[index].inputs.pop_front().unwrap();
            self.step(index, input);
        }
    }

    pub(crate) fn pass(&mut self, duration: DurationMillis) {
        let end = self.now.mono.plus(duration);
        loop {
            let wakeups = self.nodes.iter().filter_map(|node| node.engine.as_ref()?.next_wakeup());
            let next = wakeups.min().filter(|at| *at <= end);
            let target = next.unwrap_or(end).max(self.now.mono);
            self.now.wall = self.now.wall.plus(target.since(self.now.mono));
            self.now.mono = target;
            if next.is_none() {
                return;
            }
            for index in [A, B] {
                self.step(index, Input::Tick);
            }
            self.settle();
        }
    }

    pub(crate) fn connect(&mut self) {
        self.is_up = true;
        for (index, other) in [(A, B), (B, A)] {
            let node = self.nodes[other].id;
            self.step(index, Input::Connected { node, name: ["a", "b"][other].to_owned(), addresses: Vec::new() });
        }
        self.settle();
    }

    /// Lets nothing arrive for now.
    pub(crate) fn hold_frames(&mut self) {
        self.held = Some(Vec::new());
    }

    /// Loses what was held, and lets arrive what follows.
    pub(crate) fn drop_frames(&mut self) {
        self.held = None;
    }

    /// Which life of its database a node is in.
    pub(crate) fn incarnation(&mut self, index: usize) -> Incarnation {
        self.nodes[index].store.begin().unwrap().incarnation()
    }

    /// Lets everything arrive that was held, and what follows.
    pub(crate) fn let_frames_go(&mut self) {
        for (index, input) in self.held.take().unwrap_or_default() {
            self.nodes[index].inputs.push_back(input);
        }
        self.settle();
    }

    pub(crate) fn cut(&mut self) {
        self.is_up = false;
        for (index, other) in [(A, B), (B, A)] {
            let node = self.nodes[other].id;
            self.nodes[index].inputs.clear();
            self.step(index, Input::Disconnected(node));
        }
        self.settle();
    }

    fn ask(&mut self, index: usize, command: Command) -> Result<Response, Refusal> {
        self.step(index, Input::Command(RequestId(1), command));
        self.settle();
        self.nodes[index].replies.pop().unwrap()
    }

    pub(crate) fn command(&mut self, index: usize, command: Command) -> Response {
        self.ask(index, command).unwrap()
    }

    /// Why a command is refused.
    pub(crate) fn refused(&mut self, index: usize, command: Command) -> String {
        self.ask(index, command).unwrap_err().to_string()
    }

    pub(crate) fn submit(&mut self, index: usize, spec: JobSpec) -> JobId {
        self.take(index, Submission::new(spec))
    }

    pub(crate) fn take(&mut self, index: usize, submission: Submission) -> JobId {
        match self.command(index, Command::Submit(vec![submission])) {
            Response::Submitted(taken) => taken[0].job,
            Response::Pruned(_) => panic!("not submitted"),
            Response::Done
            | Response::Unchanged
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Judged(_)
            | Response::Counted(_)
            | Response::Granted(_) => panic!("not submitted"),
        }
    }

    /// Ends a run of a node.
    pub(crate) fn end(&mut self, index: usize, run: usize, outcome: Outcome, stdout: &[u8]) {
        let outputs = Outputs { stdout: Some(BlobRef::of(stdout)), ..Outputs::default() };
        self.end_with(index, run, outcome, outputs, vec![stdout.to_vec()]);
    }

    /// Ends the first run of a node, if it still has one.
    pub(crate) fn end_if_any(&mut self, index: usize, outcome: Outcome) {
        if !self.nodes[index].runs.is_empty() {
            self.end(index, 0, outcome, b"");
        }
    }

    /// What A said last of a receipt.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        let settle = self.said(A, Kind::Settle).pop()?;
        Some(Envelope::open(&settle, &mesh()).unwrap().parse::<Settle>().unwrap().verdict)
    }

    /// The chain of the receipts that B gave A, as that node has it.
    pub(crate) fn links(&mut self, index: usize) -> Vec<LinkRow> {
        let (other, side) = (self.nodes[1 - index].id, if index == A { Side::Taken } else { Side::Given });
        self.nodes[index].store.begin().unwrap().view().links(other, side, 1000).unwrap()
    }

    /// The history of a job.
    pub(crate) fn events(&mut self, index: usize, job: JobId) -> Vec<Event> {
        self.nodes[index].store.begin().unwrap().view().events(job).unwrap()
    }

    /// Ends a run of a node, with all that came out of it.
    pub(crate) fn end_with(
        &mut self,
        index: usize,
        run: usize,
        outcome: Outcome,
        outputs: Outputs,
        inline: Vec<Vec<u8>>,
    ) {
        let run = self.nodes[index].runs.remove(run);
        let code = i32::from(outcome != Outcome::Ok);
        let exit = Exit { code: Some(code), signal: None };
        let usage = Usage::default();
        let ended = Ended { isolation: self.isolation, ..ended((outcome, exit), (outputs, usage), 1_000_000, inline) };
        self.step(index, Input::Ended { run, ended });
        let node = &mut self.nodes[index];
        let next = node.orders.iter().find(|order| order.follows == Some(run) && node.runs.contains(&order.run));
        if let Some(next) = next.map(|order| order.run) {
            let process = Process { pid: 1, started: 1 };
            node.inputs.push_back(Input::Started { run: next, process });
        }
        self.settle();
    }

    /// Gives back every run that a node wants to have stopped, as one that has not begun. Returns how many there were.
    pub(crate) fn give_back_stopped(&mut self, index: usize) -> usize {
        let mut count = 0;
        for run in std::mem::take(&mut self.nodes[index].stopped) {
            if let Some(at) = self.nodes[index].runs.iter().position(|known| *known == run) {
                let outcome = Outcome::Released { reason: "withdrawn before it started".to_owned() };
                self.end_with(index, at, outcome, Outputs::default(), Vec::new());
                count += 1;
            }
        }
        count
    }

    /// The runs of a node that have not ended.
    pub(crate) fn runs(&self, index: usize) -> usize {
        self.nodes[index].runs.len()
    }

    /// What a node was told to start, in order.
    pub(crate) fn orders(&self, index: usize) -> &[RunOrder] {
        &self.nodes[index].orders
    }

    /// What a node wants to have fetched, and from whom.
    pub(crate) fn fetches(&mut self, index: usize) -> Vec<(NodeId, BlobRef)> {
        std::mem::take(&mut self.nodes[index].fetches)
    }

    /// A blob that a node wanted is there.
    pub(crate) fn fetched(&mut self, index: usize, hash: Hash) {
        for wanted in self.nodes[index].wanted.clone() {
            if wanted.blob.hash == hash {
                self.step(index, Input::Fetched(wanted));
            }
        }
        self.settle();
    }

    /// What a node wants to have fetched, each as often as it was asked for, and wants no more.
    pub(crate) fn transfers(&mut self, index: usize) -> (Vec<Wanted>, Vec<Wanted>) {
        let node = &mut self.nodes[index];
        (std::mem::take(&mut node.wanted), std::mem::take(&mut node.unwanted))
    }

    /// Something comes of a transfer, or does not.
    pub(crate) fn tell(&mut self, index: usize, input: Input) {
        self.step(index, input);
        self.settle();
    }

    /// Small bytes that a node keeps.
    pub(crate) fn kept(&mut self, index: usize, hash: Hash) -> Option<Vec<u8>> {
        self.nodes[index].store.begin().unwrap().view().blob(hash).unwrap()
    }

    pub(crate) fn inject(&mut self, index: usize, bytes: Vec<u8>) {
        let from = self.nodes[1 - index].id;
        self.step(index, Input::Frame { from, bytes });
    }

    pub(crate) fn node(&self, index: usize) -> NodeId {
        self.nodes[index].id
    }

    pub(crate) fn stops(&self, index: usize) -> usize {
        self.nodes[index].stops
    }

    pub(crate) fn trace(&self) -> &[String] {
        &self.trace[self.trace.len().saturating_sub(60)..]
    }
}
