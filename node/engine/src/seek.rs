//! The last resort of a search: everyone is asked by gossip, and who could run the job comes and connects.
//!
//! Gossip may lose it and must not carry more than a hint, so nothing is promised by it: a node that hears of work that it
//! can do connects to the origin, or sends it its record again, and is then asked like any other. The hard case is a member that gossips without end; so
//! what is heard is bounded, worth something for a minute only, and leads to one dial a second at most.

use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::ticket::{SEEK_ADDRESS_BYTES_MAX, SEEK_ADDRESSES_MAX, Seek};
use jobmesh_store::Job;

use crate::auction::needs;
use crate::engine::Engine;
use crate::output::Output;
use crate::step::Step;

/// How often this node searches by gossip, whatever for: every search reaches every member.
const SEEK_EVERY: DurationMillis = DurationMillis::from_secs(5);
/// How often it does for one job.
const SEEK_JOB_EVERY: DurationMillis = DurationMillis::from_secs(60);
/// How long a search is worth something.
const SEEK_TTL: DurationMillis = DurationMillis::from_secs(60);
/// The longest life that is believed.
const SEEK_TTL_MAX: DurationMillis = DurationMillis::from_secs(600);
/// Clocks of two members may differ by this much.
const SKEW: DurationMillis = DurationMillis::from_secs(600);
/// Searches that are remembered, so that a copy is known as one.
const HEARD_MAX: usize = 1024;

impl Engine {
    /// Asks everyone by gossip for nodes that could run a job.
    pub(crate) fn seek(&mut self, step: &mut Step<'_>, job: &Job) {
        let patience = self.patience.entry(job.id).or_default();
        if self.seek_after > step.now.mono || patience.seek_after > step.now.mono {
            return;
        }
        patience.seek_after = step.now.mono.plus(SEEK_JOB_EVERY);
        self.seek_after = step.now.mono.plus(SEEK_EVERY);
        let addresses = self.addresses.iter().filter(|address| address.len() <= SEEK_ADDRESS_BYTES_MAX);
        let seek = Seek {
            requirements: needs(&job.spec),
            resources: job.spec.resources.clone(),
            addresses: addresses.take(SEEK_ADDRESSES_MAX).cloned().collect(),
            nonce: step.rng.next_u64(),
            at: step.wall(),
            ttl_ms: SEEK_TTL,
        };
        self.count("sought_by_gossip");
        let envelope = self.seal(Kind::Seek, &seek);
        self.outputs.push(Output::Shout(envelope));
    }

    /// Connects to a member that searches for what this node has.
    pub(crate) fn on_seek(&mut self, step: &Step<'_>, envelope: &Envelope) {
        let origin = envelope.signer();
        let Some(seek) = envelope.parse::<Seek>().ok().filter(Seek::is_bounded) else {
            self.count("refused_gossip");
            return;
        };
        let (now, life) = (step.wall(), seek.ttl_ms.min(SEEK_TTL_MAX));
        let is_timely = seek.at <= now.plus(SKEW) && now <= seek.at.plus(life).plus(SKEW);
        if !is_timely || self.heard.contains(&(origin, seek.nonce)) {
            self.count("old_search");
            return;
        }
        if self.heard.len() >= HEARD_MAX {
            self.heard.pop_front();
        }
        self.heard.push_back((origin, seek.nonce));
        let can = !self.is_draining && self.record.meets(&seek.requirements, &seek.resources);
        if can && self.is_connected(origin) {
            // It would have asked this node if it had its record: that was lost on the way.
            self.send_note(origin, self.record_envelope.clone());
        } else if can {
            self.count("answered_search");
            self.meet(step, origin, seek.addresses);
        }
    }
}
