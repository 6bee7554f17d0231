//! What makes a task of an array different from its siblings: its index and its item.
//!
//! Both are told in variables, and take the place of `{{index}}` and `{{item}}` in arguments, values of variables and
//! whatever else says what is to be done, a script apart. An argument stays one argument: nothing is split again, and what an item says is not looked at for
//! further holes. A range has indexes only, so `{{item}}` stays as it is there.

use crate::number::JobNumber;
use crate::task::Task;

const INDEX_HOLE: &str = "{{index}}";
const ITEM_HOLE: &str = "{{item}}";

/// Where a task stands in its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The array.
    pub group: JobNumber,
    /// Its number within it.
    pub index: u32,
    /// Its item, if the array has items.
    pub item: Option<String>,
}

impl Place {
    /// The variables by which a task knows where it stands.
    pub fn variables(&self) -> impl Iterator<Item = (String, String)> {
        let item = self.item.as_ref().map(|item| ("JOBMESH_ITEM".to_owned(), item.clone()));
        let array = [("JOBMESH_ARRAY_INDEX", self.index.to_string()), ("JOBMESH_ARRAY_JOB", self.group.to_string())];
        array.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(item)
    }

    /// Fills the holes of a task.
    #[must_use]
    pub fn fill_task(&self, mut task: Task) -> Task {
        task.each_text(|text| {
            if text.contains("{{") {
                *text = self.fill(text);
            }
        });
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
    use crate::task::ProcessTask;

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
        let Task::Process(filled) = place(Some("a b")).fill_task(Task::Process(task)) else {
            unreachable!("a process")
        };
        assert_eq!(filled.argv, ["sh", "-c", "echo a b"]);
        assert_eq!(filled.environment.get("NAME").unwrap(), "n7");
        assert_eq!(filled.directory.unwrap(), "/data/a b");
    }

    #[test]
    fn the_variables_name_the_array_and_the_item() {
        let variables: Vec<_> = place(Some("x")).variables().collect();
        let expected = [("JOBMESH_ARRAY_INDEX", "7"), ("JOBMESH_ARRAY_JOB", "42"), ("JOBMESH_ITEM", "x")];
        assert_eq!(variables, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
