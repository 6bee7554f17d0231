//! `jobmesh completions`: a script that lets a shell complete our commands, and the numbers of jobs from the node.

use std::collections::BTreeSet;

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
    "artifacts",
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
        let document = json!({"shell": self.shell.to_string(), "script": script});
        context.output.show(&document, |_| script)?;
        Ok(Exit::OK)
    }
}

/// The options whose values the node knows, of any command, and of which kind they are.
const OPTIONS: &[(&str, &str)] =
    &[("after", "jobs"), ("into", "jobs"), ("queue", "queues"), ("schedule", "schedules"), ("type", "types")];

/// The commands with actions that take a name, those actions, and of which kind it is.
const ACTIONS: &[(&str, &[&str], &str)] = &[
    ("cron", &["show", "pause", "resume", "trigger", "backfill", "next", "rm"], "schedules"),
    ("schedule", &["show", "pause", "resume", "trigger", "backfill", "next", "rm"], "schedules"),
    ("queue", &["show", "stats", "set", "pause", "resume", "drain", "reset"], "queues"),
    ("types", &["show"], "types"),
];

/// The script of the library, and what asks the node for names.
fn script(shell: Shell, command: &mut clap::Command) -> String {
    let mut bytes = Vec::new();
    clap_complete::generate(shell, command, "jobmesh", &mut bytes);
    let script = String::from_utf8_lossy(&bytes).into_owned();
    match shell {
        Shell::Bash => script + &bash(command),
        Shell::Fish => fish(&script),
        Shell::Zsh => zsh(&script),
        // The others have no place for it; shells that come later have none yet.
        Shell::Elvish | Shell::PowerShell | _ => script,
    }
}

/// The options that take a value, of the program and of the commands that take names.
fn valued(command: &clap::Command) -> BTreeSet<String> {
    let is_ours =
        |it: &&clap::Command| OF_JOBS.contains(&it.get_name()) || ACTIONS.iter().any(|of| of.0 == it.get_name());
    let commands = command.get_subcommands().filter(is_ours);
    let with_actions = commands.flat_map(|it| std::iter::once(it).chain(it.get_subcommands()));
    let options = with_actions.chain([command]).flat_map(clap::Command::get_arguments);
    let options = options.filter(|it| !it.is_positional() && it.get_action().takes_values());
    let names = |it: &clap::Arg| {
        let long = it.get_long().map(|long| format!("--{long}"));
        long.into_iter().chain(it.get_short().map(|short| format!("-{short}"))).collect::<Vec<_>>()
    };
    options.flat_map(names).collect()
}

/// Puts what the node knows in the place of what the library's script offers. Which data directory is meant and which
/// command it is are found in the words of the line: the library's script keeps neither.
fn bash(command: &clap::Command) -> String {
    let of_option = |(name, kind): &(&str, &str)| {
        let short = if *name == "queue" { "|-Q" } else { "" };
        format!("        --{name}{short}) kind={kind} ;;\n")
    };
    let of_action = |(name, actions, kind): &(&str, &[&str], &str)| {
        let each: Vec<String> = actions.iter().map(|action| format!("{name}\\ {action}")).collect();
        format!("                {}) kind={kind} ;;\n", each.join("|"))
    };
    BASH.replace("OPTIONS\n", &OPTIONS.iter().map(of_option).collect::<String>())
        .replace("ACTIONS\n", &ACTIONS.iter().map(of_action).collect::<String>())
        .replace("VALUED", &valued(command).into_iter().collect::<Vec<_>>().join("|"))
        .replace("JOBS", &OF_JOBS.iter().map(|name| format!("{name}\\ *")).collect::<Vec<_>>().join("|"))
}

const BASH: &str = r#"
_jobmesh_and_names() {
    _jobmesh "$@"
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" command= action= kind= i word
    local -a at=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        case "$word" in
            --) return ;;
            --home|--format|-o)
                # The shell takes --home=DIR for three words.
                [[ "${COMP_WORDS[i+1]}" == "=" ]] && ((i++))
                ((i++))
                [[ "$word" == --home ]] && at=(--home "${COMP_WORDS[i]/#\~/$HOME}")
                ;;
            -*) ;;
            *) if [[ -z "$command" ]]; then command="$word"; elif [[ -z "$action" ]]; then action="$word"; fi ;;
        esac
    done
    [[ "$cur" == "=" ]] && prev="$cur" cur=
    [[ "$prev" == "=" && COMP_CWORD -gt 1 ]] && prev="${COMP_WORDS[COMP_CWORD-2]}"
    case "$prev" in
