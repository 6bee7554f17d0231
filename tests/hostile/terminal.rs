//! What jobs say for a terminal to obey: everything that is shown to a person is text, and what goes to a program is what
//! was said.

use std::process::{Command, Stdio};

use jobmesh_tests::{Node, Run};

use crate::{TABLES, bench, goes_on, pair};

/// Clears the screen, names the window, asks for an answer, fills the clipboard; in seven bits and in eight.
const EVIL: &[u8] = b"\x1b[2J\x1b]0;owned\x07\x1b[6n\x1b]52;c;b3duZWQ=\x07\xc2\x9b2J\x9b6nred\n";

/// The same as `printf` reads it.
const SCRIPT: &str = r"printf '\033[2J\033]0;owned\007\033[6n\033]52;c;b3duZWQ=\007\302\2332J\2336nred\n'";

/// Starts what follows on a terminal, and copies what it shows.
const TERMINAL: &str = "import os, pty, sys\nsys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";

fn on_terminal(node: &Node, arguments: &[&str]) -> Run {
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL]).arg(node.binary()).args(arguments).env_clear().stdin(Stdio::null());
    command.env("JOBMESH_HOME", node.home()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // What the program itself would colour is not the question.
    command.env("NO_COLOR", "1").env("TERM", "xterm").current_dir(node.home());
    command.output().unwrap().into()
}

/// Whether a terminal has nothing to obey in this.
fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t')))
}

#[test]
fn what_jobs_say_is_text_to_a_terminal_and_bytes_to_everything_else() {
    let bench = bench();
    let Some((a, b)) = pair(&bench, TABLES) else { return };
    let script = format!(
        "{SCRIPT}; {SCRIPT} >&2; {SCRIPT} > $JOBMESH_RESULT; mkdir out; {SCRIPT} > out/file; \
         printf '{{\"outcome\":\"permanent\",\"message\":\"said \\\\u001b[2J \\\\u009b2J\"}}' > $JOBMESH_OUTCOME"
    );
    let command = ["--require", "tool:victim", "--output", "out", "--", "sh", "-c", &script, "\u{1b}[2Jname"];
    let job = a.submit(&command);
    let shown = a.ended(&job);
    assert!(shown.to_string().contains("said "), "{shown}\n{}", b.log());
    let run = a.run(&["logs", &job]);
    assert_eq!((run.stdout.as_slice(), run.stderr), (EVIL, String::from_utf8_lossy(EVIL).into_owned()));
    assert_eq!(a.run(&["result", &job]).stdout, EVIL);
    let file = format!("{job}:out/file");
    assert_eq!(a.run(&["cp", &file, "-"]).stdout, EVIL);
    let looks: [&[&str]; 16] = [
        &["logs", &job],
        &["logs", "-f", &job],
        &["logs", "--stderr", &job],
        &["result", &job],
        &["cp", &file, "-"],
        &["artifacts", &job],
        &["show", &job],
        &["ls", "-a"],
        &["ls", "-a", "-o", "wide"],
        &["ls", "-a", "-q"],
        &["explain", &job],
        &["receipt", "show", &job],
        &["-o", "json", "show", &job],
        &["-o", "yaml", "show", &job],
        &["-o", "jsonl", "logs", &job],
        &["-o", "json", "result", &job],
    ];
    for arguments in looks {
        let seen = on_terminal(&a, arguments);
        assert!(is_text(&seen.stdout), "{arguments:?}: {:?}", seen.text());
        assert!(!seen.stdout.is_empty(), "{arguments:?}: {}", seen.stderr);
    }
    assert!(on_terminal(&a, &["logs", &job]).text().contains("\u{fffd}[2J"), "it is shown that there was something");
    let run = on_terminal(&a, &[&["run"], command.as_slice()].concat());
    assert!(is_text(&run.stdout) && run.text().contains("red"), "{:?}", run.text());
    goes_on(&a, &b);
}

/// The same of a group, whose lines have their task before them, and of what a job tells its node while it runs.
#[test]
fn a_task_can_not_write_over_the_name_of_another_and_progress_is_text() {
    let bench = bench();
    let a = bench.up("a");
    let group = a.submit(&["--array", "1-2", "--", "sh", "-c", r"printf 'mine\r9.9 | theirs\033[A\n'"]);
    assert_eq!(a.run(&["wait", &group]).code, 0);
    assert!(a.run(&["logs", &group]).text().contains(&format!("{group}.1 | mine\r9.9 | theirs\u{1b}[A\n")));
    let seen = on_terminal(&a, &["logs", &group]).text();
    assert!(seen.contains(&format!("{group}.1 | mine\u{fffd}9.9 | theirs\u{fffd}[A\r\n")), "{seen:?}");
    let tells = format!("{} task progress 50 \"$(printf '\\033[2Jhalf')\"", a.binary().display());
    let job = a.submit(&["--", "sh", "-c", &tells]);
    let shown = a.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", a.wrote(&job));
    for arguments in [["show", job.as_str()].as_slice(), &["ls", "-a", "-o", "wide"]] {
        let seen = on_terminal(&a, arguments);
        assert!(is_text(&seen.stdout), "{arguments:?}: {:?}", seen.text());
    }
}
