//! What an engine is built from, kept so that it can be built again: keys, membership, boot, machine.

use std::collections::BTreeMap;

use jobmesh_engine::{Config as EngineConfig, Declared, Detected, Timing, founding};
use jobmesh_keys::{Identity, Membership, MeshId, MeshRoot, key_file};
use jobmesh_protocol::id::{BootId, Incarnation};
use jobmesh_protocol::{DurationMillis, NodeId, UnixMillis};
use jobmesh_store::{OpenError, Store, StoreError};

use super::{StartError, clock};
use crate::config::Config;
use crate::home::{Home, NODE_KEY};

/// The name of the key file of the mesh that the node founded.
const MESH_KEY: &str = "mesh.key";
/// Under which name the bound addresses are kept, so that peers find the node where it was.
pub(super) const LISTEN: &str = "listen";
/// The founder renews its own membership this long before it ends.
const RENEW_BEFORE: DurationMillis = DurationMillis::from_secs(30 * 86_400);

/// Everything it takes to build an engine beside its database.
pub(super) struct Source {
    /// The node's secret. Not printed, not cloned without need.
    pub(super) seed: Seed,
    root: Option<Seed>,
    pub(super) mesh: MeshId,
    pub(super) membership: Membership,
    boot: BootId,
    pub(super) booted_at: UnixMillis,
    name: String,
    pub(super) detected: Detected,
    timing: Timing,
    /// What the configuration file declares, as it was read last.
    pub(super) declared: Declared,
    has_rebooted: bool,
}

/// The seed of a key.
#[derive(Clone, Copy)]
pub(super) struct Seed([u8; 32]);

impl Seed {
    pub(super) fn identity(self) -> Identity {
        Identity::from_seed(self.0)
    }
}

impl Source {
    /// Reads the keys and the membership, or makes them: every node begins as the admin of a mesh of its own.
    pub(super) fn load(config: &Config, store: &mut Store, detected: Detected) -> Result<Self, StartError> {
        let home = config.home.path();
        let (for_node, for_mesh) = (entropy()?, entropy()?);
        let identity = key_file::load_or_create(home, NODE_KEY, || for_node)?;
        let now = clock::wall();
        let kept = kept_membership(store)?;
        let root = match &kept {
            None => Some(key_file::load_or_create(home, MESH_KEY, || for_mesh)?),
            Some(_) => key_file::load(home, MESH_KEY)?,
        };
        let root_seed = root.as_ref().map(|root| Seed(root.to_seed()));
        let root = root.map(MeshRoot::new);
        let serial = entropy()?;
        let (mesh, membership) = match (kept, &root) {
            (Some((mesh, membership)), Some(root))
                if mesh == root.mesh() && ends_soon(&mesh, &membership, &identity, now) =>
            {
                (mesh, founding(root, &identity, now, serial))
            }
            (Some(kept), _) => kept,
            (None, Some(root)) => (root.mesh(), founding(root, &identity, now, serial)),
            (None, None) => return Err(StartError::Membership),
        };
        Ok(Self {
            seed: Seed(identity.to_seed()),
            root: root_seed,
            mesh,
            membership,
            boot: BootId::from_bytes(entropy()?),
            booted_at: now,
            name: config.name.clone(),
            detected,
            timing: config.timing,
            declared: super::declared(config),
            has_rebooted: has_rebooted(store)?,
        })
    }

    /// Begins another life, before anything was started in this one.
    pub(super) fn renew_boot(&mut self, rng: &mut impl rand_core::Rng) {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        self.boot = BootId::from_bytes(bytes);
    }

    /// What the next engine is told.
    pub(super) fn engine_config(&self) -> EngineConfig {
        EngineConfig {
            identity: self.seed.identity(),
            mesh: self.mesh,
            membership: self.membership.clone(),
            root: self.root.map(|seed| MeshRoot::new(seed.identity())).filter(|root| root.mesh() == self.mesh),
            boot: self.boot,
            booted_at: self.booted_at,
            name: self.name.clone(),
            detected: self.detected.clone(),
            timing: self.timing,
            declared: self.declared.clone(),
            has_rebooted: self.has_rebooted,
            mutant: None,
        }
    }
}

/// Opens the database of a node; makes one only for a node that is new.
pub(super) fn open_store(home: &Home, fresh: Incarnation) -> Result<Store, OpenError> {
    if home.is_settled() { Store::open_kept(home.path(), fresh) } else { Store::open(home.path(), fresh) }
}

/// Whether a membership of this node has run out or will within [`RENEW_BEFORE`].
fn ends_soon(mesh: &MeshId, membership: &Membership, identity: &Identity, now: UnixMillis) -> bool {
    membership.verify(mesh, &identity.node(), now.plus(RENEW_BEFORE).0).is_err()
}

fn kept_membership(store: &mut Store) -> Result<Option<(MeshId, Membership)>, StartError> {
    let txn = store.begin()?;
    let view = txn.view();
    let (Some(mesh), Some(membership)) = (view.meta("mesh")?, view.meta("membership")?) else { return Ok(None) };
    let mesh: [u8; 32] = mesh.try_into().map_err(|_| StartError::Membership)?;
    let membership = Membership::decode(&membership).map_err(|_| StartError::Membership)?;
    Ok(Some((MeshId::from_bytes(mesh), membership)))
}

/// Where the life of the operating system is kept under which the last daemon ran.
const SYSTEM_BOOT: &str = "system_boot";

/// Whether the machine was restarted since the last daemon ran on it. Writes down the life that it is in now.
///
/// Where the system does not tell, it counts as restarted: a process of an earlier daemon can't be told from another one
/// there.
fn has_rebooted(store: &mut Store) -> Result<bool, StoreError> {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let txn = store.begin()?;
    let known = txn.view().meta(SYSTEM_BOOT)?;
    txn.set_meta(SYSTEM_BOOT, &boot)?;
    let _proof = txn.commit()?;
    Ok(boot.is_empty() || known.is_some_and(|known| known != boot))
}

/// The members met before, and where.
pub(super) fn known_peers(store: &mut Store) -> Result<Vec<(NodeId, Vec<String>)>, StoreError> {
    let rows = store.begin()?.view().peers()?;
    Ok(rows.into_iter().map(|row| (row.node, row.addresses)).collect())
}

/// Where the node listened the last time.
pub(super) fn remembered_listen(store: &mut Store) -> Result<Vec<String>, StoreError> {
    let text = store.begin()?.view().meta(LISTEN)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
}

/// The names of the members met before.
pub(super) fn known_names(store: &mut Store) -> Result<BTreeMap<NodeId, String>, StoreError> {
    let rows = store.begin()?.view().peers()?;
    Ok(rows.into_iter().filter(|row| !row.name.is_empty()).map(|row| (row.node, row.name)).collect())
}

/// Random bytes from the system.
pub(super) fn entropy<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(StartError::Entropy)?;
    Ok(bytes)
}
