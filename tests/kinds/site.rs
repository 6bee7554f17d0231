//! The nodes of one test: the one that people submit to, and the one that runs what they submit.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use jobmesh_tests::{Bench, Node, Pid, Value, children};

use crate::bench;
use crate::kind::{Kind, Options};

/// A name that a job finds in its working directory, by which the test finds that.
pub(crate) const MARK: &str = "mark";

/// What a job waits for in its working directory.
pub(crate) const GO: &str = "go";

/// What is given to jobs as a file: more than goes into a message, of all bytes, and not twice the same.
pub(crate) fn noise() -> Vec<u8> {
    (0..50_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the node that it is submitted to.
    Here,
    /// On another one, which keeps it apart as it does the jobs of every member.
    Peer,
}

/// The nodes of one test.
pub(crate) struct Site<'k> {
    pub(crate) kind: &'k dyn Kind,
    pub(crate) place: Place,
    /// Where jobs are submitted.
    pub(crate) a: Node,
    b: Option<Node>,
    /// The children that its daemon has without any job.
    idle: Vec<Pid>,
    /// Dropped last, with the folder of all.
    pub(crate) bench: Bench,
}

impl<'k> Site<'k> {
    pub(crate) fn start(kind: &'k dyn Kind, place: Place) -> Self {
        let bench = bench();
        let (a, b) = match place {
            Place::Here => (bench.node_with("a", 2, &kind.tables()), None),
            Place::Peer => {
                let tables = format!("[isolation]\nmembers = \"sandboxed\"\n{}", kind.tables());
                (bench.node("a"), Some(bench.node_with("b", 2, &tables)))
            }
        };
        a.up();
        if let Some(b) = &b {
            b.up();
            a.admit(b);
            assert_eq!(b.run(&["capability", "add", "tool:far"]).code, 0);
        }
        let mut site = Self { kind, place, a, b, idle: Vec::new(), bench };
        site.idle = children(site.worker().pid(), false);
        site
    }

    /// The node that runs the jobs.
    pub(crate) fn worker(&self) -> &Node {
        self.b.as_ref().unwrap_or(&self.a)
    }

    /// Submits a job to be run where it belongs, and returns its number.
    pub(crate) fn submit(&self, options: &Options) -> String {
        let mut all: Vec<&str> = match self.place {
            Place::Here => Vec::new(),
            Place::Peer => vec!["--require", "tool:far"],
        };
        all.extend(options.iter().map(String::as_str));
        self.a.submit(&all)
    }

    /// Everything about a job that has ended, here and where it ran.
    pub(crate) fn ended(&self, job: &str) -> Value {
        let shown = self.a.ended(job);
        if let Some(b) = &self.b {
            let theirs = b.listed(&["--all"]);
            let run = b.run(
                &[&["wait", "--timeout", "60s"][..], &theirs.iter().map(String::as_str).collect::<Vec<_>>()].concat(),
            );
            assert_ne!(run.code, 124, "{}", b.log());
        }
        shown
    }

    /// A file of the test.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.bench.folder().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Reads what a job says while it says it.
    pub(crate) fn follow(&self, job: &str, stream: &str) -> Reader {
        let mut command = Command::new("timeout");
        command.arg("60").arg(self.a.binary()).args(["logs", "-f", stream, job]);
        command.env("JOBMESH_HOME", self.a.home()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Reader::new(command, stream)
    }

    /// Lets the job go on that waits for [`GO`] beside [`MARK`]: as a pipe if it has made one there, else as a file.
    pub(crate) fn make_go(&self) {
        let runs = fs::read_dir(self.worker().home().join("runs")).unwrap().flatten();
        let work = |entry: fs::DirEntry| -> PathBuf { entry.path().join("work") };
        let mut marked = runs.map(work).filter(|work| work.join(MARK).exists());
        let work = marked.next().expect("a run that waits");
        assert_eq!(marked.next(), None, "several runs wait");
        let told = Command::new("timeout").args(["60", "sh", "-c", ": > \"$0\""]).arg(work.join(GO)).status();
        assert!(told.unwrap().success());
    }

    /// Asserts that the daemon that ran the jobs has no child that it did not have before.
    pub(crate) fn has_no_processes(&self) {
        let mut left = children(self.worker().pid(), false);
        left.retain(|child| !self.idle.contains(child));
        let said = |pid: &Pid| fs::read_to_string(format!("/proc/{}/cmdline", pid.number())).unwrap_or_default();
        assert!(left.is_empty(), "{left:?}: {:?}", left.iter().map(said).collect::<Vec<_>>());
    }
}

/// What a job says, as it comes.
pub(crate) struct Reader {
    child: Child,
    from: Box<dyn Read>,
}

impl Reader {
    fn new(mut command: Command, stream: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let from: Box<dyn Read> = if stream == "--stderr" { Box::new(stderr) } else { Box::new(stdout) };
        Self { child, from }
    }

    /// The next of it; none if it has ended.
    pub(crate) fn some(&mut self) -> Option<Vec<u8>> {
        let mut piece = vec![0; 64 * 1024];
        let count = self.from.read(&mut piece).unwrap();
        piece.truncate(count);
        (count > 0).then_some(piece)
    }

    /// All the rest.
    pub(crate) fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.from.read_to_end(&mut rest).unwrap();
        rest
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It has ended by itself, or nobody wants the rest.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
