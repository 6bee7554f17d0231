//! The container engine of the machine: where it listens, what it is, and what its words mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error as ApiError;
use bollard::{API_DEFAULT_VERSION, Docker};
use jobmesh_protocol::Outcome;

use super::policy::PolicyError;
use super::settings::Containers;
use crate::event::{chain, clip};

/// How long an engine may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);

/// How long it may take to begin an answer, in seconds. Making a container copies the image on some file systems.
const ANSWER_SECONDS: u64 = 120;

/// An engine that answered.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    pub(super) socket: PathBuf,
    /// `docker` or `podman`.
    pub(super) kind: &'static str,
    pub(super) version: String,
    /// Whether it runs without the rights of root.
    pub(super) is_rootless: bool,
    /// The version of control groups, `1` or `2`.
    pub(super) cgroup: String,
    /// Whether it can limit memory, swap, processors and processes.
    pub(super) can: Can,
}

/// What an engine can limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Can {
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) processors: bool,
    pub(super) processes: bool,
}

/// What went wrong with a container before its command ran, or about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContainerError {
    #[error(
        "no container engine answers ({tried}); start Docker or Podman (`systemctl start podman.socket`), or name its \
         socket in container.socket"
    )]
    NoEngine { tried: String },
    #[error("the container engine failed to {what}")]
    Engine { what: &'static str, source: ApiError },
    #[error("the container engine stopped answering while the run went on")]
    Gone { source: ApiError },
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error("image {image} is not on this node, and it may not be fetched; run `{engine} pull {image}` there")]
    NoImage { image: String, engine: &'static str },
    #[error("failed to fetch image {image}: {problem}")]
    Pull { image: String, problem: String, is_final: bool },
    #[error("image {image} has more than {max} volumes, the most that a container which is kept apart may have")]
    Volumes { image: String, max: usize },
    #[error("a container does not keep a job apart as well as level `untrusted` asks; send it as a module (wasm)")]
    Level,
    #[error("the job has an input, but it was not fetched to this node")]
    NoInput,
    #[error("failed to prepare {}; check the disk's space and permissions", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
    #[error("the command could not be started in the container: {problem}")]
    Command { problem: String },
}

impl ContainerError {
    /// Why a container did not start: the engine's trouble, or the command's.
    pub(super) fn unstarted(what: &'static str, source: ApiError) -> Self {
        match command_problem(&source) {
            Some(problem) => Self::Command { problem },
            None => Self::Engine { what, source },
        }
    }

    /// What it means for the job: would it fail again?
    pub(super) fn outcome(&self) -> Outcome {
        let message = clip(chain(self));
        match self {
            Self::NoEngine { .. } | Self::NoInput | Self::Directory { .. } => Outcome::error(message),
            Self::Engine { source, .. } if status(source) == Some(400) => Outcome::Permanent { message },
            Self::Engine { .. } => Outcome::error(message),
            Self::Gone { .. } => Outcome::Lost { reason: message },
            Self::Pull { is_final: false, .. } => Outcome::error(message),
            // It is this node that wants none of it; another may.
            Self::Policy(PolicyError::Foreign { .. }) => Outcome::Released { reason: message },
            Self::Policy(_)
            | Self::NoImage { .. }
            | Self::Pull { .. }
            | Self::Volumes { .. }
            | Self::Level
            | Self::Command { .. } => Outcome::Permanent { message },
        }
    }
}

/// The HTTP status of an engine's refusal.
pub(super) fn status(error: &ApiError) -> Option<u16> {
    if let ApiError::DockerResponseServerError { status_code, .. } = error { Some(*status_code) } else { None }
}

/// Whether an engine says that there is no such thing.
pub(super) fn is_missing(error: &ApiError) -> bool {
    status(error) == Some(404)
}

/// An engine's refusal to start a command, if it is the command's fault: no such program, or none that can run.
fn command_problem(error: &ApiError) -> Option<String> {
    let ApiError::DockerResponseServerError { message, .. } = error else { return None };
    let lower = message.to_lowercase();
    let phrases = ["executable file", "no such file or directory", "permission denied", "exec format error"];
    let is_commands = lower.contains("exec") && phrases.iter().any(|phrase| lower.contains(phrase));
    is_commands.then(|| clip(message.clone()))
}

