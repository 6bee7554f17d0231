//! What an engine is told once, when it starts.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_keys::{Identity, Membership, MeshId, MeshRoot};
use jobmesh_protocol::id::BootId;
use jobmesh_protocol::requirement::Value;
use jobmesh_protocol::resource::{Name, Offered};
use jobmesh_protocol::{DurationMillis, Tag, UnixMillis};

use crate::command::Declared;
use crate::pool::{PoolKind, Pools};

/// Everything an engine needs to know beside its database.
#[derive(Debug)]
pub struct Config {
    /// Who this node is.
    pub identity: Identity,
    /// Of which mesh it is a member.
    pub mesh: MeshId,
    /// The proof of that.
    pub membership: Membership,
    /// The root key of that mesh, on the node that founded it.
    pub root: Option<MeshRoot>,
    /// This life of the daemon.
    pub boot: BootId,
    /// When it began.
    pub booted_at: UnixMillis,
    /// The node's name for people.
    pub name: String,
    /// What was found on this machine.
    pub detected: Detected,
    /// How long things may take.
    pub timing: Timing,
    /// What the configuration file declares.
    pub declared: Declared,
    /// Whether the machine was restarted since an earlier daemon ran: then none of its processes is left.
    pub has_rebooted: bool,
    /// The seeded bug to run with. Means nothing but in a build with the feature `mutants`, which none that ships has.
    pub mutant: Option<crate::mutant::Mutant>,
}

/// What was found on this machine at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// Tags, such as `executor:process`.
    pub tags: BTreeSet<Tag>,
    /// Attributes, such as `os` and `cpus`.
    pub attributes: BTreeMap<String, Value>,
    /// What it gives to jobs: processors, memory, devices and whatever its owner counts.
    pub pools: BTreeMap<Name, PoolKind>,
    /// How many jobs run at once.
    pub slots: u32,
}

impl Detected {
    /// What it gives to jobs, by sums.
    #[must_use]
    pub fn total(&self) -> Offered {
        Pools::new(self.pools.clone()).map(|pools| pools.total()).unwrap_or_default()
    }
}

/// How long things may take. Leases are lengths of time, never dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a lease lasts from the heartbeat that it was granted for. A heartbeat goes out four times as often.
    pub lease: DurationMillis,
    /// How long after the end of a lease the origin waits before it calls the attempt lost.
    pub lease_grace: DurationMillis,
    /// How long an origin waits for bids.
    pub bid_window: DurationMillis,
    /// How long a bidder holds room.
    pub bid_hold: DurationMillis,
    /// How soon a changed learning summary is published.
    pub summary_delay: DurationMillis,
    /// How long outputs of a peer may take to arrive before the attempt is called lost.
    pub fetch_limit: DurationMillis,
}

impl Default for Timing {
    /// Values for a local network: a machine that is gone costs 40 seconds, and a renewal every 7.5 s costs nothing.
    fn default() -> Self {
        Self {
            lease: DurationMillis::from_secs(30),
            lease_grace: DurationMillis::from_secs(10),
            bid_window: DurationMillis(800),
            bid_hold: DurationMillis::from_secs(2),
            summary_delay: DurationMillis::from_secs(5),
            fetch_limit: DurationMillis::from_secs(600),
        }
    }
}
