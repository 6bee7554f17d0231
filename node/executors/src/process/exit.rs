//! What the end of a command means.

use jobmesh_protocol::Outcome;
use jobmesh_protocol::outcome::Exit;
use rustix::process::Signal;

/// The exit code that asks for another try (`EX_TEMPFAIL` of sysexits.h).
const TEMPORARY_FAILURE: i32 = 75;

/// The outcome of a command that ended by itself.
pub(super) fn outcome(exit: Exit) -> Outcome {
    let message = match (exit.code, exit.signal) {
        (Some(0), _) => return Outcome::Ok,
        (Some(TEMPORARY_FAILURE), _) => format!("temporary failure (exit {TEMPORARY_FAILURE})"),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal} ({})", signal_name(signal)),
        (None, None) => return Outcome::Lost { reason: "the process can't be ended".to_owned() },
    };
    Outcome::Error { message }
}

/// The name of a signal without its `SIG`.
fn signal_name(number: i32) -> &'static str {
    NAMES.iter().find(|(signal, _)| signal.as_raw() == number).map_or("unknown", |(_, name)| name)
}

/// The signals that can end a process. Their numbers differ between systems.
const NAMES: [(Signal, &str); 19] = [
    (Signal::HUP, "HUP"),
    (Signal::INT, "INT"),
    (Signal::QUIT, "QUIT"),
    (Signal::ILL, "ILL"),
    (Signal::TRAP, "TRAP"),
    (Signal::ABORT, "ABRT"),
    (Signal::BUS, "BUS"),
    (Signal::FPE, "FPE"),
    (Signal::KILL, "KILL"),
    (Signal::USR1, "USR1"),
    (Signal::SEGV, "SEGV"),
    (Signal::USR2, "USR2"),
    (Signal::PIPE, "PIPE"),
    (Signal::ALARM, "ALRM"),
    (Signal::TERM, "TERM"),
    (Signal::XCPU, "XCPU"),
    (Signal::XFSZ, "XFSZ"),
    (Signal::PROF, "PROF"),
    (Signal::SYS, "SYS"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn message(exit: Exit) -> String {
        outcome(exit).message().unwrap_or_default().to_owned()
    }

    #[test]
    fn only_zero_is_ok() {
        assert_eq!(outcome(Exit { code: Some(0), signal: None }), Outcome::Ok);
        assert_eq!(message(Exit { code: Some(3), signal: None }), "exit code 3");
        assert_eq!(message(Exit { code: Some(75), signal: None }), "temporary failure (exit 75)");
        assert_eq!(message(Exit { code: None, signal: Some(9) }), "killed by signal 9 (KILL)");
        assert_eq!(message(Exit { code: None, signal: Some(63) }), "killed by signal 63 (unknown)");
    }
}