OPTIONS
        VALUED) return ;;
        *)
            [[ "$cur" == -* ]] && return
            case "$command $action" in
                JOBS) kind=jobs ;;
ACTIONS
            esac
            ;;
    esac
    [[ -z "$kind" ]] && return
    local names
    names="$(jobmesh "${at[@]}" __complete "$kind" 2>/dev/null | cut -f1)"
    [[ "$kind" == jobs ]] && names+=" last"
    COMPREPLY=($(compgen -W "$names" -- "$cur"))
}
complete -F _jobmesh_and_names -o nosort -o bashdefault -o default jobmesh
"#;

/// Lets options and places of names ask the node.
fn fish(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        text.push_str(line);
        let kind = OPTIONS.iter().find(|(name, _)| line.contains(&format!(" -l {name} -d "))).map(|(_, kind)| kind);
        if let Some(kind) = kind.filter(|_| line.ends_with(" -r")) {
            text.push_str(&format!(" -f -a '(__jobmesh_names {kind})'"));
        }
        text.push('\n');
    }
    text.push_str(FISH);
    let commands = OF_JOBS.join(" ");
    text.push_str(&format!(
        "complete -c jobmesh -f -n '__fish_jobmesh_using_subcommand {commands}' -a '(__jobmesh_names jobs)'\n"
    ));
    for (name, actions, kind) in ACTIONS {
        let actions = actions.join(" ");
        text.push_str(&format!(
            "complete -c jobmesh -f -n '__fish_jobmesh_using_subcommand {name}; and __fish_seen_subcommand_from \
             {actions}' -a '(__jobmesh_names {kind})'\n"
        ));
    }
    text
}

const FISH: &str = r#"
function __jobmesh_names
    set -l words (commandline -opc)
    set -l at
    for i in (seq (count $words))
        switch $words[$i]
            case --home
                set at --home $words[(math $i + 1)]
            case '--home=*'
                set at $words[$i]
        end
    end
    jobmesh $at __complete $argv[1] 2>/dev/null
end
"#;

/// Lets options and places of names ask the node, where the library's script would offer files.
fn zsh(script: &str) -> String {
    let is_of_jobs = |line: &str| line.contains("'*::jobs -- ") || line.contains("':job -- ");
    let named = [("The queue", "queues"), ("The schedule", "schedules"), ("The type", "types")];
    let kind = |line: &str| {
        let of_place = named.iter().find(|(about, _)| line.contains(&format!("':name -- {about}:")));
        let of_option = || {
            let is_it =
                |name: &str| line.contains(&format!("--{name}=[")) || (name == "queue" && line.contains("'-Q+["));
            OPTIONS.iter().find(|(name, _)| is_it(name))
        };
        if is_of_jobs(line) { Some("jobs") } else { of_place.or_else(of_option).map(|(_, kind)| *kind) }
    };
    let lines = script.lines().map(|line| match kind(line) {
        Some(kind) => line.replace(":_default'", &format!(":_jobmesh_{kind}'")) + "\n",
        None => line.to_owned() + "\n",
    });
    let mut text: String = lines.collect();
    // Before the call at the end of the script.
    match text.find("\n_jobmesh() {") {
        Some(at) => text.insert_str(at, ZSH),
        None => text.push_str(ZSH),
    }
    text
}

