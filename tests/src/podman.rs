//! A container engine of the tests' own: Podman with its store in a directory that goes when the last test ends, and an
//! image made of one file.

#![expect(clippy::unwrap_used, reason = "a broken harness is a failed test")]

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::tools::Tools;

/// How long its first answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The image, which has a shell.
pub const IMAGE: &str = "localhost/jm-busybox:1";

/// What the shell can call.
const PROGRAMS: [&str; 26] = [
    "cat", "dd", "echo", "env", "false", "grep", "head", "id", "ip", "kill", "ls", "mkdir", "mkfifo", "nc", "rm",
    "seq", "sh", "sleep", "stat", "tail", "test", "touch", "true", "wget", "yes", "tr",
];

/// Limits and runtime that work also where nobody may raise a limit, and with every kind of control groups.
const SETTINGS: &str = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\n";

/// Starts the engine on the socket that it is given as its standard input, in the manner of systemd: it is connected to
/// before it is up, and nobody has to look whether it is.
const ACTIVATE: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";

/// A running engine.
#[derive(Debug)]
pub struct Podman {
    place: tempfile::TempDir,
    service: Mutex<Option<Child>>,
}

/// The engine of all tests; none, with a word why, where there can't be one.
///
/// # Panics
/// If there should be one and it can't be started.
#[must_use]
pub fn podman() -> Option<Arc<Podman>> {
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
        self.take_in(IMAGE, &[]);
    }

    /// The same image, with a change by a line of a `Dockerfile`, under another name.
    ///
    /// # Panics
    /// If the engine does not take it.
    #[must_use]
    pub fn import_with(&self, name: &str, change: &str) -> String {
        self.take_in(name, &["--change", change]);
        name.to_owned()
    }

    fn take_in(&self, name: &str, options: &[&str]) {
        let tar = Command::new("tar").arg("-C").arg(self.path("image")).args(["-c", "."]).output().unwrap();
        let mut import = self.command();
        import.arg("import").args(options).args(["-", name]);
        import.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut import = import.spawn().unwrap();
        import.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        assert!(import.wait().unwrap().success(), "the image was not taken");
    }

    /// Another engine that nobody shares.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn alone(&self) -> Self {
        Self::start()
    }

    /// Starts the engine's service, and returns when it has answered.
    ///
    /// # Panics
    /// If it can't be started.
    pub fn serve(&self) {
        // What an earlier service left.
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let engine = self.command();
        let mut service = Command::new("sh");
        service.args(["-c", ACTIVATE, "sh"]).arg(engine.get_program()).args(engine.get_args());
        service.envs(engine.get_envs().filter_map(|(key, value)| Some((key, value?))));
        // Its monitors leave a file where they stand when a container runs out of memory.
        service.args(["system", "service", "--time=0"]).stdin(OwnedFd::from(listener)).current_dir(self.place.path());
        service.stdout(Stdio::null()).stderr(Stdio::null());
        *self.service.lock().unwrap_or_else(PoisonError::into_inner) = Some(service.spawn().unwrap());
        // Its first answer takes as long as it needs to set up its store.
        let mut hello = UnixStream::connect(self.socket()).unwrap();
        hello.set_read_timeout(Some(LIMIT)).unwrap();
        hello.write_all(b"GET /info HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        hello.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Ends the service; containers go on.
    pub fn stop_service(&self) {
        if let Some(mut service) = self.service.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = service.kill();
            let _ = service.wait();
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path("podman.sock")
    }

    /// What a node's configuration says of it.
    #[must_use]
    pub fn tables(&self) -> String {
        format!("[container]\nsocket = \"{}\"\nallow = [\"localhost/*\"]\n", self.socket().display())
    }

    /// The image's digest.
    ///
    /// # Panics
    /// If the engine does not tell.
    #[must_use]
    pub fn digest(&self) -> String {
        let output = self.command().args(["image", "inspect", "--format", "{{.Digest}}", IMAGE]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The containers of a node, running or not.
    ///
    /// # Panics
    /// If the engine does not tell.
    #[must_use]
    pub fn containers_of(&self, node: &str) -> Vec<String> {
        let filter = format!("label=jobmesh.node={node}");
        let mut list = self.command();
        let output = list.args(["ps", "--all", "--format", "{{.Names}}", "--filter", &filter]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.command().args(["rm", "--all", "--force", "--time", "0"]).output();
        self.stop_service();
    }
}
