//! What makes a task of an array different from its siblings: its index and its item.
//!
//! Both are told in variables, and take the place of `{{index}}` and `{{item}}` in arguments, values of variables and
//! the directory. An argument stays one argument: nothing is split again, and what an item says is not looked at for
//! further holes. A range has indexes only, so `{{item}}` stays as it is there.
//!
//! **The hard case** is speed: items are in the database, 256 in a row, and thousands of tasks may start in a second.
//! So the rows that were read last are kept, and most tasks find theirs there.

use std::collections::VecDeque;

use jobmesh_protocol::JobNumber;
use jobmesh_protocol::job::ProcessTask;
use jobmesh_store::{Items, StoreError, View};

/// Most groups that are remembered: more than run at once, and their rows take some MiB at worst.
const GROUPS_MAX: usize = 16;

const INDEX_HOLE: &str = "{{index}}";
const ITEM_HOLE: &str = "{{item}}";

/// Where a task stands in its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The array.
    pub(super) group: JobNumber,
    /// Its number within it.
    pub(super) index: u32,
    /// Its item, if the array has items.
    pub(super) item: Option<String>,
}

/// What was read of the group of a task.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// No array: its tasks were submitted one by one, each with a spec of its own.
    Open,
    /// An array of numbers.
    Numbers,
    /// An array of items, and some of those.
    Items(Items),
}

/// What can be told of a task without reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is no task of an array.
    Plain,
    /// Where it stands.
    At(Place),
    /// Its group has to be read first.
    Unknown,
}

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct Arrays {
    groups: VecDeque<(JobNumber, Known)>,
}

impl Arrays {
    pub(super) fn look(&self, task: JobNumber) -> Look {
        let Some(index) = task.index() else { return Look::Plain };
        let group = task.group();
        let place = |item| Look::At(Place { group, index, item });
        match self.groups.iter().find(|(known, _)| *known == group) {
            Some((_, Known::Open)) => Look::Plain,
            Some((_, Known::Numbers)) => place(None),
            Some((_, Known::Items(items))) => {
                items.of(index).map_or(Look::Unknown, |item| place(Some(item.to_owned())))
            }
            None => Look::Unknown,
        }
    }

    /// Keeps what was read, in place of what was known of the same group, or of the one that was read longest ago.
    pub(super) fn learn(&mut self, group: JobNumber, known: Known) {
        self.groups.retain(|(other, _)| *other != group);
        self.groups.truncate(GROUPS_MAX - 1);
        self.groups.push_front((group, known));
    }
}

impl Known {
    /// Where a task of this group stands; `None` if it is no array.
    pub(super) fn place(&self, task: JobNumber) -> Option<Place> {
        let (group, index) = (task.group(), task.index()?);
        match self {
            Self::Open => None,
            Self::Numbers => Some(Place { group, index, item: None }),
            Self::Items(items) => Some(Place { group, index, item: items.of(index).map(str::to_owned) }),
        }
    }
}

/// Reads about the group of a task.
pub(super) fn read(view: View<'_>, task: JobNumber) -> Result<Known, StoreError> {
    match view.group(task.group())? {
        Some(group) if group.is_array && group.ranges.is_some() => Ok(Known::Numbers),
        Some(group) if group.is_array => Ok(view.items_around(task)?.map_or(Known::Numbers, Known::Items)),
        Some(_) | None => Ok(Known::Open),
    }
}

