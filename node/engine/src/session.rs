//! Sessions with members: numbered messages that arrive in order and once, whatever the connection does.
//!
//! A numbered message is a row before it is a frame and stays one until the peer's cumulative ack, so a crash on
//! either side replays it and the receiver's count drops the copy. The hard case is a receiver that lost its
//! memory: every frame says the lowest number the sender still keeps, and that is where such a receiver begins.
//!
//! What the inputs of one transaction lead to leaves together, in as few frames as it fits into.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_keys::NodeId;
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::session::{
    ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, Frame, MESSAGES_BYTES_MAX, MESSAGES_MAX, Message,
};
use jobmesh_protocol::{DurationMillis, Incarnation, cbor};
use jobmesh_store::{Inbound, PeerRow, Queued, StoreError};
use serde::Serialize;
use serde_bytes::ByteBuf;

use crate::engine::Engine;
use crate::message::Incoming;
use crate::output::Output;
use crate::peers::PEERS_MAX;
use crate::rollback::Listened;
use crate::step::Step;
use crate::timers::Timer;

/// First wait for an ack before sending again: many round trips, so that only a loss causes it.
const RESEND_WAIT: DurationMillis = DurationMillis::from_secs(2);
/// Longest such wait.
const RESEND_WAIT_MAX: DurationMillis = DurationMillis::from_secs(30);
/// Messages in flight to one peer; the rest waits in the outbox.
const WINDOW: u32 = 64;
const _: () = assert!(WINDOW as usize <= MESSAGES_MAX);
/// Messages that may wait for a peer before answers that it provokes are dropped.
const ANSWERS_MAX: u64 = 256;
/// How often a connected peer is told again what a lost note may have cost it, if there are few; else as many are told in
/// that time as [`REFRESHED`], so that a node with hundreds of sessions does not spend its time on repeating itself.
const REFRESH_EVERY: DurationMillis = DurationMillis::from_secs(60);
/// Peers that are told in that time.
const REFRESHED: u64 = 16;
/// Two encoded attachments and their frame.
const ATTACHMENTS_BYTES_MAX: usize = ATTACHMENTS_MAX * ATTACHMENT_BYTES_MAX + 1024;

/// What leaves for the peers when the transaction is over. At most a window for each peer.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    messages: BTreeMap<NodeId, BTreeMap<u64, Message>>,
    acks: BTreeSet<NodeId>,
}

impl Engine {
    /// Signs a message and queues it until the peer has acknowledged it.
    pub(crate) fn post<T: Serialize>(
        &mut self,
        step: &Step<'_>,
        to: NodeId,
        kind: Kind,
        body: &T,
    ) -> Result<(), StoreError> {
        let envelope = self.seal(kind, body);
        self.post_sealed(step, to, &envelope, &[])
    }

    /// Posts an answer that a peer can provoke as often as it likes: beyond a limit, answers to it are dropped.
    pub(crate) fn post_answer<T: Serialize>(
        &mut self,
        step: &Step<'_>,
        to: NodeId,
        kind: Kind,
        body: &T,
    ) -> Result<(), StoreError> {
        let envelope = self.seal(kind, body);
        self.post_answer_sealed(step, to, &envelope)
    }

    /// The same with a sealed message.
    pub(crate) fn post_answer_sealed(
        &mut self,
        step: &Step<'_>,
        to: NodeId,
        envelope: &[u8],
    ) -> Result<(), StoreError> {
        let quota = self.config.declared.quotas.outbox_bytes;
        if step.view().outbox_len(to)? >= ANSWERS_MAX || step.view().outbox_bytes(to)? >= quota {
            self.count("dropped_answer");
            return Ok(());
        }
        self.post_sealed(step, to, envelope, &[])
    }

    /// Queues a sealed message until the peer has acknowledged it.
    pub(crate) fn post_sealed(
        &mut self,
        step: &Step<'_>,
        to: NodeId,
        envelope: &[u8],
        attachments: &[ByteBuf],
    ) -> Result<(), StoreError> {
        let number = step.txn.queue(to, envelope, &cbor::encode(&attachments))?;
        let first = step.view().outbox_first(to)?.unwrap_or(number);
        if self.is_met(to) && number < first + u64::from(WINDOW) {
            let message = Message { envelope: ByteBuf::from(envelope), attachments: attachments.to_vec() };
            self.send_numbered(to, number, message);
            self.timers.set_if_unset(Timer::Resend(to), step.now.mono.plus(RESEND_WAIT));
        }
        Ok(())
    }

