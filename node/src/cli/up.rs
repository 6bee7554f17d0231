//! `jobmesh up`: start the node, here or in the background.

use std::ffi::OsString;

use clap::Args;
use jobmesh::api::Status;
use jobmesh::config::{Config, Overrides};
use jobmesh::daemon::{self, DetachError, ServeError, Started};
use serde::Serialize;

use crate::cli::{Context, Exit, Failure, Kind, clean, note};

#[derive(Args, Debug)]
#[command(after_help = "Each option wins over the environment (JOBMESH_NAME, JOBMESH_SLOTS, JOBMESH_LISTEN, \
                        JOBMESH_MDNS, JOBMESH_LOG), and that over config.toml in the data directory.")]
pub(crate) struct Up {
    /// Go to the background once the node answers
    #[arg(long, short)]
    detach: bool,
    /// The node's name for people [default: the name of the machine]
    #[arg(long)]
    name: Option<String>,
    /// How many jobs run at once [default: one per processor]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Where to listen for other nodes, as a multiaddress (may be repeated)
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Whether to look for members on the local network
    #[arg(long, value_name = "true|false")]
    mdns: Option<bool>,
    /// What to log, such as `info` or `jobmesh=debug`
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Begin anew without jobs where the job database is lost; one that is there stays. What the jobs of the lost one
    /// left is kept aside, in a directory beside it
    #[arg(long)]
    new_database: bool,
}

/// A node that runs in the background.
#[derive(Serialize)]
struct Running {
    /// Whether it was started just now.
    started: bool,
    status: Status,
}

impl Up {
    /// Whether the node is to run in a process of its own.
    pub(crate) const fn is_detached(&self) -> bool {
        self.detach
    }

    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let log = self.log.or_else(|| (context.verbose > 0).then(|| "debug".to_owned()));
        let listen = (!self.listen.is_empty()).then_some(self.listen);
        let flags = Overrides { name: self.name, slots: self.slots, listen, mdns: self.mdns, log };
        // Judged here even if the node is to run in the background: its faults are for the user to see.
        let config = Config::resolve(context.home.clone(), flags.clone());
        let config = config.map_err(|error| Failure::of(Kind::Config, &error))?;
        if self.new_database {
            let aside = daemon::make_database(&context.home).map_err(|error| stopped(&error))?;
            if let Some(aside) = aside {
                note(&format!("what the jobs of the lost database left is in {} now", aside.display()));
            }
        }
        if self.detach {
            return detach(context, &arguments(flags)).await;
        }
        Box::pin(daemon::serve(config)).await.map_err(|error| stopped(&error))?;
        Ok(Exit::OK)
    }
}

async fn detach(context: &Context, arguments: &[OsString]) -> Result<Exit, Failure> {
    let started = daemon::start_detached_with(&context.home, arguments).await.map_err(|error| not_started(&error))?;
    let client = context.client()?;
    let status: Status = match client.get("/v1/status").await {
        Ok(status) => status,
        // What was started here and can't say how it is must not go on unseen.
        Err(error) if started == Started::Now => {
            let gone = super::down::stop_now(&client).await;
            let left = gone.err().map(|failure| format!("; it still runs: {}", failure.message())).unwrap_or_default();
            let failure = Failure::from(error);
            return Err(if left.is_empty() {
                failure
            } else {
                failure.hint(format!("stop it with `jobmesh down --now`{left}"))
            });
        }
        Err(error) => return Err(error.into()),
    };
    if status.is_draining {
        let message = format!("{} (process {}) is up, but it is on its way down", status.name, status.pid);
        return Err(
            Failure::new(Kind::Draining, message).hint("wait until it is down, or end it with `jobmesh down --now`")
        );
    }
    let running = Running { started: started == Started::Now, status };
    context.output.show(&running, |_| {
        let Status { name, pid, .. } = &running.status;
        let how = if running.started { "is up" } else { "was up already" };
        format!("{} {how}, pid {pid}. Stop it with `jobmesh down`.\n", clean(name))
    })?;
    Ok(Exit::OK)
}

/// The same flags once more, for the process in the background.
fn arguments(flags: Overrides) -> Vec<OsString> {
    let Overrides { name, slots, listen, mdns, log } = flags;
    let listen = listen.into_iter().flatten().map(|address| format!("--listen={address}"));
    name.map(|name| format!("--name={name}"))
        .into_iter()
        .chain(slots.map(|slots| format!("--slots={slots}")))
        .chain(listen)
        .chain(mdns.map(|mdns| format!("--mdns={mdns}")))
        .chain(log.map(|log| format!("--log={log}")))
        .map(OsString::from)
        .collect()
}

/// Why the node does not run in the foreground.
fn stopped(error: &ServeError) -> Failure {
    Failure::of(kind(error.exit_code().into()), error)
}

/// Why the node does not run in the background.
pub(crate) fn not_started(error: &DetachError) -> Failure {
    Failure::of(error.exit_code().map_or(Kind::Unreachable, kind), error)
}

const fn kind(exit_code: i32) -> Kind {
    match exit_code {
        69 => Kind::InUse,
        75 => Kind::DiskFull,
        78 => Kind::Config,
        _ => Kind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_background_gets_the_same_flags() {
        let flags = Overrides {
            name: Some("-a b".to_owned()),
            slots: Some(2),
            listen: Some(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]),
            mdns: Some(false),
            log: None,
        };
        assert_eq!(arguments(flags), ["--name=-a b", "--slots=2", "--listen=/ip4/127.0.0.1/tcp/0", "--mdns=false"]);
    }
}