impl Place {
    /// The variables by which a task knows where it stands.
    pub(super) fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let item = self.item.as_ref().map(|item| ("JOBMESH_ITEM".to_owned(), item.clone()));
        let array = [("JOBMESH_ARRAY_INDEX", self.index.to_string()), ("JOBMESH_ARRAY_JOB", self.group.to_string())];
        array.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(item)
    }

    /// Fills the holes of a command.
    pub(super) fn fill_task(&self, mut task: ProcessTask) -> ProcessTask {
        let texts = task.argv.iter_mut().chain(task.environment.values_mut()).chain(task.directory.as_mut());
        for text in texts {
            if text.contains("{{") {
                *text = self.fill(text);
            }
        }
        task
    }

    fn fill(&self, text: &str) -> String {
        let index = self.index.to_string();
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("{{") {
            let (before, hole) = rest.split_at(at);
            filled.push_str(before);
            let (value, after) = match (hole.strip_prefix(INDEX_HOLE), hole.strip_prefix(ITEM_HOLE), &self.item) {
                (Some(after), _, _) => (index.as_str(), after),
                (None, Some(after), Some(item)) => (item.as_str(), after),
                (None, _, _) => ("{{", hole.strip_prefix("{{").unwrap_or_default()),
            };
            filled.push_str(value);
            rest = after;
        }
        filled + rest
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn place(item: Option<&str>) -> Place {
        Place { group: JobNumber::new(42), index: 7, item: item.map(str::to_owned) }
    }

    #[test]
    fn holes_are_filled_once_and_nothing_else_is_touched() {
        let item = place(Some("a b {{index}} {{item}}"));
        for (text, filled) in [
            ("plain", "plain"),
            ("{{index}}", "7"),
            ("x{{item}}y", "xa b {{index}} {{item}}y"),
            ("{{index}}-{{item}}{{index}}", "7-a b {{index}} {{item}}7"),
            ("{{{index}}}", "{{{index}}}"),
            ("{{{{index}}", "{{7"),
            ("{{other}} {{", "{{other}} {{"),
            ("{{ index }}", "{{ index }}"),
        ] {
            assert_eq!(item.fill(text), filled, "{text}");
        }
        assert_eq!(place(None).fill("{{index}}/{{item}}"), "7/{{item}}");
    }

    #[test]
    fn a_command_stays_as_many_arguments_as_it_was() {
        let mut task = ProcessTask::new(["sh", "-c", "echo {{item}}"].map(str::to_owned).to_vec());
        task.environment.insert("NAME".to_owned(), "n{{index}}".to_owned());
        task.directory = Some("/data/{{item}}".to_owned());
        let filled = place(Some("a b")).fill_task(task);
        assert_eq!(filled.argv, ["sh", "-c", "echo a b"]);
        assert_eq!(filled.environment.get("NAME").unwrap(), "n7");
        assert_eq!(filled.directory.unwrap(), "/data/a b");
    }

    #[test]
    fn what_was_read_is_known_until_others_push_it_out() {
        let mut arrays = Arrays::default();
        let group = JobNumber::new(1);
        assert_eq!(arrays.look(group), Look::Plain);
        assert_eq!(arrays.look(group.task(300)), Look::Unknown);
        arrays.learn(
            group,
            Known::Items(Items { first: 257, items: (257..=512).map(|at: u32| at.to_string()).collect() }),
        );
        assert_eq!(arrays.look(group.task(1)), Look::Unknown);
        let found = Place { group, index: 300, item: Some("300".to_owned()) };
        assert_eq!(arrays.look(group.task(300)), Look::At(found));
        for other in 2..=40 {
            arrays.learn(JobNumber::new(other), if other % 2 == 0 { Known::Open } else { Known::Numbers });
        }
        assert_eq!(arrays.groups.len(), GROUPS_MAX);
        assert_eq!(arrays.look(group.task(300)), Look::Unknown);
        assert_eq!(arrays.look(JobNumber::new(40).task(1)), Look::Plain);
        assert!(matches!(arrays.look(JobNumber::new(39).task(5)), Look::At(Place { index: 5, item: None, .. })));
    }

    #[test]
    fn the_variables_name_the_array_and_the_item() {
        let variables: Vec<_> = place(Some("x")).variables().collect();
        let expected = [("JOBMESH_ARRAY_INDEX", "7"), ("JOBMESH_ARRAY_JOB", "42"), ("JOBMESH_ITEM", "x")];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
