//! One job many times: the tasks of an array, by number or by item.

use std::path::{Path, PathBuf};

use clap::Args;
use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_protocol::submission::{Array, ITEMS_BYTES_MAX, Range, Tasks};
use serde_json::value::RawValue;

use super::Draft;
use super::source;
use crate::cli::failure::{Failure, Kind};
use crate::cli::json_text::one_line;

/// Largest file of items: what an array may hold, however it is escaped.
const FILE_BYTES_MAX: u64 = 2 * ITEMS_BYTES_MAX as u64;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Many at once")]
pub(super) struct ArrayOptions {
    /// A task for each number: 1-1000, 1-1000:2, 1-5,9, with %8 behind it for 8 at a time
    #[arg(long, value_name = "NUMBERS", value_parser = parse_array, conflicts_with_all = ["each_line", "from_json"])]
    array: Option<Array>,
    /// A task for each line of a file, `-` for what we read; empty lines are left out
    #[arg(long, value_name = "FILE|-", conflicts_with = "from_json")]
    each_line: Option<PathBuf>,
    /// A task for each value of a JSON array in a file, `-` for what we read
    #[arg(long, value_name = "FILE|-")]
    from_json: Option<PathBuf>,
    /// Most tasks that run at once [default: as many as there is room for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    at_a_time: Option<u32>,
    /// Skip the rest when more tasks than this have failed for good: a number, or a part such as 5%; 0 skips it at the
    /// first failure [default: never]
    #[arg(long, value_name = "N|P%", value_parser = parse_fails)]
    max_fails: Option<Fails>,
}

/// How many tasks may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    Count(u32),
    Percent(u32),
}

impl Fails {
    fn of(self, tasks: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(part) => u32::try_from(u64::from(tasks) * u64::from(part) / 100).unwrap_or(u32::MAX),
        }
    }
}

impl ArrayOptions {
    pub(super) fn reads_stdin(&self) -> bool {
        [&self.each_line, &self.from_json].into_iter().flatten().any(|path| path.as_os_str() == "-")
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let of_items = |items| Array { tasks: Tasks::Items(items), at_a_time: None, max_fails: None };
        let given = match (self.array, &self.each_line, &self.from_json) {
            (Some(array), _, _) => Some(array),
            (None, Some(path), _) => Some(of_items(lines(path)?)),
            (None, None, Some(path)) => Some(of_items(values(path)?)),
            (None, None, None) => None,
        };
        let submission = &mut draft.submission;
        submission.array = given.or_else(|| submission.array.take());
        let Some(array) = &mut submission.array else {
            if self.at_a_time.is_some() || self.max_fails.is_some() {
                let failure = Failure::new(Kind::Usage, "--at-a-time and --max-fails speak of the tasks of an array");
                return Err(failure.hint("add --array, --each-line or --from-json, or leave them out"));
            }
            return Ok(());
        };
        array.at_a_time = self.at_a_time.or(array.at_a_time);
        let fails = self.max_fails.map(|fails| fails.of(array.count()));
        array.max_fails = fails.or(array.max_fails);
        Ok(())
    }
}

fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let text = source::text(path, FILE_BYTES_MAX)?;
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}

/// The values of a JSON array: texts as they are, all else as the JSON that it was written as.
fn values(path: &Path) -> Result<Vec<String>, Failure> {
    let text = source::text(path, FILE_BYTES_MAX)?;
    let wrong =
        |error: serde_json::Error| Failure::new(Kind::File, format!("{} holds no JSON array: {error}", path.display()));
    read_values(&text).map_err(wrong)
}

fn read_values(text: &str) -> Result<Vec<String>, serde_json::Error> {
    let values: Vec<&RawValue> = serde_json::from_str(text)?;
    let item = |value: &RawValue| match value.get().starts_with('"') {
        true => serde_json::from_str(value.get()),
        false => Ok(one_line(value)),
    };
    values.into_iter().map(item).collect()
}

fn parse_array(text: &str) -> Result<Array, String> {
    let (ranges, at_a_time) = match text.split_once('%') {
        None => (text, None),
        Some((ranges, at_a_time)) => (ranges, Some(number(at_a_time)?)),
    };
    let ranges: Result<Vec<Range>, String> = ranges.split(',').map(parse_range).collect();
    Ok(Array { tasks: Tasks::Ranges(ranges?), at_a_time, max_fails: None })
}

fn parse_range(text: &str) -> Result<Range, String> {
    let (span, step) = match text.split_once(':') {
        None => (text, 1),
        Some((span, step)) => (span, number(step)?),
    };
    let (first, last) = span.split_once('-').unwrap_or((span, span));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(format!("{span} goes down; write {last}-{first}"));
    }
    Ok(Range { first, last, step })
}

fn number(text: &str) -> Result<u32, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain {
        return Err(format!("{text:?} is no number; write 1-1000, 1-1000:2 for every second, or 1-5,9%2"));
    }
    text.parse().map_err(|_| format!("{text} is too large; the largest number is {NUMBER_MAX}"))
}

fn parse_fails(text: &str) -> Result<Fails, String> {
    let wrong = || "write it as a number of tasks or a part of them, such as 3 or 5%".to_owned();
    match text.strip_suffix('%') {
        Some(part) => part.parse().ok().filter(|part| *part <= 100).map(Fails::Percent).ok_or_else(wrong),
        None => text.parse().map(Fails::Count).map_err(|_| wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn numbers_are_read_with_steps_and_how_many_at_a_time() {
        let array = parse_array("1-9:2,20%8").unwrap();
        assert_eq!((array.count(), array.at_a_time), (6, Some(8)));
        for text in ["", "1-", "a", "5-1", "1-99999999999", "1-5%", "1-5:x", "-3", "1,,2"] {
            assert!(parse_array(text).is_err(), "{text}");
        }
    }

    /// Numbers were read as floats and written as ours: the job got others than stood in the file.
    #[test]
    fn values_stay_as_they_were_written() {
        let text = r#" [12345678901234567890123, 1.10, -0.0, 1e2, "a \n", null, {"b": 1.0, "a": [ true ]}] "#;
        let items = ["12345678901234567890123", "1.10", "-0.0", "1e2", "a \n", "null", r#"{"b":1.0,"a":[true]}"#];
        assert_eq!(read_values(text).unwrap(), items);
        assert!(read_values("{}").is_err() && read_values("[1,]").is_err() && read_values("[01]").is_err());
    }

    #[test]
    fn a_part_of_the_tasks_may_fail() {
        assert_eq!(parse_fails("5%").unwrap().of(1000), 50);
        assert_eq!(parse_fails("3").unwrap().of(1000), 3);
        assert!(parse_fails("101%").is_err() && parse_fails("x").is_err());
    }
}
