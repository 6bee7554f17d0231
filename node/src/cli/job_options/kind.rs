//! Work other than a command of this machine: containers, modules, scripts, requests to servers and to models.
//!
//! One option names the kind and what it is about; the others say more of it, and may be laid over a declared type or a
//! file as well. **The hard case** is what comes from files: it is sent to the node last, when all else is known to be in
//! order, so the task holds an empty blob in its place until then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::job::NAME_BYTES_MAX;
use jobmesh_protocol::task::{
    Complexity, ContainerTask, Content, EmbeddingTask, HttpTask, LlmTask, LuaTask, Message, Pull, Role, Task, WasmTask,
};

use super::Draft;
use crate::cli::failure::{Failure, Kind};

/// Most digits of a temperature behind the point: it is kept in thousandths.
const TEMPERATURE_DIGITS: usize = 3;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Other work than a command of this machine")]
pub(super) struct KindOptions {
    /// Run the words after `--` in a container of this image, or its own command if there are none
    #[arg(long, value_name = "IMAGE", group = "kind")]
    container: Option<String>,
    /// When the image is fetched: missing, always or never [default: missing]
    #[arg(long, value_name = "WHEN", value_parser = parse_pull)]
    pull: Option<Pull>,
    /// Run a WebAssembly module with the interface of WASI, with the words after `--` as its arguments
    #[arg(long, value_name = "FILE|-", group = "kind")]
    wasm: Option<PathBuf>,
    /// Stop the module when it has used so much fuel, about one unit for each instruction
    #[arg(long, value_name = "N")]
    fuel: Option<u64>,
    /// Run a script in Luau, with the words after `--` as `job.args`
    #[arg(long, value_name = "FILE|-", group = "kind")]
    lua: Option<PathBuf>,
    /// The same with the script itself
    #[arg(long, value_name = "TEXT", group = "kind")]
    lua_script: Option<String>,
    /// Send a request to a web server
    #[arg(long, value_name = "URL", group = "kind")]
    http: Option<String>,
    /// The method of the request [default: GET, or POST with a body]
    #[arg(long, short = 'X', value_name = "METHOD")]
    method: Option<String>,
    /// A header of the request, such as 'Accept: text/plain' (may be repeated)
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// The body of the request
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = Given::parse)]
    body: Option<Given>,
    /// The statuses of the answer that are a success, such as 200,404 [default: 200 to 299]
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    expect: Vec<u16>,
    /// Ask a language model
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = Given::parse, group = "kind")]
    llm: Option<Given>,
    /// What the model is told before the question
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = Given::parse)]
    system: Option<Given>,
    /// How hard the question is, for the node's choice of a model: simple, medium or complex
    #[arg(long, value_name = "LEVEL", value_parser = parse_complexity)]
    complexity: Option<Complexity>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N")]
    tokens: Option<u32>,
    /// How freely the model answers, from 0 to 2
    #[arg(long, value_name = "T", value_parser = parse_temperature)]
    temperature: Option<u16>,
    /// Have an embedding model make the vector of a text (may be repeated)
    #[arg(long = "embed", value_name = "TEXT|@FILE|-", value_parser = Given::parse, group = "kind")]
    texts: Vec<Given>,
    /// The model to ask, as PROVIDER/MODEL or by a name that the node knows [default: up to the node]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
}

/// A text as it was given, or the file that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Given {
    Text(String),
    File(PathBuf),
}

impl Given {
    /// Reads `@FILE`, `-`, or the text itself; `@@` begins a text with one `@`.
    fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.strip_prefix('@') {
            _ if text == "-" => Self::File(PathBuf::from("-")),
            Some("") => return Err("write @FILE, or @@ for a text that is one @".to_owned()),
            Some(rest) if rest.starts_with('@') => Self::Text(rest.to_owned()),
            Some(file) => Self::File(PathBuf::from(file)),
            None => Self::Text(text.to_owned()),
        })
    }

    /// The text, or an empty blob in place of the file's.
    fn content(&self) -> Content {
        match self {
            Self::Text(text) => Content::Text(text.clone()),
            Self::File(_) => Content::Blob(BlobRef::of(b"")),
        }
    }

    fn upload(&self, part: Part) -> Option<Upload> {
        match self {
            Self::Text(_) => None,
            Self::File(file) => Some(Upload { part, file: file.clone() }),
        }
    }
}

/// The part of a task that a file becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Module,
    Script,
    Body,
    System,
    Question,
    Text(usize),
}

/// A file that becomes part of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Upload {
    part: Part,
    pub(super) file: PathBuf,
}

