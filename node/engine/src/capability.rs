//! What this node advertises and what it hears of others: a digest by gossip, the record by session, provider keys in
//! Kademlia.

use std::collections::BTreeSet;

use jobmesh_protocol::capability::{
    CapabilityRecord, Digest, RECORD_BYTES_MAX, RecordRequest, Relayed, TAGS_MAX, Version, provider_key,
};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::{DurationMillis, NodeId, Tag, UnixMillis, cbor};
use jobmesh_store::{Choice, StoreError, Txn, View};

use crate::config::Config;
use crate::engine::Engine;
use crate::isolation;
use crate::message::Incoming;
use crate::output::{Output, Refusal, Response};
use crate::pool::Pools;
use crate::step::Step;
use crate::submit::Answer;

/// How often a node that is only known from gossip is dialled: a member can gossip any number of made-up ones.
const MEET_EVERY: DurationMillis = DurationMillis::from_secs(1);
/// Two databases of one key don't outdo each other sooner than this.
const OUTGROW_EVERY: DurationMillis = DurationMillis::from_secs(60);
/// Names the newest version of the own record that was ever made.
const SAID: &str = "record_version";
/// Largest encoding of a version.
const SAID_BYTES_MAX: usize = 64;
/// A node that is connected to so many dials nobody else for being heard of alone: with every member of a large mesh
/// connected to every other one, their talk would grow with the square of its size.
const CONNECTED_ENOUGH: usize = 32;
/// Authors of digests that are counted.
const CROWD_MAX: usize = 4096;
/// What nobody waits for is announced at most once in as many times this as there are members, so that each has at most
/// 2 KiB/s to hear, whatever their number. Source: a digest is 325 bytes on the wire of gossip and comes four times.
const ANNOUNCE_PER_MEMBER: DurationMillis = DurationMillis(630);
/// Largest envelope of a record.
const RECORD_ENVELOPE_MAX: usize = RECORD_BYTES_MAX + 256;

/// What a node advertises: what was detected, what its configuration grants, and what a person chose beside it.
///
/// Its version counts the seconds of this boot, so that an engine that is built anew goes on where the last one was.
pub(crate) fn own_record(
    config: &Config,
    pools: &Pools,
    view: View<'_>,
    now: UnixMillis,
) -> Result<CapabilityRecord, StoreError> {
    let change = u32::try_from(now.since(config.booted_at).0 / 1000).unwrap_or(u32::MAX);
    let mut tags: BTreeSet<Tag> = config.detected.tags.clone();
    tags.extend(isolation::network_tag(&config.declared.isolation));
    for (tag, choice) in view.choices()? {
        match choice {
            Choice::Add => tags.insert(tag),
            Choice::Remove => tags.remove(&tag),
        };
    }
    Ok(CapabilityRecord {
        version: Version { booted_at: config.booted_at, change },
        name: config.name.clone(),
        tags,
        attributes: config.detected.attributes.clone(),
        resources: pools.total(),
        slots: config.detected.slots,
    })
}

/// Gives the own record a version that is newer than every one this database has had, whatever its clock says, and
/// keeps it.
pub(crate) fn renew_version(record: &mut CapabilityRecord, txn: &Txn<'_>) -> Result<(), StoreError> {
    let said = txn
        .view()
        .meta(SAID)?
        .and_then(|bytes| cbor::decode::<Version>(&bytes, SAID_BYTES_MAX).ok())
        .unwrap_or_default();
    record.version = record.version.max(said.next());
    txn.set_meta(SAID, &cbor::encode(&record.version))
}

impl Engine {
    pub(crate) fn add_capability(&mut self, step: &mut Step<'_>, tag: &Tag) -> Answer {
        if self.record.tags.contains(tag) {
            return Ok(Ok(Response::Unchanged));
        }
        if self.record.tags.len() >= TAGS_MAX {
            return Ok(Err(Refusal::TooManyTags(TAGS_MAX)));
        }
        step.txn.set_choice(tag, Choice::Add)?;
        self.advertise(step)?;
        Ok(Ok(Response::Done))
    }

