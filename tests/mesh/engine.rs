//! A container engine of one test: Podman with its store in the test's folder, and an image made of one file.

use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Limits and runtime that work also where nobody may raise a limit.
const SETTINGS: &str = "[containers]\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\n[engine]\nruntime=\"runc\"\ncgroup_manager=\"cgroupfs\"\n";

/// Starts the engine on the socket that it is given as its standard input: it is connected to before it is up.
const ACTIVATE: &str = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\" 3<&0 </dev/null";

/// A running engine.
pub(crate) struct Podman {
    place: PathBuf,
    service: Child,
}

impl Podman {
    /// The image, which has a shell.
    pub(crate) const IMAGE: &str = "localhost/jm-busybox:1";

    /// Starts one; none, with a word why, where there can't be one.
    pub(crate) fn start(folder: &Path) -> Option<Self> {
        let tools = ["/usr/bin/podman", "/usr/sbin/runc", "/bin/busybox"];
        if !tools.iter().all(|path| Path::new(path).exists()) || !rustix::process::getuid().is_root() {
            assert!(std::env::var_os("JOBMESH_REQUIRE_TOOLS").is_none(), "podman is missing");
            eprintln!("SKIPPED containers: one of {tools:?} is missing, or not root; see tests/setup/podman.sh");
            return None;
        }
        let place = folder.join("podman");
        let programs = place.join("image/bin");
        std::fs::create_dir_all(&programs).unwrap();
        std::fs::write(place.join("containers.conf"), SETTINGS).unwrap();
        std::fs::copy("/bin/busybox", programs.join("busybox")).unwrap();
        for program in ["sh", "echo", "test", "cat"] {
            symlink("busybox", programs.join(program)).unwrap();
        }
        let tar = place.join("image.tar");
        let made = Command::new("tar").arg("-C").arg(place.join("image")).arg("-cf").arg(&tar).arg(".").status();
        assert!(made.unwrap().success());
        let mut import = command(&place);
        let imported = import.arg("import").arg(&tar).arg(Self::IMAGE).output().unwrap();
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        let listener = UnixListener::bind(place.join("podman.sock")).unwrap();
        let engine = command(&place);
        let mut service = Command::new("sh");
        service.args(["-c", ACTIVATE, "sh"]).arg(engine.get_program()).args(engine.get_args());
        service.envs(engine.get_envs().filter_map(|(key, value)| Some((key, value?))));
        service.args(["system", "service", "--time=0"]).stdin(OwnedFd::from(listener));
        let service = service.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Some(Self { place, service })
    }

    /// What a node is told of it.
    pub(crate) fn tables(&self) -> String {
        format!(
            "[container]\nsocket = \"unix://{}\"\nallow = [\"localhost/jm-busybox\"]\n",
            self.place.join("podman.sock").display()
        )
    }

    /// Its containers, running or not, with all that it says of each.
    pub(crate) fn containers(&self) -> String {
        let output = command(&self.place).args(["ps", "--all", "--quiet"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn command(place: &Path) -> Command {
    let mut command = Command::new("podman");
    command.env("CONTAINERS_CONF", place.join("containers.conf")).stdin(Stdio::null());
    command.arg("--root").arg(place.join("store")).arg("--runroot").arg(place.join("run"));
    command.args(["--storage-driver", "vfs"]);
    command
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = command(&self.place).args(["rm", "--all", "--force", "--time", "0"]).output();
        let _ = self.service.kill();
        let _ = self.service.wait();
    }
}
