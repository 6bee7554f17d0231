//! What the end of a command means: its exit code, what it said about itself, and what the kernel did to it.
//!
//! Whoever says the worse is believed. A run that exits with 0 may say that it failed; one that exits with another code
//! can't say that it succeeded. Only the three words that are neither (snooze, cancel, release) stand beside exit 0 and
//! beside 75, which asks for another try anyway.

use jobmesh_protocol::outcome::Exit;
use jobmesh_protocol::{DurationMillis, Outcome};
use rustix::process::Signal;

use crate::event::{chain, clip};
use crate::process::word::{Verdict, Word, WordError};

/// The exit code that asks for another try (`EX_TEMPFAIL` of sysexits.h).
const TEMPORARY_FAILURE: i32 = 75;

/// How long a run that gave itself back stays away: it would come back hundreds of times a second else.
const RELEASE_WAIT: DurationMillis = DurationMillis::from_secs(1);

/// How a main process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Code(i32),
    Signal(i32),
    /// It ended, or couldn't be ended, and why no more is known.
    Unknown(String),
}

impl Ending {
    /// The ending of a child of ours.
    pub(crate) fn of(exit: Exit) -> Self {
        match (exit.code, exit.signal) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown("the process can't be ended".to_owned()),
        }
    }
}

/// That the kernel killed something of a run because it was out of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfMemory {
    /// Its limit in bytes.
    pub(super) limit: u64,
    /// Most that it had in bytes, if that is known.
    pub(super) peak: Option<u64>,
}

impl OutOfMemory {
    /// Something went beyond this limit, and nobody knows how far.
    pub(crate) const fn at(limit: u64) -> Self {
        Self { limit, peak: None }
    }
}

/// The outcome of a command that ended by itself.
pub(super) fn decide(ending: &Ending, oom: Option<OutOfMemory>, said: Result<Option<Word>, WordError>) -> Outcome {
    let plain = outcome(ending, oom);
    match said {
        Ok(None) => plain,
        Ok(Some(word)) => weigh(ending, plain, word.verdict),
        Err(error) => match plain.message() {
            Some(message) => Outcome::error(clip(format!("{message}; {}", chain(&error)))),
            None => Outcome::error(chain(&error)),
        },
    }
}

/// The outcome without a word from the command itself.
fn outcome(ending: &Ending, oom: Option<OutOfMemory>) -> Outcome {
    let message = match ending {
        Ending::Code(0) => return Outcome::Ok,
        Ending::Code(TEMPORARY_FAILURE) => format!("temporary failure (exit {TEMPORARY_FAILURE})"),
        Ending::Code(code) => format!("exit code {code}"),
        Ending::Signal(signal) => format!("killed by signal {signal} ({})", signal_name(*signal)),
        Ending::Unknown(reason) => return Outcome::Lost { reason: reason.clone() },
    };
    let Some(OutOfMemory { limit, peak }) = oom else { return Outcome::error(message) };
    let peak = peak.map_or_else(String::new, |peak| format!(", peak {}", size(peak)));
    Outcome::error(format!("out of memory (limit {}{peak}): {message}", size(limit)))
}

/// Sets what the command said beside how it ended.
fn weigh(ending: &Ending, plain: Outcome, verdict: Verdict) -> Outcome {
    let word = verdict.word();
    let contradicted = || {
        let message = plain.message().unwrap_or_default();
        Outcome::error(clip(format!("{message}, although its outcome file says `{word}`")))
    };
    let or_plain = |message: Option<String>| {
        let message = message.or_else(|| plain.message().map(str::to_owned));
        clip(message.unwrap_or_else(|| format!("its outcome file says `{word}`")))
    };
    let or_word = |reason: Option<String>| clip(reason.unwrap_or_else(|| format!("its outcome file says `{word}`")));
    match (verdict, ending) {
        // It was in the middle of something when it was killed, whatever it had written by then.
        (_, Ending::Signal(_)) => contradicted(),
        (Verdict::Error { message, retry_after }, _) => {
            Outcome::Error { message: or_plain(message), retry_after_ms: retry_after }
        }
        (Verdict::Permanent { message }, _) => Outcome::Permanent { message: or_plain(message) },
        (Verdict::Ok, Ending::Code(0) | Ending::Unknown(_)) => Outcome::Ok,
        (Verdict::Snooze { wait, reason }, Ending::Code(0 | TEMPORARY_FAILURE) | Ending::Unknown(_)) => {
            Outcome::Snoozed { for_ms: wait, reason: reason.map(clip) }
        }
        (Verdict::Cancel { reason }, Ending::Code(0 | TEMPORARY_FAILURE) | Ending::Unknown(_)) => {
            Outcome::SelfCancelled { reason: or_word(reason) }
        }
        (Verdict::Release { reason }, Ending::Code(0 | TEMPORARY_FAILURE) | Ending::Unknown(_)) => {
            Outcome::Snoozed { for_ms: RELEASE_WAIT, reason: Some(or_word(reason)) }
        }
        (Verdict::Ok | Verdict::Snooze { .. } | Verdict::Cancel { .. } | Verdict::Release { .. }, Ending::Code(_)) => {
            contradicted()
        }
    }
}

