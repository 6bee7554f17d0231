//! The worker that is a script: the state it runs in, and what its end means.
//!
//! Nothing here has to stop the script. A deadline, a cancel or the end of a lease is a signal to the process, which no
//! `pcall` catches and no pattern outlasts. What is limited here is memory, and what the script may call.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib, Value};

use super::daemon::Daemon;
use super::job::{self, Desk};
use super::work_files::WorkFiles;
use super::{Piece, Script, value};
use crate::directory::{result_path, work_path};
use crate::event::chain;
use crate::process::size;
use crate::worker::{self, Allowance, Brief, End};

/// Largest script: 16 MiB. The longest of people are a hundred kilobytes; of programs that write programs, a few.
const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// What is interpreted, in messages: the node's and those of Luau.
const GUEST: &str = "script";

/// The parts of the library that reach nothing outside.
const LIBRARY: [StdLib; 8] = [
    StdLib::COROUTINE,
    StdLib::TABLE,
    StdLib::STRING,
    StdLib::UTF8,
    StdLib::BIT,
    StdLib::MATH,
    StdLib::BUFFER,
    StdLib::VECTOR,
];

/// Why a script did not run.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Begin(#[from] worker::BeginError),
    #[error("Luau can't be set up")]
    Luau(#[from] mlua::Error),
}

impl BeginError {
    fn end(&self) -> End {
        match self {
            Self::Begin(error) => error.end(),
            Self::Luau(_) => End::error(chain(self)),
        }
    }
}

/// Does the work of a worker that is a script.
pub(crate) fn work() -> ExitCode {
    worker::interpret(|brief| run(brief).unwrap_or_else(|error| error.end()))
}

fn run(mut brief: Brief<Piece>) -> Result<End, BeginError> {
    let script = match &brief.piece.script {
        Script::Text(text) => text.clone().into_bytes(),
        Script::File(path) => worker::read_guest(GUEST, path, SCRIPT_BYTES_MAX)?,
    };
    let memory = brief.memory_bytes.unwrap_or(u64::MAX);
    let files = WorkFiles::open(&work_path(&brief.directory), memory).map_err(worker::BeginError::Work)?;
    let daemon = Daemon::connect(brief.piece.socket.take());
    let allowed = Allowance { talks: daemon.is_connected(), ..Allowance::least(&brief) };
    worker::raise_walls(GUEST, &brief, allowed)?;
    let directory = brief.directory.clone();
    let desk = Rc::new(Desk::new(brief, files, daemon));
    let lua = state(&desk, memory)?;
    let chunk = lua.load(script).set_name(format!("={GUEST}")).set_mode(ChunkMode::Text);
    let end = match chunk.call::<Value>(()) {
        Ok(returned) => keep(&desk, &returned, &directory),
        Err(error) => failed(&error, memory),
    };
    Ok(end)
}

/// Makes the state: the library, the table `job`, and no way to change either.
fn state(desk: &Rc<Desk>, memory: u64) -> mlua::Result<Lua> {
    let library = LIBRARY.into_iter().fold(StdLib::NONE, |all, part| all | part);
    let lua = Lua::new_with(library, LuaOptions::new())?;
    lua.set_memory_limit(usize::try_from(memory).unwrap_or(usize::MAX))?;
    // It is there even though the part of the library that it belongs to was left out.
    lua.globals().set("require", Value::Nil)?;
    job::install(&lua, desk)?;
    lua.sandbox(true)?;
    Ok(lua)
}

/// Writes down the result: what the script returned, or else what it gave to `job.result`.
fn keep(desk: &Desk, returned: &Value, directory: &Path) -> End {
    let json = if returned.is_nil() {
        desk.result()
    } else {
        match value::encode(returned, "result") {
            Ok(json) => Some(json),
            Err(error) => return End::permanent(error.to_string()),
        }
    };
    let Some(json) = json else { return End::code(0) };
    match write_result(directory, &json) {
        Ok(()) => End::code(0),
        Err(error) => End::error(format!("failed to write the result: {error}")),
    }
}

fn write_result(directory: &Path, json: &[u8]) -> io::Result<()> {
    fs::File::create(result_path(directory))?.write_all(json)
}

/// What the error means that a script ended with. How it got there is said on standard error.
fn failed(error: &mlua::Error, memory: u64) -> End {
    if let mlua::Error::SyntaxError { message, .. } = error {
        return End::permanent(format!("syntax error: {}", first_line(message)));
    }
    if is_of_memory(error) {
        return End::error(format!("needed more than {} of memory (memory limit)", size(memory)));
    }
    let text = error.to_string();
    eprintln!("{}", text.trim_end());
    End::error(plain(&text))
}

/// Whether memory was what a script had too little of; also if that happened in a function of ours.
fn is_of_memory(error: &mlua::Error) -> bool {
    if let mlua::Error::CallbackError { cause, .. } = error {
        return is_of_memory(cause);
    }
    matches!(error, mlua::Error::MemoryError(_)) || first_line(&error.to_string()).ends_with("not enough memory")
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default().trim()
}

/// The first line of an error, without what kind of error it is: a script has one kind.
fn plain(text: &str) -> &str {
    let said = first_line(text);
    said.strip_prefix("runtime error: ").unwrap_or(said)
}
