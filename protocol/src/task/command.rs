//! Tasks that run code which the job brings along or names: processes, containers, modules, scripts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Content, TaskError, check_words};
use crate::id::BlobRef;
use crate::state::words;

/// Longest name of an image in bytes: a registry, a path, a tag and a digest.
const IMAGE_BYTES_MAX: usize = 512;

/// A command: its arguments are passed as they are, no shell reads them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessTask {
    /// Program and arguments. The program is looked up in the PATH of the node that runs it.
    pub argv: Vec<String>,
    /// The directory to run in; none is a fresh directory of the attempt. Only for local jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Variables added to the cleared environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What the process reads on standard input; none is an empty input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<BlobRef>,
}

impl ProcessTask {
    /// Runs `argv` in a fresh directory with an empty input.
    #[must_use]
    pub const fn new(argv: Vec<String>) -> Self {
        Self { argv, directory: None, environment: BTreeMap::new(), stdin: None }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.argv.iter_mut().chain(&mut self.directory).chain(self.environment.values_mut())
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(TaskError::NoCommand);
        }
        check_words(&self.argv, &self.directory, &self.environment)
    }
}

words!(
    /// When an image is fetched from its registry.
    Pull {
        /// If it is not on the machine.
        Missing = "missing",
        /// Before every start.
        Always = "always",
        /// Never: without it the job fails.
        Never = "never",
    }
);

/// A command in a container. Its working directory is mounted at `/work`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerTask {
    /// The image, by name or by digest (`name@sha256:…`).
    pub image: String,
    /// Program and arguments in place of the image's own command; empty keeps that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Variables added to those of the image.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What the command reads on standard input; none is an empty input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<BlobRef>,
    /// When the image is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
}

impl ContainerTask {
    /// Runs `argv` in a container of `image`.
    #[must_use]
    pub fn new(image: impl Into<String>, argv: Vec<String>) -> Self {
        Self { image: image.into(), argv, environment: BTreeMap::new(), stdin: None, pull: None }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        std::iter::once(&mut self.image).chain(&mut self.argv).chain(self.environment.values_mut())
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        let is_name = self.image.chars().all(|c| c.is_ascii_graphic());
        if self.image.is_empty() || self.image.len() > IMAGE_BYTES_MAX || !is_name {
            let problem = "must be the name of one, such as docker.io/library/busybox:1 or name@sha256:…";
            return Err(TaskError::Part { what: "image", problem });
        }
        check_words(&self.argv, [], &self.environment)
    }
}

/// A WebAssembly module with the interface of WASI, preview 1. It sees its working directory as `.`, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WasmTask {
    /// The module, binary or text.
    pub module: BlobRef,
    /// Arguments behind the module's own name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Its variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What it reads on standard input; none is an empty input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<BlobRef>,
    /// Most fuel: about one unit for each instruction, the same on every machine. None is no limit but time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

impl WasmTask {
    /// Runs `module` without arguments.
    #[must_use]
    pub const fn new(module: BlobRef) -> Self {
        Self { module, argv: Vec::new(), environment: BTreeMap::new(), stdin: None, fuel: None }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.argv.iter_mut().chain(self.environment.values_mut())
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        if self.fuel == Some(0) {
            return Err(TaskError::Part { what: "fuel", problem: "is 0; leave it out for no limit" });
        }
        check_words(&self.argv, [], &self.environment)
    }
}

/// A script in Luau. What it returns is its result, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LuaTask {
    /// The script.
    pub script: Content,
    /// What it finds as `job.args`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// What it finds as `job.env`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What `job.input()` reads; none is an empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<BlobRef>,
}

impl LuaTask {
    /// Runs `script` without arguments.
    #[must_use]
    pub fn new(script: impl Into<String>) -> Self {
        let script = Content::Text(script.into());
        Self { script, argv: Vec::new(), environment: BTreeMap::new(), stdin: None }
    }

    // Its own text is code, in which two braces mean something else.
    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.argv.iter_mut().chain(self.environment.values_mut())
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        check_words(&self.argv, [], &self.environment)
    }
}
