//! Work other than a command of this machine, one kind a file: containers, modules, scripts, requests to servers and to
//! models.
//!
//! One option names the kind and what it is about; the others say more of it, and may be laid over a declared type or a
//! file as well. **The hard case** is what comes from files, see [`given`].

mod container;
mod embedding;
mod given;
mod http;
mod llm;
mod lua;
mod wasm;

use std::path::Path;

use clap::Args;
use jobmesh_protocol::job::NAME_BYTES_MAX;
use jobmesh_protocol::task::Task;

use super::Draft;
use crate::cli::failure::{Failure, Kind};

pub(super) use given::Upload;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Other work than a command of this machine")]
pub(super) struct KindOptions {
    #[command(flatten)]
    container: container::ContainerOptions,
    #[command(flatten)]
    wasm: wasm::WasmOptions,
    #[command(flatten)]
    lua: lua::LuaOptions,
    #[command(flatten)]
    http: http::HttpOptions,
    #[command(flatten)]
    llm: llm::LlmOptions,
    #[command(flatten)]
    embedding: embedding::EmbeddingOptions,
    /// The model to ask, as PROVIDER/MODEL or by a name that the node knows [default: up to the node]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

impl KindOptions {
    pub(super) const fn says_what(&self) -> bool {
        let is_code = self.container.says_what() || self.wasm.says_what() || self.lua.says_what();
        is_code || self.http.says_what() || self.llm.says_what() || self.embedding.says_what()
    }

    /// Whether it sends something to the node before the submission.
    pub(super) fn uploads(&self) -> bool {
        self.files().next().is_some()
    }

    /// How many of its options read what is piped in.
    pub(super) fn stdin_readers(&self) -> usize {
        self.files().filter(|file| file.as_os_str() == "-").count()
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let code = self.wasm.files().chain(self.lua.files());
        code.chain(self.http.files()).chain(self.llm.files()).chain(self.embedding.files())
    }

    /// The job, if one of the options names its kind. `words` are those after `--`.
    pub(super) fn draft(&self, words: &[String]) -> Result<Option<Draft>, Failure> {
        let code = self.container.draft(words);
        match code.or_else(|| self.wasm.draft(words)).or_else(|| self.lua.draft(words)) {
            Some(draft) => Ok(Some(draft)),
            None => self.request(words),
        }
    }

    /// The job, if it is a request to a server or a model.
    fn request(&self, words: &[String]) -> Result<Option<Draft>, Failure> {
        let http = self.http.draft().map(|draft| ("--http", draft));
        let llm = || self.llm.draft(self.model_name("llm")).map(|draft| ("--llm", draft));
        let embedding = || self.embedding.draft(self.model_name("embedding")).map(|draft| ("--embed", draft));
        match (http.or_else(llm).or_else(embedding), words.first()) {
            (None, _) => Ok(None),
            (Some((_, draft)), None) => Ok(Some(draft)),
            (Some((option, _)), Some(word)) => {
                let message = format!("{option} runs no command, and here is one: {word}");
                Err(Failure::new(Kind::Usage, message).hint("leave out what is after `--`"))
            }
        }
    }

    fn model_name<'n>(&'n self, usual: &'n str) -> &'n str {
        self.model.as_deref().filter(|model| model.len() <= NAME_BYTES_MAX).unwrap_or(usual)
    }

    /// Says more of a job, which must be of the kind that each option is for.
    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        self.container.lay_over(draft)?;
        self.wasm.lay_over(draft)?;
        lay_model_over(self.model, draft)?;
        self.http.lay_over(draft)?;
        self.llm.lay_over(draft)
    }
}

/// Says which model is to be asked.
fn lay_model_over(model: Option<String>, draft: &mut Draft) -> Result<(), Failure> {
    let Some(model) = model else { return Ok(()) };
    let task = &mut draft.submission.spec.task;
    match task {
        Task::Llm(llm) => llm.model = Some(model),
        Task::Embedding(embedding) => embedding.model = Some(model),
        Task::Process(_)
        | Task::Container(_)
        | Task::Wasm(_)
        | Task::Lua(_)
        | Task::Http(_)
        | Task::Noop {}
        | Task::Builtin(_) => return Err(misplaced("--model", "--llm or --embed", task)),
    }
    Ok(())
}

fn misplaced(option: &str, with: &str, task: &Task) -> Failure {
    let message = format!("{option} goes with {with}, but this job is one for {}", task.executor());
    Failure::new(Kind::Usage, message).hint("leave it out, or see `jobmesh run --help` for what goes together")
}

/// The name of a file without its folders.
fn file_name(file: &Path, usual: &str) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    type_name(if name == "-" { usual } else { &name }, usual)
}

/// A name if it can be that of a job type, else the usual one.
fn type_name(name: &str, usual: &str) -> String {
    let is_name = !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
    if is_name { name.to_owned() } else { usual.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_grouped_by_its_file() {
        assert_eq!(file_name(Path::new("/x/count.wasm"), "wasm"), "count.wasm");
        assert_eq!(file_name(Path::new("-"), "lua"), "lua");
    }
}
