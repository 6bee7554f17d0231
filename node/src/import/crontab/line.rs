//! One line of a crontab, taken apart.

use super::Layout;
use crate::import::ImportError;

/// What a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'t> {
    /// Nothing.
    Blank,
    /// What a person wrote.
    Comment(&'t str),
    /// A variable for the lines below.
    Variable { name: &'t str, value: &'t str },
    /// Something to run.
    Entry(Entry<'t>),
}

/// Something to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry<'t> {
    /// When.
    pub(super) time: Time,
    /// As whom, in a crontab of the system.
    pub(super) user: Option<&'t str>,
    /// What, for a shell.
    pub(super) command: String,
    /// What it reads.
    pub(super) input: Option<String>,
}

/// When a line runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// Five fields or a name.
    Text(String),
    /// When the machine starts.
    Reboot,
}

/// The names that a schedule has, too.
const NAMES: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const BLANKS: [char; 2] = [' ', '\t'];

impl<'t> Line<'t> {
    /// Takes line `number` apart.
    ///
    /// # Errors
    /// [`ImportError`] if cron would not take it.
    pub(super) fn parse(number: usize, content: &'t str, layout: Layout) -> Result<Self, ImportError> {
        let content = content.trim_start_matches(BLANKS).trim_end_matches('\r');
        if content.trim().is_empty() {
            return Ok(Self::Blank);
        }
        if let Some(comment) = content.strip_prefix('#') {
            return Ok(Self::Comment(comment.trim_start_matches('#').trim()));
        }
        if let Some((name, value)) = variable(content) {
            return Ok(Self::Variable { name, value });
        }
        entry(number, content, layout).map(Self::Entry)
    }
}

/// A line `NAME = value`. Quotes keep blanks at the ends of the value; nothing in it is replaced.
fn variable(content: &str) -> Option<(&str, &str)> {
    let (name, value) = content.split_once('=')?;
    let name = unquoted(name.trim_matches(BLANKS));
    if name.is_empty() || name.contains(BLANKS) || name.starts_with('@') {
        return None;
    }
    Some((name, unquoted(value.trim_matches(BLANKS))))
}

fn unquoted(text: &str) -> &str {
    let inside = |quote| text.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

fn entry<'t>(line: usize, content: &'t str, layout: Layout) -> Result<Entry<'t>, ImportError> {
    let count = if content.starts_with('@') { 1 } else { 5 };
    let (fields, rest) = words(content, count);
    let needed = match layout {
        Layout::User => "5 time fields, or a name such as @daily, and a command",
        Layout::System => "5 time fields, or a name such as @daily, a user and a command",
    };
    let too_few = |found| ImportError::Fields { line, found, needed };
    if fields.len() < count || !fields.iter().all(|field| is_time(field)) {
        return Err(too_few(fields.iter().take_while(|field| is_time(field)).count()));
    }
    let (sixth, _) = words(rest, 1);
    match sixth.first() {
        None => return Err(too_few(count)),
        Some(text) if count == 5 && is_sixth_field(text) => {
            return Err(ImportError::SixFields { line, text: (*text).to_owned() });
        }
        Some(_) => {}
    }
    let (user, rest) = match layout {
        Layout::User => (None, rest),
        Layout::System => {
            let (user, rest) = words(rest, 1);
            (user.first().copied(), rest)
        }
    };
    if rest.is_empty() {
        return Err(too_few(count + 1));
    }
    let (command, input) = split_input(rest);
    Ok(Entry { time: time(line, &fields)?, user, command: command.trim_end().to_owned(), input })
}

/// The first `count` words of a text, and what follows them.
fn words(text: &str, count: usize) -> (Vec<&str>, &str) {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches(BLANKS);
    while found.len() < count && !rest.is_empty() {
        let (word, after) = rest.split_once(BLANKS).unwrap_or((rest, ""));
        found.push(word);
        rest = after.trim_start_matches(BLANKS);
    }
    (found, rest)
}

/// Whether a word can be a time field, or a name for a time. Which of them mean something is judged later.
fn is_time(word: &str) -> bool {
    if word.starts_with('@') {
        return true;
    }
    let is_part = |part: &str| {
        let is_number = part.chars().all(|c| c.is_ascii_digit() || "*?LW".contains(c));
        is_number || MONTHS.contains(&part.to_ascii_lowercase().as_str()) || is_day(part)
    };
    word.split([',', '-', '/', '~', '#']).all(is_part)
}

fn is_day(word: &str) -> bool {
    DAYS.contains(&word.to_ascii_lowercase().as_str())
}

/// Whether the word after five fields is a sixth one: other programs have seconds in front or a year behind.
fn is_sixth_field(word: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit() || c == '*' || c == '?');
    let mut parts = word.split([',', '-', '/', '#']);
    // There may be a program called `sat`, but none called `mon-fri`.
    parts.all(|part| is_number(part) || is_day(part)) && !is_day(word)
}

