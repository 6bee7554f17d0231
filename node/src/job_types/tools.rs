//! Which programs the job types ask for, and which of them this machine has.
//!
//! A type requires `tool:curl`; a node can only advertise what it has looked for, and there is no end to what a
//! machine may have. So exactly the programs that some enabled type names are looked for in the PATH.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use jobmesh_protocol::Tag;
use rustix::fs::{Access, access};

use crate::job_types::JobTypes;
use crate::job_types::template::Values;

const PREFIX: &str = "tool:";
/// Most tools that a node advertises: half of the tags that its record may have.
const TOOLS_MAX: usize = 32;

impl JobTypes {
    /// The programs that enabled types require, by the defaults of their parameters.
    #[must_use]
    pub fn tools(&self) -> BTreeSet<String> {
        let mut tools = BTreeSet::new();
        for it in self.all().filter(|it| it.is_enabled()) {
            let default = |parameter: &super::Parameter| Some((parameter.name.clone(), parameter.default.clone()?));
            let values: Values = it.parameters.iter().filter_map(default).collect();
            let requirements = it.declaration.policy.requirements.iter().flat_map(|list| &list.value);
            let texts = requirements.filter_map(|template| template.fill(&values).ok());
            tools.extend(texts.filter_map(|text| text.strip_prefix(PREFIX).map(str::to_owned)));
        }
        tools
    }

    /// The tags `tool:NAME` of those programs that are found in the directories of `path`, as in the variable `PATH`.
    #[must_use]
    pub fn detect_tools(&self, path: &OsStr) -> BTreeSet<Tag> {
        let is_there = |tool: &String| {
            let runs = |file: std::path::PathBuf| file.is_file() && access(&file, Access::EXEC_OK).is_ok();
            // A name with a slash is a path already, and joining an absolute one gives it back.
            std::env::split_paths(path).any(|folder| folder.is_absolute() && runs(folder.join(tool)))
        };
        let found = self.tools().into_iter().filter(is_there).take(TOOLS_MAX);
        found.filter_map(|tool| format!("{PREFIX}{tool}").parse().ok()).collect()
    }
}
