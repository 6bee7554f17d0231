//! The worker that is a module: what it opens, the walls it raises, and what the module's end means.
//!
//! Everything from outside is opened before the walls stand; the module itself is read then, but looked at only inside:
//! a compiler is more code to go wrong than an interpreter.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{CWD, renameat};
use rustix::io::Errno;
use wasmi_wasi::wasi_common::pipe::WritePipe;
use wasmi_wasi::{Dir, WasiCtx, WasiCtxBuilder, ambient_authority};

use super::bounds::Bounds;
use super::engine::{self, LoadError, Ran, Rest};
use super::{GUEST, MODULE_BYTES_MAX, Piece};
use crate::directory::{outcome_path, result_path, work_path};
use crate::event::chain;
use crate::process::size;
use crate::variable::{OUTCOME_VARIABLE, RESULT_VARIABLE};
use crate::worker::{self, Allowance, Brief, End};

/// The files in the working directory into which a module says what other commands say to files beside it.
const OUTCOME_NAME: &str = ".jobmesh-outcome";
const RESULT_NAME: &str = ".jobmesh-result";

/// The working directory by the name that it has for code in a container or a sandbox, too.
const WORK: &str = "/work";

/// Why a module did not run.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Begin(#[from] worker::BeginError),
    #[error("failed to open the job's streams")]
    Stream(#[source] io::Error),
    #[error("the job's arguments or variables can't be given to a module: {problem}")]
    Words { problem: String },
    #[error(transparent)]
    Load(#[from] LoadError),
}

impl BeginError {
    /// What it means for the job: would it fail again?
    fn end(&self) -> End {
        match self {
            Self::Begin(error) => error.end(),
            Self::Stream(_) | Self::Load(LoadError::Wasi { .. }) => End::error(chain(self)),
            Self::Words { .. }
            | Self::Load(LoadError::Invalid { .. } | LoadError::Import { .. } | LoadError::NoStart) => {
                End::permanent(chain(self))
            }
        }
    }
}

/// Does the work of a worker that is a module.
pub(crate) fn work() -> ExitCode {
    worker::interpret(|brief| {
        let end = run(&brief).unwrap_or_else(|error| error.end());
        if end.is_silent() {
            bring_out(&brief.directory);
        }
        end
    })
}

fn run(brief: &Brief<Piece>) -> Result<End, BeginError> {
    let bytes = worker::read_guest(GUEST, &brief.piece.module, MODULE_BYTES_MAX)?;
    let wasi = context(brief)?;
    let allowed = Allowance { code: engine::NEEDS_CODE, ..Allowance::least(brief) };
    let mut account = worker::raise_walls(GUEST, brief, allowed)?;
    let fuel = brief.piece.fuel.unwrap_or(u64::MAX);
    let ran = engine::run(&bytes, wasi, Bounds::new(brief.memory_bytes), fuel)?;
    account.fuel = Some(ran.used);
    if let Err(error) = account.leave(&brief.directory) {
        eprintln!("failed to write down the fuel used: {error}");
    }
    Ok(judge(ran, fuel))
}

/// What the module is given of the outside.
fn context(brief: &Brief<Piece>) -> Result<WasiCtx, BeginError> {
    let mut builder = WasiCtxBuilder::new();
    let words = |error: wasmi_wasi::wasi_common::StringArrayError| BeginError::Words { problem: error.to_string() };
    builder.args(&brief.arguments).map_err(words)?;
    for (name, value) in &brief.environment {
        builder.env(name, value).map_err(words)?;
    }
    for (variable, name) in [(OUTCOME_VARIABLE, OUTCOME_NAME), (RESULT_VARIABLE, RESULT_NAME)] {
        builder.env(variable, &format!("{WORK}/{name}")).map_err(words)?;
    }
    builder.inherit_stdin();
    // Not those of the standard library, which would keep the last line of one that is killed.
    builder.stdout(Box::new(WritePipe::new(stream(io::stdout().as_fd())?)));
    builder.stderr(Box::new(WritePipe::new(stream(io::stderr().as_fd())?)));
    let path = work_path(&brief.directory);
    for name in [".", WORK] {
        let work = Dir::open_ambient_dir(&path, ambient_authority()).map_err(worker::BeginError::Work)?;
        let opened = builder.preopened_dir(work, name);
        opened.map_err(|error| LoadError::Wasi { problem: error.to_string() })?;
    }
    Ok(builder.build())
}

fn stream(descriptor: BorrowedFd<'_>) -> Result<File, BeginError> {
    Ok(File::from(descriptor.try_clone_to_owned().map_err(BeginError::Stream)?))
}

/// What the end of a module means.
fn judge(ran: Ran, fuel: u64) -> End {
    let exceeded = ran.bounds.exceeded();
    let plain = match ran.rest {
        Rest::Returned => return End::code(0),
        Rest::Exited(status) => {
            // As the system does with the code of every command.
            let code = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
            if code == 0 || exceeded.is_none() {
                return End::code(code);
            }
            format!("exit code {code}")
        }
        Rest::OutOfFuel => return End::permanent(format!("used more than {fuel} fuel (fuel limit)")),
        Rest::Unlinked(problem) if exceeded.is_none() => {
            return End::permanent(format!("the module can't be linked: {problem}"));
        }
        Rest::Unlinked(problem) | Rest::Trapped(problem) => format!("trap: {problem}"),
    };
    match exceeded {
        Some(most) => End::error(format!("needed more than {} of memory (memory limit): {plain}", size(most))),
        None => End::error(plain),
    }
}

/// Puts what the module said about its end and its result to where every command says it.
fn bring_out(directory: &Path) {
    let work = work_path(directory);
    for (name, path) in [(OUTCOME_NAME, outcome_path(directory)), (RESULT_NAME, result_path(directory))] {
        // Not by the standard library, whose call for that isn't among those that are left.
        match renameat(CWD, work.join(name), CWD, path) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => eprintln!("failed to keep {name}: {error}"),
        }
    }
}
