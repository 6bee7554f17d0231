//! How long a message takes to another node and back, on a session that is open, with no engine and no disk behind it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jobmesh_keys::{Grant, Identity, Membership, MeshRoot, NodeId, Role, Serial};
use jobmesh_mesh::{Config, Event, Mesh};
use jobmesh_protocol::UnixMillis;
use tokio::runtime::Builder;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::RoundTrips;
use crate::bench::error::BenchError;
use crate::bench::site::LISTEN;
use crate::bench::statistics::Samples;
use crate::bench::stop::Stop;

/// What an offer or a bid takes on the wire, more or less.
const FRAME: [u8; 300] = [0x5a; 300];
/// How long the two may take to find each other, and a message to come back.
const LIMIT: Duration = Duration::from_secs(20);
/// One thread for each of the two, as two daemons on two processors have.
const THREADS: usize = 2;

/// Starts two meshes of one member each in this process and sends so many messages there and back, one after the other.
pub(super) fn round_trips(count: usize, stop: &Stop) -> Result<RoundTrips, BenchError> {
    let failed = |source| BenchError::Spawn { program: "a runtime".into(), source };
    let runtime = Builder::new_multi_thread().worker_threads(THREADS).enable_all().build().map_err(failed)?;
    runtime.block_on(Box::pin(measure(count, stop)))
}

async fn measure(count: usize, stop: &Stop) -> Result<RoundTrips, BenchError> {
    let root = MeshRoot::new(identity()?);
    let (here, mut heard) = start(&root, "here").await?;
    let (there, mut asked) = start(&root, "there").await?;
    here.mesh.dial(there.node, there.mesh.addresses());
    admitted(&mut heard).await?;
    let echoing = there.mesh.clone();
    let mut echo = JoinSet::new();
    echo.spawn(async move {
        while let Some(event) = asked.recv().await {
            if let Event::Frame { from, bytes } = event {
                // One that is lost is missed at the other end.
                let _ = echoing.send(from, bytes);
            }
        }
    });
    let mut samples = Samples::default();
    for _ in 0..count {
        stop.check()?;
        let start = Instant::now();
        // What can't be sent does not come back.
        let _ = here.mesh.send(there.node, FRAME.to_vec());
        answered(&mut heard).await?;
        samples.add(start.elapsed());
    }
    here.mesh.stop().await;
    echo.shutdown().await;
    there.mesh.stop().await;
    Ok(RoundTrips { median: samples.median(), slow: samples.percentile(95) })
}

/// One of the two.
struct End {
    mesh: Mesh,
    node: NodeId,
}

fn identity() -> Result<Identity, BenchError> {
    Ok(Identity::from_seed(random()?))
}

fn random<const N: usize>() -> Result<[u8; N], BenchError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| BenchError::Untold { what: "a random number" })?;
    Ok(bytes)
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

async fn start(root: &MeshRoot, name: &str) -> Result<(End, Receiver<Event>), BenchError> {
    let identity = identity()?;
    let node = identity.node();
    let grant = Grant {
        member: node,
        role: Role::Member,
        sponsor: node,
        issued_at_ms: 0,
        not_after_ms: now().0.saturating_add(3_600_000),
        serial: Serial::from_bytes(random()?),
    };
    let config = Config {
        identity,
        mesh: root.mesh(),
        membership: Membership::issue_root(root, &grant),
        name: name.to_owned(),
        listen: LISTEN.map(str::to_owned).to_vec(),
        mdns: false,
        known: Vec::new(),
        // Nothing is sent but frames.
        outboards: std::env::temp_dir().join("jobmesh-bench-outboards"),
        now,
    };
    let (mesh, events) = Box::pin(Mesh::start(config)).await?;
    Ok((End { mesh, node }, events))
}

async fn admitted(events: &mut Receiver<Event>) -> Result<(), BenchError> {
    until(events, "the other end of a session", |event| matches!(event, Event::Admitted { .. })).await
}

async fn answered(events: &mut Receiver<Event>) -> Result<(), BenchError> {
    until(events, "an echo", |event| matches!(event, Event::Frame { .. })).await
}

async fn until(events: &mut Receiver<Event>, what: &str, is_it: impl Fn(&Event) -> bool) -> Result<(), BenchError> {
    let wait = async {
        while let Some(event) = events.recv().await {
            if is_it(&event) {
                return true;
            }
        }
        false
    };
    match timeout(LIMIT, wait).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(BenchError::Gone { question: what.to_owned() }),
        Err(_elapsed) => Err(BenchError::Silent { question: format!("for {what}"), limit: LIMIT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_there_and_back() {
        let found = round_trips(20, &Stop::default());
        assert!(found.as_ref().is_ok_and(|it| it.slow >= it.median && it.median > Duration::ZERO), "{found:?}");
    }

    #[test]
    fn a_wish_to_stop_ends_the_measurement() {
        let stop = Stop::default();
        stop.stop();
        assert!(matches!(round_trips(20, &stop), Err(BenchError::Interrupted)));
    }
}
