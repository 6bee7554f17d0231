//! The files of a run: what its task reads, what its working directory begins with, and what of it is kept.
//!
//! The same for every executor, around it: inputs are laid out before it is called, and outputs are collected once nothing
//! of the run is left. They are collected after a success, and then all of them must be there; and after a failure, since
//! half a result often says why there is no whole one. What was cancelled or ran out of time was not wanted any more.
//!
//! **The hard case** is a disk that has changed a blob since it came: its name says otherwise, and so would the receipt.
//! So inputs are compared with their hashes while they are laid out, and what the task itself names (its standard input, a
//! script, a module, a body, texts) before it is handed to anybody who reads it by its path.

mod clear;
mod collect;
mod ground;
mod layout;
mod pattern;
mod plain;

use std::path::Path;

use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::{BlobRef, Outcome};

use crate::control::Control;
use crate::directory::{make_directory, work_path};
use crate::event::{Ended, chain, clip};
use crate::files::collect::{CollectError, Wish};
use crate::files::layout::LayOutError;
use crate::order::{Adopt, Order, StopReason};
use crate::shelf::{Shelf, ShelfError};

pub use clear::remove_tree;
pub use ground::{Existing, Ground, GroundError, set_file_mode};
pub use pattern::{PatternError, Selection, check_patterns};

pub(crate) use clear::remove_if_there;
pub(crate) use plain::open_plain;

/// What is to be done around one run.
pub(crate) struct Files<'a> {
    shelf: &'a Shelf,
    control: &'a Control<'a>,
    directory: &'a Path,
    /// What the task reads.
    named: Vec<BlobRef>,
    inputs: Option<BlobRef>,
    /// Whether inputs were laid out by an earlier daemon.
    had_inputs: bool,
    outputs: &'a [String],
    bytes_max: u64,
    is_foreign: bool,
    /// Whether the run works in another directory than its own.
    is_elsewhere: bool,
}

impl<'a> Files<'a> {
    pub(crate) fn of(order: &'a Order, shelf: &'a Shelf, control: &'a Control<'a>) -> Self {
        Self {
            shelf,
            control,
            directory: &order.directory,
            named: order.task.blobs(),
            inputs: order.inputs,
            had_inputs: false,
            outputs: &order.outputs,
            bytes_max: order.limits.file_bytes_max,
            is_foreign: order.is_foreign,
            is_elsewhere: order.task.directory().is_some(),
        }
    }

    /// Of a run whose inputs an earlier daemon has laid out.
    pub(crate) fn of_adopted(adopt: &'a Adopt, shelf: &'a Shelf, control: &'a Control<'a>) -> Self {
        Self {
            shelf,
            control,
            directory: &adopt.directory,
            // It has read them, or has them open.
            named: Vec::new(),
            inputs: None,
            had_inputs: adopt.had_inputs,
            outputs: &adopt.outputs,
            bytes_max: adopt.limits.file_bytes_max,
            is_foreign: false,
            is_elsewhere: false,
        }
    }

    /// Does what is to be done before and after `run`.
    pub(crate) fn around(&self, run: impl FnOnce() -> Ended) -> Ended {
        if let Err(error) = self.verify() {
            return Ended::without_process(self.unless_stopped(matches!(error, ShelfError::Stopped), || {
                Outcome::error(format!("what the job reads can't be used: {}", chain(&error)))
            }));
        }
        if self.inputs.is_none() && !self.had_inputs && self.outputs.is_empty() {
            let ended = run();
            if self.is_foreign {
                // Nobody here looks for what it has written, and it may be as much as the disk holds.
                self.clear(&work_path(self.directory));
            }
            return ended;
        }
        if self.is_elsewhere {
            let message = "a job that names its working directory can have neither inputs nor outputs; leave it out";
            return Ended::without_process(Outcome::Permanent { message: message.to_owned() });
        }
        if let Some(reason) = self.control.stop_reason() {
            return Ended::without_process(reason.outcome());
        }
        if let Err(error) = self.lay_out() {
            self.clear(self.directory);
            return Ended::without_process(self.unless_stopped(error.is_stop(), || error.outcome()));
        }
        let ended = self.collect(run());
        if ended.outcome == Outcome::Ok || self.is_foreign {
            self.clear(&work_path(self.directory));
        }
        ended
    }

    fn is_stopped(&self) -> bool {
        self.control.stop_reason().is_some()
    }

    /// Whether what the run left is not wanted any more. At a shutdown it is: it would all have to be done again.
    fn is_unwanted(&self) -> bool {
        match self.control.stop_reason() {
            Some(StopReason::Cancel | StopReason::Kill | StopReason::Timeout | StopReason::LeaseEnded) => true,
            None | Some(StopReason::Shutdown | StopReason::Withdraw) => false,
        }
    }

    /// What an error means that may be none: if it `is_stop`, the outcome of the stop.
    fn unless_stopped(&self, is_stop: bool, outcome: impl FnOnce() -> Outcome) -> Outcome {
        let stopped = self.control.stop_reason().filter(|_| is_stop);
        stopped.map_or_else(outcome, StopReason::outcome)
    }

    /// Compares what the task reads with the hashes that it names. Of what isn't here whoever opens it tells.
    fn verify(&self) -> Result<(), ShelfError> {
        self.named.iter().try_for_each(|blob| match self.shelf.verify(blob.hash, &|| self.is_stopped()) {
            Ok(()) | Err(ShelfError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn lay_out(&self) -> Result<(), LayOutError> {
        let Some(tree) = self.inputs else { return Ok(()) };
        let work = work_path(self.directory);
        let failed = |source| LayOutError::Directory { path: work.display().to_string(), source };
        // A start that a crash cut short may have left some of it.
        remove_tree(&work).map_err(failed)?;
        make_directory(&work).map_err(failed)?;
        layout::lay_out(self.shelf, tree, &work, self.bytes_max, &|| self.is_stopped())
    }

    /// Adds to an end what is to be kept of the run.
    fn collect(&self, ended: Ended) -> Ended {
        let is_ok = match ended.outcome {
            Outcome::Ok => true,
            Outcome::Error { .. } | Outcome::Permanent { .. } => false,
            Outcome::Timeout
            | Outcome::Cancelled
            | Outcome::Snoozed { .. }
            | Outcome::SelfCancelled { .. }
            | Outcome::Released { .. }
            | Outcome::Lost { .. } => return ended,
        };
        if self.outputs.is_empty() {
            return ended;
        }
        let wish = Wish { patterns: self.outputs, bytes_max: self.bytes_max, is_whole: is_ok };
        let kept = collect::collect(self.shelf, &work_path(self.directory), wish, &|| self.is_unwanted());
        match kept {
            Ok(files) => Ended { outputs: Outputs { files, ..ended.outputs }, ..ended },
            Err(error) => self.without_outputs(ended, &error, is_ok),
        }
    }

    fn without_outputs(&self, ended: Ended, error: &CollectError, is_ok: bool) -> Ended {
        if !is_ok {
            let said = format!("its outputs were not kept: {}", chain(error));
            let notice = ended.notice.map_or_else(|| said.clone(), |notice| format!("{notice}; {said}"));
            return Ended { notice: Some(clip(notice)), ..ended };
        }
        Ended { outcome: self.unless_stopped(error.is_stop(), || error.outcome()), ..ended }
    }

    /// Removes what is of no use to anybody any more.
    fn clear(&self, path: &Path) {
        if let Err(error) = remove_tree(path) {
            // The retention of its job tries again.
            tracing::warn!(path = %path.display(), %error, "failed to remove a working directory");
        }
    }
}
