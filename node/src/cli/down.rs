//! `jobmesh down`: stop the node, and return when it is gone.

use clap::Args;
use jobmesh::api::{Done, ShutdownMode, ShutdownRequest, Status};
use jobmesh_protocol::DurationMillis;
use jobmesh_store::find_holder;
use serde_json::json;

use crate::cli::time_words::{length, parse_length};
use crate::cli::{Context, Exit, Failure, Kind};
use crate::client::{Client, ClientError};

#[derive(Args, Debug)]
#[command(after_help = "Running jobs get some time to end (`drain.wait` in config.toml). What then still runs is \
                        stopped and queued again.")]
pub(crate) struct Down {
    /// Give running jobs their time to end first; this is the default
    #[arg(long, conflicts_with = "now")]
    drain: bool,
    /// Do not wait for running jobs; they are stopped and queued again
    #[arg(long)]
    now: bool,
    /// Wait no longer than this for the node to be gone
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_length, allow_hyphen_values = true)]
    timeout: DurationMillis,
}

impl Down {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let pid = match client.pid().await {
            Ok(pid) => pid,
            Err(ClientError::Unreachable { .. }) => return self.without_answer(context).await,
            Err(error) => return Err(error.into()),
        };
        // A node whose database fails can't say how it is, but it can be stopped.
        let status: Result<Status, ClientError> = client.get("/v1/status").await;
        let (pid, said) = match (pid, status) {
            (_, Ok(status)) => (status.pid, format!("{} is down.\n", crate::cli::clean(&status.name))),
            (Some(pid), Err(_)) => (pid, format!("The node, pid {pid}, is down.\n")),
            (None, Err(error)) => return Err(error.into()),
        };
        let mode = if self.now { ShutdownMode::Now } else { ShutdownMode::Drain };
        self.limited(pid, stop(&client, pid, mode)).await?;
        context.output.show(&json!({"stopped": true, "pid": pid}), |_| said)?;
        Ok(Exit::OK)
    }

    /// Stops a node that has the data directory, but no socket that answers, by signals; or says that there is none.
    async fn without_answer(self, context: &Context) -> Result<Exit, Failure> {
        let home = context.home.path().display().to_string();
        let Some(holder) = find_holder(context.home.path()) else {
            context.output.show(&json!({"stopped": false}), |_| format!("No node runs in {home}.\n"))?;
            return Ok(Exit::OK);
        };
        let Some(pid) = holder.pid.filter(|_| self.now) else {
            let message = format!("a node runs in {home} with {holder}, but does not answer at its socket");
            let hint = "it may be about to start or to end; else stop it with `jobmesh down --now`, which does without";
            return Err(Failure::new(Kind::Unreachable, message).hint(hint));
        };
        self.limited(pid, signal(pid)).await?;
        context.output.show(&json!({"stopped": true, "pid": pid}), |_| format!("The node, pid {pid}, is down.\n"))?;
        Ok(Exit::OK)
    }

    async fn limited(&self, pid: u32, stopping: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
        let limit = std::time::Duration::from_millis(self.timeout.0);
        tokio::time::timeout(limit, stopping).await.unwrap_or_else(|_elapsed| {
            let message = format!("the node, pid {pid}, still runs after {}", length(self.timeout));
            Err(Failure::new(Kind::Timeout, message).hint("stop it at once with `jobmesh down --now`"))
        })
    }
}

/// How long a node that was just started may take to be gone again.
const STOP_NOW_LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// Stops the node that answers without waiting for its jobs.
pub(super) async fn stop_now(client: &Client) -> Result<(), Failure> {
    let Some(pid) = client.pid().await? else {
        return Err(Failure::new(Kind::Internal, "the system does not say which process it is"));
    };
    let stopping = stop(client, pid, ShutdownMode::Now);
    let late = |_elapsed| Err(Failure::new(Kind::Timeout, format!("pid {pid} does not end")));
    tokio::time::timeout(STOP_NOW_LIMIT, stopping).await.unwrap_or_else(late)
}

/// Asks the node to stop and waits until its process has ended.
async fn stop(client: &Client, pid: u32, mode: ShutdownMode) -> Result<(), Failure> {
    // The process is taken hold of before it is asked, so that its number can't become another's.
    let process = Process::open(pid)?;
    match client.post::<_, Done>("/v1/shutdown", &ShutdownRequest { mode }).await {
        // One that is about to end may not answer any more.
        Ok(_) | Err(ClientError::Unreachable { .. } | ClientError::Broken { .. }) => process.ended().await,
        Err(error) => Err(error.into()),
    }
}

/// Tells the node to stop by two signals, of which the second keeps it from waiting for its jobs, and waits until its
/// process has ended.
async fn signal(pid: u32) -> Result<(), Failure> {
    use rustix::process::{Pid, Signal, kill_process};
    let process = Process::open(pid)?;
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    for signal in [Signal::TERM, Signal::INT] {
        match number.map_or(Err(rustix::io::Errno::SRCH), |number| kill_process(number, signal)) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    process.ended().await
}

fn fault(error: impl Into<std::io::Error>) -> Failure {
    Failure::new(Kind::Internal, format!("failed to wait for the node to end: {}", error.into()))
}

/// A process that is waited for, though it is not our child.
#[cfg(target_os = "linux")]
struct Process(Option<std::os::fd::OwnedFd>);

#[cfg(target_os = "linux")]
impl Process {
    fn open(pid: u32) -> Result<Self, Failure> {
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new(Kind::Internal, "the node has no process number"))?;
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Ok(Self(Some(handle))),
            Err(rustix::io::Errno::SRCH) => Ok(Self(None)),
            Err(error) => Err(fault(error)),
        }
    }

    /// Waits on a thread of its own. If nobody waits any more, the thread ends with the program.
    async fn ended(self) -> Result<(), Failure> {
        use rustix::event::{PollFd, PollFlags, poll};
        let Some(handle) = self.0 else { return Ok(()) };
        let wait = move || {
            loop {
                match poll(&mut [PollFd::new(&handle, PollFlags::IN)], None) {
                    Err(rustix::io::Errno::INTR) => {}
                    result => return result,
                }
            }
        };
        let waited = tokio::task::spawn_blocking(wait).await.map_err(fault)?;
        waited.map(drop).map_err(fault)
    }
}

/// A process that is waited for, though it is not our child: looked at again and again, for want of an event.
#[cfg(not(target_os = "linux"))]
struct Process(Option<rustix::process::Pid>);

#[cfg(not(target_os = "linux"))]
impl Process {
    fn open(pid: u32) -> Result<Self, Failure> {
        Ok(Self(i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)))
    }

    async fn ended(self) -> Result<(), Failure> {
        let Some(pid) = self.0 else { return Ok(()) };
        loop {
            match rustix::process::test_kill_process(pid) {
                Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(fault(error)),
            }
        }
    }
}
