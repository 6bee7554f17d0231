//! What a running job may submit, and what may be asked of a server for it.
//!
//! A job of this node that nothing keeps apart from it speaks for the node's user, and may do what that user may. One that
//! is kept apart, because it was asked for or because the node's owner wants it of every job, must not have another job do
//! what it can't do itself: its children are kept apart as well as it is at least, and have no network and no secret that
//! it doesn't have. Their own children are bound by the same, since what binds a child is in its spec. A request that is
//! made for a script reaches what its http job would reach.
//!
//! The hard case is what has no code: a request, a question or an image goes out over the network by the node's own
//! hands, and says to whoever answers what the submission says.

use jobmesh_protocol::submission::Conflict;
use jobmesh_protocol::task::{Pull, Task};
use jobmesh_protocol::{Isolation, JobSpec, RunId, Submission};

use crate::command::Report;
use crate::engine::Engine;
use crate::output::{Reach, Refusal, Response};
use crate::run::Running;
use crate::step::Step;
use crate::submit::Answer;

impl Engine {
    /// Takes on what a running job submits.
    pub(crate) fn submit_child(&mut self, step: &mut Step<'_>, parent: RunId, mut submission: Submission) -> Answer {
        match self.judge_child(parent, &mut submission) {
            Ok(()) => self.submit(step, vec![submission]),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Judges what a running job would submit, and binds it to what that one may do.
    ///
    /// # Errors
    /// Why it may not.
    pub(crate) fn judge_child(&self, parent: RunId, submission: &mut Submission) -> Result<(), Refusal> {
        let running = self.running.get(&parent).ok_or(Refusal::NotRunning)?;
        if running.job.origin.is_some() {
            return Err(Refusal::ForeignParent);
        }
        let Some(level) = confinement(running) else { return Ok(()) };
        let bound = bind(&running.job.spec, level, submission);
        bound.map_err(|rule| Refusal::Confined { parent: running.job.number, level, rule })
    }

    /// Says what a request may reach that a running job wants to be made. That it wants one shows that it lives.
    pub(crate) fn grant_request(&mut self, step: &Step<'_>, run: RunId) -> Answer {
        if let Err(refusal) = self.on_report(step, run, Report::Heartbeat)? {
            return Ok(Err(refusal));
        }
        Ok(self.running.get(&run).ok_or(Refusal::NotRunning).and_then(reach).map(Response::Granted))
    }
}

/// The level that binds what is done for a run; none if it may do what its owner may.
fn confinement(running: &Running) -> Option<Isolation> {
    Some(running.level).filter(|level| *level > Isolation::Contained)
}

/// What a request of a run may reach.
fn reach(running: &Running) -> Result<Reach, Refusal> {
    if !matches!(running.job.spec.task, Task::Lua(_)) {
        return Err(Refusal::NoScript);
    }
    if !running.job.spec.network {
        return Err(Refusal::NoNetwork);
    }
    let is_apart = running.job.origin.is_some() || confinement(running).is_some();
    Ok(if is_apart { Reach::Guarded } else { Reach::Open })
}

/// Binds a child to what its parent may do.
///
/// # Errors
/// The rule that it breaks.
fn bind(parent: &JobSpec, level: Isolation, child: &mut Submission) -> Result<(), &'static str> {
    if !parent.network && uses_network(&child.spec) {
        return Err(
            "it has no network, so it can submit nothing that uses it: no `network`, no request, no question to a \
                    model, and no container but one that is never pulled",
        );
    }
    if child.spec.secrets.values().any(|name| !parent.secrets.values().any(|own| own == name)) {
        return Err("what it submits can have no secrets but its own");
    }
    if matches!(child.spec.task, Task::Builtin(_)) {
        return Err("the housekeeping of the node is not its business");
    }
    let changes_others = child.unique.as_ref().is_some_and(|unique| match unique.on_conflict {
        Conflict::Replace | Conflict::Merge | Conflict::Debounce(_) => true,
        Conflict::Return | Conflict::Reject | Conflict::Throttle(_) => false,
    });
    if changes_others {
        return Err(
            "what it submits can't replace, add to or put off another job; let its unique key return or reject",
        );
    }
    child.spec.isolation = child.spec.isolation.max(Some(level));
    Ok(())
}

/// Whether a job reaches the network, or has the node reach it.
fn uses_network(spec: &JobSpec) -> bool {
    spec.network
        || match &spec.task {
            Task::Http(_) | Task::Llm(_) | Task::Embedding(_) => true,
            Task::Container(container) => container.pull != Some(Pull::Never),
            Task::Process(_) | Task::Wasm(_) | Task::Lua(_) | Task::Noop {} | Task::Builtin(_) => false,
        }
}
