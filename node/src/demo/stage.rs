//! The machines of the demo: daemons of this very program, each with its own home in one temporary folder.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jobmesh::api::{Done, ShutdownMode, ShutdownRequest, Status};
use jobmesh::home::{HOME_VARIABLE, Home};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::cli::{Failure, Kind};
use crate::client::{Client, ClientError};

/// How long a daemon may take to answer.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How long a daemon may take to stop in good order before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Time between two tries to connect.
const LOOK: Duration = Duration::from_millis(20);
/// How much of a log a failure quotes.
const QUOTE_LINES_MAX: usize = 8;
/// Settings of the user's own node that are not for those of the demo.
const FOREIGN_VARIABLES: [&str; 3] = [HOME_VARIABLE, "JOBMESH_SLOTS", "JOBMESH_DETACHED"];

/// A temporary folder with the nodes in it. Dropping it kills and removes what [`Self::clear`] has not.
pub(super) struct Stage {
    folder: PathBuf,
    nodes: Vec<Node>,
}

/// One machine.
pub(super) struct Node {
    /// Its name for people.
    pub(super) name: &'static str,
    /// Asks its daemon.
    pub(super) client: Client,
    home: Home,
    child: Child,
}

impl Stage {
    /// Makes the folder.
    pub(super) fn build() -> Result<Self, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::new(Kind::Internal, format!("the system gives no random bytes: {error}")))?;
        let name = format!("jobmesh-demo-{}", data_encoding::HEXLOWER.encode(&random));
        let folder = std::env::temp_dir().join(name);
        // Not recursive: a folder that is there already would be someone else's.
        DirBuilder::new().mode(0o700).create(&folder).map_err(|error| cant("make", &folder, &error))?;
        Ok(Self { folder, nodes: Vec::new() })
    }

    /// Starts a node for each name and waits until all of them answer.
    pub(super) async fn start(&mut self, names: [&'static str; 3]) -> Result<[&Node; 3], Failure> {
        for name in names {
            let node = Node::start(name, &self.folder)?;
            self.nodes.push(node);
        }
        for node in &mut self.nodes {
            node.answers().await?;
        }
        match self.nodes.as_slice() {
            [first, second, third] => Ok([first, second, third]),
            nodes => Err(Failure::new(Kind::Internal, format!("the demo has {} nodes", nodes.len()))),
        }
    }

    /// Stops the nodes and removes the folder. What does not stop in time is killed.
    pub(super) async fn clear(&mut self) -> Result<(), Failure> {
        futures::future::join_all(self.nodes.iter_mut().map(Node::stop)).await;
        self.remove()
    }

    fn remove(&mut self) -> Result<(), Failure> {
        for node in self.nodes.drain(..) {
            node.remove_socket();
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(cant("remove", &self.folder, &error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After `clear` nothing is left to do; before it, the children die with their handles.
        let _ = self.remove();
    }
}

impl Node {
    fn start(name: &'static str, folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(name);
        let config = |error| Failure::of(Kind::Config, &error);
        Home::locate(Some(&path)).and_then(|home| home.create()).map_err(config)?;
        let home = Home::locate(Some(&path)).map_err(config)?;
        let log = File::create(home.log()).map_err(|error| cant("write", &home.log(), &error))?;
        let errors = log.try_clone().map_err(|error| cant("write", &home.log(), &error))?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Kind::Internal, format!("this program can't be found again: {error}")))?;
        let mut command = Command::new(&program);
        for variable in FOREIGN_VARIABLES {
            command.env_remove(variable);
        }
        command
            .arg("--home")
            .arg(home.path())
            .arg("up")
            .args(["--name", name, "--mdns", "false", "--log", "info"])
            .args(["--listen", "/ip4/127.0.0.1/udp/0/quic-v1", "--listen", "/ip4/127.0.0.1/tcp/0"])
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // A Ctrl-C is for us; we stop the daemons in good order.
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| cant("start", &program, &error))?;
        Ok(Self { name, client: Client::new(home.socket()), home, child })
    }

    /// Waits until the daemon answers, and says what it logged if it does not.
    async fn answers(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.client.get::<Status>("/v1/status").await {
                Ok(_) => return Ok(()),
                Err(ClientError::Unreachable { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = self.child.try_wait().map_err(|error| Failure::of(Kind::Internal, &error))?;
            if ended.is_some() || Instant::now() >= deadline {
                return Err(self.no_start());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn no_start(&self) -> Failure {
        let log = fs::read_to_string(self.home.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(QUOTE_LINES_MAX)..).unwrap_or_default();
        let message = format!("the node {} did not start; its log ends with:\n{}", self.name, last.join("\n"));
        Failure::new(Kind::Unreachable, message)
    }

    async fn stop(&mut self) {
        let question = ShutdownRequest { mode: ShutdownMode::Now };
        let stopping = async {
            // If it can't be asked, it is on its way out or beyond asking; both show in the wait.
            let _: Result<Done, ClientError> = self.client.post("/v1/shutdown", &question).await;
            self.child.wait().await
        };
        if !matches!(tokio::time::timeout(STOP_LIMIT, stopping).await, Ok(Ok(_))) {
            let _ = self.child.kill().await;
        }
    }

    /// A home with a long path has its socket elsewhere.
    fn remove_socket(&self) {
        let socket = self.home.socket();
        if let Some(directory) = socket.parent().filter(|directory| *directory != self.home.path()) {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn cant(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::File, format!("failed to {what} {}: {error}", path.display()))
}
