//! Why a job is where it is: the same admission that schedules it, asked for its reasons.

use jobmesh_protocol::job::Scope;
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Condition, Rule};
use jobmesh_protocol::{JobId, JobNumber, JobState, NodeId, RunId, UnixMillis};
use jobmesh_store::{Attempt, Edge, Job, StoreError};
use serde::Serialize;

use crate::admission::{Blocked, blocked, lacks, peer_lacks};
use crate::engine::Engine;
use crate::group::Tasked;
use crate::output::{Refusal, Response};
use crate::step::Step;
use crate::submit::{Answer, Edges};

/// What stands before the name of a secret among what a node lacks that may not have it.
const WITHHELD: &str = "the secret ";
/// Most jobs ahead that are counted.
const AHEAD_MAX: usize = 100_000;
/// Most jobs named that a job waits for.
const UPSTREAM_MAX: usize = 8;
/// Most jobs named that have the slots of a node.
const HOLDERS_MAX: usize = 4;

/// Everything that is known about a job's place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The job's number on this node; none of a plan that makes a new job.
    pub number: Option<JobNumber>,
    /// Its state.
    pub state: JobState,
    /// One sentence.
    pub summary: String,
    /// Since when it is in this state.
    pub since: UnixMillis,
    /// Every reason why it does not run here now; empty if nothing holds it.
    pub reasons: Vec<Reason>,
    /// How many jobs like it are ahead of it.
    pub ahead: u64,
    /// How long jobs of its type have taken of late, in microseconds.
    pub takes_micros: Option<u64>,
    /// Every known node and how it stands to the job, nearest first.
    pub nodes: Vec<NodeFit>,
}

/// One reason why a job does not run now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// One word for it, for programs.
    pub kind: &'static str,
    /// The words for people.
    pub words: String,
    /// Since when it is known to hold.
    pub since: UnixMillis,
    /// What would take it away.
    pub remedy: String,
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
    /// How likely it is to do such a job well, in thousandths, by what this node has seen and heard. Not part of what
    /// programs are told: how it is reckoned may change.
    #[serde(skip)]
    pub score: u64,
}

impl Engine {
    pub(crate) fn explain(&self, step: &Step<'_>, id: JobId) -> Answer {
        let Some(job) = step.view().job(id)? else { return Ok(Err(Refusal::NoSuchJob(id))) };
        let edges = step.view().dependencies(job.number)?;
        let explanation = self.explanation(step, (&job, &edges), Some(job.number))?;
        Ok(Ok(Response::Explained(Box::new(explanation))))
    }

    /// Explains a job that waits, or would wait, for these.
    pub(crate) fn explanation(
        &self,
        step: &Step<'_>,
        (job, edges): (&Job, &Edges),
        number: Option<JobNumber>,
    ) -> Result<Explanation, StoreError> {
        let nodes = self.fits(job);
        let reasons = self.reasons(step, (job, edges), &nodes)?;
        let attempt = step.view().telling_attempt(RunId { job: job.id, epoch: job.epoch }, job.state)?;
        let summary = self.summary(step, job, attempt.as_ref(), &nodes, &reasons);
        let lot = self.ready.lot_of(&self.profile(job));
        let waits = match job.state {
            JobState::Available | JobState::Offered => true,
            JobState::Running => self.groups.get(&job.number).is_some_and(Tasked::has_more),
            JobState::Pending
            | JobState::Scheduled
            | JobState::Suspended
            | JobState::Retryable
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled
            | JobState::Skipped => false,
        };
        let ahead = lot.filter(|_| waits).map_or(0, |lot| self.ready.ahead_of(lot, job.number, AHEAD_MAX) as u64);
        let takes_micros = self.durations.get(&job.spec.job_type).copied();
        let (state, since) = (job.state, job.state_since);
        Ok(Explanation { number, state, summary, since, reasons, ahead, takes_micros, nodes })
    }

