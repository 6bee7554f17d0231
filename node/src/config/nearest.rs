//! Which known word was meant by one that is not known.

use jobmesh_engine::slips;

/// Words of other programs, and ours for the same thing.
const ELSEWHERE: &[(&str, &str)] = &[
    ("any", "hybrid"),
    ("args", "command"),
    ("argv", "command"),
    ("attempts", "retries"),
    ("bool", "boolean"),
    ("catchup", "catch_up"),
    ("cmd", "command"),
    ("cpu", "cpus"),
    ("cron", "schedule"),
    ("cwd", "directory"),
    ("dir", "directory"),
    ("enum", "choice"),
    ("env", "environment"),
    ("exec", "command"),
    ("float", "number"),
    ("int", "integer"),
    ("limit", "concurrency"),
    ("max_attempts", "retries"),
    ("max_running", "concurrency"),
    ("memory", "mem"),
    ("mesh", "network"),
    ("params", "parameters"),
    ("parallel", "slots"),
    ("ram", "mem"),
    ("requires", "requirements"),
    ("run", "command"),
    ("script", "shell"),
    ("str", "string"),
    ("text", "string"),
    ("timezone", "zone"),
    ("tz", "zone"),
    ("where", "scope"),
    ("workers", "slots"),
];

/// Most letters that may differ. Two typing errors are one too many for a word of four letters.
const STEPS_MAX: usize = 2;

/// The known word that was probably meant, if one is near enough.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = word.to_lowercase().replace('-', "_");
    let same = known.iter().copied().find(|known| known.replace('-', "_") == plain);
    let elsewhere = || {
        let ours = ELSEWHERE.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours);
        known.iter().copied().find(|known| Some(*known) == ours)
    };
    let close = || {
        let ranked = known.iter().copied().map(|known| (slips(&plain, known), known));
        let steps_max = STEPS_MAX.min(plain.chars().count() / 2);
        ranked.min().filter(|(steps, _)| *steps <= steps_max).map(|(_, known)| known)
    };
    same.or_else(elsewhere).or_else(close)
}

/// Names all of them in a sentence.
pub(crate) fn list(words: &[&str]) -> String {
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_another_case_or_another_programs_word_finds_ours() {
        let known = ["slots", "command", "kill_grace", "mem"];
        let meant = |word| nearest(word, &known);
        assert_eq!(["slotz", "Slots", "kill-grace", "cmd", "memory"].map(meant).map(|it| it.is_some()), [true; 5]);
        assert_eq!(meant("workers"), Some("slots"));
        assert_eq!(["slost", "mme"].map(meant), [Some("slots"), Some("mem")]);
        assert_eq!(["frobnicate", "x", "to", "é"].map(meant), [None; 4]);
    }
}