/// Whether a registry's or engine's refusal of an image would be the same next time.
pub(super) fn is_final_refusal(problem: &str) -> bool {
    let lower = problem.to_lowercase();
    let phrases = ["manifest unknown", "not found", "denied", "unauthorized", "invalid reference", "does not exist"];
    phrases.iter().any(|phrase| lower.contains(phrase))
}

impl Engine {
    /// Finds the first engine that answers.
    pub(super) async fn find(settings: &Containers) -> Result<Self, ContainerError> {
        let mut tried = Vec::new();
        for socket in sockets(settings) {
            match tokio::time::timeout(HELLO, Self::greet(&socket)).await {
                Ok(Ok(engine)) => return Ok(engine),
                Ok(Err(error)) => tried.push(format!("{}: {}", socket.display(), said(&error))),
                Err(_) => tried.push(format!("{}: no answer", socket.display())),
            }
        }
        Err(ContainerError::NoEngine { tried: clip(tried.join(", ")) })
    }

    /// Whether it is there.
    pub(super) async fn answers(&self) -> bool {
        matches!(tokio::time::timeout(HELLO, self.docker.ping()).await, Ok(Ok(_)))
    }

    async fn greet(socket: &Path) -> Result<Self, ApiError> {
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, ANSWER_SECONDS, API_DEFAULT_VERSION)?.negotiate_version().await?;
        let (version, info) = (docker.version().await?, docker.info().await?);
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.contains("Podman"));
        let options = info.security_options.unwrap_or_default();
        let yes = |answer: Option<bool>| answer.unwrap_or_default();
        Ok(Self {
            docker,
            socket: socket.to_owned(),
            kind: if is_podman { "podman" } else { "docker" },
            version: version.version.unwrap_or_default(),
            is_rootless: options.iter().any(|option| option.contains("rootless")),
            cgroup: info.cgroup_version.map_or_else(|| "1".to_owned(), |version| version.to_string()),
            can: Can {
                memory: yes(info.memory_limit),
                swap: yes(info.swap_limit),
                processors: yes(info.cpu_cfs_quota),
                processes: yes(info.pids_limit),
            },
        })
    }
}

/// What an engine said in as few words as it did.
fn said(error: &ApiError) -> String {
    if matches!(error, ApiError::SocketNotFoundError(_)) { "no such socket".to_owned() } else { chain(error) }
}

/// The one that was configured, or the usual places.
fn sockets(settings: &Containers) -> Vec<PathBuf> {
    if let Some(socket) = &settings.socket {
        return vec![socket.clone()];
    }
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let told = variable("DOCKER_HOST").and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
    let own = variable("XDG_RUNTIME_DIR").map(|place| Path::new(&place).join("podman/podman.sock"));
    let known = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    let [docker, podman] = known;
    [told, Some(docker), own, Some(podman)].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status_code: u16, message: &str) -> ApiError {
        ApiError::DockerResponseServerError { status_code, message: message.to_owned() }
    }

    #[test]
    fn what_an_engine_says_is_sorted_into_what_helps_and_what_does_not() {
        let engine = |source| ContainerError::Engine { what: "make the container", source };
        assert_eq!(engine(refusal(400, "minimum memory limit")).outcome().word(), "permanent");
        assert_eq!(engine(refusal(500, "disk")).outcome().word(), "error");
        assert_eq!(ContainerError::Level.outcome().word(), "permanent");
        assert_eq!(ContainerError::NoEngine { tried: String::new() }.outcome().word(), "error");
        assert!(is_missing(&refusal(404, "no such image")));
        let missing = refusal(500, "runc create failed: exec: \"nope\": executable file not found in $PATH");
        assert!(command_problem(&missing).is_some());
        assert_eq!(command_problem(&refusal(500, "no space left on device")), None);
        assert!(is_final_refusal("manifest unknown: manifest unknown"));
        assert!(!is_final_refusal("dial tcp: connection refused"));
    }
}