/// When, in the words of a schedule.
fn time(line: usize, fields: &[&str]) -> Result<Time, ImportError> {
    let first = fields.first().copied().unwrap_or_default();
    if !first.starts_with('@') {
        // A hyphen in front keeps a run out of the system's log, in the cron of some systems.
        let text = fields.join(" ");
        let is_quiet = first.len() > 1 && first.starts_with('-');
        return Ok(Time::Text(if is_quiet { text.trim_start_matches('-').to_owned() } else { text }));
    }
    let lower = first.to_ascii_lowercase();
    match lower.as_str() {
        "@reboot" => Ok(Time::Reboot),
        "@every_minute" => Ok(Time::Text("* * * * *".to_owned())),
        name if NAMES.contains(&name) => Ok(Time::Text(lower)),
        _ => Err(ImportError::TimeName { line, text: first.to_owned() }),
    }
}

/// Splits a command from its input at the first `%`; further ones are new lines, and `\%` is a plain one. Cron ends the
/// input with a new line if it has none.
fn split_input(text: &str) -> (String, Option<String>) {
    let mut parts = vec![String::new()];
    let mut is_escaped = false;
    for c in text.chars() {
        let part = parts.last_mut();
        match (c, is_escaped, part) {
            ('%', false, _) => parts.push(String::new()),
            ('%', true, Some(part)) => {
                part.pop();
                part.push('%');
            }
            (c, _, Some(part)) => part.push(c),
            (_, _, None) => {}
        }
        is_escaped = c == '\\';
    }
    let mut parts = parts.into_iter();
    let command = parts.next().unwrap_or_default();
    let lines: Vec<String> = parts.collect();
    if lines.is_empty() {
        return (command, None);
    }
    let input = lines.join("\n");
    let end = if input.ends_with('\n') { "" } else { "\n" };
    (command, Some(input + end))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn user(content: &str) -> Result<Line<'_>, ImportError> {
        Line::parse(7, content, Layout::User)
    }

    fn entry_of(content: &str) -> Entry<'_> {
        let Line::Entry(entry) = user(content).unwrap() else { unreachable!("{content} is an entry") };
        entry
    }

    #[test]
    fn lines_are_told_apart() {
        assert_eq!(user(" \t").unwrap(), Line::Blank);
        assert_eq!(user("  ## back up ").unwrap(), Line::Comment("back up"));
        assert_eq!(user("PATH = /bin:/usr/bin ").unwrap(), Line::Variable { name: "PATH", value: "/bin:/usr/bin" });
        assert_eq!(user("X=' a b '").unwrap(), Line::Variable { name: "X", value: " a b " });
        assert_eq!(user("\"Y\"=\"\"").unwrap(), Line::Variable { name: "Y", value: "" });
        let entry = entry_of("*/5 2-4\t1,15 JAN mon-fri  A=1 tool --x=%y");
        assert_eq!(entry.time, Time::Text("*/5 2-4 1,15 JAN mon-fri".to_owned()));
        assert_eq!((entry.command.as_str(), entry.input.as_deref()), ("A=1 tool --x=", Some("y\n")));
    }

    #[test]
    fn a_percent_sign_begins_the_input_unless_it_is_escaped() {
        for (text, command, input) in [
            (r"date +\%F", "date +%F", None),
            (r"echo a\b", r"echo a\b", None),
            ("mail -s x%a%b", "mail -s x", Some("a\nb\n")),
            ("cat%", "cat", Some("\n")),
            (r"cat%50\% done%", "cat", Some("50% done\n")),
        ] {
            assert_eq!(split_input(text), (command.to_owned(), input.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn names_and_quiet_lines_are_read() {
        assert_eq!(entry_of("@Daily x").time, Time::Text("@daily".to_owned()));
        assert_eq!(entry_of("@reboot x").time, Time::Reboot);
        assert_eq!(entry_of("-*/5 * * * * x").time, Time::Text("*/5 * * * *".to_owned()));
        assert!(matches!(user("@fortnightly x"), Err(ImportError::TimeName { line: 7, .. })));
    }

    #[test]
    fn the_system_names_a_user() {
        let line = Line::parse(1, "0 3 * * *  backup  /usr/bin/tool -x", Layout::System).unwrap();
        let Line::Entry(entry) = line else { unreachable!("it is an entry") };
        assert_eq!((entry.user, entry.command.as_str()), (Some("backup"), "/usr/bin/tool -x"));
        assert!(matches!(Line::parse(1, "0 3 * * * root", Layout::System), Err(ImportError::Fields { .. })));
    }

    #[test]
    fn what_cron_would_not_take_is_refused_with_its_line() {
        for text in ["* * * *", "0 3 * * *", "every day at 3 run x", "@daily", "0 3 & * * x", "\u{1b}[31m 1 2 3 4 5"] {
            assert!(matches!(user(text), Err(ImportError::Fields { line: 7, .. })), "{text}");
        }
        for text in ["0 0 3 * * * tool", "0 0 3 ? * MON-FRI tool", "0 0 12 1 1 ? 2027 x", "0 */5 * * * * x"] {
            assert!(matches!(user(text), Err(ImportError::SixFields { line: 7, .. })), "{text}");
        }
        for text in ["0 3 * * * 7z a b", "0 3 * * * sat --solve"] {
            assert!(user(text).is_ok(), "{text}");
        }
    }
}
