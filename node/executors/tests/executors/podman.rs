//! A container engine of the tests' own: Podman with its store in a directory that goes when the last test ends, and an
//! image made of one file.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use jobmesh_executors::{Containers, Groups};

use crate::harness::{DEADLINE, Node, Tools, run_id};

/// The image, which has a shell.
pub(crate) const IMAGE: &str = "localhost/jm-busybox:1";

/// What the shell can call.
const PROGRAMS: [&str; 24] = [
    "cat", "dd", "echo", "env", "false", "grep", "head", "id", "ip", "kill", "ls", "mkdir", "nc", "rm", "seq", "sh",
    "sleep", "stat", "test", "touch", "true", "wget", "yes", "tr",
];

/// Limits and runtime that work also where nobody may raise a limit, and with every kind of control groups.
const SETTINGS: &str = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\n";

/// A running engine.
pub(crate) struct Podman {
    place: tempfile::TempDir,
    service: Mutex<Option<Child>>,
}

/// The engine of all tests; none, with a word why, where there can't be one.
pub(crate) fn podman() -> Option<Arc<Podman>> {
    static SHARED: Mutex<Weak<Podman>> = Mutex::new(Weak::new());
    let missing: Vec<_> = ["/usr/bin/podman", "/usr/sbin/runc", "/bin/busybox"]
        .into_iter()
        .filter(|path| !Path::new(path).exists())
        .collect();
    if !missing.is_empty() || !rustix::process::getuid().is_root() {
        Tools::missing("containers", &format!("{missing:?} missing, or not root; see tests/setup/podman.sh"));
        return None;
    }
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    Some(shared.upgrade().unwrap_or_else(|| {
        let fresh = Arc::new(Podman::start());
        *shared = Arc::downgrade(&fresh);
        fresh
    }))
}

impl Podman {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("containers.conf"), SETTINGS).unwrap();
        let this = Self { place, service: Mutex::new(None) };
        this.import();
        this.serve();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// A call of the program with its own store.
    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.path("containers.conf")).stdin(Stdio::null());
        // Its monitor leaves a note of memory that ran out where it was started.
        command.current_dir(self.place.path());
        command.arg("--root").arg(self.path("store")).arg("--runroot").arg(self.path("run"));
        command.args(["--storage-driver", "vfs"]);
        command
    }

    fn import(&self) {
        let programs = self.path("image/bin");
        std::fs::create_dir_all(&programs).unwrap();
        std::fs::create_dir_all(self.path("image/tmp")).unwrap();
        std::fs::copy("/bin/busybox", programs.join("busybox")).unwrap();
        for program in PROGRAMS {
            symlink("busybox", programs.join(program)).unwrap();
        }
        let tar = Command::new("tar").arg("-C").arg(self.path("image")).args(["-c", "."]).output().unwrap();
        let mut import = self.command();
        import.args(["import", "-", IMAGE]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut import = import.spawn().unwrap();
        import.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        assert!(import.wait().unwrap().success(), "the image was not taken");
    }

    /// Another engine that nobody shares.
    pub(crate) fn alone(&self) -> Self {
        Self::start()
    }

    /// Starts the engine's service, and returns when it answers.
    pub(crate) fn serve(&self) {
        let mut service = self.command();
        service.args(["system", "service", "--time=0"]).arg(format!("unix://{}", self.socket().display()));
        service.stdout(Stdio::null()).stderr(Stdio::null());
        *self.service.lock().unwrap() = Some(service.spawn().unwrap());
        let until = Instant::now() + DEADLINE;
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < until, "the engine does not answer");
            std::thread::yield_now();
        }
    }

    /// Ends the service; containers go on.
    pub(crate) fn stop_service(&self) {
        if let Some(mut service) = self.service.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("podman.sock")
    }

    /// The image's digest.
    pub(crate) fn digest(&self) -> String {
        let output = self.command().args(["image", "inspect", "--format", "{{.Digest}}", IMAGE]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The containers of a node, running or not.
    pub(crate) fn containers_of(&self, node: &str) -> Vec<String> {
        let filter = format!("label=jobmesh.node={node}");
        let mut list = self.command();
        let output = list.args(["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// What a node is told of this engine. Each has a name of its own.
    pub(crate) fn containers(&self) -> Containers {
        Containers { socket: Some(self.socket()), node: format!("node-{}", run_id()), ..Containers::default() }
    }

    /// A node whose containers are this engine's.
    pub(crate) fn node(&self, containers: Containers) -> Node {
        let mut node = Node::start_among(4, Groups::Use, containers);
        node.network = false;
        node
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        self.stop_service();
    }
}
