//! `jobmesh down`: stop the node, and return when it is gone.

use clap::Args;
use jobmesh::api::{Done, ShutdownMode, ShutdownRequest, Status};
use jobmesh_protocol::DurationMillis;
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
        let status: Status = match client.get("/v1/status").await {
            Ok(status) => status,
            Err(ClientError::Unreachable { .. }) => {
                let home = context.home.path().display().to_string();
                context.output.show(&json!({"stopped": false}), |_| format!("No node runs in {home}.\n"))?;
                return Ok(Exit::OK);
            }
            Err(error) => return Err(error.into()),
        };
        let mode = if self.now { ShutdownMode::Now } else { ShutdownMode::Drain };
        let limit = std::time::Duration::from_millis(self.timeout.0);
        match tokio::time::timeout(limit, stop(&client, status.pid, mode)).await {
            Ok(result) => result?,
            Err(_elapsed) => {
                let message = format!("the node, pid {}, still runs after {}", status.pid, length(self.timeout));
                return Err(Failure::new(Kind::Timeout, message).hint("stop it at once with `jobmesh down --now`"));
            }
        }
        let said = format!("{} is down.\n", crate::cli::clean(&status.name));
        context.output.show(&json!({"stopped": true, "pid": status.pid}), |_| said)?;
        Ok(Exit::OK)
    }
}

/// Asks the node to stop and waits until its process has ended.
async fn stop(client: &Client, pid: u32, mode: ShutdownMode) -> Result<(), Failure> {
    // The process is taken hold of before it is asked, so that its number can't become another's.
    let process = Process::open(pid)?;
    let _: Done = client.post("/v1/shutdown", &ShutdownRequest { mode }).await?;
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
