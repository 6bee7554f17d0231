//! What ending a run's processes met with, by name, for whoever looks at the job later.

use crate::event::ProcessId;
use crate::process::tree::Left;
use crate::process::tree::scan;

/// Most processes that are named; of a thousand, a few say enough.
const NAMED_MAX: usize = 4;

/// What the end of a run's processes met with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::process) struct Swept {
    pub(in crate::process) left: Left,
    /// Those that were told to end.
    found: Option<String>,
    /// Those that did not, and were killed.
    stubborn: Option<String>,
}

impl Swept {
    /// An end of which no more is known.
    pub(super) const fn of(left: Left) -> Self {
        Self { left, found: None, stubborn: None }
    }

    pub(super) fn found(&mut self, members: &[ProcessId]) {
        self.found = Some(names(members));
    }

    pub(super) fn ignored_term(&mut self, members: &[ProcessId]) {
        self.stubborn = Some(names(members));
    }

    /// The words for the job's history, if there is something to say. `is_own_end` if the run ended by itself: then all
    /// that was found is what it left in the background.
    pub(in crate::process) fn notice(&self, is_own_end: bool) -> Option<String> {
        match (self.left, &self.stubborn, &self.found) {
            (Left::Some, stubborn, found) => {
                let names = stubborn.as_ref().or(found.as_ref()).map_or("its processes", String::as_str);
                Some(format!("could not kill {names}"))
            }
            (Left::Nothing, Some(names), _) if is_own_end => {
                Some(format!("killed what it left running and what ignored TERM: {names}"))
            }
            (Left::Nothing, Some(names), _) => Some(format!("killed, since it ignored TERM: {names}")),
            (Left::Nothing, None, Some(names)) if is_own_end => Some(format!("ended what it left running: {names}")),
            (Left::Nothing, None, _) => None,
        }
    }
}

/// The programs of processes with their numbers, in the order given.
fn names(members: &[ProcessId]) -> String {
    let named = members.iter().take(NAMED_MAX).map(|member| {
        let name = scan::name(member.pid).unwrap_or_else(|| "a process".to_owned());
        format!("{name} (pid {})", member.pid)
    });
    let mut text = named.collect::<Vec<_>>().join(", ");
    match members.len().saturating_sub(NAMED_MAX) {
        0 => {}
        more => text.push_str(&format!(" and {more} more")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn this_process() -> ProcessId {
        ProcessId { pid: std::process::id(), started: 0 }
    }

    #[test]
    fn an_end_without_trouble_is_no_news() {
        assert_eq!(Swept::of(Left::Nothing).notice(true), None);
        let mut swept = Swept::of(Left::Nothing);
        swept.found(&[this_process()]);
        assert_eq!(swept.notice(false), None, "whoever was told to end and did so");
    }

    #[test]
    fn what_was_left_what_resisted_and_what_remains_are_named() {
        let pid = format!("(pid {})", std::process::id());
        let mut swept = Swept::of(Left::Nothing);
        swept.found(&[this_process()]);
        assert!(swept.notice(true).is_some_and(|text| text.starts_with("ended what") && text.contains(&pid)));
        swept.ignored_term(&[this_process(); 7]);
        assert!(swept.notice(false).is_some_and(|text| text.contains("ignored TERM") && text.ends_with("and 3 more")));
        swept.left = Left::Some;
        assert!(swept.notice(false).is_some_and(|text| text.starts_with("could not kill")));
    }
}
