//! How the node is, and asking it to stop.

use axum::Json;
use axum::extract::State;
use jobmesh_engine::{Command, Response};
use jobmesh_protocol::NodeId;
use jobmesh_store::{Alarm as StoredAlarm, AlarmKind, View};

use super::Control;
use super::error::Answer;
use super::extract::Ask;
use super::queues::{claimed_queues, count_as_waiting};
use crate::api::{Alarm, BlobUse, Done, ShutdownRequest, Status};

pub(super) async fn show(State(control): State<Control>) -> Answer<Json<Status>> {
    let handle = &control.handle;
    let claimed = handle.claimed();
    let running = handle.runs().len().saturating_sub(claimed.len());
    let read = move |view: View<'_>| Ok((view.job_counts()?, claimed_queues(view, claimed)?.len(), view.alarms()?));
    let (jobs, claimed, alarms) = handle.read(read).await?;
    let mut jobs = jobs.into_iter().collect();
    count_as_waiting(&mut jobs, claimed);
    let standing = handle.roster().standing();
    Ok(Json(Status {
        node: handle.node(),
        name: handle.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: handle.booted_at(),
        home: handle.home().path().display().to_string(),
        mesh: standing.mesh,
        role: standing.role,
        certificate_not_after: standing.not_after,
        addresses: handle.addresses(),
        connected: u32::try_from(handle.roster().sessions().len()).unwrap_or(u32::MAX),
        slots: handle.slots(),
        running: u32::try_from(running).unwrap_or(u32::MAX),
        jobs,
        is_draining: handle.is_draining(),
        blobs: BlobUse { bytes: handle.blobs().shelf().used(), quota: handle.blobs().shelf().quota() },
        alarms: alarms.into_iter().map(|alarm| words_of(alarm, handle.node())).collect(),
        counters: counters(&control).await,
    }))
}

fn words_of(alarm: StoredAlarm, me: NodeId) -> Alarm {
    let StoredAlarm { kind, node, count, first_at, last_at } = alarm;
    let short = node.short();
    let words = match kind {
        AlarmKind::Older => format!(
            "{short} has seen more of this database than it holds: a backup was restored, or a copy of it is in use; \
             of the jobs that wait, those that must not run twice are held; `jobmesh ls` shows them and `jobmesh release` \
             lets one go"
        ),
        AlarmKind::Cloned if node == me => "something is signed with this node's key that it did not write: stop the \
                                            other node with a copy of this home, or see whether the clock was set back"
            .to_owned(),
        AlarmKind::Cloned => {
            format!("{short} speaks from two databases: its home was copied or set back; stop one of the two nodes")
        }
    };
    Alarm { kind: kind.word().to_owned(), node, count, first_at, last_at, words }
}

/// What engine and mesh count. An engine that is busy or whose disk is full keeps nobody from seeing the rest.
async fn counters(control: &Control) -> std::collections::BTreeMap<String, u64> {
    let mut all = control.handle.mesh_counters();
    if let Ok(Response::Counted(counted)) = control.handle.command(Command::Counters).await {
        for (name, count) in counted {
            *all.entry(name).or_default() += count;
        }
    }
    all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

pub(super) async fn shutdown(State(control): State<Control>, Ask(body): Ask<ShutdownRequest>) -> Answer<Json<Done>> {
    // The daemon takes two wishes at a time; a third says nothing new.
    let changed = control.shutdown.try_send(body.mode).is_ok();
    std::future::ready(Ok(Json(Done { changed }))).await
}