    pub(crate) fn remove_capability(&mut self, step: &mut Step<'_>, tag: &Tag) -> Answer {
        step.txn.set_choice(tag, Choice::Remove)?;
        if !self.record.tags.contains(tag) {
            return Ok(Ok(Response::Unchanged));
        }
        self.advertise(step)?;
        Ok(Ok(Response::Done))
    }

    /// Makes a new version of the own record and tells everyone.
    pub(crate) fn advertise(&mut self, step: &mut Step<'_>) -> Result<(), StoreError> {
        let next = self.record.version.next();
        self.record = own_record(&self.config, &self.pools, step.view(), step.wall())?;
        self.record.version = self.record.version.max(next);
        renew_version(&mut self.record, step.txn)?;
        self.record_envelope = self.seal(Kind::Capability, &self.record);
        for node in self.connected().collect::<Vec<_>>() {
            self.send_note(node, self.record_envelope.clone());
        }
        self.publish_digest(step)?;
        self.ask_lots_anew();
        Ok(())
    }

    /// What this node can run has changed: asks so of all that waits, and of others once more.
    pub(crate) fn ask_lots_anew(&mut self) {
        let (mut ready, engine) = (std::mem::take(&mut self.ready), &*self);
        ready.ask_anew(|profile| engine.is_capable(profile));
        self.ready = ready;
        self.forget_patience();
    }

    /// Gossips what is newest of this node, and is found under its tags.
    pub(crate) fn publish_digest(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let day = step.wall().day();
        let digest = Digest {
            capability: self.record.version,
            summary_day: day,
            summary_version: step.view().summary_version(self.me, day)?,
        };
        let envelope = self.seal(Kind::Digest, &digest);
        self.outputs.push(Output::Publish(envelope));
        let keys = self.record.tags.iter().map(|tag| provider_key(&self.mesh, tag)).collect();
        self.outputs.push(Output::Provide(keys));
        Ok(())
    }

    pub(crate) fn on_gossip(&mut self, step: &mut Step<'_>, via: NodeId, bytes: &[u8]) -> Result<(), StoreError> {
        let Some(envelope) = self.open(bytes) else { return Ok(()) };
        let author = envelope.signer();
        if envelope.kind() == Kind::Seek && author != self.me {
            self.on_seek(step, &envelope);
            return Ok(());
        }
        let is_digest = envelope.kind() == Kind::Digest;
        let Some(digest) = is_digest.then(|| envelope.parse::<Digest>().ok()).flatten() else {
            self.count("refused_gossip");
            return Ok(());
        };
        if author == self.me {
            return self.on_own_version(step, digest.capability);
        }
        if self.crowd.len() < CROWD_MAX {
            self.crowd.insert(author);
        }
        if !self.is_member(author) {
            if self.connected().count() < CONNECTED_ENOUGH {
                self.meet(step, author, Vec::new());
            }
            return Ok(());
        }
        let known = self.known_version(author);
        if digest.capability > known {
            self.note(via, Kind::RecordRequest, &RecordRequest { node: author, known });
        }
        self.ask_for_summary(step, via, author, &digest);
        Ok(())
    }

    /// How long what nobody waits for has to wait before it is announced: longer in a mesh of many members.
    pub(crate) fn announcement_delay(&self) -> DurationMillis {
        let members = self.crowd.len().max(self.peers.len()) as u64;
        self.config.timing.summary_delay.max(ANNOUNCE_PER_MEMBER.scale(members, 1))
    }

    /// How many members' records this node has to choose from.
    #[must_use]
    pub fn known_records(&self) -> usize {
        self.peers.values().filter(|peer| peer.record.is_some()).count()
    }

