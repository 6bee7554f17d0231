//! How far what was typed is from a word that is known.

/// Most letters of a word that are looked at: no known word is longer.
const LETTERS_MAX: usize = 64;

/// How many letters must be added, dropped, changed or swapped with their neighbour to get from one word to the other
/// (optimal string alignment).
#[must_use]
pub fn slips(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(LETTERS_MAX).collect();
    let to: Vec<char> = to.chars().take(LETTERS_MAX).collect();
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
    use super::slips;

    #[test]
    fn letters_that_changed_places_are_one_slip() {
        for (from, to, wanted) in
            [("a", "a", 0), ("slots", "slost", 1), ("", "abc", 3), ("olso", "oslo", 1), ("ab", "xy", 2)]
        {
            assert_eq!(slips(from, to), wanted, "{from} {to}");
        }
    }
}
