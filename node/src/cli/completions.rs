//! `jobmesh completions`: a script that lets a shell complete our commands, and the numbers of jobs from the node.

use clap::Args;
use clap_complete::Shell;
use serde_json::json;

use crate::cli::{Context, Exit, Failure};

/// The commands that take jobs.
const OF_JOBS: &[&str] = &[
    "show",
    "logs",
    "follow",
    "wait",
    "cancel",
    "kill",
    "retry",
    "hold",
    "release",
    "explain",
    "snooze",
    "reschedule",
    "prio",
    "move",
    "rm",
    "close",
    "result",
    "receipt",
];

#[derive(Args, Debug)]
#[command(after_help = "For bash: jobmesh completions bash > ~/.local/share/bash-completion/completions/jobmesh")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, context: &Context, command: &mut clap::Command) -> Result<Exit, Failure> {
        let script = script(self.shell, command);
        if context.output.is_json() {
            context.output.document(&json!({"shell": self.shell.to_string(), "script": script}))?;
        } else {
            context.output.bytes(script.as_bytes())?;
        }
        Ok(Exit::OK)
    }
}

/// The script of the library, and what asks the node for jobs.
fn script(shell: Shell, command: &mut clap::Command) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, command, "jobmesh", &mut bytes);
    let script = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => script + &bash(),
        Shell::Fish => script + &fish(),
        Shell::Zsh => zsh(&script),
        // The others have no place for it; shells that come later have none yet.
        Shell::Elvish | Shell::PowerShell | _ => script,
    }
}

fn bash() -> String {
    format!(
        r#"
_jobmesh_and_jobs() {{
    _jobmesh "$@"
    case "${{COMP_WORDS[1]}}" in
        {})
            local jobs
            jobs="$(jobmesh __complete jobs 2>/dev/null | cut -f1) last"
            COMPREPLY+=($(compgen -W "$jobs" -- "${{COMP_WORDS[COMP_CWORD]}}"))
            ;;
    esac
}}
complete -F _jobmesh_and_jobs -o nosort -o bashdefault -o default jobmesh
"#,
        OF_JOBS.join("|")
    )
}

fn fish() -> String {
    let commands = OF_JOBS.join(" ");
    format!(
        "complete -c jobmesh -f -n '__fish_seen_subcommand_from {commands}' -a '(jobmesh __complete jobs 2>/dev/null)'\n"
    )
}

/// Lets the places of jobs ask the node, where the library's script would offer files.
fn zsh(script: &str) -> String {
    let is_of_jobs = |line: &str| line.contains("'*::jobs -- ") || line.contains("':job -- ");
    let lines = script.lines().map(|line| match is_of_jobs(line) {
        true => line.replace(":_default'", ":_jobmesh_jobs'") + "\n",
        false => line.to_owned() + "\n",
    });
    let asks = r#"
_jobmesh_jobs() {
    local -a jobs
    jobs=("${(@f)$(jobmesh __complete jobs 2>/dev/null | tr '\t' ':')}")
    _describe -V 'job' jobs
}
"#;
    let mut text: String = lines.collect();
    // Before the call at the end of the script.
    match text.find("\n_jobmesh() {") {
        Some(at) => text.insert_str(at, asks),
        None => text.push_str(asks),
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn shells_ask_the_node_for_jobs() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = script(shell, &mut Cli::command());
            assert!(script.contains("jobmesh __complete jobs"), "{shell}");
        }
        assert!(script(Shell::Zsh, &mut Cli::command()).contains(":_jobmesh_jobs'"));
    }

    #[test]
    fn the_commands_that_take_jobs_exist() {
        let command = Cli::command();
        for name in OF_JOBS {
            assert!(command.get_subcommands().any(|known| known.get_name() == *name), "{name}");
        }
    }
}