    /// How every known node stands to a job, those that lack least first.
    fn fits(&self, job: &Job) -> Vec<NodeFit> {
        let answers = self.patience.get(&job.id).map(|patience| &patience.answers);
        let own = NodeFit {
            node: self.me,
            name: self.config.name.clone(),
            is_self: true,
            is_connected: true,
            lacks: lacks(&self.record, &job.spec, self.own_least()),
            answer: None,
            score: self.score(job, self.me),
        };
        let others = self.peers.iter().filter_map(|(node, peer)| {
            let record = peer.record.as_ref()?;
            let mut lacks = peer_lacks(record, &job.spec);
            lacks.extend(self.withheld(*node, &job.spec).into_iter().map(|secret| format!("{WITHHELD}{secret}")));
            Some(NodeFit {
                node: *node,
                name: self.name_of(*node),
                is_self: false,
                is_connected: peer.is_connected,
                lacks,
                answer: answers.and_then(|answers| answers.get(node)).cloned(),
                score: self.score(job, *node),
            })
        });
        let mut fits: Vec<NodeFit> = std::iter::once(own).chain(others).collect();
        fits.sort_by_key(|fit| (fit.lacks.len(), !fit.is_connected, !fit.is_self));
        fits
    }

    fn reasons(
        &self,
        step: &Step<'_>,
        (job, edges): (&Job, &Edges),
        nodes: &[NodeFit],
    ) -> Result<Vec<Reason>, StoreError> {
        let mut reasons = Vec::new();
        if let Some(why) = job.held.as_ref().filter(|_| !job.state.is_final()) {
            let words = if why.is_empty() { "it is held".to_owned() } else { format!("it is held: {why}") };
            let remedy = format!("`jobmesh release {}`", job.number);
            reasons.push(Reason { kind: "held", words, since: job.state_since, remedy });
        }
        match job.state {
            // What holds it back beside that for which it waits now would be news only later.
            JobState::Pending => {
                reasons.extend(upstream_reasons(job, edges));
                reasons.extend(job.run_at.filter(|at| *at > step.wall()).map(|_| time_reason(job)));
                reasons.extend(self.room_reasons(step, job, nodes));
            }
            JobState::Scheduled | JobState::Retryable => {
                reasons.push(time_reason(job));
                reasons.extend(self.room_reasons(step, job, nodes));
            }
            JobState::Available | JobState::Offered => reasons.extend(self.room_reasons(step, job, nodes)),
            JobState::Running if job.plan.is_group => reasons.extend(self.task_reasons(step, job, nodes)?),
            JobState::Running
            | JobState::Suspended
            | JobState::Completed
            | JobState::Discarded
            | JobState::Cancelled => {}
            JobState::Skipped if job.finish_reason == Some(FinishReason::UpstreamFailed) => {
                reasons.extend(culprits(job, edges));
            }
            JobState::Skipped => {}
        }
        Ok(reasons)
    }

    /// What holds back the next task of a group that runs: the next one to be made, or else the first that waits.
    fn task_reasons(&self, step: &Step<'_>, group: &Job, nodes: &[NodeFit]) -> Result<Vec<Reason>, StoreError> {
        if self.groups.get(&group.number).is_some_and(Tasked::has_more) {
            return Ok(if group.held.is_none() { self.room_reasons(step, group, nodes) } else { Vec::new() });
        }
        let waits = [JobState::Available, JobState::Retryable, JobState::Scheduled, JobState::Pending];
        match step.view().first_task_in(group.number, &waits)? {
            // A task is no group, so this goes no deeper.
            Some(task) => {
                let edges = step.view().dependencies(task.number)?;
                self.reasons(step, (&task, &edges), &self.fits(&task))
            }
            None => Ok(Vec::new()),
        }
    }

    fn room_reasons(&self, step: &Step<'_>, job: &Job, nodes: &[NodeFit]) -> Vec<Reason> {
        let profile = self.profile(job);
        let lot = self.ready.lot_of(&profile);
        let since = |kind| lot.and_then(|lot| self.ready.since(lot, kind)).unwrap_or(job.state_since);
        let here = blocked(&job.spec, &profile, &self.snapshot(step, profile.group));
        let words = |blocked: &Blocked| match blocked {
            Blocked::NoSlot { .. } => format!("{}{}", blocked.words(), self.holders()),
            Blocked::Draining
            | Blocked::NetworkOnly
            | Blocked::Incapable { .. }
            | Blocked::Paused { .. }
            | Blocked::QueueFull { .. }
            | Blocked::KeyFull { .. }
            | Blocked::GroupFull { .. }
            | Blocked::Rate { .. }
            | Blocked::NoRoom(_) => blocked.words(),
        };
        let reason = |blocked: &Blocked| Reason {
            kind: blocked.kind(),
            words: words(blocked),
            since: since(blocked.kind()).max(job.state_since),
            remedy: blocked.remedy(),
        };
        let mut reasons: Vec<Reason> = here.iter().map(reason).collect();
        // Where nothing holds it back here, nobody else is asked.
        let secret = secret_reason(job, nodes).filter(|_| !here.is_empty());
        let is_kept = secret.is_some();
        reasons.extend(secret);
        if let Some(words) = network_reason(job, nodes).filter(|_| !here.is_empty() && !is_kept) {
            let remedy = "a capable node joins, comes back or has room".to_owned();
            reasons.push(Reason { kind: "network", words, since: job.state_since, remedy });
        }
        reasons
    }