/// A size for people: a whole number of gibibytes, mebibytes to a tenth, and what is less to the byte.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1 << 20 {
        let is_whole = bytes != 0 && bytes.is_multiple_of(1 << 10);
        return if is_whole { format!("{} KiB", bytes >> 10) } else { format!("{bytes} bytes") };
    }
    if bytes.is_multiple_of(1 << 30) {
        return format!("{} GiB", bytes >> 30);
    }
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        rest => format!("{}.{rest} MiB", tenths / 10),
    }
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

    fn plain(ending: &Ending) -> Outcome {
        decide(ending, None, Ok(None))
    }

    fn message(ending: &Ending) -> String {
        plain(ending).message().unwrap_or_default().to_owned()
    }

    /// The outcome's word and message when a command says `verdict` and exits with `code`.
    fn weighed(verdict: Verdict, code: i32) -> (&'static str, String) {
        let outcome = decide(&Ending::Code(code), None, Ok(Some(Word { verdict, result: None })));
        (outcome.word(), outcome.message().unwrap_or_default().to_owned())
    }

    #[test]
    fn only_zero_is_ok() {
        assert_eq!(plain(&Ending::Code(0)), Outcome::Ok);
        assert_eq!(message(&Ending::Code(3)), "exit code 3");
        assert_eq!(message(&Ending::Code(75)), "temporary failure (exit 75)");
        assert_eq!(message(&Ending::Signal(9)), "killed by signal 9 (KILL)");
        assert_eq!(message(&Ending::Signal(63)), "killed by signal 63 (unknown)");
        assert_eq!(plain(&Ending::of(Exit::default())).word(), "lost");
    }

    #[test]
    fn a_want_of_memory_is_named_unless_the_command_got_over_it() {
        let oom = Some(OutOfMemory { limit: 64 << 20, peak: Some(67_000_000) });
        let outcome = decide(&Ending::Signal(9), oom, Ok(None));
        let expected = "out of memory (limit 64 MiB, peak 63.8 MiB): killed by signal 9 (KILL)";
        assert_eq!(outcome, Outcome::error(expected));
        assert_eq!(decide(&Ending::Code(0), oom, Ok(None)), Outcome::Ok);
    }

    #[test]
    fn a_size_is_never_told_as_nothing() {
        let sizes = [0, 1, 4096, 1_000_000, 1 << 20, 3 << 29, 1 << 30, 3 << 30].map(size);
        assert_eq!(sizes, ["0 bytes", "1 bytes", "4 KiB", "1000000 bytes", "1 MiB", "1536 MiB", "1 GiB", "3 GiB"]);
    }

    #[test]
    fn the_worse_of_word_and_exit_code_counts() {
        let said = || Some("why".to_owned());
        let contradicted = |code, word| ("error", format!("exit code {code}, although its outcome file says `{word}`"));
        let why = |word| (word, "why".to_owned());
        assert_eq!(weighed(Verdict::Ok, 0), ("ok", String::new()));
        assert_eq!(weighed(Verdict::Ok, 3), contradicted(3, "ok"));
        for code in [0, 3, 75] {
            let error = Verdict::Error { message: said(), retry_after: None };
            assert_eq!(weighed(error, code), why("error"));
            assert_eq!(weighed(Verdict::Permanent { message: said() }, code), why("permanent"));
        }
        assert_eq!(weighed(Verdict::Permanent { message: None }, 3), ("permanent", "exit code 3".to_owned()));
        for code in [0, 75] {
            let snooze = Verdict::Snooze { wait: DurationMillis(5), reason: said() };
            assert_eq!(weighed(snooze, code), why("snoozed"));
            assert_eq!(weighed(Verdict::Cancel { reason: said() }, code), why("self_cancelled"));
            assert_eq!(weighed(Verdict::Release { reason: said() }, code), why("snoozed"));
        }
        assert_eq!(weighed(Verdict::Release { reason: None }, 1), contradicted(1, "release"));
        assert_eq!(weighed(Verdict::Cancel { reason: said() }, 2), contradicted(2, "cancel"));
    }

    #[test]
    fn a_signal_outweighs_every_word_and_an_unknown_end_none() {
        let word = |verdict| Ok(Some(Word { verdict, result: None }));
        assert_eq!(decide(&Ending::Signal(9), None, word(Verdict::Ok)).word(), "error");
        let unknown = Ending::Unknown("nobody saw it".to_owned());
        assert_eq!(plain(&unknown), Outcome::Lost { reason: "nobody saw it".to_owned() });
        assert_eq!(decide(&unknown, None, word(Verdict::Ok)), Outcome::Ok);
        assert_eq!(decide(&unknown, None, word(Verdict::Cancel { reason: None })).word(), "self_cancelled");
    }

    #[test]
    fn a_word_that_is_none_never_passes_for_success() {
        assert_eq!(decide(&Ending::Code(0), None, Err(WordError::TooLong)).word(), "error");
        let outcome = decide(&Ending::Code(2), None, Err(WordError::NotPlain));
        assert_eq!(outcome, Outcome::error("exit code 2; the outcome file is not a plain file"));
    }
}