    /// Sends again whatever the peer has not acknowledged.
    pub(crate) fn resend(&mut self, step: &Step<'_>, to: NodeId) -> Result<(), StoreError> {
        if !self.is_connected(to) {
            return Ok(());
        }
        if !self.is_met(to) {
            // What the peer has received is not known yet: one of the two words was lost.
            self.meet_peer(step, to, true)?;
            self.timers.set(Timer::Resend(to), step.now.mono.plus(RESEND_WAIT));
            return Ok(());
        }
        let queued = step.view().outbox(to, 0, WINDOW)?;
        if queued.is_empty() {
            return Ok(());
        }
        for message in queued {
            self.send_queued(to, message)?;
        }
        if let Some(peer) = self.peers.get_mut(&to) {
            let wait = peer.resend_wait.max(RESEND_WAIT);
            peer.resend_wait = wait.scale(2, 1).min(RESEND_WAIT_MAX);
            self.timers.set(Timer::Resend(to), step.now.mono.plus(wait));
        }
        Ok(())
    }

    /// Sends a message from the outbox.
    fn send_queued(&mut self, to: NodeId, message: Queued) -> Result<(), StoreError> {
        let attachments = cbor::decode(&message.attachments, ATTACHMENTS_BYTES_MAX);
        let attachments = attachments.map_err(|_| StoreError::Damaged { what: "attachment" })?;
        let envelope = ByteBuf::from(message.envelope);
        self.send_numbered(to, message.number, Message { envelope, attachments });
        Ok(())
    }

    /// Lets a numbered message leave when the transaction is over.
    fn send_numbered(&mut self, to: NodeId, number: u64, message: Message) {
        self.note_sent(to, number);
        self.outgoing.messages.entry(to).or_default().insert(number, message);
    }

    /// Makes frames of everything that leaves.
    pub(crate) fn flush(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let Outgoing { messages, acks } = std::mem::take(&mut self.outgoing);
        for to in acks {
            self.send_ack(step, to)?;
        }
        for (to, messages) in messages {
            let Some(first) = step.view().outbox_first(to)? else { continue };
            // What was acknowledged in this very transaction need not leave once more.
            let mut rest = messages.into_iter().filter(|(number, _)| *number >= first).peekable();
            while let Some((number, message)) = rest.next() {
                let mut size = message.size();
                let mut batch = vec![message];
                while let Some((_, more)) = rest.next_if(|(next, more)| {
                    let follows = *next == number + batch.len() as u64;
                    follows && batch.len() < MESSAGES_MAX && size + more.size() <= MESSAGES_BYTES_MAX
                }) {
                    size += more.size();
                    batch.push(more);
                }
                let frame = Frame::Data { incarnation: step.txn.incarnation(), number, first, messages: batch };
                self.outputs.push(Output::Send { to, frame: frame.encode() });
            }
        }
        Ok(())
    }