    /// The members with whom there is a session.
    pub(crate) fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.is_connected).map(|(node, _)| *node)
    }

    fn known_version(&self, node: NodeId) -> Version {
        let record = self.peers.get(&node).and_then(|peer| peer.record.as_ref());
        record.map(|record| record.version).unwrap_or_default()
    }

    pub(crate) fn on_record_request(
        &mut self,
        step: &Step<'_>,
        from: NodeId,
        request: RecordRequest,
    ) -> Result<(), StoreError> {
        if request.node == self.me {
            self.send_note(from, self.record_envelope.clone());
            return Ok(());
        }
        if self.known_version(request.node) > request.known {
            return self.relay_record(step, from, request.node);
        }
        Ok(())
    }

    /// Unwraps a third node's record or summary and judges it by its author.
    pub(crate) fn on_relayed(&mut self, step: &mut Step<'_>, via: NodeId, relayed: &Relayed) -> Result<(), StoreError> {
        let Some(envelope) = self.open(&relayed.0) else { return Ok(()) };
        if matches!(envelope.kind(), Kind::Capability | Kind::Summary) {
            return self.on_message(step, &Incoming { via, envelope, bytes: &relayed.0, attachments: &[] });
        }
        self.count("refused_relayed");
        Ok(())
    }

    pub(crate) fn on_record(
        &mut self,
        step: &mut Step<'_>,
        (via, author): (NodeId, NodeId),
        record: CapabilityRecord,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        if author == self.me {
            return self.on_own_version(step, record.version);
        }
        if !record.is_bounded() || bytes.len() > RECORD_ENVELOPE_MAX {
            self.count("refused_record");
            return Ok(());
        }
        if !self.is_member(author) {
            // Anyone can sign under a key of their own making; only a handshake shows a certificate.
            self.count("refused_record_of_stranger");
            return Ok(());
        }
        let known = self.known_version(author);
        if record.version > known {
            self.remember_record(author, record);
            step.txn.put_capability(author, bytes, step.wall())?;
            self.forget_patience();
        } else if record.version < known && via == author {
            self.relay_record(step, via, author)?;
        }
        Ok(())
    }

    /// Passes on what is known of a node, in its own words.
    fn relay_record(&mut self, step: &Step<'_>, to: NodeId, author: NodeId) -> Result<(), StoreError> {
        if let Some(envelope) = step.view().capability(author)? {
            self.note(to, Kind::Relayed, &Relayed(envelope));
        }
        Ok(())
    }

    /// Others know a record of this key. What this database ever said is older than what it says now, so a newer one
    /// was made from another database. What it says from now on is newer still, or nobody would listen to it.
    fn on_own_version(&mut self, step: &mut Step<'_>, version: Version) -> Result<(), StoreError> {
        if version <= self.record.version {
            return Ok(());
        }
        self.on_own_key_elsewhere(step)?;
        if step.now.mono < self.outgrow_after {
            return Ok(());
        }
        self.outgrow_after = step.now.mono.plus(OUTGROW_EVERY);
        self.count("outgrew_record");
        self.record.version = version;
        self.advertise(step)
    }

    /// Whether a node has once shown its certificate to this one.
    pub(crate) fn is_member(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.is_member)
    }

    /// Tries to connect to a node that is only known from gossip, if that was not just tried with another.
    pub(crate) fn meet(&mut self, step: &Step<'_>, node: NodeId, addresses: Vec<String>) {
        if self.meet_after <= step.now.mono {
            self.meet_after = step.now.mono.plus(MEET_EVERY);
            self.outputs.push(Output::Dial { node, addresses });
        }
    }

    /// Keeps a member's record in memory.
    fn remember_record(&mut self, author: NodeId, record: CapabilityRecord) {
        let Some(peer) = self.peers.get_mut(&author) else { return };
        if !record.name.is_empty() {
            peer.name.clone_from(&record.name);
        }
        self.matches.renew(author, peer.record.as_ref(), &record);
        peer.record = Some(record);
    }

    /// Reads back the records that were kept.
    pub(crate) fn recover_records(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for (node, bytes) in step.view().capabilities()? {
            let opened = Envelope::open(&bytes, &self.mesh).ok().filter(|envelope| envelope.signer() == node);
            let record = opened.and_then(|envelope| envelope.parse::<CapabilityRecord>().ok());
            if let Some(record) = record {
                self.remember_record(node, record);
            }
        }
        Ok(())
    }
}
