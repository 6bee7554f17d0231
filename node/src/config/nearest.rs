//! Which known word was meant by one that is not known.

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
/// Most letters of a word that are looked at: no known word is longer.
const LETTERS_MAX: usize = 64;

/// The known word that was probably meant, if one is near enough.
pub(crate) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = word.to_lowercase().replace('-', "_");
    let same = known.iter().copied().find(|known| known.replace('-', "_") == plain);
    let elsewhere = || {
        let ours = ELSEWHERE.iter().find(|(theirs, _)| *theirs == plain).map(|(_, ours)| *ours);
        known.iter().copied().find(|known| Some(*known) == ours)
    };
    let close = || {
        let ranked = known.iter().copied().map(|known| (distance(&plain, known), known));
        let steps_max = STEPS_MAX.min(plain.chars().count() / 2);
        ranked.min().filter(|(steps, _)| *steps <= steps_max).map(|(_, known)| known)
    };
    same.or_else(elsewhere).or_else(close)
}

/// Names all of them in a sentence.
pub(crate) fn list(words: &[&str]) -> String {
    words.join(", ")
}

/// How many letters must be added, dropped, changed or swapped with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(LETTERS_MAX).collect();
    let to: Vec<char> = to.chars().collect();
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.iter().enumerate() {
        let mut next = vec![line + 1];
        for (column, other) in to.iter().enumerate() {
            let changed = cell(&row, column) + usize::from(letter != other);
            let mut steps = changed.min(cell(&row, column + 1) + 1).min(cell(&next, column) + 1);
            if line > 0 && column > 0 && from.get(line - 1) == Some(other) && to.get(column - 1) == Some(letter) {
                steps = steps.min(cell(&before, column - 1) + 1);
            }
            next.push(steps);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
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
