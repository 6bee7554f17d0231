//! Work of a job type that is no command of this machine: a container, a module, a script, a request to a server or to a
//! model. `url`, `prompt` and the like have holes as arguments have.
//!
//! **The hard case** is again the value that wants to be more than a value. Within an address it is written so that it
//! can't end the part of the address that it stands in; a script has no holes at all, and finds values as its arguments.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jobmesh_protocol::BlobRef;
use jobmesh_protocol::task::{
    ARGV_MAX, Complexity, ContainerTask, Content, EmbeddingTask, HttpTask, LlmTask, LuaTask, Message, Pull, Role,
    TEXTS_MAX, Task, WasmTask,
};

use crate::config::table::{Entry, Fault, Lined, Table};
use crate::job_types::template::{Template, Values};
use crate::job_types::work::{Argument, Executor, fill_arguments, read_arguments};
use crate::job_types::{Names, read_template};

/// Most statuses that are a success.
const STATUSES_MAX: usize = 64;
/// Highest temperature, in thousandths.
const TEMPERATURE_MAX: f64 = 2.0;

/// The keys of this part: one of them at most.
pub(super) const KEYS: &[&str] = &["container", "wasm", "lua", "http", "llm", "embedding"];

/// A file's content by its path, as it was when the configuration was read.
pub(super) type Files = BTreeMap<PathBuf, BlobRef>;

/// What a type's jobs do instead of running a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Other {
    Container { image: Lined<Template>, command: Vec<Argument>, pull: Option<Pull> },
    Wasm { module: Lined<PathBuf>, arguments: Vec<Argument>, fuel: Option<u64> },
    Lua { script: Script, arguments: Vec<Argument> },
    Http(Box<Http>),
    Llm(Box<Llm>),
    Embedding { texts: Vec<Lined<Template>>, model: Option<Lined<Template>> },
}

/// Where a script is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Script {
    Text(String),
    File(Lined<PathBuf>),
}

/// A request to a web server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Http {
    url: Lined<Template>,
    method: Option<String>,
    headers: BTreeMap<String, Lined<Template>>,
    body: Option<Lined<Template>>,
    expect: Vec<u16>,
    redirects: Option<u8>,
}

/// A question to a language model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Llm {
    prompt: Lined<Template>,
    system: Option<Lined<Template>>,
    model: Option<Lined<Template>>,
    complexity: Option<Complexity>,
    tokens: Option<u32>,
    temperature_milli: Option<u16>,
}

impl Other {
    /// Reads whichever of them a type says.
    pub(super) fn read(table: &Table<'_>) -> Result<Option<Lined<Self>>, Fault> {
        let mut found: Option<Lined<Self>> = None;
        for key in KEYS {
            let Some(entry) = table.entry(key) else { continue };
            if let Some(first) = &found {
                let problem = format!("stands beside {}; keep one of them", first.value.executor().word());
                return Err(entry.fault(&problem));
            }
            let inner = entry.table()?;
            let other = match *key {
                "container" => Self::read_container(&entry, &inner)?,
                "wasm" => Self::read_wasm(&entry, &inner)?,
                "lua" => Self::read_lua(&entry, &inner)?,
                "http" => Self::Http(Box::new(Http::read(&entry, &inner)?)),
                "llm" => Self::Llm(Box::new(Llm::read(&entry, &inner)?)),
                _ => Self::read_embedding(&entry, &inner)?,
            };
            found = Some(entry.lined(other));
        }
        Ok(found)
    }