    /// Which jobs have the slots of this node, in words to go behind others.
    fn holders(&self) -> String {
        let mut jobs = self.running.values().filter(|run| run.follows.is_none()).map(|run| run.job.number.to_string());
        let named: Vec<String> = jobs.by_ref().take(HOLDERS_MAX).collect();
        let (jobs, named, more) = (if named.len() == 1 { "job" } else { "jobs" }, named.join(", "), jobs.count());
        match (named.is_empty(), more) {
            (true, _) => String::new(),
            (false, 0) => format!(", by {jobs} {named}"),
            (false, more) => format!(", by {jobs} {named} and {more} more"),
        }
    }

    fn summary(
        &self,
        step: &Step<'_>,
        job: &Job,
        attempt: Option<&Attempt>,
        nodes: &[NodeFit],
        reasons: &[Reason],
    ) -> String {
        let runner = attempt.map(|attempt| self.name_of(attempt.node));
        let on = runner.as_ref().map(|runner| format!(" on {runner}")).unwrap_or_default();
        let runner = runner.as_deref().unwrap_or("no node");
        match job.state {
            JobState::Pending => match reasons.iter().rfind(|reason| reason.kind == "dependency") {
                Some(reason) => format!("waits: {}", reason.words),
                None => "waits for other jobs".to_owned(),
            },
            JobState::Scheduled => format!("waits for {}", date(job)),
            JobState::Available => waits(nodes, reasons),
            JobState::Offered if self.auctions.contains_key(&job.id) => "is out for bids".to_owned(),
            JobState::Offered => format!("was awarded to {runner}, which has not confirmed yet"),
            JobState::Running if job.plan.is_group => self.group_summary(job, reasons),
            JobState::Running => format!("runs on {runner}, attempt {}", job.epoch),
            JobState::Suspended => "waits in the middle of its work".to_owned(),
            JobState::Retryable => {
                let wait = job.run_at.unwrap_or(step.wall()).since(step.wall()).0.div_ceil(1000);
                format!("failed {} of {} attempts; tries again in {wait} s", job.failures, job.spec.retry.max_attempts)
            }
            JobState::Completed => format!("completed{on}"),
            JobState::Discarded if attempt.is_none() => format!("was discarded ({})", reason(job)),
            JobState::Discarded => {
                let why = attempt.and_then(|attempt| attempt.message.clone()).unwrap_or_else(|| "it failed".to_owned());
                format!("was discarded ({}) after attempt {} on {runner}: {why}", reason(job), job.epoch)
            }
            JobState::Cancelled => match &job.cancel_reason {
                Some(why) if !why.is_empty() => format!("was cancelled: {why}"),
                Some(_) | None => "was cancelled".to_owned(),
            },
            JobState::Skipped => match reasons.first() {
                Some(culprit) => format!("was skipped ({}): {}", reason(job), culprit.words),
                None => format!("was skipped ({})", reason(job)),
            },
        }
    }
}

impl Engine {
    fn group_summary(&self, job: &Job, reasons: &[Reason]) -> String {
        let Some(group) = self.groups.get(&job.number) else { return "runs".to_owned() };
        let row = &group.row;
        let open = if row.is_open { ", and takes further ones" } else { "" };
        let next = reasons.first().map(|reason| format!("; the next one waits: {}", reason.words)).unwrap_or_default();
        let (ended, of, failed, running) = (row.ended(), row.of, row.failed, group.running);
        format!("runs: {ended} of {of} tasks have ended, {failed} failed, {running} run{open}{next}")
    }
}

fn date(job: &Job) -> String {
    job.run_at.map_or_else(|| "its time".to_owned(), UnixMillis::to_rfc3339)
}

fn reason(job: &Job) -> &'static str {
    job.finish_reason.map_or("no reason recorded", FinishReason::word)
}