    pub(crate) fn on_connected(
        &mut self,
        step: &mut Step<'_>,
        node: NodeId,
        name: String,
        addresses: Vec<String>,
    ) -> Result<(), StoreError> {
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&node) {
            self.count("refused_too_many_peers");
            return Ok(());
        }
        step.txn.put_peer(&PeerRow { node, name: name.clone(), addresses: addresses.clone(), seen_at: step.wall() })?;
        let peer = self.peers.entry(node).or_default();
        peer.is_connected = true;
        peer.is_met = false;
        peer.is_member = true;
        peer.name = name;
        peer.addresses = addresses;
        peer.resend_wait = RESEND_WAIT;
        self.forget_patience();
        // Numbered messages wait for the peer's word of what it has received.
        self.resend(step, node)?;
        self.refresh(step, node)?;
        self.reconcile(step, node)?;
        self.heartbeat(step, node);
        Ok(())
    }

    pub(crate) fn on_disconnected(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_connected = false;
            peer.is_met = false;
        }
        self.timers.clear(Timer::Resend(node));
        self.timers.clear(Timer::Refresh(node));
    }

    /// Tells a peer what it should know of this node.
    pub(crate) fn refresh(&mut self, step: &Step<'_>, node: NodeId) -> Result<(), StoreError> {
        if self.is_connected(node) {
            self.send_note(node, self.record_envelope.clone());
            self.tell_heads(step, node)?;
            let rounds = (self.connected().count() as u64).div_ceil(REFRESHED).max(1);
            self.timers.set(Timer::Refresh(node), step.now.mono.plus(REFRESH_EVERY.scale(rounds, 1)));
        }
        Ok(())
    }

    pub(crate) fn on_frame(&mut self, step: &mut Step<'_>, from: NodeId, bytes: &[u8]) -> Result<(), StoreError> {
        if !self.may_speak(step, from) {
            return Ok(());
        }
        match Frame::decode(bytes) {
            Err(_) => {
                self.count("refused_malformed_frame");
                Ok(())
            }
            Ok(Frame::Ack { incarnation, number }) => self.on_ack(step, from, incarnation, number),
            Ok(Frame::Meet { received, former, wants_answer }) => {
                if wants_answer {
                    self.meet_peer(step, from, false)?;
                }
                self.on_meet(step, from, received, former)
            }
            Ok(Frame::Note { envelope }) => self.on_envelope(step, from, &envelope, &[]),
            Ok(Frame::Data { incarnation, number, first, messages }) => {
                self.charge(from, messages.len() - 1);
                for (number, message) in (number..).zip(&messages) {
                    let Some(listened) = self.inbound_of(step, from, incarnation)? else {
                        return self.meet_peer(step, from, false);
                    };
                    self.on_numbered(step, (from, incarnation), listened, (first, number, message))?;
                }
                self.outgoing.acks.insert(from);
                Ok(())
            }
        }
    }

    /// Judges a numbered message, if it is the one that comes next.
    fn on_numbered(
        &mut self,
        step: &mut Step<'_>,
        (from, incarnation): (NodeId, Incarnation),
        listened: Listened,
        (first, number, message): (u64, u64, &Message),
    ) -> Result<(), StoreError> {
        if !self.is_next(listened, (first, number)) {
            return Ok(());
        }
        step.txn.set_inbound(from, Inbound { incarnation, number, former: listened.former })?;
        // The peer keeps all that was not acknowledged: it has dropped what this node does not know of.
        if listened.known.is_some_and(|known| first > known.number.saturating_add(1)) {
            self.on_older(step, from)?;
        }
        self.on_envelope(step, from, &message.envelope, &message.attachments)
    }

    fn on_envelope(
        &mut self,
        step: &mut Step<'_>,
        via: NodeId,
        bytes: &[u8],
        attachments: &[ByteBuf],
    ) -> Result<(), StoreError> {
        match self.open(bytes) {
            Some(envelope) => self.on_message(step, &Incoming { via, envelope, bytes, attachments }),
            None => Ok(()),
        }
    }

    /// Whether a numbered message is the one that comes next from that peer.
    fn is_next(&mut self, listened: Listened, (first, number): (u64, u64)) -> bool {
        if first == 0 || first > number {
            self.count("refused_bad_number");
            return false;
        }
        let last = listened.known.map_or(first - 1, |inbound| inbound.number.max(first - 1));
        if number <= last {
            self.count("duplicate_frame");
        } else if number > last + 1 {
            self.count("early_frame");
        }
        number == last + 1
    }

    fn send_ack(&mut self, step: &Step<'_>, to: NodeId) -> Result<(), StoreError> {
        if let Some(inbound) = step.view().inbound(to)? {
            let frame = Frame::Ack { incarnation: inbound.incarnation, number: inbound.number };
            self.outputs.push(Output::Send { to, frame: frame.encode() });
        }
        Ok(())
    }

    fn on_ack(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        incarnation: Incarnation,
        number: u64,
    ) -> Result<(), StoreError> {
        if incarnation != step.txn.incarnation() {
            self.count("refused_foreign_ack");
            return Ok(());
        }
        self.on_received(step, from, number)
    }

    /// Drops what a peer has received, and sends what waited for that.
    pub(crate) fn acknowledged(&mut self, step: &Step<'_>, from: NodeId, number: u64) -> Result<(), StoreError> {
        let before = step.view().outbox_first(from)?;
        if !step.txn.acknowledge(from, number)? {
            return Ok(());
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.resend_wait = RESEND_WAIT;
        }
        let first = step.view().outbox_first(from)?;
        match first {
            None => self.timers.clear(Timer::Resend(from)),
            Some(_) if !self.is_met(from) => {}
            Some(first) => self.fill_window(step, from, before.unwrap_or(first))?,
        }
        Ok(())
    }

    /// Sends what the window held back, now that it has moved on from `before`.
    fn fill_window(&mut self, step: &Step<'_>, to: NodeId, before: u64) -> Result<(), StoreError> {
        let sent_up_to = before + u64::from(WINDOW) - 1;
        let Some(first) = step.view().outbox_first(to)? else { return Ok(()) };
        for message in step.view().outbox(to, sent_up_to, WINDOW)? {
            if message.number >= first + u64::from(WINDOW) {
                break;
            }
            self.send_queued(to, message)?;
        }
        self.timers.set(Timer::Resend(to), step.now.mono.plus(RESEND_WAIT));
        Ok(())
    }

    /// The peer has said what it has received: numbered messages may follow.
    pub(crate) fn open_session(&mut self, step: &Step<'_>, node: NodeId) -> Result<(), StoreError> {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.is_connected && !peer.is_met) else {
            return Ok(());
        };
        peer.is_met = true;
        self.timers.clear(Timer::Resend(node));
        self.resend(step, node)
    }

    /// Remembers the highest number that left for a peer.
    fn note_sent(&mut self, to: NodeId, number: u64) {
        let sent = self.sent_up_to.entry(to).or_default();
        *sent = number.max(*sent);
    }

    /// Whether numbered messages may be sent to a peer.
    pub(crate) fn is_met(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_connected && peer.is_met)
    }

    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_connected)
    }
}