    fn read_container(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["image", "command", "pull"], &[])?;
        let pulls: Vec<(&str, Pull)> = Pull::ALL.iter().map(|pull| (pull.word(), *pull)).collect();
        Ok(Self::Container {
            image: needed(entry, table, "image", "container = { image = \"docker.io/library/busybox\" }")?,
            command: table.read("command", |entry| read_arguments(entry, ARGV_MAX))?.unwrap_or_default(),
            pull: table.read("pull", |entry| entry.word(&pulls))?.map(|pull| pull.value),
        })
    }

    fn read_wasm(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["module", "arguments", "fuel"], &[])?;
        let module = table.read("module", read_file)?;
        let missing = || entry.fault("has no module; write wasm = { module = \"/path/of/its.wasm\" }");
        Ok(Self::Wasm {
            module: module.ok_or_else(missing)?,
            arguments: table.read("arguments", |entry| read_arguments(entry, ARGV_MAX))?.unwrap_or_default(),
            fuel: table.read("fuel", |entry| entry.whole(1..=i128::from(u64::MAX)))?.map(|fuel| fuel.value),
        })
    }

    fn read_lua(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["script", "file", "arguments"], &[])?;
        let script = match (table.read("script", Entry::text)?, table.read("file", read_file)?) {
            (Some(text), None) => Script::Text(text.value),
            (None, Some(file)) => Script::File(file),
            (Some(_), Some(_)) => return Err(entry.fault("has both a script and a file; keep one of them")),
            (None, None) => {
                return Err(
                    entry.fault("has no script; write lua = { script = \"return 1\" } or lua = { file = \"/…\" }")
                );
            }
        };
        let arguments = table.read("arguments", |entry| read_arguments(entry, ARGV_MAX))?.unwrap_or_default();
        Ok(Self::Lua { script, arguments })
    }

    fn read_embedding(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["texts", "model"], &[])?;
        let texts = table.read("texts", |entry| entry.elements(TEXTS_MAX)?.iter().map(read_template).collect())?;
        let missing = || entry.fault("has no texts; write embedding = { texts = [\"{{text}}\"] }");
        let texts = texts.filter(|texts: &Vec<_>| !texts.is_empty()).ok_or_else(missing)?;
        Ok(Self::Embedding { texts, model: table.read("model", read_template)? })
    }

    pub(super) const fn executor(&self) -> Executor {
        match self {
            Self::Container { .. } => Executor::Container,
            Self::Wasm { .. } => Executor::Wasm,
            Self::Lua { .. } => Executor::Lua,
            Self::Http(_) => Executor::Http,
            Self::Llm(_) => Executor::Llm,
            Self::Embedding { .. } => Executor::Embedding,
        }
    }

    /// The file that is read with the configuration, if there is one.
    pub(super) const fn file(&self) -> Option<&Lined<PathBuf>> {
        match self {
            Self::Wasm { module, .. } => Some(module),
            Self::Lua { script: Script::File(file), .. } => Some(file),
            Self::Container { .. } | Self::Lua { .. } | Self::Http(_) | Self::Llm(_) | Self::Embedding { .. } => None,
        }
    }

    pub(super) fn arguments(&self) -> &[Argument] {
        match self {
            Self::Container { command: arguments, .. } | Self::Wasm { arguments, .. } | Self::Lua { arguments, .. } => {
                arguments
            }
            Self::Http(_) | Self::Llm(_) | Self::Embedding { .. } => &[],
        }
    }

    /// Checks the holes: what makes no sense without a value must always have one.
    pub(super) fn check(&self, path: &str, names: &Names<'_>, place: crate::config::table::Place) -> Result<(), Fault> {
        let path = format!("{path}.{}", self.executor().word());
        for template in self.arguments().iter().flat_map(Argument::templates) {
            names.check(&path, template, place)?;
        }
        let (certain, loose) = self.templates();
        for (key, template) in certain {
            names.check_certain(&format!("{path}.{key}"), &template.value, template.place)?;
        }
        for (key, template) in loose {
            names.check(&format!("{path}.{key}"), &template.value, template.place)?;
        }
        Ok(())
    }

    /// Its texts with holes by their keys: those that must be whole, and those that are left out without a value.
    fn templates(&self) -> (Vec<Keyed<'_>>, Vec<Keyed<'_>>) {
        match self {
            Self::Container { image, .. } => (vec![("image", image)], Vec::new()),
            Self::Wasm { .. } | Self::Lua { .. } => (Vec::new(), Vec::new()),
            Self::Http(http) => {
                let body = http.body.iter().map(|body| ("body", body));
                let headers = http.headers.values().map(|header| ("headers", header));
                (vec![("url", &http.url)], headers.chain(body).collect())
            }
            Self::Llm(llm) => {
                let model = llm.model.iter().map(|model| ("model", model));
                let system = llm.system.iter().map(|system| ("system", system));
                (vec![("prompt", &llm.prompt)], system.chain(model).collect())
            }
            Self::Embedding { texts, model } => {
                let texts = texts.iter().map(|text| ("texts", text));
                (Vec::new(), texts.chain(model.iter().map(|model| ("model", model))).collect())
            }
        }
    }

    /// Every text of it that may have holes.
    pub(super) fn holes(&self) -> Vec<&Template> {
        let (certain, loose) = self.templates();
        let texts = certain.into_iter().chain(loose).map(|(_, template)| &template.value);
        self.arguments().iter().flat_map(Argument::templates).chain(texts).collect()
    }

    /// What it is about, for people: texts as they are written, by their keys.
    pub(super) fn words(&self) -> BTreeMap<String, String> {
        let (certain, loose) = self.templates();
        let mut words: BTreeMap<String, String> = BTreeMap::new();
        for (key, template) in certain.into_iter().chain(loose) {
            let text = words.entry(key.to_owned()).or_default();
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(template.value.written());
        }
        if let Some(file) = self.file() {
            words.insert("file".to_owned(), file.value.display().to_string());
        }
        match self {
            Self::Lua { script: Script::Text(text), .. } => {
                words.insert("script".to_owned(), text.clone());
            }
            Self::Http(http) => {
                words.insert("method".to_owned(), http.method().to_owned());
            }
            Self::Llm(llm) => {
                words.extend(llm.complexity.map(|level| ("complexity".to_owned(), level.to_string())));
            }
            Self::Container { .. } | Self::Wasm { .. } | Self::Lua { .. } | Self::Embedding { .. } => {}
        }
        words
    }

    /// The task of a job with these values. The error is the parameter without a value.
    pub(super) fn task<'s>(&'s self, values: &Values, files: &Files) -> Result<Task, &'s str> {
        let blob = |file: &Lined<PathBuf>| files.get(&file.value).copied().unwrap_or_else(|| BlobRef::of(b""));
        let argv = fill_arguments(self.arguments(), values);
        Ok(match self {
            Self::Container { image, pull, .. } => {
                Task::Container(ContainerTask { pull: *pull, ..ContainerTask::new(image.value.fill(values)?, argv) })
            }
            Self::Wasm { module, fuel, .. } => {
                Task::Wasm(WasmTask { argv, fuel: *fuel, ..WasmTask::new(blob(module)) })
            }
            Self::Lua { script: Script::Text(text), .. } => Task::Lua(LuaTask { argv, ..LuaTask::new(text.clone()) }),
            Self::Lua { script: Script::File(file), .. } => {
                Task::Lua(LuaTask { argv, script: Content::Blob(blob(file)), ..LuaTask::new("") })
            }
            Self::Http(http) => Task::Http(http.task(values)?),
            Self::Llm(llm) => Task::Llm(llm.task(values)?),
            Self::Embedding { texts, model } => {
                let texts = texts.iter().filter_map(|text| text.value.fill(values).ok());
                Task::Embedding(EmbeddingTask { model: filled(model.as_ref(), values), ..EmbeddingTask::new(texts) })
            }
        })
    }
}

