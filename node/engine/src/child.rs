//! What a running job may submit.
//!
//! A job of this node that nothing keeps apart from it speaks for the node's user, and may submit what that user may. One
//! that was asked to be kept apart must not have another job do what it can't do itself: its children are kept apart as
//! well as it is at least, and have no network and no secret that it doesn't have. Their own children are bound by the
//! same, since what binds a child is in its spec.
//!
//! The hard case is what has no code: a request, a question or an image goes out over the network by the node's own
//! hands, and says to whoever answers what the submission says.

use std::sync::Arc;

use jobmesh_protocol::submission::Conflict;
use jobmesh_protocol::task::{Pull, Task};
use jobmesh_protocol::{Isolation, JobSpec, RunId, Submission};

use crate::engine::Engine;
use crate::output::Refusal;
use crate::step::Step;
use crate::submit::Answer;

impl Engine {
    /// Takes on what a running job submits.
    pub(crate) fn submit_child(&mut self, step: &mut Step<'_>, parent: RunId, mut submission: Submission) -> Answer {
        let Some(running) = self.running.get(&parent) else { return Ok(Err(Refusal::NotRunning)) };
        if running.job.origin.is_some() {
            return Ok(Err(Refusal::ForeignParent));
        }
        let (number, spec) = (running.job.number, Arc::clone(&running.job.spec));
        if let Some(level) = confinement(&spec)
            && let Err(rule) = bind(&spec, level, &mut submission)
        {
            return Ok(Err(Refusal::Confined { parent: number, level, rule }));
        }
        self.submit(step, vec![submission])
    }
}

/// The level that binds the children of a job; none if it may do what its owner may.
fn confinement(parent: &JobSpec) -> Option<Isolation> {
    parent.isolation.filter(|level| *level > Isolation::Contained)
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
