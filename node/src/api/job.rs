//! Jobs: what is told of them.

use std::collections::BTreeMap;

use jobmesh_protocol::outcome::{Exit, ModelUse, Outputs, Usage};
use jobmesh_protocol::state::{Cause, FinishReason};
use jobmesh_protocol::task::{Content, Task};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{
    AttemptState, AwardId, DurationMillis, Epoch, Isolation, JobId, JobSpec, JobState, ReceiptId, UnixMillis,
};
use serde::{Deserialize, Serialize};

use crate::api::{Artifact, NodeName, ReceiptHead, submission};

/// Most characters of a text that stand for it in words.
const CONTENT_CHARS_MAX: usize = 60;

/// A job as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// Its id everywhere.
    pub id: JobId,
    /// Its number on this node; of a task, that of its group.
    pub number: u64,
    /// Which task of its group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<u32>,
    /// Where it is in its life.
    pub state: JobState,
    /// Since when.
    pub state_since: UnixMillis,
    /// Its name for people.
    pub name: Option<String>,
    /// Its type, by which learning groups.
    pub job_type: String,
    /// The queue it waits in.
    #[serde(default)]
    pub queue: String,
    /// Higher runs first.
    #[serde(default)]
    pub priority: i32,
    /// What it can be found by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Why it is held, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
    /// What it was submitted for, if a schedule did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fire: Option<Fire>,
    /// How its tasks stand, if it is a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<TaskCounts>,
    /// How far it is, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What it does in words: its program and arguments, or its kind of work and what that is about.
    pub command: Vec<String>,
    /// The epoch of its last attempt; 0 before the first.
    pub epoch: Epoch,
    /// The node of its last attempt.
    pub node: Option<NodeName>,
    /// Whose job it is, if not this node's own.
    pub origin: Option<NodeName>,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that vanished.
    pub crashes: u32,
    /// How the last attempt that ended did so, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal of the last attempt that ended.
    pub exit: Exit,
    /// Why the job ended.
    pub finish_reason: Option<FinishReason>,
    /// Why it is to be cancelled, once someone asked for that.
    pub cancel_reason: Option<String>,
    /// When it may run, if it waits for a time.
    pub run_at: Option<UnixMillis>,
    /// When it was submitted here.
    pub created_at: UnixMillis,
    /// When the last attempt started that did.
    pub started_at: Option<UnixMillis>,
    /// When that attempt ended.
    #[serde(default)]
    pub stopped_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

impl JobView {
    /// What people call it: `42`, or `42.7` for a task.
    #[must_use]
    pub fn label(&self) -> String {
        submission::numbered(self.number, self.task)
    }
}

/// What a task does in words, such as those that one would type.
///
/// A command is itself; anything else begins with its executor or, if it is a request, with its method.
#[must_use]
pub fn task_words(task: &Task) -> Vec<String> {
    let words = |kind: &str, more: &[String]| {
        std::iter::once(kind).chain(more.iter().map(String::as_str)).map(str::to_owned).collect()
    };
    match task {
        Task::Process(process) => process.argv.clone(),
        Task::Container(container) => {
            words("container", &[std::slice::from_ref(&container.image), &*container.argv].concat())
        }
        Task::Wasm(wasm) => words("wasm", &[&[wasm.module.hash.short()], &*wasm.argv].concat()),
        Task::Lua(lua) => words("lua", &[&[content_words(&lua.script)], &*lua.argv].concat()),
        Task::Http(http) => vec![http.method.clone(), without_password(&http.url)],
        Task::Llm(llm) => {
            words("llm", &llm.messages.last().map(|said| content_words(&said.content)).into_iter().collect::<Vec<_>>())
        }
        Task::Embedding(embedding) => {
            words("embedding", &embedding.texts.iter().take(1).map(content_words).collect::<Vec<_>>())
        }
        Task::Noop {} => vec!["noop".to_owned()],
        Task::Builtin(builtin) => vec!["builtin".to_owned(), builtin.to_string()],
    }
}

/// The beginning of a text on one line, or the short hash of a blob.
fn content_words(content: &Content) -> String {
    let text = match content {
        Content::Text(text) => text,
        Content::Blob(blob) => return blob.hash.short(),
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().take(CONTENT_CHARS_MAX).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

/// An address without the user and password that may stand in it: lists are read over shoulders.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    format!("{scheme}://{host}{path}")
}

/// An instant of a schedule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fire {
    /// The schedule.
    pub schedule: String,
    /// The instant.
    pub instant: UnixMillis,
}

