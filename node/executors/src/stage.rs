//! The directory of a run that has no process of ours to write there: its logs, its working directory, its result.
//!
//! What a process does by its descriptors, an executor inside the daemon does through a [`Stage`]: it says things, within
//! the limit on logs, and at the end everything is named by its hash, as for a process.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jobmesh_protocol::outcome::{Exit, ModelUse, Usage};
use jobmesh_protocol::{Isolation, Outcome};

use crate::directory::{log_path, result_path, work_path};
use crate::event::{Ended, chain};
use crate::files::remove_if_there;
use crate::order::Order;
use crate::output::{Log, Stream};
use crate::process::{Contents, Ending, OutOfMemory, Remains, Spare};
use crate::redact::{Needles, Redactor};
use crate::secret::{Secret, Secrets};

/// Where a run leaves things.
#[derive(Debug)]
pub(crate) struct Stage<'o> {
    order: &'o Order,
    stdout: Log,
    stderr: Log,
    /// Bytes that may still be said.
    room: u64,
    began: Instant,
    spare: Spare,
    has_result: bool,
    /// The secrets of the run, and what the node adds to them.
    secrets: Secrets,
    redactors: Option<Redactors>,
}

/// What takes the secrets of a run out of what it says.
#[derive(Debug)]
struct Redactors {
    needles: Arc<Needles>,
    stdout: Redactor,
    stderr: Redactor,
}

impl Redactors {
    fn of(secrets: &Secrets) -> Option<Self> {
        let needles = Needles::of(secrets)?;
        let [stdout, stderr] = [(); 2].map(|()| Redactor::new(Arc::clone(&needles)));
        Some(Self { needles, stdout, stderr })
    }
}

/// Why a run can't leave something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("failed to make the run's directory {}; check the disk's space and permissions", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("failed to write to {}; check the disk's space and permissions", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("wrote more than {limit} bytes of output (log limit)")]
    Full { limit: u64 },
}

impl StageError {
    /// What it means for the job: would it fail again?
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Directory { .. } | Self::File { .. } => Outcome::error(chain(self)),
            Self::Full { .. } => Outcome::Permanent { message: chain(self) },
        }
    }
}

