//! The table `job`: everything outside itself that a script can reach.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mlua::{Error, Function, Lua, LuaString, MultiValue, Result, Table, Value};
use serde_json::json;

use super::daemon::{Daemon, TellError};
use super::files::{FileError, Files};
use super::{Piece, value};
use crate::process::RUN_VARIABLE;
use crate::worker::{Brief, End, Word};

/// Least time between two reports of progress: nobody reads more than ten a second, and each is a write on the disk.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Longest line of a job in one `job.log`.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What the functions of the table work with.
pub(super) struct Desk {
    directory: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    memory_bytes: u64,
    files: Files,
    daemon: Daemon,
    result: RefCell<Option<Vec<u8>>>,
    input: RefCell<Option<LuaString>>,
    progressed: RefCell<Option<Instant>>,
    /// How many jobs were submitted.
    submitted: RefCell<u64>,
}

impl Desk {
    pub(super) fn new(brief: Brief<Piece>, files: Files) -> Self {
        Self {
            directory: brief.directory,
            arguments: brief.arguments,
            environment: brief.environment,
            memory_bytes: brief.memory_bytes.unwrap_or(u64::MAX),
            files,
            daemon: Daemon::new(brief.piece.socket),
            result: RefCell::new(None),
            input: RefCell::new(None),
            progressed: RefCell::new(None),
            submitted: RefCell::new(0),
        }
    }

    /// What was given to `job.result` last.
    pub(super) fn result(&self) -> Option<Vec<u8>> {
        self.result.borrow().clone()
    }

    /// A job to be submitted: with a name for this very submission, since the line that says it may be said twice.
    fn submission(&self, json: &[u8]) -> Result<serde_json::Value> {
        let mut wanted: serde_json::Value = serde_json::from_slice(json).map_err(Error::runtime)?;
        if wanted.get("spec").is_none() {
            wanted = json!({ "spec": wanted });
        }
        let number = self.submitted.replace_with(|number| *number + 1);
        if let Some(members) = wanted.as_object_mut() {
            let run = self.environment.get(RUN_VARIABLE).map_or("", String::as_str);
            members.entry("idempotency_key").or_insert_with(|| json!(format!("{run}/{number}")));
        }
        Ok(wanted)
    }

    fn number(&self, variable: &str) -> Option<f64> {
        self.environment.get(variable)?.parse().ok()
    }

    /// Ends the process, so that no `pcall` can go on.
    fn end(&self, word: Word) -> Result<()> {
        let end = End::from(word);
        end.tell(&self.directory);
        std::process::exit(end.exit_code().into())
    }
}

/// Puts the table into the state, and `print` with it.
pub(super) fn install(lua: &Lua, desk: &Rc<Desk>) -> Result<()> {
    let job = lua.create_table()?;
    job.set("args", desk.arguments.clone())?;
    job.set("env", desk.environment.clone())?;
    job.set("id", desk.environment.get("JOBMESH_JOB").cloned())?;
    job.set("attempt", desk.number("JOBMESH_ATTEMPT"))?;
    speaking(lua, &job, desk)?;
    ending(lua, &job, desk)?;
    reporting(lua, &job, desk)?;
    files(lua, &job, desk)?;
    for name in ["args", "env"] {
        job.get::<Table>(name)?.set_readonly(true);
    }
    job.set_readonly(true);
    lua.globals().set("job", job)
}

/// `log`, `warn`, `print`; `input`, `result`, `encode`, `decode`.
fn speaking(lua: &Lua, job: &Table, desk: &Rc<Desk>) -> Result<()> {
    let text_of: Function = lua.globals().get("tostring")?;
    let as_text = text_of.clone();
    let log = lua.create_function(move |_, values| say(&mut io::stdout().lock(), &text_of, values))?;
    job.set("log", &log)?;
    lua.globals().set("print", log)?;
    job.set("warn", lua.create_function(move |_, values| say(&mut io::stderr().lock(), &as_text, values))?)?;
    let this = Rc::clone(desk);
    job.set("input", lua.create_function(move |lua, ()| input(lua, &this))?)?;
    let this = Rc::clone(desk);
    let result = lua.create_function(move |_, value: Value| {
        let json = value::encode(&value, "result").map_err(Error::runtime)?;
        *this.result.borrow_mut() = Some(json);
        Ok(())
    })?;
    job.set("result", result)?;
    let encode = lua.create_function(|lua, value: Value| {
        lua.create_string(value::encode(&value, "value").map_err(Error::runtime)?)
    })?;
    job.set("encode", encode)?;
    let decode = lua.create_function(|lua, text: LuaString| {
        let json = serde_json::from_slice(&text.as_bytes());
        value::decode(lua, &json.map_err(|error| Error::runtime(format!("this is no JSON: {error}")))?)
    })?;
    job.set("decode", decode)
}