const ZSH: &str = r#"
_jobmesh_names() {
    local -a line at names
    line=(${(z)LBUFFER})
    local i=${line[(I)--home]} whole=${line[(r)--home=*]}
    (( i )) && at=(--home ${~${(Q)line[i+1]}})
    [[ -n $whole ]] && at=(--home ${~${(Q)whole#--home=}})
    names=("${(@f)$(jobmesh $at __complete $1 2>/dev/null | tr '\t' ':')}")
    _describe -V $1 names
}
_jobmesh_jobs() { _jobmesh_names jobs }
_jobmesh_queues() { _jobmesh_names queues }
_jobmesh_schedules() { _jobmesh_names schedules }
_jobmesh_types() { _jobmesh_names types }
"#;

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn shells_ask_the_node_for_names() {
        let zsh = script(Shell::Zsh, &mut Cli::command());
        let fish = script(Shell::Fish, &mut Cli::command());
        for kind in ["jobs", "queues", "schedules", "types"] {
            assert!(zsh.contains(&format!(":_jobmesh_{kind}'")), "{kind}");
            assert!(fish.contains(&format!("-a '(__jobmesh_names {kind})'")), "{kind}");
        }
        assert!(zsh.contains(":JOB[:HOW]:_jobmesh_jobs'"));
    }

    /// Runs the script in bash beside a program that says what it was called with, and returns what is offered.
    fn offered(line: &[&str]) -> String {
        let asked = r#"
            jobmesh() { echo "called-$*" | tr ' ' '_'; }
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _jobmesh_and_names jobmesh "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
            echo "${COMPREPLY[*]}"
        "#;
        let words: Vec<String> = line.iter().map(|word| format!("'{word}'")).collect();
        let text =
            format!("{}\nCOMP_WORDS=(jobmesh {})\n{asked}", script(Shell::Bash, &mut Cli::command()), words.join(" "));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("script");
        std::fs::write(&path, text).unwrap();
        let output = std::process::Command::new("bash").arg("--norc").arg(&path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `show -o` offered jobs beside the formats, `--after` offered files, and `--home` was not heard.
    #[test]
    fn bash_offers_what_belongs_in_the_place() {
        for (line, names) in [
            (&["show", ""][..], "called-__complete_jobs last"),
            (&["show", "-o", ""], "table wide json jsonl yaml name"),
            (&["--home", "/x", "show", ""], "called---home_/x___complete_jobs last"),
            (&["--home", "=", "/x", "-o", "json", "cancel", "1", ""], "called---home_/x___complete_jobs last"),
            (&["submit", "--after", ""], "called-__complete_jobs last"),
            (&["submit", "--into", "=", "la"], "last"),
            (&["submit", "-Q", ""], "called-__complete_queues"),
            (&["submit", "--type", "=", ""], "called-__complete_types"),
            (&["ls", "--schedule", ""], "called-__complete_schedules"),
            (&["cron", "trigger", ""], "called-__complete_schedules"),
            (&["queue", "-o", "json", "drain", ""], "called-__complete_queues"),
            (&["types", "show", ""], "called-__complete_types"),
        ] {
            assert_eq!(offered(line), names, "{line:?}");
        }
        assert!(!offered(&["submit", "--", "show", "--after", ""]).contains("called"));
        assert!(offered(&["show", "--q"]).starts_with("--quiet"));
    }

    #[test]
    fn the_options_and_actions_that_take_names_exist() {
        let mut command = Cli::command();
        script(Shell::Bash, &mut command);
        let all: Vec<&clap::Command> =
            command.get_subcommands().flat_map(|it| std::iter::once(it).chain(it.get_subcommands())).collect();
        for (name, _) in OPTIONS {
            assert!(all.iter().any(|it| it.get_arguments().any(|arg| arg.get_long() == Some(name))), "{name}");
        }
        for (name, actions, _) in ACTIONS {
            let is_it =
                |it: &&&clap::Command| it.get_name() == *name || it.get_all_aliases().any(|alias| alias == *name);
            let known = all.iter().find(is_it).unwrap();
            let is_known = |action: &&str| {
                known
                    .get_subcommands()
                    .any(|it| it.get_name() == *action || it.get_all_aliases().any(|alias| alias == *action))
            };
            assert!(actions.iter().all(is_known), "{name}");
        }
    }

    #[test]
    fn the_commands_that_take_jobs_exist() {
        let command = Cli::command();
        for name in OF_JOBS {
            assert!(command.get_subcommands().any(|known| known.get_name() == *name), "{name}");
        }
    }
}
