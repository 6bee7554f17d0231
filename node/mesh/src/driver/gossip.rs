//! Gossip: one digest of our own, and the others'.
//!
//! Publishing may say Ok and lose the message, and it can't reach who is not there yet. So the latest digest is kept
//! and published again when a peer appears, each time under a new number: gossip takes an equal message for the old
//! one and would not pass it on.

use std::time::Duration;

use jobmesh_keys::MeshId;
use libp2p::PeerId;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId, PublishError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::Driver;
use crate::behaviour::digest_topic;
use crate::event::Event;
use crate::peer_id::node_of;

/// Largest digest; the frame round it may have 16 KiB.
pub(crate) const DIGEST_BYTES_MAX: usize = 8 * 1024;

/// Bytes of the number in front of a digest.
const NUMBER_BYTES: usize = 8;

/// Pause after a peer appears, for others that appear with it.
const GATHER_PAUSE: Duration = Duration::from_millis(250);

/// Pause after all send queues were full.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// Our own digest and when it is to be published.
pub(super) struct Digest {
    topic: IdentTopic,
    latest: Option<Vec<u8>>,
    due: Option<Instant>,
    number: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is on its way, as far as there is one.
    Now,
    /// All queues are full; worth another try.
    Later,
}

impl Digest {
    pub(super) fn new(mesh: MeshId) -> Self {
        Self { topic: digest_topic(&mesh), latest: None, due: None, number: 0 }
    }
}

impl Driver<'_> {
    /// The owner has something new to say.
    pub(super) fn on_digest(&mut self, digest: Option<Vec<u8>>) {
        self.digest.latest = digest;
        let now = Instant::now();
        self.digest.due = Some(now);
        self.publish_if_due(now);
    }

    pub(super) fn publish_if_due(&mut self, now: Instant) {
        if self.digest.due.is_none_or(|due| due > now) {
            return;
        }
        self.digest.due = None;
        let Some(latest) = self.digest.latest.clone() else { return };
        if self.gossip(&latest) == Sent::Later {
            self.digest.due = Some(now + FULL_PAUSE);
        }
    }

    /// Publishes `bytes` under a new number.
    pub(super) fn gossip(&mut self, bytes: &[u8]) -> Sent {
        // The clock keeps numbers from coming again after a restart.
        self.digest.number = self.digest.number.saturating_add(1).max((self.context.now)().0);
        let mut message = self.digest.number.to_be_bytes().to_vec();
        message.extend_from_slice(bytes);
        let topic = self.digest.topic.clone();
        match self.swarm.behaviour_mut().gossip.inner.publish(topic, message) {
            // With nobody there, whoever subscribes makes the digest due again.
            Ok(_) | Err(PublishError::NoPeersSubscribedToTopic | PublishError::Duplicate) => Sent::Now,
            Err(PublishError::AllQueuesFull(_)) => {
                self.context.counters.add("gossip_queues_full");
                Sent::Later
            }
            Err(
                error @ (PublishError::SigningError(_)
                | PublishError::MessageTooLarge
                | PublishError::TransformFailed(_)),
            ) => {
                self.context.counters.add("gossip_not_published");
                tracing::warn!(%error, "gossip can't be published");
                Sent::Now
            }
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                let verdict = self.judge(propagation_source, message);
                self.pass_verdict(&message_id, &propagation_source, verdict);
            }
            gossipsub::Event::Subscribed { .. } => {
                let due = Instant::now() + GATHER_PAUSE;
                self.digest.due = Some(self.digest.due.map_or(due, |earlier| earlier.min(due)));
            }
            gossipsub::Event::SlowPeer { .. } => self.context.counters.add("gossip_slow_peer"),
            gossipsub::Event::GossipsubNotSupported { .. } => self.context.counters.add("gossip_not_supported"),
            gossipsub::Event::Unsubscribed { .. } => {}
        }
    }

    /// Passes a digest on to the owner and says whether it may travel further.
    fn judge(&mut self, via: PeerId, message: gossipsub::Message) -> MessageAcceptance {
        let Some(via) = self.peers.get(&via).filter(|known| known.is_admitted).map(|known| known.node) else {
            self.context.counters.add("gossip_from_stranger");
            return MessageAcceptance::Ignore;
        };
        let author = message.source.as_ref().and_then(node_of);
        let digest = message.data.get(NUMBER_BYTES..).filter(|digest| digest.len() <= DIGEST_BYTES_MAX);
        let (Some(author), Some(digest)) = (author, digest) else {
            self.context.counters.add("gossip_malformed");
            return MessageAcceptance::Reject;
        };
        match self.context.events.try_send(Event::Gossip { via, author, bytes: digest.to_vec() }) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            // Ours is not the only way to the others, and a hint that is late is worth nothing.
            Err(TrySendError::Full(_)) => self.context.counters.add("gossip_dropped"),
        }
        MessageAcceptance::Accept
    }

    fn pass_verdict(&mut self, id: &MessageId, via: &PeerId, verdict: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gossip.inner;
        if !gossip.report_message_validation_result(id, via, verdict) {
            self.context.counters.add("gossip_judged_late");
        }
    }
}
