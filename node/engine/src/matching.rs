//! Which members could run a job, without looking at every record for every job.
//!
//! A mesh may have thousands of members, and each auction asks the same of them. A job that needs something rare is
//! matched among those that advertise it; jobs that need what many have are much alike, so who can run one kind of them is
//! kept. The hard case is that both must be as true as the records themselves: every new record passes through
//! [`Matches::renew`], which changes what is kept by that one node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jobmesh_protocol::resource::Requests;
use jobmesh_protocol::{CapabilityRecord, JobSpec, NodeId, Requirement, Tag};

use crate::admission::could;
use crate::isolation;
use crate::peers::Peers;

/// Kinds of needs whose matches are kept. A queue of more kinds than these is matched anew each time.
const KINDS_MAX: usize = 64;
/// Fewer members than this are looked at one by one in less time than what is kept takes to find.
const FEW: usize = 16;

/// What a job requires of a peer.
fn requirements(spec: &JobSpec) -> Vec<Requirement> {
    let own = spec.requirements.iter().cloned();
    own.chain(isolation::demand(spec)).chain(isolation::network_demand(spec)).collect()
}

/// All by which records are matched with jobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Needs {
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) resources: Requests,
    pub(crate) executor: &'static str,
}

impl Needs {
    /// What a job needs of a peer.
    pub(crate) fn of(spec: &JobSpec) -> Self {
        Self { requirements: requirements(spec), resources: spec.resources.clone(), executor: spec.task.executor() }
    }
}

/// The index over the records of all peers.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    by_tag: BTreeMap<Tag, BTreeSet<NodeId>>,
    kinds: BTreeMap<Needs, BTreeSet<NodeId>>,
    /// The kinds, the one that has been kept for longest first.
    order: VecDeque<Needs>,
}

impl Matches {
    /// Takes over a node's new record, in place of the one before.
    pub(crate) fn renew(&mut self, node: NodeId, before: Option<&CapabilityRecord>, now: &CapabilityRecord) {
        for tag in before.iter().flat_map(|record| &record.tags).filter(|tag| !now.tags.contains(*tag)) {
            if let Some(nodes) = self.by_tag.get_mut(tag) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.by_tag.remove(tag);
                }
            }
        }
        for tag in &now.tags {
            match self.by_tag.get_mut(tag) {
                Some(nodes) => nodes.insert(node),
                None => self.by_tag.insert(tag.clone(), BTreeSet::from([node])).is_none(),
            };
        }
        for (needs, nodes) in &mut self.kinds {
            if could(now, needs) {
                nodes.insert(node);
            } else {
                nodes.remove(&node);
            }
        }
    }

    /// The members whose records meet these needs, in the order of their ids.
    pub(crate) fn capable(&mut self, peers: &Peers, needs: &Needs) -> Vec<NodeId> {
        if let Some(found) = self.kinds.get(needs) {
            return found.iter().copied().collect();
        }
        let is_capable = |node: &NodeId| {
            let record = peers.get(node).and_then(|peer| peer.record.as_ref());
            record.is_some_and(|record| could(record, needs))
        };
        let rarest = self.rarest(needs);
        if rarest.len() <= FEW {
            return rarest.into_iter().filter(is_capable).collect();
        }
        let found: BTreeSet<NodeId> = rarest.into_iter().filter(is_capable).collect();
        if self.order.len() >= KINDS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.kinds.remove(&oldest);
        }
        self.order.push_back(needs.clone());
        self.kinds.insert(needs.clone(), found.clone());
        found.into_iter().collect()
    }

    /// The nodes that have the rarest of the tags that are needed; nobody can do without any of them.
    fn rarest(&self, needs: &Needs) -> Vec<NodeId> {
        let executor = format!("executor:{}", needs.executor).parse().ok();
        let tags = needs.requirements.iter().filter_map(|requirement| match requirement {
            Requirement::Has(tag) => Some(tag),
            Requirement::Attribute { .. } => None,
        });
        let having = tags.chain(&executor).map(|tag| self.by_tag.get(tag));
        let rarest = having.min_by_key(|nodes| nodes.map_or(0, BTreeSet::len)).flatten();
        rarest.into_iter().flatten().copied().collect()
    }

    /// Forgets everything: no record counts any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::UnixMillis;
    use jobmesh_protocol::capability::Version;
    use jobmesh_protocol::requirement::Value;
    use jobmesh_protocol::resource::{Amount, Name, Offered};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    fn record(rng: &mut ChaCha8Rng) -> CapabilityRecord {
        let mut below = |end: u64| rng.next_u64() % end;
        let mut tags = BTreeSet::new();
        if below(10) > 0 {
            tags.insert("executor:process".parse().unwrap());
        }
        for number in [2, 5, 40] {
            tags.insert(format!("tool:t{}", below(number)).parse().unwrap());
        }
        CapabilityRecord {
            version: Version { booted_at: UnixMillis(1), change: 1 },
            name: String::new(),
            tags,
            attributes: BTreeMap::from([("cpus".to_owned(), Value::Number(below(100)))]),
            resources: Offered::new(BTreeMap::from([(Name::CPUS, Amount::whole(below(3)))])).unwrap(),
            slots: u32::from(below(10) > 0),
        }
    }

    fn needs(rng: &mut ChaCha8Rng) -> Needs {
        let mut below = |end: u64| rng.next_u64() % end;
        let mut requirements: Vec<Requirement> = Vec::new();
        for number in [2, 5, 40] {
            if below(2) == 0 {
                requirements.push(format!("tool:t{}", below(number)).parse().unwrap());
            }
        }
        if below(2) == 0 {
            requirements.push(format!("cpus>={}", below(100)).parse().unwrap());
        }
        Needs { requirements, resources: Requests::default(), executor: "process" }
    }

    /// More kinds than are kept, and records that change between any two questions.
    #[test]
    fn the_index_says_what_a_look_at_every_record_says() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (mut peers, mut matches) = (Peers::default(), Matches::default());
        let kinds: Vec<Needs> = (0..KINDS_MAX * 4).map(|_| needs(&mut rng)).collect();
        let mut found = 0;
        for round in 0..4_000 {
            let node = NodeId::from_bytes([u8::try_from(rng.next_u64() % 200).unwrap(); 32]);
            let record = record(&mut rng);
            let peer = peers.entry(node).or_default();
            matches.renew(node, peer.record.as_ref(), &record);
            peer.record = Some(record);
            let needs = &kinds[round * 31 % kinds.len()];
            let all = peers.iter().filter(|(_, peer)| could(peer.record.as_ref().unwrap(), needs));
            let all: Vec<NodeId> = all.map(|(node, _)| *node).collect();
            assert_eq!(matches.capable(&peers, needs), all, "{needs:?}");
            assert_eq!(matches.capable(&peers, needs), all, "kept: {needs:?}");
            found += all.len();
        }
        assert!(found > 1_000, "{found}");
        assert_eq!((matches.kinds.len(), matches.order.len()), (KINDS_MAX, KINDS_MAX));
        matches.clear();
        assert_eq!(matches.capable(&peers, &kinds[0]), Vec::new(), "no record counts any more");
    }
}