/// How the tasks of a group stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// How many there are.
    pub total: u32,
    /// How many have ended, in whatever way.
    pub ended: u32,
    /// How many of those failed for good.
    pub failed: u32,
    /// How many of those were cancelled or skipped.
    pub dropped: u32,
    /// Whether further ones may come.
    pub is_open: bool,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In ten-thousandths; none if it can't tell.
    pub done: Option<u16>,
    /// What it said last.
    pub message: Option<String>,
    /// When.
    pub at: UnixMillis,
}

/// Everything that is known about a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDetail {
    /// The job.
    pub job: JobView,
    /// What was asked for.
    pub spec: JobSpec,
    /// Every execution, oldest first.
    pub attempts: Vec<AttemptView>,
    /// Its history, oldest first.
    pub events: Vec<EventView>,
    /// The receipts that came in, oldest first.
    pub receipts: Vec<ReceiptHead>,
    /// The files that its telling attempt left, if any were kept and their list is here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FileCount>,
}

/// The files that an attempt left, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileCount {
    /// How many there are; directories and links are none.
    pub count: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// The first of what was kept, by path; at most [`FILES_TOLD_MAX`]. All of it is in [`Artifacts`](super::Artifacts).
    pub first: Vec<Artifact>,
}

/// Most files that are told of with their job.
pub const FILES_TOLD_MAX: usize = 100;

impl JobDetail {
    /// The attempt that tells how the job stands: its last one, unless an earlier one succeeded after all.
    #[must_use]
    pub fn telling_attempt(&self) -> Option<&AttemptView> {
        let is_it =
            |attempt: &&AttemptView| self.job.state != JobState::Completed || attempt.state == AttemptState::Succeeded;
        self.attempts.iter().rev().find(is_it).or(self.attempts.last())
    }
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Which attempt.
    pub epoch: Epoch,
    /// Where it is.
    pub state: AttemptState,
    /// Which node runs it.
    pub node: NodeName,
    /// Its process number, if it runs on this node and has started.
    pub pid: Option<u32>,
    /// How it ended, in one word.
    pub outcome: Option<String>,
    /// What is to be said about that.
    pub message: Option<String>,
    /// Exit code or signal.
    pub exit: Exit,
    /// What it wrote.
    pub outputs: Outputs,
    /// What it took of its machine.
    #[serde(default)]
    pub usage: Usage,
    /// What it asked of a model, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelUse>,
    /// How it was kept apart from the rest of its machine, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The award, if it runs on a peer.
    pub award: Option<AwardId>,
    /// The receipt that ended it.
    pub receipt: Option<ReceiptId>,
    /// What became of the last receipt for it: `superseded` is kept as evidence only.
    pub verdict: Option<Verdict>,
    /// When it was decided.
    pub created_at: UnixMillis,
    /// When it started.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub finished_at: Option<UnixMillis>,
}

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Its number in the node's log.
    pub id: u64,
    /// When.
    pub at: UnixMillis,
    /// The job's state after it.
    pub state: JobState,
    /// What moved the job.
    pub cause: Cause,
    /// The epoch at that time.
    pub epoch: Epoch,
    /// The node of the attempt, if there is one.
    pub node: Option<NodeName>,
    /// What is to be said about it.
    pub note: Option<String>,
}

/// The query of a job list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Only this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Only jobs that have not ended.
    #[serde(default)]
    pub live: bool,
    /// Only jobs of this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Only jobs of this type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub job_type: Option<String>,
    /// Only jobs of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most so many; the default is 50, the most 10 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// The query of a wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// How long to wait; none is for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<DurationMillis>,
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::task::{ContainerTask, EmbeddingTask, HttpTask, LlmTask, LuaTask};

    use super::*;

    #[test]
    fn a_task_is_told_in_a_few_words_and_without_a_password() {
        let words = |task: Task| task_words(&task).join(" ");
        let argv = vec!["ls".to_owned(), "/".to_owned()];
        assert_eq!(words(Task::Container(ContainerTask::new("busybox", argv))), "container busybox ls /");
        assert_eq!(words(Task::Http(HttpTask::new("https://me:secret@a.org/x@y"))), "GET https://a.org/x@y");
        assert_eq!(words(Task::Lua(LuaTask::new("local x = 1\nreturn x"))), "lua local x = 1 return x");
        assert_eq!(words(Task::Embedding(EmbeddingTask::new(["one", "two"]))), "embedding one");
        let long = words(Task::Llm(LlmTask::new("why ".repeat(100))));
        assert_eq!((long.chars().count(), long.ends_with('…')), ("llm ".len() + CONTENT_CHARS_MAX + 1, true));
    }
}
