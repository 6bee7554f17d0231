//! Where it is measured: a folder on the disk of the data directory, and daemons of this very program in it.
//!
//! Both clean up after themselves when they are dropped. A daemon is asked to stop first, since only then does it end
//! the jobs that run; if it does not, it is killed.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jobmesh::home::{HOME_VARIABLE, Home};

use super::connection::{ANSWER_LIMIT, Connection};
use super::crowd::Crowd;
use super::error::BenchError;
use super::requests::{self, BATCH, Counts, Job, Request};
use super::stop::Stop;

/// How long a daemon may take to answer, much to read included.
const START_LIMIT: Duration = Duration::from_secs(120);
/// How long a daemon may take to stop in good order, a thousand jobs included, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// Time between two tries to connect: what a start is measured to.
const LOOK: Duration = Duration::from_millis(1);
/// How long any number of jobs may take. Above what the slowest disk needs for the largest part.
const JOBS_LIMIT: Duration = Duration::from_secs(1800);
/// How much of a log an error quotes.
const QUOTE_LINES_MAX: usize = 3;
/// Where nodes that are to meet listen: as they do by default, but for themselves alone.
pub(super) const LISTEN: [&str; 2] = ["/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"];
/// Where a node listens that nobody is to meet.
const LISTEN_ALONE: [&str; 1] = ["/ip4/127.0.0.1/tcp/0"];
/// Settings of the user's own node that are not for those of the measurement.
const FOREIGN_VARIABLES: [&str; 7] = [
    HOME_VARIABLE,
    "JOBMESH_DETACHED",
    "JOBMESH_LISTEN",
    "JOBMESH_LOG",
    "JOBMESH_MDNS",
    "JOBMESH_NAME",
    "JOBMESH_SLOTS",
];

/// The folder.
#[derive(Debug)]
pub(super) struct Site {
    folder: PathBuf,
    stop: Stop,
}

impl Site {
    /// Makes the folder in the data directory, or where that would be made.
    pub(super) fn build(home: &Home, stop: &Stop) -> Result<Self, BenchError> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| BenchError::Untold { what: "a random number" })?;
        let place = home.path().ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
        let folder = place.join(format!("jobmesh-bench-{}", data_encoding::HEXLOWER.encode(&random)));
        // Not recursive: a folder that is there already would be someone else's.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.map_err(|source| BenchError::File { action: "make", path: folder.clone(), source })?;
        Ok(Self { folder, stop: stop.clone() })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts a daemon with a new data directory `name`, with a slot per processor unless told otherwise.
    pub(super) fn daemon(&self, name: &str, slots: Option<usize>) -> Result<Daemon, BenchError> {
        self.start(name, slots, &LISTEN_ALONE)
    }

    /// Starts a daemon that others can join, with a slot per processor.
    pub(super) fn member(&self, name: &str) -> Result<Daemon, BenchError> {
        self.start(name, None, &LISTEN)
    }

    fn start(&self, name: &str, slots: Option<usize>, listen: &'static [&str]) -> Result<Daemon, BenchError> {
        let path = self.folder.join(name);
        let unusable = |error: jobmesh::home::HomeError| BenchError::NoStart { quote: error.to_string() };
        Home::locate(Some(&path)).and_then(|home| home.create()).map_err(unusable)?;
        let home = Home::locate(Some(&path)).map_err(unusable)?;
        let child = spawn(&home, slots, listen)?;
        let mut daemon = Daemon { home, slots, listen, child, stop: self.stop.clone() };
        daemon.answers()?;
        Ok(daemon)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What can't be removed is no reason to hide what was measured.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A daemon of the measurement.
#[derive(Debug)]
pub(super) struct Daemon {
    home: Home,
    slots: Option<usize>,
    listen: &'static [&'static str],
    child: Child,
    stop: Stop,
}

impl Daemon {
    /// Its data directory.
    pub(super) const fn home(&self) -> &Home {
        &self.home
    }

    /// Its process number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to it.
    pub(super) fn connect(&self) -> Result<Connection, BenchError> {
        Connection::open(&self.home.socket(), &self.stop)
    }

    /// Many new connections to it.
    pub(super) fn crowd(&self) -> Result<Crowd, BenchError> {
        Crowd::open(&self.home.socket(), &self.stop)
    }

    /// Asks one question on a connection of its own.
    pub(super) fn ask(&self, request: &Request) -> Result<Vec<u8>, BenchError> {
        self.connect()?.ask(request, ANSWER_LIMIT)
    }

    /// Kills it, starts it again and returns how long it took until it answered.
    pub(super) fn restart(&mut self) -> Result<Duration, BenchError> {
        let failed = |source| BenchError::Spawn { program: "the daemon".into(), source };
        self.child.kill().and_then(|()| self.child.wait()).map_err(failed)?;
        let start = Instant::now();
        self.child = spawn(&self.home, self.slots, self.listen)?;
        self.answers()?;
        Ok(start.elapsed())
    }

    /// Submits so many jobs as fast as the node takes them; returns the number of the last, and how it was done.
    pub(super) fn fill(&self, job: &Job, count: usize) -> Result<(u64, &'static str), BenchError> {
        match self.fill_in_batches(job, count) {
            Err(error) if error.is_unknown_question() => {
                let request = requests::submit(job);
                let (_, last) = self.crowd()?.ask(&request, count)?;
                Ok((requests::submitted(&request, &last)?.number, "single submits, 64 connections"))
            }
            filled => filled.map(|last| (last, "batches of 1,000")),
        }
    }

