//! A daemon, its data directory, and the commands that are run against it.

#![expect(clippy::expect_used, reason = "a broken harness is a failed test")]

use std::cell::Cell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::api::Api;
use crate::process::Pid;
use crate::watch::Watch;

/// Settings under which a lost node is noticed in seconds instead of a minute.
const SETTINGS: &str = r#"
listen = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"]
mdns = false

[lease]
ttl = "2s"
grace = "1s"
bid_window = "500ms"
bid_hold = "1s"

[learning]
publish_after = "200ms"

[drain]
wait = "1s"
"#;

/// Jobs of members may touch the files by which tests hold them and let them go. What they can't touch otherwise is
/// another test's business, which says so in its own table.
const ISOLATION: &str = "
[isolation]
members = \"contained\"
";

/// A folder in which the nodes of one test live; everything in it goes when it is dropped.
#[derive(Debug)]
pub struct Bench {
    binary: PathBuf,
    folder: tempfile::TempDir,
}

impl Bench {
    /// Prepares a test of this binary.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("jobmesh-test-").tempdir().expect("a temporary folder");
        Self { binary: PathBuf::from(binary), folder }
    }

    /// The folder, for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A node that is not running yet.
    ///
    /// # Panics
    /// If its data directory can't be made.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        self.node_with(name, 2, "")
    }

    /// A node of so many slots that is not running yet, with further tables in its configuration.
    ///
    /// # Panics
    /// If its data directory can't be made.
    #[must_use]
    pub fn node_with(&self, name: &str, slots: u32, tables: &str) -> Node {
        use std::os::unix::fs::DirBuilderExt as _;
        let home = self.folder().join(name);
        fs::DirBuilder::new().mode(0o700).create(&home).expect("a data directory");
        let node = Node { binary: self.binary.clone(), home, name: name.to_owned(), daemon: Cell::new(None) };
        node.configure(slots, tables);
        node
    }

    /// A node that is not running yet, with its data directory at `home`, which exists and holds nothing.
    ///
    /// # Panics
    /// If its settings can't be written.
    #[must_use]
    pub fn node_at(&self, home: PathBuf) -> Node {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).expect("a private directory");
        let node = Node { binary: self.binary.clone(), home, name: "a".to_owned(), daemon: Cell::new(None) };
        node.reconfigure("slots = 2\n[drain]\nwait = \"1s\"\n");
        node
    }

    /// A node that runs.
    #[must_use]
    pub fn up(&self, name: &str) -> Node {
        let node = self.node(name);
        node.up();
        node
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code; −1 if a signal ended it.
    pub code: i32,
    /// Standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
}

impl Run {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// One node of a test.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    home: PathBuf,
    name: String,
    daemon: Cell<Option<Pid>>,
}

impl Node {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its data directory.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes its configuration anew. A daemon that runs does not know of it yet.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn configure(&self, slots: u32, tables: &str) {
        let isolation = if tables.contains("[isolation]") { "" } else { ISOLATION };
        let text = format!("name = {:?}\nslots = {slots}\n{SETTINGS}{isolation}\n{tables}", self.name);
        fs::write(self.home.join("config.toml"), text).expect("a config file");
    }

    /// The path of the binary.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Writes its configuration anew, with nothing in it but these settings and those by which it stays on this machine.
    ///
    /// # Panics
    /// If they can't be written.
    pub fn reconfigure(&self, settings: &str) {
        let own = format!("name = {:?}\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n", self.name);
        fs::write(self.home.join("config.toml"), own + settings).expect("a config file");
    }

    /// A connection to its daemon.
    ///
    /// # Panics
    /// If none answers.
    #[must_use]
    pub fn api(&self) -> Api {
        Api::open(&self.home)
    }

