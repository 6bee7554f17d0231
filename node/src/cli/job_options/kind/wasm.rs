//! A WebAssembly module.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::task::{Task, WasmTask};

use super::given::{Part, Upload};
use super::{file_name, misplaced};
use crate::cli::failure::Failure;
use crate::cli::job_options::Draft;

#[derive(Args, Debug, Default)]
pub(super) struct WasmOptions {
    /// Run a WebAssembly module with the interface of WASI, with the words after `--` as its arguments
    #[arg(long = "wasm", value_name = "FILE|-", group = "kind")]
    module: Option<PathBuf>,
    /// Stop the module when it has used so much fuel, about one unit for each instruction
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
}

impl WasmOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.module.is_some()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.module.as_deref().into_iter()
    }

    pub(super) fn draft(&self, words: &[String]) -> Option<Draft> {
        let file = self.module.as_ref()?;
        let task = WasmTask { argv: words.to_vec(), ..WasmTask::new(BlobRef::of(b"")) };
        let uploads = vec![Upload::new(Part::Module, file)];
        Some(Draft { uploads, ..Draft::of(file_name(file, "wasm"), Task::Wasm(task)) })
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        if let Some(fuel) = self.fuel {
            let task = &mut draft.submission.spec.task;
            let Task::Wasm(wasm) = &mut *task else { return Err(misplaced("--fuel", "--wasm", task)) };
            wasm.fuel = Some(fuel);
        }
        Ok(())
    }
}
