//! The secrets of a run: looked up here if the job is this node's own, asked of its origin if it is a peer's, and told to
//! a peer that runs a job of ours.
//!
//! **The hard case** is who may ask. Whoever was awarded the job may, as long as the attempt is open and every secret is
//! still entrusted to it: an owner who takes a name out of the configuration is obeyed from then on, awarded or not. The
//! values go from the place where they are kept straight into the answer, and from the answer into the order of the run;
//! neither node writes them down.

use std::collections::BTreeMap;

use jobmesh_engine::RunOrder;
use jobmesh_executors::{Secret, Secrets};
use jobmesh_mesh::SecretsError;
use jobmesh_protocol::secret::{Answer, LINES_MAX, Request, VALUES_BYTES_MAX, are_bounded};
use jobmesh_protocol::ticket::LeaseKey;
use jobmesh_protocol::{JobNumber, NodeId, Outcome, RunId};
use jobmesh_store::{StoreError, View};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use crate::causes::causes;

/// Most questions of this node at once: the peer that is asked takes a few at a time.
pub(super) const QUESTIONS_MAX: usize = 8;

/// The secrets of an order. A keyring may wait for a person and a peer may be silent: the search ends when the run is
/// `stopped`.
///
/// # Errors
/// How the run ends without them.
pub(super) async fn of(handle: &Handle, order: &RunOrder, stopped: &CancellationToken) -> Result<Secrets, Outcome> {
    if order.secrets.is_empty() {
        return Ok(Secrets::default());
    }
    let secrets = stopped.run_until_cancelled(look_up(handle, order)).await.unwrap_or(Err(Outcome::Cancelled))?;
    let (handle, run) = (handle.clone(), order.run);
    let marking = tokio::task::spawn_blocking(move || {
        handle.shared().guarded.watch(run, &secrets)?;
        Ok::<_, std::io::Error>(secrets)
    });
    match marking.await {
        Ok(Ok(secrets)) => Ok(secrets),
        Ok(Err(error)) => Err(Outcome::error(format!("it can't be marked as having secrets: {error}"))),
        Err(_) => Err(Outcome::error("it can't be marked as having secrets; see the log")),
    }
}

async fn look_up(handle: &Handle, order: &RunOrder) -> Result<Secrets, Outcome> {
    if order.origin.is_some() {
        // They mean something at the origin only, where another may have the same name.
        return of_peer(handle, order).await;
    }
    let (config, wanted) = (handle.config(), order.secrets.clone());
    match tokio::task::spawn_blocking(move || config.secrets.of_job(&wanted)).await {
        Ok(found) => found.map_err(|error| error.outcome()),
        Err(_) => Err(Outcome::error("its secrets could not be looked up; see the log")),
    }
}

/// The secrets of a peer's job, by the origin's word. Without them it is given back: it has not begun.
async fn of_peer(handle: &Handle, order: &RunOrder) -> Result<Secrets, Outcome> {
    let given_back = |reason: String| Outcome::Released { reason };
    let job = order.run.job;
    let lease = handle.read(move |view| view.lease(job)).await;
    let lease = lease.map_err(|error| given_back(format!("its lease can't be read: {error}")))?;
    let lease = lease.ok_or_else(|| given_back("it has no lease any more".to_owned()))?;
    let answer = ask(handle, lease.origin, Request { key: lease.key() }).await;
    match answer.map_err(|error| given_back(format!("its secrets could not be had: {}", causes(&error))))? {
        Answer::Given(values) => filled(&order.secrets, values)
            .ok_or_else(|| given_back("its origin did not give all of its secrets".to_owned())),
        Answer::Withheld => Err(given_back("its origin does not entrust this node with its secrets".to_owned())),
        Answer::Missing => {
            Err(Outcome::error("its secrets are not there on the node that submitted it; see `jobmesh secrets` there"))
        }
    }
}

/// Asks once. What is not answered gives the attempt back, and its origin decides what becomes of it.
async fn ask(handle: &Handle, origin: NodeId, request: Request) -> Result<Answer, SecretsError> {
    // Closed it never is; if it were, more would be asked at once.
    let _permit = handle.shared().questions.acquire().await.ok();
    let mesh = handle.shared().link.mesh().ok_or(SecretsError::NotConnected { node: origin })?;
    mesh.ask_secrets(origin, request).await
}