/// What a run that works with no files leaves in its working directory all the same if files of it are to be kept, and
/// under which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// What it has said on standard output.
    Said(&'static str),
    /// Its result, if there is one.
    Result(&'static str),
}

/// How a command ended that ran somewhere else, such as in a container, and may have left word of its outcome.
#[derive(Debug)]
pub(crate) struct Finish {
    pub(crate) exit: Exit,
    pub(crate) ending: Ending,
    pub(crate) oom: Option<OutOfMemory>,
    pub(crate) usage: Usage,
    /// How long it ran, if that was longer than this stage was there.
    pub(crate) ran: Option<Duration>,
}

impl<'o> Stage<'o> {
    /// Makes the directories and the empty logs.
    pub(crate) fn set(order: &'o Order) -> Result<Self, StageError> {
        let failed = |source| StageError::Directory { path: order.directory.clone(), source };
        let mut spare = Spare::new(None);
        spare.provide(&order.directory).map_err(failed)?;
        let [stdout, stderr] = Stream::ALL.map(|stream| spare.make_log(stream));
        let (stdout, stderr) = (stdout.map_err(failed)?, stderr.map_err(failed)?);
        let room = order.limits.log_bytes_max;
        let secrets = order.secrets.clone();
        let redactors = Redactors::of(&secrets);
        Ok(Self { order, stdout, stderr, room, began: Instant::now(), spare, has_result: false, secrets, redactors })
    }

    /// Looks for this as well in what the run says from now on: something that is the node's own, such as a key.
    pub(crate) fn guard(&mut self, name: &str, value: &str) -> Result<(), StageError> {
        self.flush()?;
        // No variable has a blank in it, so nothing of the job's own is replaced.
        self.secrets.insert(format!("of the node: {name}"), name.to_owned(), Secret::new(value.to_owned()));
        self.redactors = Redactors::of(&self.secrets);
        Ok(())
    }

    /// Writes what was held back, since something else follows.
    fn flush(&mut self) -> Result<(), StageError> {
        let Some(mut redactors) = self.redactors.take() else { return Ok(()) };
        let rest = [(Stream::Stdout, redactors.stdout.finish()), (Stream::Stderr, redactors.stderr.finish())];
        self.redactors = Some(redactors);
        rest.iter().try_for_each(|(stream, bytes)| self.write(*stream, bytes))
    }

    /// Writes to a log what the run says.
    ///
    /// # Errors
    /// [`StageError::Full`] if it says more than it may; what there was room for is kept.
    pub(crate) fn say(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), StageError> {
        match &mut self.redactors {
            None => self.write(stream, bytes),
            Some(redactors) => {
                let redactor = match stream {
                    Stream::Stdout => &mut redactors.stdout,
                    Stream::Stderr => &mut redactors.stderr,
                };
                let clean = redactor.push(bytes);
                self.write(stream, &clean)
            }
        }
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), StageError> {
        let room = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes.len());
        let log = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let fits = bytes.get(..room).unwrap_or_default();
        log.append(fits)
            .map_err(|source| StageError::File { path: log_path(&self.order.directory, stream), source })?;
        self.room -= fits.len() as u64;
        if fits.len() < bytes.len() {
            return Err(StageError::Full { limit: self.order.limits.log_bytes_max });
        }
        Ok(())
    }

    /// Where the result of the run is to be written, by [`Self::give_result`] or in pieces. Call [`Self::has_result`] then.
    pub(crate) fn result_path(&self) -> PathBuf {
        result_path(&self.order.directory)
    }

    /// Says that there is a result.
    pub(crate) const fn has_result(&mut self) {
        self.has_result = true;
    }

    /// Keeps the result of the run.
    pub(crate) fn give_result(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        let path = self.result_path();
        let clean = self.redactors.as_ref().map(|redactors| redactors.needles.redact_bytes(bytes));
        write_new(&path, clean.as_deref().unwrap_or(bytes)).map_err(|source| StageError::File { path, source })?;
        self.has_result();
        Ok(())
    }

    /// Names everything that a command has written. `brought` is the outcome if we brought its end about; else what it
    /// left word of and how it ended have a say, as for a process.
    pub(crate) fn clear_command(mut self, brought: Option<Outcome>, finish: Finish, isolation: Isolation) -> Ended {
        self.redact();
        let brought = brought.map(|outcome| self.clean(outcome));
        let Finish { exit, ending, oom, usage, ran } = finish;
        let remains = Remains {
            directory: &self.order.directory,
            left: Contents::UNKNOWN,
            stdout: Some(&self.stdout),
            stderr: Some(&self.stderr),
            exit,
            ending,
            oom,
            usage,
            ran: self.began.elapsed().max(ran.unwrap_or_default()),
        };
        let mut ended = Ended { isolation, ..remains.conclude(brought) };
        ended.outcome = self.clean(ended.outcome);
        self.give_back(ended)
    }

    /// Names everything that was written.
    pub(crate) fn clear(mut self, outcome: Outcome, isolation: Isolation) -> Ended {
        self.redact();
        self.conclude(outcome, None, isolation)
    }

    /// Names everything that came of asking a server or a model. The answer itself is left in the working directory too, if
    /// files of that are to be kept.
    pub(crate) fn clear_answer(
        mut self,
        outcome: Outcome,
        leaves: Leaves,
        model: Option<ModelUse>,
        isolation: Isolation,
    ) -> Ended {
        self.redact();
        let outcome = match self.leave(leaves) {
            Err(error) if outcome == Outcome::Ok => error.outcome(),
            Ok(()) | Err(_) => outcome,
        };
        let model = model.map(|model| ModelUse {
            // These are a server's own words.
            model: self.clean_text(model.model),
            finish: model.finish.map(|finish| self.clean_text(finish)),
            ..model
        });
        self.conclude(outcome, model, isolation)
    }

    fn conclude(self, outcome: Outcome, model: Option<ModelUse>, isolation: Isolation) -> Ended {
        let outcome = self.clean(outcome);
        let exit = Exit::default();
        let remains = Remains {
            directory: &self.order.directory,
            left: Contents::of_result(self.has_result),
            stdout: Some(&self.stdout),
            stderr: Some(&self.stderr),
            exit,
            ending: Ending::of(exit),
            oom: None,
            usage: Usage::default(),
            ran: self.began.elapsed(),
        };
        let ended = Ended { model, isolation, ..remains.conclude(Some(outcome)) };
        self.give_back(ended)
    }

    /// Gives what was said, or the result, a name in the working directory. The bytes are not written twice: nothing changes
    /// them any more.
    fn leave(&self, leaves: Leaves) -> Result<(), StageError> {
        let directory = &self.order.directory;
        let (name, source) = match leaves {
            Leaves::Said(name) => (name, log_path(directory, Stream::Stdout)),
            Leaves::Result(name) if self.has_result => (name, self.result_path()),
            Leaves::Result(_) => return Ok(()),
        };
        if self.order.outputs.is_empty() {
            return Ok(());
        }
        let path = work_path(directory).join(name);
        let linked = remove_if_there(&path).and_then(|()| {
            // Some file systems have no second names.
            fs::hard_link(&source, &path).or_else(|_| fs::copy(&source, &path).map(drop))
        });
        linked.map_err(|source| StageError::File { path, source })
    }

    /// Takes the secrets out of what the run has left.
    fn redact(&mut self) {
        if let Err(error) = self.flush() {
            tracing::warn!(error = %chain(&error), "the last words of a run are lost");
        }
        if let Some(redactors) = &self.redactors {
            redactors.needles.redact_run(&self.order.directory);
        }
    }

    fn clean(&self, outcome: Outcome) -> Outcome {
        match &self.redactors {
            Some(redactors) => redactors.needles.redact_outcome(outcome),
            None => outcome,
        }
    }

    /// A text without the secrets of the run: one that is kept beside what it left.
    pub(crate) fn clean_text(&self, text: String) -> String {
        match &self.redactors {
            Some(redactors) => redactors.needles.redact(&text),
            None => text,
        }
    }

    /// Puts the directory aside if nothing was left in it.
    fn give_back(mut self, ended: Ended) -> Ended {
        if ended.outputs.blobs().next().is_none() {
            let left = self.spare.contents();
            self.spare.take_back(&self.order.directory, left, false);
        }
        ended
    }
}

/// Writes a file in place of one that an earlier try may have left.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    remove_if_there(path)?;
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, bytes)
}
