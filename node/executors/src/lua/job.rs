//! The table `job`: everything outside itself that a script can reach.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use data_encoding::BASE64;
use mlua::{Error, FromLuaMulti, Function, IntoLuaMulti, Lua, LuaString, MultiValue, Result, Table, Value};
use serde_json::json;

use super::daemon::{Daemon, TellError};
use super::value::EncodeError;
use super::work_files::{FileError, WorkFiles};
use super::{Piece, value};
use crate::variable::{ATTEMPT_VARIABLE, JOB_VARIABLE, RUN_VARIABLE};
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
    files: WorkFiles,
    daemon: Daemon,
    result: RefCell<Option<Vec<u8>>>,
    input: RefCell<Option<LuaString>>,
    progressed: RefCell<Option<Instant>>,
    /// How many jobs were submitted.
    submitted: RefCell<u64>,
}

impl Desk {
    pub(super) fn new(brief: Brief<Piece>, files: WorkFiles, daemon: Daemon) -> Self {
        Self {
            directory: brief.directory,
            arguments: brief.arguments,
            environment: brief.environment,
            memory_bytes: brief.memory_bytes.unwrap_or(u64::MAX),
            files,
            daemon,
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

    /// A job to be submitted: with a name for this very submission, so that it is taken on once whatever becomes of the line.
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

/// What every function of the table is called through: it makes an error of a message, at the line that called it.
const RAISE: &str = "local call = ...
return function(...)
    local ok, value = call(...)
    if ok then return value end
    error(value, 2)
end";

/// Puts the table into the state, and `print` with it.
pub(super) fn install(lua: &Lua, desk: &Rc<Desk>) -> Result<()> {
    let raise = lua.load(RAISE).set_name("=job").into_function()?;
    let job = JobTable { lua: lua.clone(), table: lua.create_table()?, raise };
    job.table.set("args", desk.arguments.clone())?;
    job.table.set("env", desk.environment.clone())?;
    job.table.set("id", desk.environment.get(JOB_VARIABLE).cloned())?;
    job.table.set("attempt", desk.number(ATTEMPT_VARIABLE))?;
    speaking(&job, desk)?;
    ending(&job, desk)?;
    reporting(&job, desk)?;
    submitting(&job, desk)?;
    fetching(&job, desk)?;
    files(&job, desk)?;
    for name in ["args", "env"] {
        job.table.get::<Table>(name)?.set_readonly(true);
    }
    job.table.set_readonly(true);
    lua.globals().set("job", job.table)
}

/// The table while it is filled.
struct JobTable {
    lua: Lua,
    table: Table,
    /// [`RAISE`], as a function.
    raise: Function,
}

impl JobTable {
    /// Adds a function whose errors are texts, as those of the script itself.
    fn add<A, R, E>(&self, name: &str, call: impl Fn(&Lua, A) -> std::result::Result<R, E> + 'static) -> Result<()>
    where
        A: FromLuaMulti,
        R: IntoLuaMulti,
        E: Into<Error>,
    {
        let safe = self.lua.create_function(move |lua, arguments: MultiValue| {
            let done = A::from_lua_multi(arguments, lua).and_then(|arguments| call(lua, arguments).map_err(E::into));
            let (is_done, mut values) = match done {
                Ok(value) => (true, value.into_lua_multi(lua)?),
                // What memory was too little for, it may be too little to tell of.
                Err(error @ Error::MemoryError(_)) => return Err(error),
                Err(error) => (false, message(&error).into_lua_multi(lua)?),
            };
            values.push_front(Value::Boolean(is_done));
            Ok(values)
        })?;
        self.table.set(name, self.raise.call::<Function>(safe)?)
    }
}

/// An error as one line.
fn message(error: &Error) -> String {
    if let Error::RuntimeError(text) = error {
        return text.clone();
    }
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// `log`, `warn`, `print`; `input`, `result`, `encode`, `decode`.
fn speaking(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let text_of: Function = job.lua.globals().get("tostring")?;
    let as_text = text_of.clone();
    job.add("log", move |_, values| say(&mut io::stdout().lock(), &text_of, values))?;
    job.lua.globals().set("print", job.table.get::<Function>("log")?)?;
    job.add("warn", move |_, values| say(&mut io::stderr().lock(), &as_text, values))?;
    let this = Rc::clone(desk);
    job.add("input", move |lua, ()| input(lua, &this))?;
    let this = Rc::clone(desk);
    job.add("result", move |_, value: Value| -> Result<()> {
        *this.result.borrow_mut() = Some(value::encode(&value, "result")?);
        Ok(())
    })?;
    job.add("encode", |lua, value: Value| lua.create_string(value::encode(&value, "value")?))?;
    job.add("decode", |lua, text: LuaString| {
        let json = serde_json::from_slice(&text.as_bytes());
        value::decode(lua, &json.map_err(|error| Error::runtime(format!("this is no JSON: {error}")))?)
    })
}

/// `fail`, `permanent`, `snooze`, `cancel`.
fn ending(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    job.add("fail", move |_, (message, seconds): (String, Option<f64>)| {
        this.end(Word::Error { message, retry_after: seconds.map(millis).transpose()? })
    })?;
    let this = Rc::clone(desk);
    job.add("permanent", move |_, message: String| this.end(Word::Permanent { message }))?;
    let this = Rc::clone(desk);
    job.add("snooze", move |_, (seconds, reason): (f64, Option<String>)| {
        this.end(Word::Snooze { wait: millis(seconds)?, reason })
    })?;
    let this = Rc::clone(desk);
    job.add("cancel", move |_, reason: String| this.end(Word::Cancel { reason }))
}

/// `progress`, `heartbeat`, `checkpoint`, `checkpoints`.
fn reporting(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    job.add("progress", move |_, (done, what): (Option<f64>, Option<String>)| progress(&this, done, what))?;
    let this = Rc::clone(desk);
    job.add("heartbeat", move |_, ()| {
        this.daemon.mention([("heartbeat".to_owned(), json!(true))].into_iter().collect())
    })?;
    let this = Rc::clone(desk);
    job.add("checkpoint", move |_, (name, value): (String, Option<String>)| {
        this.daemon.tell("checkpoint", json!({ "name": name, "value": value.unwrap_or_default() })).map(drop)
    })?;
    let this = Rc::clone(desk);
    job.add("checkpoints", move |lua, ()| {
        let answer = this.daemon.tell("checkpoints", json!(true))?;
        value::decode(lua, answer.get("checkpoints").unwrap_or(&json!({})))
    })
}

/// `submit`.
fn submitting(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    job.add("submit", move |lua, wanted: Table| {
        let json = value::encode(&Value::Table(wanted), "job")?;
        let answer = this.daemon.tell("submit", this.submission(&json)?)?;
        value::decode(lua, answer.pointer("/submitted/number").unwrap_or(&json!(null)))
    })
}

/// `http`.
fn fetching(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    job.add("http", move |lua, wanted: Table| {
        let json = value::encode(&Value::Table(wanted), "request")?;
        let mut wanted: serde_json::Value = serde_json::from_slice(&json).map_err(Error::runtime)?;
        // A table with nothing in it says nothing of headers, and looks like a list.
        if let Some(members) = wanted.as_object_mut()
            && members.get("headers").is_some_and(|headers| headers.as_array().is_some_and(Vec::is_empty))
        {
            members.remove("headers");
        }
        let answer = this.daemon.ask("http", wanted)?;
        let answered = answer.get("http").ok_or_else(|| Error::runtime("the node did not say what was answered"))?;
        let text = answered.get("body").and_then(serde_json::Value::as_str).unwrap_or_default();
        let body = BASE64.decode(text.as_bytes()).map_err(|_| Error::runtime("the node's answer can't be read"))?;
        let table = lua.create_table()?;
        for key in ["status", "url"] {
            table.raw_set(key, value::decode(lua, answered.get(key).unwrap_or(&json!(null)))?)?;
        }
        table.raw_set("headers", value::decode(lua, answered.get("headers").unwrap_or(&json!({})))?)?;
        table.raw_set("body", lua.create_string(body)?)?;
        Ok::<_, Error>(table)
    })
}

/// `read`, `write`, `list`, `remove`.
fn files(job: &JobTable, desk: &Rc<Desk>) -> Result<()> {
    let this = Rc::clone(desk);
    job.add("read", move |lua, path: String| lua.create_string(this.files.read(&path)?))?;
    let this = Rc::clone(desk);
    job.add("write", move |_, (path, text): (String, LuaString)| this.files.write(&path, &text.as_bytes()))?;
    let this = Rc::clone(desk);
    job.add("list", move |_, path: Option<String>| this.files.list(path.as_deref().unwrap_or(".")))?;
    let this = Rc::clone(desk);
    job.add("remove", move |_, path: String| this.files.remove(&path))
}

/// Tells how far the script is, unless it did so a moment ago.
fn progress(desk: &Desk, done: Option<f64>, what: Option<String>) -> std::result::Result<(), TellError> {
    let is_last = done.is_some_and(|done| done >= 1.0);
    let now = Instant::now();
    let is_soon = desk.progressed.borrow().is_some_and(|last| now.duration_since(last) < PROGRESS_EVERY);
    if is_soon && !is_last {
        return Ok(());
    }
    *desk.progressed.borrow_mut() = Some(now);
    let done = done.map(|done| ("progress".to_owned(), json!(done)));
    let what = what.map(|what| ("message".to_owned(), json!(what)));
    desk.daemon.mention(done.into_iter().chain(what).collect())
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

impl From<TellError> for Error {
    fn from(error: TellError) -> Self {
        Self::runtime(error)
    }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::runtime(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::runtime(error)
    }
}