/// What was wanted of what was given; none if something is missing.
fn filled(wanted: &BTreeMap<String, String>, mut given: BTreeMap<String, String>) -> Option<Secrets> {
    let mut secrets = Secrets::default();
    for (variable, name) in wanted {
        let value = given.remove(variable).filter(|value| !value.is_empty() && !value.contains('\0'))?;
        secrets.insert(variable.clone(), name.clone(), Secret::new(value));
    }
    Some(secrets)
}

/// Answers a peer that asks for the secrets of a job that it runs for this node.
pub(super) async fn serve(handle: Handle, from: NodeId, request: Request, reply: oneshot::Sender<Answer>) {
    let asked = handle.read(move |view| awarded(view, from, request.key)).await;
    let answer = match asked {
        Ok(Some((number, wanted))) => give(&handle, from, number, wanted).await,
        Ok(None) => {
            tracing::warn!(peer = %from.short(), "a peer asked for the secrets of a job that it does not have");
            Answer::Withheld
        }
        Err(error) => {
            tracing::error!(%error, "could not find out whether a peer may have the secrets of a job");
            Answer::Missing
        }
    };
    // Whoever asked may have gone.
    let _ = reply.send(answer);
}

/// A job of this node that a peer runs, and the names of its secrets by the variables that they go to.
type Awarded = (JobNumber, BTreeMap<String, String>);

/// The secrets that a job of this node names, if that peer has an open attempt of it.
fn awarded(view: View<'_>, peer: NodeId, key: LeaseKey) -> Result<Option<Awarded>, StoreError> {
    let run = RunId { job: key.ticket.into(), epoch: key.epoch };
    let is_open = view.attempt(run)?.is_some_and(|attempt| attempt.node == peer && !attempt.state.is_final());
    let job = if is_open { view.job(run.job)? } else { None };
    let job = job.filter(|job| job.epoch == run.epoch && job.origin.is_none() && !job.state.is_final());
    Ok(job.map(|job| (job.number, job.spec.secrets.clone())))
}

async fn give(handle: &Handle, peer: NodeId, job: JobNumber, wanted: BTreeMap<String, String>) -> Answer {
    let config = handle.config();
    if !config.secrets.is_entrusted(peer, wanted.values()) {
        tracing::warn!(peer = %peer.short(), %job, "a peer is not entrusted with the secrets of a job any more");
        return Answer::Withheld;
    }
    let looked = tokio::task::spawn_blocking(move || {
        let look = |(variable, name): (&String, &String)| {
            Ok((variable.clone(), config.secrets.look_up(name)?.reveal().to_owned()))
        };
        wanted.iter().map(look).collect::<Result<BTreeMap<String, String>, crate::secrets::SecretError>>()
    });
    match looked.await {
        Ok(Ok(values)) if are_bounded(&values) => {
            tracing::info!(peer = %peer.short(), %job, "gave the secrets of a job to the peer that runs it");
            Answer::Given(values)
        }
        Ok(Ok(_)) => {
            tracing::error!(
                %job,
                "the secrets of a job have more than {VALUES_BYTES_MAX} bytes or {LINES_MAX} lines; a peer can't have them"
            );
            Answer::Missing
        }
        Ok(Err(error)) => {
            tracing::error!(%job, error = %causes(&error), "the secrets of a job that a peer runs are not there");
            Answer::Missing
        }
        Err(_) => Answer::Missing,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_was_not_wanted_is_left_out_and_what_is_missing_is_noticed() {
        let wanted = map(&[("TOKEN", "registry")]);
        let mut expected = Secrets::default();
        expected.insert("TOKEN".to_owned(), "registry".to_owned(), Secret::new("hunter2".to_owned()));
        assert_eq!(filled(&wanted, map(&[("TOKEN", "hunter2"), ("PATH", "/tmp")])).unwrap(), expected);
        for given in [map(&[]), map(&[("OTHER", "x")]), map(&[("TOKEN", "")]), map(&[("TOKEN", "a\0b")])] {
            assert_eq!(filled(&wanted, given), None);
        }
    }
}