    fn fill_in_batches(&self, job: &Job, count: usize) -> Result<u64, BenchError> {
        let mut connection = self.connect()?;
        let (whole, rest) = (requests::batch(job, BATCH), requests::batch(job, count % BATCH));
        let mut last = 0;
        for _ in 0..count / BATCH {
            last = requests::last_of_batch(&whole, &connection.ask(&whole, ANSWER_LIMIT)?)?;
        }
        if !count.is_multiple_of(BATCH) {
            last = requests::last_of_batch(&rest, &connection.ask(&rest, ANSWER_LIMIT)?)?;
        }
        Ok(last)
    }

    /// Waits until job `last` has ended and then until no other is left.
    ///
    /// The first wait is the daemon's, which costs it nothing; what is left by then is looked for again and again, as
    /// long as it becomes less.
    pub(super) fn drained(&self, last: u64, jobs: usize) -> Result<(), BenchError> {
        let mut connection = self.connect()?;
        connection.ask(&requests::wait(last), JOBS_LIMIT)?;
        let (mut deadline, mut live) = (Instant::now() + ANSWER_LIMIT, u64::MAX);
        loop {
            let counts = self.counts(&mut connection)?;
            if counts.failed > 0 {
                return Err(BenchError::Failed { failed: counts.failed, jobs });
            }
            if counts.live == 0 {
                return Ok(());
            }
            if counts.live < live {
                (deadline, live) = (Instant::now() + ANSWER_LIMIT, counts.live);
            }
            if Instant::now() >= deadline {
                return Err(BenchError::Silent { question: "for the end of the jobs".to_owned(), limit: ANSWER_LIMIT });
            }
            self.stop.rest(LOOK)?;
        }
    }

    /// How many jobs it has.
    pub(super) fn counts(&self, connection: &mut Connection) -> Result<Counts, BenchError> {
        let request = requests::status();
        requests::counts(&request, &connection.ask(&request, ANSWER_LIMIT)?)
    }

    /// Waits until it answers, and says what it logged if it does not.
    fn answers(&mut self) -> Result<(), BenchError> {
        let deadline = Instant::now() + START_LIMIT;
        let request = requests::status();
        loop {
            match self.connect() {
                Ok(mut connection) => return connection.ask(&request, START_LIMIT).map(drop),
                Err(BenchError::Socket { .. }) => {}
                Err(error) => return Err(error),
            }
            let has_ended = !matches!(self.child.try_wait(), Ok(None));
            if has_ended || Instant::now() >= deadline {
                return Err(BenchError::NoStart { quote: self.quote() });
            }
            self.stop.rest(LOOK)?;
        }
    }

    fn quote(&self) -> String {
        let log = fs::read_to_string(self.home.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(QUOTE_LINES_MAX)..).unwrap_or_default().join(" / ")
    }

    /// Whether it ended within the limit after it was asked to.
    fn ends(&mut self) -> bool {
        // The wish to stop may have come from a person: it must not keep us from asking the daemon.
        let asked = Connection::open(&self.home.socket(), &Stop::default())
            .and_then(|mut connection| connection.ask(&requests::shutdown(), STOP_LIMIT));
        if asked.is_err() {
            return false;
        }
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            thread::sleep(LOOK);
        }
        false
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.ends() {
            // It may be gone already; then there is nothing to do.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        // A home with a long path has its socket elsewhere.
        let socket = self.home.socket();
        if let Some(directory) = socket.parent().filter(|directory| *directory != self.home.path()) {
            let _ = fs::remove_dir_all(directory);
        }
        // Now and not with the folder: a million jobs take room that the next part may need.
        let _ = fs::remove_dir_all(self.home.path());
    }
}

/// This very program.
pub(super) fn program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(|source| BenchError::Spawn { program: "jobmesh".into(), source })
}

/// A command of this program for the node in `home`, with none of the user's own settings.
pub(super) fn command(home: &Home) -> Result<Command, BenchError> {
    let mut command = Command::new(program()?);
    for variable in FOREIGN_VARIABLES {
        command.env_remove(variable);
    }
    command.arg("--home").arg(home.path()).stdin(Stdio::null());
    Ok(command)
}

fn spawn(home: &Home, slots: Option<usize>, listen: &[&str]) -> Result<Child, BenchError> {
    let failed = |source| BenchError::File { action: "write", path: home.log(), source };
    let log = File::options().create(true).append(true).open(home.log()).map_err(failed)?;
    let errors = log.try_clone().map_err(failed)?;
    let mut command = command(home)?;
    command.args(["up", "--name", "bench", "--mdns", "false"]);
    for address in listen {
        command.args(["--listen", address]);
    }
    if let Some(slots) = slots {
        command.args(["--slots", &slots.to_string()]);
    }
    // A Ctrl-C is for us; we stop the daemon in good order.
    command.stdout(log).stderr(errors).process_group(0);
    command.spawn().map_err(|source| BenchError::Spawn { program: command.get_program().into(), source })
}
