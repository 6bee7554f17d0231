//! How busy the machine is with other things: a figure that was taken while others worked says nothing about us.
//!
//! Looked at before each part, when nothing of ours runs, in the first line of `/proc/stat` (proc(5)).

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::error::BenchError;
use super::plan::Part;
use super::stop::Stop;

/// How long each look takes: twenty ticks of the system's account.
const LOOK: Duration = Duration::from_millis(200);
/// Up to this much, in percent of all processors, counts as quiet.
const QUIET_MAX: f64 = 15.0;

/// What others used before each part, in percent of all processors.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Others(Vec<Before>);

#[derive(Clone, Copy, Debug, Serialize)]
struct Before {
    part: Part,
    percent: f64,
}

/// Processor time of the whole machine, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Others {
    /// Looks for a moment. Where the system keeps no such account nothing is noted.
    pub(super) fn look(&mut self, part: Part, stop: &Stop) -> Result<(), BenchError> {
        let before = ticks();
        stop.rest(LOOK)?;
        if let Some(percent) = before.zip(ticks()).and_then(|(before, after)| busy(before, after)) {
            self.0.push(Before { part, percent });
        }
        Ok(())
    }

    /// The lines for people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let Some(most) = self.0.iter().map(|before| before.percent).max_by(f64::total_cmp) else {
            let _ = writeln!(text, "others   not told by this system");
            return text;
        };
        let _ = writeln!(text, "others   used up to {most:.0} % of the processors before a part");
        let loud: Vec<_> = self.0.iter().filter(|before| before.percent > QUIET_MAX).collect();
        if !loud.is_empty() {
            let parts: Vec<_> = loud.iter().map(|before| before.part.word()).collect();
            let _ = writeln!(text, "         DISTURBED, not to be quoted: {}", parts.join(", "));
        }
        text
    }
}

fn ticks() -> Option<Ticks> {
    read(&fs::read_to_string("/proc/stat").ok()?)
}

/// Reads the sums of all processors: user, nice, system, idle, iowait, irq, softirq, steal. What follows is counted
/// among user and nice already.
fn read(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let fields: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let idle = fields.get(3)? + fields.get(4)?;
    Some(Ticks { idle, all: fields.iter().sum() })
}

fn busy(before: Ticks, after: Ticks) -> Option<f64> {
    let all = after.all.checked_sub(before.all).filter(|all| *all > 0)?;
    let idle = after.idle.saturating_sub(before.idle).min(all);
    Some((all - idle) as f64 / all as f64 * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_for_the_disk_is_idle_and_a_guest_counts_once() {
        let found = read("cpu  10 5 20 100 15 1 2 3 9 9\ncpu0 1 1 1 1\n");
        assert_eq!(found, Some(Ticks { idle: 115, all: 156 }));
        assert_eq!(read("intr 1 2 3"), None);
    }

    #[test]
    fn busy_is_what_is_not_idle() {
        let at = |idle, all| Ticks { idle, all };
        assert_eq!(busy(at(100, 200), at(130, 240)), Some(25.0));
        assert_eq!(busy(at(100, 200), at(100, 200)), None);
    }

    #[test]
    fn a_part_that_was_disturbed_is_named() {
        let quiet = Before { part: Part::Noop, percent: 3.4 };
        let loud = Before { part: Part::Process, percent: 87.0 };
        assert!(!Others(vec![quiet]).text().contains("DISTURBED"));
        let text = Others(vec![quiet, loud]).text();
        assert!(text.contains("87 %") && text.ends_with("not to be quoted: process\n"), "{text}");
    }
}