impl Upload {
    /// Puts the blob that the file has become into its place.
    pub(super) fn place(&self, task: &mut Task, blob: BlobRef) {
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

impl KindOptions {
    pub(super) const fn says_what(&self) -> bool {
        let is_code =
            self.container.is_some() || self.wasm.is_some() || self.lua.is_some() || self.lua_script.is_some();
        is_code || self.http.is_some() || self.llm.is_some() || !self.texts.is_empty()
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
        let given = [&self.body, &self.llm, &self.system].into_iter().flatten().chain(&self.texts);
        let texts = given.filter_map(|given| match given {
            Given::Text(_) => None,
            Given::File(file) => Some(file),
        });
        self.wasm.iter().chain(&self.lua).chain(texts).map(PathBuf::as_path)
    }

    /// The job, if one of the options names its kind. `words` are those after `--`.
    pub(super) fn draft(&self, words: &[String]) -> Result<Option<Draft>, Failure> {
        let argv = words.to_vec();
        let draft = if let Some(image) = &self.container {
            Draft::of(image_name(image), Task::Container(ContainerTask::new(image.clone(), argv)))
        } else if let Some(file) = &self.wasm {
            let task = WasmTask { argv, ..WasmTask::new(BlobRef::of(b"")) };
            Draft { uploads: vec![upload(Part::Module, file)], ..Draft::of(file_name(file, "wasm"), Task::Wasm(task)) }
        } else if let Some(file) = &self.lua {
            let task = LuaTask { argv, script: Content::Blob(BlobRef::of(b"")), ..LuaTask::new("") };
            Draft { uploads: vec![upload(Part::Script, file)], ..Draft::of(file_name(file, "lua"), Task::Lua(task)) }
        } else if let Some(script) = &self.lua_script {
            Draft::of("lua".to_owned(), Task::Lua(LuaTask { argv, ..LuaTask::new(script.clone()) }))
        } else {
            return self.request(words);
        };
        Ok(Some(draft))
    }

    /// The job, if it is a request to a server or a model.
    fn request(&self, words: &[String]) -> Result<Option<Draft>, Failure> {
        let (option, draft) = if let Some(url) = &self.http {
            ("--http", Draft::of(host_name(url), Task::Http(HttpTask::new(url.clone()))))
        } else if let Some(question) = &self.llm {
            let messages = vec![Message { role: Role::User, content: question.content() }];
            let task = Task::Llm(LlmTask { messages, ..LlmTask::new("") });
            let uploads = question.upload(Part::Question).into_iter().collect();
            ("--llm", Draft { uploads, ..Draft::of(self.model_name("llm"), task) })
        } else if !self.texts.is_empty() {
            let texts = self.texts.iter().map(Given::content).collect();
            let task = Task::Embedding(EmbeddingTask { texts, model: None });
            let files = self.texts.iter().enumerate().filter_map(|(at, text)| text.upload(Part::Text(at)));
            ("--embed", Draft { uploads: files.collect(), ..Draft::of(self.model_name("embedding"), task) })
        } else {
            return Ok(None);
        };
        match words.first() {
            None => Ok(Some(draft)),
            Some(word) => {
                let message = format!("{option} runs no command, and here is one: {word}");
                Err(Failure::new(Kind::Usage, message).hint("leave out what is after `--`"))
            }
        }
    }

    fn model_name(&self, usual: &str) -> String {
        self.model.clone().filter(|model| model.len() <= NAME_BYTES_MAX).unwrap_or_else(|| usual.to_owned())
    }

    /// Says more of a job, which must be of the kind that each option is for.
    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let task = &mut draft.submission.spec.task;
        if let Some(pull) = self.pull {
            let Task::Container(container) = &mut *task else { return Err(misplaced("--pull", "--container", task)) };
            container.pull = Some(pull);
        }
        if let Some(fuel) = self.fuel {
            let Task::Wasm(wasm) = &mut *task else { return Err(misplaced("--fuel", "--wasm", task)) };
            wasm.fuel = Some(fuel);
        }
        if let Some(model) = self.model {
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
        }
        let http = HttpOptions { method: self.method, headers: self.headers, body: self.body, expect: self.expect };
        http.lay_over(draft)?;
        let llm = LlmOptions {
            system: self.system,
            complexity: self.complexity,
            tokens: self.tokens,
            temperature: self.temperature,
        };
        llm.lay_over(draft)
    }
}

/// What is said of a request.
struct HttpOptions {
    method: Option<String>,
    headers: Vec<(String, String)>,
    body: Option<Given>,
    expect: Vec<u16>,
}

impl HttpOptions {
    /// The first option that says something.
    const fn said(&self) -> Option<&'static str> {
        if self.method.is_some() {
            Some("--method")
        } else if !self.headers.is_empty() {
            Some("--header")
        } else if self.body.is_some() {
            Some("--body")
        } else if !self.expect.is_empty() {
            Some("--expect")
        } else {
            None
        }
    }

    fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let Some(said) = self.said() else { return Ok(()) };
        let task = &mut draft.submission.spec.task;
        let Task::Http(http) = &mut *task else { return Err(misplaced(said, "--http", task)) };
        if let Some(body) = &self.body {
            http.body = Some(body.content());
            draft.uploads.retain(|upload| upload.part != Part::Body);
            draft.uploads.extend(body.upload(Part::Body));
            if http.method == "GET" {
                "POST".clone_into(&mut http.method);
            }
        }
        if let Some(method) = self.method {
            http.method = method.to_ascii_uppercase();
        }
        http.headers.extend(self.headers.into_iter().collect::<BTreeMap<_, _>>());
        if !self.expect.is_empty() {
            http.expect = self.expect;
        }
        Ok(())
    }
}

