//! A script in Luau.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::BlobRef;
use jobmesh_protocol::task::{Content, LuaTask, Task};

use super::file_name;
use super::given::{Part, Upload};
use crate::cli::job_options::Draft;

#[derive(Args, Debug, Default)]
pub(super) struct LuaOptions {
    /// Run a script in Luau, with the words after `--` as `job.args`
    #[arg(long = "lua", value_name = "FILE|-", group = "kind")]
    lua: Option<PathBuf>,
    /// The same with the script itself
    #[arg(long = "lua-script", value_name = "TEXT", group = "kind")]
    lua_script: Option<String>,
}

impl LuaOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.lua.is_some() || self.lua_script.is_some()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.lua.as_deref().into_iter()
    }

    pub(super) fn draft(&self, words: &[String]) -> Option<Draft> {
        let argv = words.to_vec();
        if let Some(file) = &self.lua {
            let task = LuaTask { argv, script: Content::Blob(BlobRef::of(b"")), ..LuaTask::new("") };
            let uploads = vec![Upload::new(Part::Script, file)];
            return Some(Draft { uploads, ..Draft::of(file_name(file, "lua"), Task::Lua(task)) });
        }
        let script = self.lua_script.clone()?;
        Some(Draft::of("lua".to_owned(), Task::Lua(LuaTask { argv, ..LuaTask::new(script) })))
    }
}