    /// The file with its jobs.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.home.join("jobs.db")
    }

    /// A command against this node, with nothing of the test's own environment but the PATH.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_clear().env("JOBMESH_HOME", &self.home).current_dir(&self.home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// If the binary can't be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// Starts a command and leaves it running.
    ///
    /// # Panics
    /// If the binary can't be started.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    }

    /// Runs a command that must succeed, and reads its JSON.
    ///
    /// # Panics
    /// If it fails or prints no JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let run = self.run(&[&["--json"], arguments].concat());
        assert_eq!(run.code, 0, "{arguments:?} on {}: {}{}", self.name, run.text(), run.stderr);
        serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", run.text()))
    }

    /// Starts the daemon and returns when it answers.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn up(&self) {
        let run = self.run(&["up", "-d"]);
        assert_eq!(run.code, 0, "up of {}: {}{}\n{}", self.name, run.text(), run.stderr, self.log());
        self.adopt();
    }

    /// Takes charge of a daemon that a command started.
    ///
    /// # Panics
    /// If none answers.
    pub fn adopt(&self) {
        let pid = self.json(&["status"])["pid"].as_u64().expect("a pid");
        self.daemon.set(Some(Pid::new(pid)));
    }

    /// The daemon's process, since the last [`Self::up`].
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.daemon.get().expect("a daemon that was started")
    }

    /// Stops the daemon, waiting for no job.
    ///
    /// # Panics
    /// If it does not stop.
    pub fn down(&self) {
        let run = self.run(&["down", "--now"]);
        assert_eq!(run.code, 0, "down of {}: {}\n{}", self.name, run.stderr, self.log());
        self.daemon.set(None);
    }

    /// Kills the daemon and everything it knows in memory.
    pub fn kill(&self) {
        self.pid().kill();
    }

    /// What the daemon logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("daemon.log")).unwrap_or_default()
    }

    /// Submits a job and returns its number.
    ///
    /// # Panics
    /// If it is refused.
    #[must_use]
    pub fn submit(&self, arguments: &[&str]) -> String {
        let mut all = vec!["submit", "--json"];
        all.extend(arguments);
        let run = self.run(&all);
        assert_eq!(run.code, 0, "submit {arguments:?}: {}", run.stderr);
        let submitted: Value = serde_json::from_slice(&run.stdout).expect("submit prints JSON");
        let number = submitted["number"].as_u64().expect("a number").to_string();
        submitted["task"].as_u64().map_or(number.clone(), |task| format!("{number}.{task}"))
    }

    /// What is known of a job in one line: its state, counts and dates.
    #[must_use]
    pub fn job(&self, job: &str) -> Value {
        self.json(&["show", job])["job"].take()
    }

    /// Where a job is in its life.
    ///
    /// # Panics
    /// If it has no state.
    #[must_use]
    pub fn state(&self, job: &str) -> String {
        self.job(job)["state"].as_str().expect("a state").to_owned()
    }

    /// The names of the jobs that a listing with these arguments shows.
    #[must_use]
    pub fn listed(&self, arguments: &[&str]) -> Vec<String> {
        let run = self.run(&[&["ls", "--quiet"], arguments].concat());
        assert_eq!(run.code, 0, "ls {arguments:?}: {}", run.stderr);
        run.text().lines().map(str::to_owned).collect()
    }

    /// What a job wrote to its standard output.
    ///
    /// # Panics
    /// If there is no such job.
    #[must_use]
    pub fn wrote(&self, job: &str) -> String {
        let run = self.run(&["logs", job]);
        assert_eq!(run.code, 0, "logs {job}: {}", run.stderr);
        run.text()
    }

    /// Follows what happens to its jobs, from the first event on.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::begin(self)
    }

    /// Asks the daemon over its socket, as other programs do.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.api().ask(method, path, (!body.is_null()).then_some(body));
        let text = || String::from_utf8_lossy(&answer.body).into_owned();
        let document =
            serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", text()));
        (answer.status, document)
    }

    /// Waits until all of these jobs have completed.
    ///
    /// # Panics
    /// If one does not within five minutes.
    pub fn wait_for(&self, jobs: &[String]) {
        let mut arguments = vec!["wait", "--timeout", "5m"];
        arguments.extend(jobs.iter().map(String::as_str));
        let run = self.run(&arguments);
        assert_eq!(run.code, 0, "wait: {}\n{}", run.stderr, self.log());
    }

    /// Waits until a job has ended and returns everything about it.
    ///
    /// # Panics
    /// If it does not end within a minute.
    #[must_use]
    pub fn ended(&self, job: &str) -> Value {
        let run = self.run(&["wait", job, "--timeout", "60s"]);
        assert_ne!(run.code, 124, "job {job} has not ended: {}\n{}", self.json(&["explain", job]), self.log());
        self.json(&["show", job])
    }

    /// Makes `other` a member of this node's mesh.
    ///
    /// # Panics
    /// If it is refused.
    pub fn admit(&self, other: &Self) {
        let invite = self.json(&["invite"]);
        let text = invite["invite"].as_str().expect("an invite");
        let run = other.run(&["join", text]);
        assert_eq!(run.code, 0, "join: {}{}\n{}", run.text(), run.stderr, self.log());
    }

    /// Writes a file next to the data of this node and returns its path.
    ///
    /// # Panics
    /// If it can't be written.
    #[must_use]
    pub fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.home.join(name);
        let mut file = fs::File::create(&path).expect("a file");
        file.write_all(content).expect("a written file");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Node {
    /// Leaves no daemon behind, whatever became of the test.
    fn drop(&mut self) {
        if let Some(pid) = self.daemon.take() {
            pid.thaw();
            pid.kill();
        }
    }
}
