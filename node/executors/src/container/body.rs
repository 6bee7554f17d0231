//! What an engine is asked to make: mounts, variables, limits, and what is taken from a container that must be kept
//! apart.
//!
//! A container of the node's own jobs is what a person gets who types the engine's own command. One that must be kept
//! apart (every job of a peer) has no capabilities, can't gain any, sees an image that it can't change, has no network
//! unless it was granted, and writes to its working directory, a small `/tmp` and small volumes only.
//!
//! **The hard case** is an engine that runs as root for a node that doesn't: what the command writes would belong to
//! root and the node could never clear it away. There the command runs as the node's user.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, ResourcesUlimits as Ulimit,
};
use jobmesh_protocol::Isolation;
use jobmesh_protocol::task::ContainerTask;
use rustix::process::{Resource, getgid, getrlimit, getuid};

use super::engine::Engine;
use super::image::Image;
use crate::directory::work_path;
use crate::order::Order;
use crate::variable::{NODE_VARIABLES, OUTCOME_VARIABLE, RESULT_VARIABLE, RUN_VARIABLE};

/// The label with the run's id.
pub(super) const RUN_LABEL: &str = "jobmesh.run";

/// The label with the node.
pub(super) const NODE_LABEL: &str = "jobmesh.node";

/// The label with the level at which it is kept apart.
pub(super) const LEVEL_LABEL: &str = "jobmesh.isolation";

/// Where the working directory is mounted.
const WORK: &str = "/work";

/// Where the command leaves its outcome and its result.
const EXCHANGE: &str = "/jobmesh";

/// Where files are mounted that the run is given beside its working directory.
const GIVEN: &str = "/jobmesh-given";

/// What a container of a job of a peer may write to `/tmp`. It counts as memory.
const TMP: &str = "rw,nosuid,nodev,size=256m,mode=1777";

/// What it may write to each volume of its image. It counts as memory.
const VOLUME: &str = "rw,nosuid,nodev,size=64m,mode=1777";

/// Most open files of a process: what the common programs expect that close them all one by one.
const FILES_MAX: u64 = 65_536;

/// Most processes of the container's user, which are counted on the whole machine; those of the container have a limit of
/// their own. Podman 4.3 holds itself to this number, and can't give a container more.
const PROCESSES_MAX: u64 = 32_768;

/// Everything that a container is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan<'a> {
    pub(super) order: &'a Order,
    pub(super) task: &'a ContainerTask,
    pub(super) image: &'a Image,
    pub(super) level: Isolation,
    pub(super) node: &'a str,
    /// The directory in which it leaves its outcome and its result.
    pub(super) exchange: &'a Path,
}