/// What is said of a question.
struct LlmOptions {
    system: Option<Given>,
    complexity: Option<Complexity>,
    tokens: Option<u32>,
    temperature: Option<u16>,
}

impl LlmOptions {
    /// The first option that says something.
    const fn said(&self) -> Option<&'static str> {
        if self.system.is_some() {
            Some("--system")
        } else if self.complexity.is_some() {
            Some("--complexity")
        } else if self.tokens.is_some() {
            Some("--tokens")
        } else if self.temperature.is_some() {
            Some("--temperature")
        } else {
            None
        }
    }

    fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let Some(said) = self.said() else { return Ok(()) };
        let task = &mut draft.submission.spec.task;
        let Task::Llm(llm) = &mut *task else { return Err(misplaced(said, "--llm", task)) };
        if let Some(system) = &self.system {
            llm.messages.retain(|message| message.role != Role::System);
            llm.messages.insert(0, Message { role: Role::System, content: system.content() });
            draft.uploads.extend(system.upload(Part::System));
        }
        llm.complexity = self.complexity.or(llm.complexity);
        llm.tokens_max = self.tokens.or(llm.tokens_max);
        llm.temperature_milli = self.temperature.or(llm.temperature_milli);
        Ok(())
    }
}

fn misplaced(option: &str, with: &str, task: &Task) -> Failure {
    let message = format!("{option} goes with {with}, but this job is one for {}", task.executor());
    Failure::new(Kind::Usage, message).hint("leave it out, or see `jobmesh run --help` for what goes together")
}

fn upload(part: Part, file: &Path) -> Upload {
    Upload { part, file: file.to_owned() }
}

/// The name of an image without its registry, folders, tag and digest: what its jobs are grouped by.
fn image_name(image: &str) -> String {
    let tagged = image.split('@').next().unwrap_or(image);
    let name = tagged.rsplit('/').next().unwrap_or(tagged);
    plain(name.split(':').next().unwrap_or(name), "container")
}

/// The name of a file without its folders.
fn file_name(file: &Path, usual: &str) -> String {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    plain(if name == "-" { usual } else { &name }, usual)
}

/// The host of an address, without a port, a user or a password.
fn host_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    plain(name.map_or(host, |(name, _)| name), "http")
}

/// A name if it can be that of a job type, else the usual one.
fn plain(name: &str, usual: &str) -> String {
    let is_name = !name.trim().is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control);
    if is_name { name.to_owned() } else { usual.to_owned() }
}

fn parse_pull(word: &str) -> Result<Pull, String> {
    Pull::from_word(word).ok_or_else(|| "write missing, always or never".to_owned())
}

fn parse_complexity(word: &str) -> Result<Complexity, String> {
    Complexity::from_word(word).ok_or_else(|| "write simple, medium or complex".to_owned())
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Reads a number such as 0.7 as thousandths.
fn parse_temperature(text: &str) -> Result<u16, String> {
    let wrong = || "write it as a number from 0 to 2, such as 0.7".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !text.is_empty() && whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || decimals.len() > TEMPERATURE_DIGITS || (whole.is_empty() && decimals.is_empty()) {
        return Err(wrong());
    }
    let milli = format!("{whole}{decimals:0<3}").parse::<u16>().map_err(|_| wrong())?;
    if milli > 2000 { Err(wrong()) } else { Ok(milli) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_grouped_by_what_they_are_about() {
        for (image, name) in [
            ("busybox", "busybox"),
            ("docker.io/library/busybox:1.36", "busybox"),
            ("localhost:5000/a/b@sha256:00", "b"),
            ("", "container"),
        ] {
            assert_eq!(image_name(image), name);
        }
        for (url, name) in [
            ("https://example.org/a?b", "example.org"),
            ("http://me:secret@example.org:8080", "example.org"),
            ("http://[::1]:80/", "[::1]"),
            ("http:///", "http"),
        ] {
            assert_eq!(host_name(url), name);
        }
        assert_eq!(file_name(Path::new("/x/count.wasm"), "wasm"), "count.wasm");
        assert_eq!(file_name(Path::new("-"), "lua"), "lua");
    }

    #[test]
    fn a_text_may_be_in_a_file_and_a_temperature_is_exact() {
        assert_eq!(Given::parse("@a b"), Ok(Given::File("a b".into())));
        assert_eq!(Given::parse("-"), Ok(Given::File("-".into())));
        assert_eq!(Given::parse("@@a"), Ok(Given::Text("@a".to_owned())));
        assert!(Given::parse("@").is_err());
        for (text, milli) in [("0", 0), ("0.7", 700), ("2", 2000), (".125", 125), ("1.", 1000)] {
            assert_eq!(parse_temperature(text), Ok(milli), "{text}");
        }
        for text in ["", ".", "2.1", "-1", "0.1234", "1e1", "99999"] {
            assert!(parse_temperature(text).is_err(), "{text}");
        }
    }
}
