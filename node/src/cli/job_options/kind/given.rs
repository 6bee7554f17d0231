//! What comes from files: it is sent to the node last, when all else is known to be in order, so the task holds an empty
//! blob in its place until then.

use std::path::{Path, PathBuf};

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::task::{Content, Message, Task};

/// A text as it was given, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Given {
    Text(String),
    File(PathBuf),
}

impl Given {
    /// Reads `@FILE`, `-`, or the text itself; `@@` begins a text with one `@`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix('@') {
            _ if text == "-" => Self::File(PathBuf::from("-")),
            Some("") => return Err("write @FILE, or @@ for a text that is one @".to_owned()),
            Some(rest) if rest.starts_with('@') => Self::Text(rest.to_owned()),
            Some(file) => Self::File(PathBuf::from(file)),
            None => Self::Text(text.to_owned()),
        })
    }

    /// The text, or an empty blob in place of the file's.
    pub(super) fn content(&self) -> Content {
        match self {
            Self::Text(text) => Content::Text(text.clone()),
            Self::File(_) => Content::Blob(BlobRef::of(b"")),
        }
    }

    /// The file, if it is in one.
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::Text(_) => None,
            Self::File(file) => Some(file),
        }
    }

    pub(super) fn upload(&self, part: Part) -> Option<Upload> {
        self.file().map(|file| Upload::new(part, file))
    }
}

/// The part of a task that a file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Module,
    Script,
    Body,
    System,
    Question,
    Text(usize),
}

/// A file that becomes part of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Upload {
    pub(super) part: Part,
    pub(in super::super) file: PathBuf,
}

impl Upload {
    pub(super) fn new(part: Part, file: &Path) -> Self {
        Self { part, file: file.to_owned() }
    }

    /// Puts the blob that the file has become into its place.
    pub(in super::super) fn place(&self, task: &mut Task, blob: BlobRef) {
        let content = Content::Blob(blob);
        match (self.part, task) {
            (Part::Module, Task::Wasm(wasm)) => wasm.module = blob,
            (Part::Script, Task::Lua(lua)) => lua.script = content,
            (Part::Body, Task::Http(http)) => http.body = Some(content),
            (Part::System, Task::Llm(llm)) => set(llm.messages.first_mut(), content),
            (Part::Question, Task::Llm(llm)) => set(llm.messages.last_mut(), content),
            (Part::Text(at), Task::Embedding(embedding)) => {
                if let Some(text) = embedding.texts.get_mut(at) {
                    *text = content;
                }
            }
            // Uploads are made together with the task that they are for.
            (Part::Module | Part::Script | Part::Body | Part::System | Part::Question | Part::Text(_), _) => {}
        }
    }
}

fn set(message: Option<&mut Message>, content: Content) {
    if let Some(message) = message {
        message.content = content;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_may_be_in_a_file() {
        assert_eq!(Given::parse("@a b"), Ok(Given::File("a b".into())));
        assert_eq!(Given::parse("-"), Ok(Given::File("-".into())));
        assert_eq!(Given::parse("@@a"), Ok(Given::Text("@a".to_owned())));
        assert!(Given::parse("@").is_err());
    }
}
