//! What runs: one variant per executor, and what all of them have in common.

mod command;
mod http;
mod model;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use command::{ContainerTask, LuaTask, ProcessTask, Pull, WasmTask};
pub use http::{HttpTask, SECRET_HOLE};
pub use model::{Complexity, EmbeddingTask, LlmTask, Message, Role, TEXTS_MAX};

use crate::id::BlobRef;
use crate::state::words;

/// Most arguments of a command.
pub const ARGV_MAX: usize = 4096;

/// What runs: one variant per executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A process of the operating system.
    Process(ProcessTask),
    /// A command in a container.
    Container(ContainerTask),
    /// A WebAssembly module with the interface of WASI, preview 1.
    Wasm(WasmTask),
    /// A script in Luau.
    Lua(LuaTask),
    /// A request to a web server.
    Http(HttpTask),
    /// A question to a language model.
    Llm(LlmTask),
    /// Vectors for texts, from an embedding model.
    Embedding(EmbeddingTask),
    /// Nothing at all, in the node itself: for measuring, and for jobs that only others wait for.
    Noop {},
    /// Housekeeping of the node itself.
    Builtin(Builtin),
}

words!(
    /// What a node can do to keep itself in order.
    Builtin {
        /// Writes down how many jobs ended how, hour by hour.
        Metrics = "metrics",
        /// Deletes what has been kept long enough: jobs, events, receipts, logs, blobs.
        Retention = "retention",
        /// Checks and compacts the database.
        Upkeep = "upkeep",
        /// Writes what the node has learnt to a file.
        LearningExport = "learning_export",
    }
);

/// Text of a task: in the spec itself if it is short, else by its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// This text.
    Text(String),
    /// These bytes.
    Blob(BlobRef),
}

impl Content {
    /// The blob, if that is where it is.
    #[must_use]
    pub const fn blob(&self) -> Option<BlobRef> {
        match self {
            Self::Text(_) => None,
            Self::Blob(blob) => Some(*blob),
        }
    }

    /// Whether it is a text of nothing but blanks. Bytes by their hash are not looked at.
    fn is_blank(&self) -> bool {
        match self {
            Self::Text(text) => text.trim().is_empty(),
            Self::Blob(_) => false,
        }
    }
}

impl Task {
    /// The executor's name, as in its capability tag `executor:NAME`.
    #[must_use]
    pub const fn executor(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Container(_) => "container",
            Self::Wasm(_) => "wasm",
            Self::Lua(_) => "lua",
            Self::Http(_) => "http",
            Self::Llm(_) => "llm",
            Self::Embedding(_) => "embedding",
            Self::Noop {} => "noop",
            Self::Builtin(_) => "builtin",
        }
    }

    /// The directory of one machine in which the task says that it works; only a command can.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        match self {
            Self::Process(process) => process.directory.as_deref(),
            Self::Container(_)
            | Self::Wasm(_)
            | Self::Lua(_)
            | Self::Http(_)
            | Self::Llm(_)
            | Self::Embedding(_)
            | Self::Noop {}
            | Self::Builtin(_) => None,
        }
    }

    /// The bytes that must be at the executor before the task can start, each once.
    #[must_use]
    pub fn blobs(&self) -> Vec<BlobRef> {
        let mut blobs: Vec<BlobRef> = match self {
            Self::Process(process) => process.stdin.into_iter().collect(),
            Self::Container(container) => container.stdin.into_iter().collect(),
            Self::Wasm(wasm) => [Some(wasm.module), wasm.stdin].into_iter().flatten().collect(),
            Self::Lua(lua) => [lua.script.blob(), lua.stdin].into_iter().flatten().collect(),
            Self::Http(http) => http.body.iter().filter_map(Content::blob).collect(),
            Self::Llm(llm) => llm.messages.iter().filter_map(|message| message.content.blob()).collect(),
            Self::Embedding(embedding) => embedding.texts.iter().filter_map(Content::blob).collect(),
            Self::Noop {} | Self::Builtin(_) => Vec::new(),
        };
        blobs.sort_unstable_by_key(|blob| blob.hash);
        blobs.dedup();
        blobs
    }

    /// What it reads on standard input, if it is a command and reads something.
    #[must_use]
    pub const fn stdin(&self) -> Option<BlobRef> {
        match self {
            Self::Process(process) => process.stdin,
            Self::Container(container) => container.stdin,
            Self::Wasm(wasm) => wasm.stdin,
            Self::Lua(lua) => lua.stdin,
            Self::Http(_) | Self::Llm(_) | Self::Embedding(_) | Self::Noop {} | Self::Builtin(_) => None,
        }
    }

    /// Where a command's standard input is said; none for what is no command.
    pub const fn stdin_mut(&mut self) -> Option<&mut Option<BlobRef>> {
        match self {
            Self::Process(process) => Some(&mut process.stdin),
            Self::Container(container) => Some(&mut container.stdin),
            Self::Wasm(wasm) => Some(&mut wasm.stdin),
            Self::Lua(lua) => Some(&mut lua.stdin),
            Self::Http(_) | Self::Llm(_) | Self::Embedding(_) | Self::Noop {} | Self::Builtin(_) => None,
        }
    }

    /// The variables that a command is given; none for what has no environment.
    #[must_use]
    pub const fn environment(&self) -> Option<&BTreeMap<String, String>> {
        match self {
            Self::Process(process) => Some(&process.environment),
            Self::Container(container) => Some(&container.environment),
            Self::Wasm(wasm) => Some(&wasm.environment),
            Self::Lua(lua) => Some(&lua.environment),
            Self::Http(_) | Self::Llm(_) | Self::Embedding(_) | Self::Noop {} | Self::Builtin(_) => None,
        }
    }

    /// The same, to be changed.
    pub const fn environment_mut(&mut self) -> Option<&mut BTreeMap<String, String>> {
        match self {
            Self::Process(process) => Some(&mut process.environment),
            Self::Container(container) => Some(&mut container.environment),
            Self::Wasm(wasm) => Some(&mut wasm.environment),
            Self::Lua(lua) => Some(&mut lua.environment),
            Self::Http(_) | Self::Llm(_) | Self::Embedding(_) | Self::Noop {} | Self::Builtin(_) => None,
        }
    }

    /// Every text that a person wrote to say what is to be done: arguments, variables' values, addresses, questions.
    pub fn each_text(&mut self, each: impl FnMut(&mut String)) {
        match self {
            Self::Process(process) => process.texts().for_each(each),
            Self::Container(container) => container.texts().for_each(each),
            Self::Wasm(wasm) => wasm.texts().for_each(each),
            Self::Lua(lua) => lua.texts().for_each(each),
            Self::Http(http) => http.texts().for_each(each),
            Self::Llm(llm) => llm.texts().for_each(each),
            Self::Embedding(embedding) => embedding.texts().for_each(each),
            Self::Noop {} | Self::Builtin(_) => {}
        }
    }

    /// Checks every bound on a task.
    pub(crate) fn check(&self) -> Result<(), TaskError> {
        match self {
            Self::Process(process) => process.check(),
            Self::Container(container) => container.check(),
            Self::Wasm(wasm) => wasm.check(),
            Self::Lua(lua) => lua.check(),
            Self::Http(http) => http.check(),
            Self::Llm(llm) => llm.check(),
            Self::Embedding(embedding) => embedding.check(),
            Self::Noop {} | Self::Builtin(_) => Ok(()),
        }
    }
}