impl Plan<'_> {
    /// What the engine is asked for.
    pub(super) fn body(&self, engine: &Engine) -> ContainerCreateBody {
        let has_stdin = self.order.stdin.is_some();
        let mut host = self.host(engine);
        let environment = self.environment(&mut host);
        let labels = [
            (RUN_LABEL, self.order.run.to_string()),
            (NODE_LABEL, self.node.to_owned()),
            (LEVEL_LABEL, self.level.word().to_owned()),
        ];
        ContainerCreateBody {
            image: Some(self.image.name.clone()),
            cmd: (!self.task.argv.is_empty()).then(|| self.task.argv.clone()),
            env: Some(environment.into_iter().map(|(key, value)| format!("{key}={value}")).collect()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            working_dir: Some(WORK.to_owned()),
            user: user(engine),
            attach_stdin: Some(has_stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(has_stdin),
            stdin_once: Some(has_stdin),
            tty: Some(false),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        }
    }

    fn host(&self, engine: &Engine) -> HostConfig {
        let limits = &self.order.limits;
        let memory = limits.memory_bytes.map(signed).filter(|_| engine.can.memory);
        let nano = limits.processor_millis.map(|millis| signed(millis.saturating_mul(1_000_000)));
        let mut host = HostConfig {
            memory,
            memory_swap: memory.filter(|_| engine.can.swap),
            nano_cpus: nano.filter(|_| engine.can.processors),
            pids_limit: engine.can.processes.then(|| i64::from(limits.processes_max)),
            ulimits: Some(ulimits()),
            network_mode: (!self.order.network).then(|| "none".to_owned()),
            auto_remove: Some(false),
            // The one that an engine can read back, for when a later life of the daemon reads it from the start.
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: None }),
            ..HostConfig::default()
        };
        if self.level >= Isolation::Sandboxed {
            host.readonly_rootfs = Some(true);
            host.cap_drop = Some(vec!["ALL".to_owned()]);
            host.security_opt = Some(vec!["no-new-privileges".to_owned()]);
            host.tmpfs = Some(self.in_memory());
        }
        attach(&mut host, &work_path(&self.order.directory), WORK, Access::Write);
        attach(&mut host, self.exchange, EXCHANGE, Access::Write);
        host
    }

    /// What is writable and no directory of the run: `/tmp`, and the volumes of the image, for which an engine would take
    /// its own disk.
    fn in_memory(&self) -> HashMap<String, String> {
        let mounted = [WORK, EXCHANGE];
        let volumes = self.image.volumes.iter().filter(|path| !mounted.contains(&path.trim_end_matches('/')));
        let all = volumes.map(|path| (path.clone(), VOLUME.to_owned()));
        all.chain([("/tmp".to_owned(), TMP.to_owned())]).collect()
    }

    /// The variables, and the mounts of the files that they name.
    fn environment(&self, host: &mut HostConfig) -> BTreeMap<String, String> {
        let mut all = self.task.environment.clone();
        for (key, value) in &self.order.environment {
            let path = Path::new(value);
            let name = path.file_name().filter(|_| path.starts_with(&self.order.directory));
            if NODE_VARIABLES.contains(&key.as_str()) {
                continue;
            }
            let value = match name {
                Some(name) => {
                    let inside = format!("{GIVEN}/{}", name.to_string_lossy());
                    attach(host, path, &inside, Access::Read);
                    inside
                }
                None => value.clone(),
            };
            all.insert(key.clone(), value);
        }
        all.insert(RUN_VARIABLE.to_owned(), self.order.run.to_string());
        all.insert(OUTCOME_VARIABLE.to_owned(), format!("{EXCHANGE}/outcome"));
        all.insert(RESULT_VARIABLE.to_owned(), format!("{EXCHANGE}/result"));
        all
    }
}

/// What the command may do with a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Mounts a path of this machine. `Z` has it labelled for this container where the system labels files (SELinux); in a
/// path with a colon there is no place for it.
fn attach(host: &mut HostConfig, source: &Path, target: &str, access: Access) {
    let source = source.to_string_lossy().into_owned();
    if source.contains(':') {
        let mount = Mount {
            typ: Some(MountType::BIND),
            source: Some(source),
            target: Some(target.to_owned()),
            read_only: Some(access == Access::Read),
            ..Mount::default()
        };
        host.mounts.get_or_insert_default().push(mount);
        return;
    }
    let mode = match access {
        Access::Read => "ro",
        Access::Write => "rw",
    };
    host.binds.get_or_insert_default().push(format!("{source}:{target}:{mode},Z"));
}

/// Explicit, since an engine's own may be above what it may set itself, and then nothing starts (seen with Podman 4.3
/// and no right to raise limits).
fn ulimits() -> Vec<Ulimit> {
    let limit = |name: &str, value: u64| {
        let value = Some(signed(value));
        Ulimit { name: Some(name.to_owned()), soft: value, hard: value }
    };
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    let processes = getrlimit(Resource::Nproc).maximum.unwrap_or(PROCESSES_MAX).min(PROCESSES_MAX);
    vec![limit("nofile", files), limit("nproc", processes)]
}

/// As whom the command runs; none is whom the image names.
fn user(engine: &Engine) -> Option<String> {
    let (user, group) = (getuid(), getgid());
    (!engine.is_rootless && !user.is_root()).then(|| format!("{}:{}", user.as_raw(), group.as_raw()))
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