/// A text with holes and its key.
type Keyed<'t> = (&'static str, &'t Lined<Template>);

impl Http {
    fn read(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["url", "method", "headers", "body", "expect", "redirects"], &[])?;
        let status = |entry: &Entry<'_>| entry.whole(100..=599);
        Ok(Self {
            url: read_address(entry, table)?,
            method: table.read("method", Entry::text)?.map(|method| method.value),
            headers: table.read("headers", read_headers)?.unwrap_or_default(),
            body: table.read("body", read_template)?,
            expect: table
                .read("expect", |entry| entry.list(STATUSES_MAX, status))?
                .map_or_else(Vec::new, |it| it.value),
            redirects: table.read("redirects", |entry| entry.whole(0..=20))?.map(|most| most.value),
        })
    }

    fn method(&self) -> &str {
        self.method.as_deref().unwrap_or(if self.body.is_some() { "POST" } else { "GET" })
    }

    fn task<'s>(&'s self, values: &Values) -> Result<HttpTask, &'s str> {
        let mut task = HttpTask::new(self.url.value.fill_address(values)?);
        self.method().clone_into(&mut task.method);
        let header = |(name, value): (&String, &Lined<Template>)| Some((name.clone(), value.value.fill(values).ok()?));
        task.headers = self.headers.iter().filter_map(header).collect();
        task.body = filled(self.body.as_ref(), values).map(Content::Text);
        task.expect.clone_from(&self.expect);
        task.redirects = self.redirects.unwrap_or(task.redirects);
        Ok(task)
    }
}