fn content_text(content: &mut Content) -> Option<&mut String> {
    match content {
        Content::Text(text) => Some(text),
        Content::Blob(_) => None,
    }
}

/// Checks that a name can be that of an environment variable.
///
/// # Errors
/// [`TaskError::Variable`] if it can't.
pub fn check_variable(name: &str) -> Result<(), TaskError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(TaskError::Variable { name: name.to_owned() });
    }
    Ok(())
}

/// Checks arguments and variables.
fn check_words<'w>(
    argv: &'w [String],
    others: impl IntoIterator<Item = &'w String>,
    environment: &'w BTreeMap<String, String>,
) -> Result<(), TaskError> {
    if argv.len() > ARGV_MAX {
        return Err(TaskError::TooMany { what: "arguments", found: argv.len(), limit: ARGV_MAX });
    }
    let has_nul = |text: &String| text.contains('\0');
    if argv.iter().chain(others).chain(environment.values()).any(has_nul) {
        return Err(TaskError::Nul);
    }
    environment.keys().try_for_each(|key| check_variable(key))
}

/// What is wrong with a task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// No command to run.
    #[error("the job has no command; give one after `--`")]
    NoCommand,
    /// A NUL byte in an argument, variable or the directory.
    #[error("an argument, variable or the directory contains a NUL byte")]
    Nul,
    /// A variable's name can't be one.
    #[error("{name:?} can't be the name of an environment variable")]
    Variable {
        /// The name.
        name: String,
    },
    /// Something that a task of this kind can't do without is missing or makes no sense.
    #[error("the {what} {problem}")]
    Part {
        /// Which part.
        what: &'static str,
        /// What it must be.
        problem: &'static str,
    },
    /// Too many of something.
    #[error("the job has {found} {what}; the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The limit.
        limit: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_names_each_blob_once() {
        let (module, input) = (BlobRef::of(b"module"), BlobRef::of(b"input"));
        let mut task = Task::Wasm(WasmTask::new(module));
        assert_eq!(task.blobs(), [module]);
        if let Some(stdin) = task.stdin_mut() {
            *stdin = Some(module);
        }
        assert_eq!(task.blobs(), [module]);
        if let Some(stdin) = task.stdin_mut() {
            *stdin = Some(input);
        }
        assert_eq!(task.blobs().len(), 2);
        assert_eq!(Task::Noop {}.blobs(), []);
    }

    #[test]
    fn every_text_of_every_task_is_reached() {
        let mut llm = LlmTask::new("why?");
        llm.model = Some("m".to_owned());
        let mut http = HttpTask::new("https://example.org/");
        http.headers.insert("accept".to_owned(), "text/plain".to_owned());
        let tasks = [
            (Task::Process(ProcessTask::new(vec!["a".to_owned(), "b".to_owned()])), 2),
            (Task::Container(ContainerTask::new("busybox", vec!["true".to_owned()])), 2),
            (Task::Wasm(WasmTask::new(BlobRef::of(b""))), 0),
            (Task::Lua(LuaTask::new("return 1")), 0),
            (Task::Http(http), 2),
            (Task::Llm(llm), 2),
            (Task::Embedding(EmbeddingTask::new(["x", "y"])), 2),
            (Task::Noop {}, 0),
        ];
        for (mut task, expected) in tasks {
            let mut count = 0;
            task.each_text(|_| count += 1);
            assert_eq!(count, expected, "{}", task.executor());
        }
    }
}
