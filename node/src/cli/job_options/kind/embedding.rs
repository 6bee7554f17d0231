//! The vectors of texts.

use std::path::Path;

use clap::Args;
use jobmesh_protocol::task::{EmbeddingTask, Task};

use super::given::{Given, Part};
use crate::cli::job_options::Draft;

#[derive(Args, Debug, Default)]
pub(super) struct EmbeddingOptions {
    /// Have an embedding model make the vector of a text (may be repeated)
    #[arg(long = "embed", value_name = "TEXT|@FILE|-", value_parser = Given::parse, group = "kind")]
    texts: Vec<Given>,
}

impl EmbeddingOptions {
    pub(super) const fn says_what(&self) -> bool {
        !self.texts.is_empty()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.texts.iter().filter_map(Given::file)
    }

    /// The job, which is grouped by `name`.
    pub(super) fn draft(&self, name: &str) -> Option<Draft> {
        if self.texts.is_empty() {
            return None;
        }
        let texts = self.texts.iter().map(Given::content).collect();
        let task = Task::Embedding(EmbeddingTask { texts, model: None });
        let files = self.texts.iter().enumerate().filter_map(|(at, text)| text.upload(Part::Text(at)));
        Some(Draft { uploads: files.collect(), ..Draft::of(name.to_owned(), task) })
    }
}