fn waits(nodes: &[NodeFit], reasons: &[Reason]) -> String {
    let nobody = nodes.iter().all(|fit| !fit.lacks.is_empty());
    if let Some(kept) = reasons.iter().find(|reason| reason.kind == "secret") {
        return format!("waits: {}", kept.words);
    }
    match (nodes.first(), reasons.first()) {
        (Some(nearest), _) if nobody => {
            let lacks = nearest.lacks.join(", ");
            format!("waits: no known node meets its requirements; {} comes nearest and lacks {lacks}", nearest.name)
        }
        (_, Some(reason)) => format!("waits: {}", reason.words),
        (_, None) => "is about to start".to_owned(),
    }
}

fn upstream_reasons(job: &Job, edges: &Edges) -> Vec<Reason> {
    let open: Vec<_> = edges.iter().filter(|(edge, _)| !edge.is_met).collect();
    let reason = |(edge, state): &&(Edge, Option<JobState>)| {
        let wanted = edge.condition.map_or(job.plan.rule.word(), Condition::word);
        let state = state.map_or("deleted", JobState::word);
        let words = format!("it waits for job {}, which is {state} ({wanted})", edge.upstream);
        let remedy = format!("job {} {}", edge.upstream, wanted_end(job, edge));
        Reason { kind: "dependency", words, since: job.created_at, remedy }
    };
    let mut reasons: Vec<Reason> = open.iter().take(UPSTREAM_MAX).map(reason).collect();
    if open.len() > UPSTREAM_MAX {
        let words = format!("it waits for {} more jobs", open.len() - UPSTREAM_MAX);
        let remedy = "they end as they should".to_owned();
        reasons.push(Reason { kind: "dependency", words, since: job.created_at, remedy });
    }
    reasons
}

/// How a job must end for another one that waits for it.
const fn wanted_end(job: &Job, edge: &Edge) -> &'static str {
    match (edge.condition, job.plan.rule) {
        (Some(Condition::Failed), _) => "fails",
        (Some(Condition::Ok), _) | (None, Rule::AllSuccess | Rule::AnySuccess) => "completes",
        (Some(Condition::Done), _) | (None, Rule::AllDone | Rule::Always) => "ends",
        (None, Rule::NoneFailed) => "completes or is skipped",
    }
}

/// The jobs because of which one was dropped that waited for them.
fn culprits(job: &Job, edges: &Edges) -> Vec<Reason> {
    let is_lost = |(edge, state): &&(Edge, Option<JobState>)| !edge.is_met && state.is_none_or(JobState::is_final);
    let reason = |(edge, state): &(Edge, Option<JobState>)| {
        let wanted = edge.condition.map_or(job.plan.rule.word(), Condition::word);
        let ended = state.map_or("deleted", JobState::word);
        let words = format!("job {} was {ended}, and it waited for that one ({wanted})", edge.upstream);
        let remedy = match state {
            // To try it again helps only if that goes wrong.
            Some(JobState::Completed) => {
                let (upstream, end) = (edge.upstream, wanted_end(job, edge));
                format!("job {upstream} {end} when it runs again, by `jobmesh retry {upstream}`")
            }
            Some(_) => format!("`jobmesh retry {}`", edge.upstream),
            None => format!("`jobmesh retry {}`", job.number),
        };
        Reason { kind: "dependency", words, since: job.state_since, remedy }
    };
    edges.iter().filter(is_lost).take(UPSTREAM_MAX).map(reason).collect()
}

fn time_reason(job: &Job) -> Reason {
    let what = if job.state == JobState::Retryable { "the wait before its next attempt" } else { "its start" };
    let words = format!("{what} is at {}", date(job));
    let verb = if job.state == JobState::Retryable { "retry" } else { "reschedule --at now" };
    let remedy = format!("`jobmesh {verb} {}`", job.number);
    Reason { kind: "time", words, since: job.state_since, remedy }
}

/// Which secret keeps a job away from a peer that could run it but for that.
fn secret_reason(job: &Job, nodes: &[NodeFit]) -> Option<Reason> {
    let is_kept = |fit: &&NodeFit| !fit.is_self && fit.lacks.iter().all(|lack| lack.starts_with(WITHHELD));
    // Fewest lacks come first: whoever lacks nothing at all is waited for, and no secret is in the way.
    let fit = nodes.iter().find(is_kept).filter(|_| job.spec.scope != Scope::Local)?;
    let secret = fit.lacks.first()?.strip_prefix(WITHHELD)?;
    let words = format!("{} could run it, but is not entrusted with its secret {secret}", fit.name);
    let remedy = format!("`peers = [\"{}\"]` under [secrets.{secret}] in config.toml", fit.node);
    Some(Reason { kind: "secret", words, since: job.state_since, remedy })
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