impl Llm {
    fn read(entry: &Entry<'_>, table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(&["prompt", "system", "model", "complexity", "tokens", "temperature"], &[])?;
        let levels: Vec<(&str, Complexity)> = Complexity::ALL.iter().map(|level| (level.word(), *level)).collect();
        Ok(Self {
            prompt: needed(entry, table, "prompt", "llm = { prompt = \"{{question}}\" }")?,
            system: table.read("system", read_template)?,
            model: table.read("model", read_template)?,
            complexity: table.read("complexity", |entry| entry.word(&levels))?.map(|level| level.value),
            tokens: table.read("tokens", |entry| entry.whole(1..=i128::from(u32::MAX)))?.map(|most| most.value),
            temperature_milli: table.read("temperature", read_temperature)?,
        })
    }

    fn task<'s>(&'s self, values: &Values) -> Result<LlmTask, &'s str> {
        let mut task = LlmTask::new(self.prompt.value.fill(values)?);
        if let Some(system) = filled(self.system.as_ref(), values) {
            task.messages.insert(0, Message { role: Role::System, content: Content::Text(system) });
        }
        task.model = filled(self.model.as_ref(), values);
        task.complexity = self.complexity;
        task.tokens_max = self.tokens;
        task.temperature_milli = self.temperature_milli;
        Ok(task)
    }
}

/// The text with its holes filled; none if there is none, or one of its parameters has no value.
fn filled(template: Option<&Lined<Template>>, values: &Values) -> Option<String> {
    template.and_then(|template| template.value.fill(values).ok())
}

fn needed(entry: &Entry<'_>, table: &Table<'_>, key: &str, example: &str) -> Result<Lined<Template>, Fault> {
    let missing = || entry.fault(&format!("has no {key}; write {example}"));
    table.read(key, read_template)?.ok_or_else(missing)
}

/// Reads the address of a request. What it begins with can be judged now, unless that is a parameter's value.
fn read_address(entry: &Entry<'_>, table: &Table<'_>) -> Result<Lined<Template>, Fault> {
    let url = needed(entry, table, "url", "http = { url = \"https://example.org/\" }")?;
    if url.value.may_begin_with(&["http://", "https://"]) {
        return Ok(url);
    }
    let wrong = |entry: Entry<'_>| entry.wrong("an address that begins with http:// or https://");
    Err(table.entry("url").map_or_else(|| entry.fault("has no url"), wrong))
}

/// Reads the absolute path of a file, which is read later.
fn read_file(entry: &Entry<'_>) -> Result<Lined<PathBuf>, Fault> {
    entry.parsed(|text| {
        let path = PathBuf::from(text);
        if path.is_absolute() && !text.contains('\0') {
            Ok(path)
        } else {
            Err("the absolute path of a file".to_owned())
        }
    })
}

fn read_headers(entry: &Entry<'_>) -> Result<BTreeMap<String, Lined<Template>>, Fault> {
    entry.table()?.entries().map(|(name, entry)| Ok((name.to_owned(), read_template(&entry)?))).collect()
}

/// Reads a number from 0 to 2 as thousandths.
fn read_temperature(entry: &Entry<'_>) -> Result<u16, Fault> {
    let wrong = || entry.wrong("a number from 0 to 2, such as 0.7");
    let number = entry.json()?.as_f64().filter(|number| (0.0..=TEMPERATURE_MAX).contains(number)).ok_or_else(wrong)?;
    // Written out with three digits it is a whole number of thousandths.
    let digits = format!("{number:.3}").replace('.', "");
    digits.parse().map_err(|_| wrong())
}
