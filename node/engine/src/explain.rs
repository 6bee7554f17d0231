//! Why a job is where it is: the same admission that schedules it, asked for its reasons.

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::{JobId, JobState, NodeId, RunId, UnixMillis};
use jobmesh_store::{Attempt, Job};
use serde::Serialize;

use crate::admission::{blocked, lacks};
use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::step::Step;
use crate::submit::Answer;

/// Everything that is known about a job's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The job's number on this node.
    pub number: u64,
    /// Its state.
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Since when it is in this state.
    pub since: UnixMillis,
    /// Every reason why it does not run here now; empty if nothing holds it.
    pub reasons: Vec<String>,
    /// Every known node and how it stands to the job, nearest first.
    pub nodes: Vec<NodeFit>,
}

/// How one node stands to a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeFit {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Whether it is this node.
    pub is_self: bool,
    /// Whether it is connected now.
    pub is_connected: bool,
    /// The requirements and resources that it lacks.
    pub lacks: Vec<String>,
    /// What it last said to an offer of this job.
    pub answer: Option<String>,
}

impl Engine {
    pub(crate) fn explain(&self, step: &Step<'_>, id: JobId) -> Answer {
        let Some(job) = step.view().job(id)? else { return Ok(Err(Refusal::NoSuchJob(id))) };
        let nodes = self.fits(&job);
        let reasons = self.reasons(&job, &nodes);
        let attempt = step.view().attempt(RunId { job: id, epoch: job.epoch })?;
        let summary = self.summary(step, &job, attempt.as_ref(), &nodes, &reasons);
        let (number, state, since) = (job.number, job.state, job.state_since);
        Ok(Ok(Response::Explained(Box::new(Explanation { number, state, summary, since, reasons, nodes }))))
    }

    /// How every known node stands to a job, those that lack least first.
    fn fits(&self, job: &Job) -> Vec<NodeFit> {
        let answers = self.patience.get(&job.id).map(|patience| &patience.answers);
        let own = NodeFit {
            node: self.me,
            name: self.config.name.clone(),
            is_self: true,
            is_connected: true,
            lacks: lacks(&self.record, &job.spec),
            answer: None,
        };
        let others = self.peers.iter().filter_map(|(node, peer)| {
            let record = peer.record.as_ref()?;
            Some(NodeFit {
                node: *node,
                name: self.name_of(*node),
                is_self: false,
                is_connected: peer.is_connected,
                lacks: lacks(record, &job.spec),
                answer: answers.and_then(|answers| answers.get(node)).cloned(),
            })
        });
        let mut fits: Vec<NodeFit> = std::iter::once(own).chain(others).collect();
        fits.sort_by_key(|fit| (fit.lacks.len(), !fit.is_connected, !fit.is_self));
        fits
    }

    fn reasons(&self, job: &Job, nodes: &[NodeFit]) -> Vec<String> {
        match job.state {
            JobState::Available | JobState::Offered => {
                let mut reasons: Vec<String> =
                    blocked(&job.spec, &self.snapshot()).iter().map(crate::admission::Blocked::words).collect();
                reasons.extend(network_reason(job, nodes));
                reasons
            }
            JobState::Pending
            | JobState::Scheduled
            | JobState::Running
            | JobState::Suspended
            | JobState::Retryable
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => Vec::new(),
        }
    }

    fn summary(
        &self,
        step: &Step<'_>,
        job: &Job,
        attempt: Option<&Attempt>,
        nodes: &[NodeFit],
        reasons: &[String],
    ) -> String {
        let runner = attempt.map(|attempt| self.name_of(attempt.node));
        let runner = runner.as_deref().unwrap_or("no node");
        match job.state {
            JobState::Pending => "waits until its preconditions are met".to_owned(),
            JobState::Scheduled => format!("waits for {}", date(job)),
            JobState::Available => waits(job, nodes, reasons),
            JobState::Offered if self.auctions.contains_key(&job.id) => "is out for bids".to_owned(),
            JobState::Offered => format!("was awarded to {runner}, which has not confirmed yet"),
            JobState::Running => format!("runs on {runner}, attempt {}", job.epoch),
            JobState::Suspended => "waits in the middle of its work".to_owned(),
            JobState::Retryable => {
                let wait = job.run_at.unwrap_or(step.wall()).since(step.wall()).0.div_ceil(1000);
                format!("failed {} of {} attempts; tries again in {wait} s", job.failures, job.spec.max_attempts)
            }
            JobState::Completed => format!("completed on {runner}"),
            JobState::Discarded => {
                let why = attempt.and_then(|attempt| attempt.message.clone()).unwrap_or_else(|| "it failed".to_owned());
                format!("was discarded ({}) after attempt {} on {runner}: {why}", reason(job), job.epoch)
            }
            JobState::Cancelled => match &job.cancel_reason {
                Some(why) if !why.is_empty() => format!("was cancelled: {why}"),
                Some(_) | None => "was cancelled".to_owned(),
            },
            JobState::Skipped => format!("was skipped ({})", reason(job)),
        }
    }
}

fn date(job: &Job) -> String {
    job.run_at.map_or_else(|| "its time".to_owned(), UnixMillis::to_rfc3339)
}

fn reason(job: &Job) -> &'static str {
    job.finish_reason.map_or("no reason recorded", jobmesh_protocol::state::FinishReason::word)
}

fn waits(job: &Job, nodes: &[NodeFit], reasons: &[String]) -> String {
    let nobody = nodes.iter().all(|fit| !fit.lacks.is_empty());
    match (nodes.first(), reasons.first()) {
        (Some(nearest), _) if nobody => {
            let lacks = nearest.lacks.join(", ");
            format!("waits: no known node meets its requirements; {} comes nearest and lacks {lacks}", nearest.name)
        }
        (_, Some(reason)) if job.spec.scope == Scope::Local => format!("waits: {reason}"),
        (_, Some(reason)) => format!("waits: {}", reasons.last().unwrap_or(reason)),
        (_, None) => "is about to start".to_owned(),
    }
}

/// Why no peer has taken a job that may leave this node.
fn network_reason(job: &Job, nodes: &[NodeFit]) -> Option<String> {
    if job.spec.scope == Scope::Local {
        return None;
    }
    let capable: Vec<&NodeFit> = nodes.iter().filter(|fit| !fit.is_self && fit.lacks.is_empty()).collect();
    let connected = capable.iter().filter(|fit| fit.is_connected).count();
    if capable.is_empty() {
        Some("no other known node meets its requirements".to_owned())
    } else if connected == 0 {
        let names: Vec<&str> = capable.iter().map(|fit| fit.name.as_str()).collect();
        Some(format!("the nodes that could run it are not connected: {}", names.join(", ")))
    } else {
        let answers: Vec<String> = capable
            .iter()
            .filter_map(|fit| fit.answer.as_ref().map(|answer| format!("{} {answer}", fit.name)))
            .collect();
        let said = if answers.is_empty() { "none has bid yet".to_owned() } else { answers.join("; ") };
        Some(format!("{connected} connected nodes could run it: {said}"))
    }
}