/// `fail`, `permanent`, `snooze`, `cancel`.
fn ending(lua: &Lua, job: &Table, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    let fail = lua.create_function(move |_, (message, seconds): (String, Option<f64>)| {
        this.end(Word::Error { message, retry_after: seconds.map(millis).transpose()? })
    })?;
    job.set("fail", fail)?;
    let this = Rc::clone(desk);
    job.set("permanent", lua.create_function(move |_, message: String| this.end(Word::Permanent { message }))?)?;
    let this = Rc::clone(desk);
    let snooze = lua.create_function(move |_, (seconds, reason): (f64, Option<String>)| {
        this.end(Word::Snooze { wait: millis(seconds)?, reason })
    })?;
    job.set("snooze", snooze)?;
    let this = Rc::clone(desk);
    job.set("cancel", lua.create_function(move |_, reason: String| this.end(Word::Cancel { reason }))?)
}

/// `progress`, `heartbeat`, `checkpoint`, `checkpoints`, `submit`.
fn reporting(lua: &Lua, job: &Table, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    let progress = lua.create_function(move |_, (done, what): (Option<f64>, Option<String>)| {
        let is_last = done.is_some_and(|done| done >= 1.0);
        let now = Instant::now();
        let is_soon = this.progressed.borrow().is_some_and(|last| now.duration_since(last) < PROGRESS_EVERY);
        if is_soon && !is_last {
            return Ok(());
        }
        *this.progressed.borrow_mut() = Some(now);
        let done = done.map(|done| ("progress".to_owned(), json!(done)));
        let what = what.map(|what| ("message".to_owned(), json!(what)));
        this.daemon.tell_all(done.into_iter().chain(what).collect()).map(drop).map_err(told)
    })?;
    job.set("progress", progress)?;
    let this = Rc::clone(desk);
    let heartbeat =
        lua.create_function(move |_, ()| this.daemon.tell("heartbeat", json!(true)).map(drop).map_err(told))?;
    job.set("heartbeat", heartbeat)?;
    let this = Rc::clone(desk);
    let checkpoint = lua.create_function(move |_, (name, value): (String, Option<String>)| {
        let said = json!({ "name": name, "value": value.unwrap_or_default() });
        this.daemon.tell("checkpoint", said).map(drop).map_err(told)
    })?;
    job.set("checkpoint", checkpoint)?;
    let this = Rc::clone(desk);
    let checkpoints = lua.create_function(move |lua, ()| {
        let answer = this.daemon.tell("checkpoints", json!(true)).map_err(told)?;
        value::decode(lua, answer.get("checkpoints").unwrap_or(&json!({})))
    })?;
    job.set("checkpoints", checkpoints)?;
    let this = Rc::clone(desk);
    let submit = lua.create_function(move |lua, wanted: Table| {
        let json = value::encode(&Value::Table(wanted), "job").map_err(Error::runtime)?;
        let answer = this.daemon.tell("submit", this.submission(&json)?).map_err(told)?;
        value::decode(lua, answer.pointer("/submitted/number").unwrap_or(&json!(null)))
    })?;
    job.set("submit", submit)
}

/// `read`, `write`, `list`, `remove`.
fn files(lua: &Lua, job: &Table, desk: &Rc<Desk>) -> Result<()> {
    let failed = |error: FileError| Error::runtime(error);
    let this = Rc::clone(desk);
    let read =
        lua.create_function(move |lua, path: String| lua.create_string(this.files.read(&path).map_err(failed)?))?;
    job.set("read", read)?;
    let this = Rc::clone(desk);
    let write = lua.create_function(move |_, (path, text): (String, LuaString)| {
        this.files.write(&path, &text.as_bytes()).map_err(failed)
    })?;
    job.set("write", write)?;
    let this = Rc::clone(desk);
    let list = lua.create_function(move |_, path: Option<String>| {
        this.files.list(path.as_deref().unwrap_or(".")).map_err(failed)
    })?;
    job.set("list", list)?;
    let this = Rc::clone(desk);
    job.set("remove", lua.create_function(move |_, path: String| this.files.remove(&path).map_err(failed))?)
}

/// Writes one line: the values as text, with tabs between them.
fn say(to: &mut dyn Write, text_of: &Function, values: MultiValue) -> Result<()> {
    let mut line = Vec::new();
    for (index, value) in values.into_iter().enumerate() {
        if index > 0 {
            line.push(b'\t');
        }
        line.extend_from_slice(&text_of.call::<LuaString>(value)?.as_bytes());
        if line.len() > LINE_BYTES_MAX {
            return Err(Error::runtime(format!("a line may have {LINE_BYTES_MAX} bytes; write more to a file")));
        }
    }
    line.push(b'\n');
    let written = to.write_all(&line).and_then(|()| to.flush());
    written.map_err(|error| Error::runtime(format!("failed to write to the log: {error}")))
}

/// All of standard input. It is read once and kept.
fn input(lua: &Lua, desk: &Desk) -> Result<LuaString> {
    if let Some(text) = &*desk.input.borrow() {
        return Ok(text.clone());
    }
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(desk.memory_bytes).read_to_end(&mut bytes);
    read.map_err(|error| Error::runtime(format!("failed to read the input: {error}")))?;
    let text = lua.create_string(bytes)?;
    *desk.input.borrow_mut() = Some(text.clone());
    Ok(text)
}

/// Seconds of a script as whole milliseconds.
fn millis(seconds: f64) -> Result<u64> {
    let length = Duration::try_from_secs_f64(seconds)
        .map_err(|_| Error::runtime(format!("{seconds} is no number of seconds to wait")))?;
    Ok(u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

fn told(error: TellError) -> Error {
    Error::runtime(error)
}
