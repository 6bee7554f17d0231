//! The line of runs that are ordered, but not handed to the executors yet.
//!
//! Some orders need something first: the item of an array's task, the results of other jobs, a look for a process that
//! an earlier daemon started. Others must not wait for those, but what concerns the same run must: a stop has to come
//! after its start, and a run that follows another one must not be there before it, or both would use what was given to
//! one of them. **The hard case** is a chain of such runs: each waits behind the one before it, with all that was said
//! of it since.

use std::collections::{BTreeMap, VecDeque};

use jobmesh_engine::{RunOrder, StopReason};
use jobmesh_protocol::RunId;
use tokio_util::sync::CancellationToken;

/// Something for the executors.
#[derive(Debug)]
pub(super) enum Work {
    Run(Box<RunOrder>),
    Stop(RunId, StopReason),
}

/// What can be done now.
#[derive(Debug)]
pub(super) enum Next {
    /// Hand an order on.
    Run(Box<RunOrder>),
    /// Pass a stop on.
    Stop(RunId, StopReason),
    /// Tell that a run was stopped before it was handed on.
    Over(RunId, StopReason),
}

/// What waits, by the run that it waits for. No longer than what the engine has running.
#[derive(Debug, Default)]
pub(super) struct Line {
    open: BTreeMap<RunId, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    follows: Option<RunId>,
    behind: Vec<Work>,
    stopped: CancellationToken,
}

impl Line {
    /// The first of these works that need not wait for a run in line; those that must are put there. What waited behind an
    /// order comes right after it, in its turn: the order may have to wait for something again.
    pub(super) fn next(&mut self, works: &mut VecDeque<Work>) -> Option<Next> {
        while let Some(work) = works.pop_front() {
            let order = match self.hold(work) {
                Some(Work::Run(order)) => order,
                Some(Work::Stop(run, reason)) => return Some(Next::Stop(run, reason)),
                None => continue,
            };
            let mut left = self.leave(order.run);
            if left.stop.is_some() {
                left.close_up();
            }
            left.behind.into_iter().rev().for_each(|work| works.push_front(work));
            return Some(match left.stop {
                Some(reason) => Next::Over(order.run, reason),
                None => Next::Run(order),
            });
        }
        None
    }

    /// Takes work that has to wait for a run that is in line, or gives it back.
    fn hold(&mut self, work: Work) -> Option<Work> {
        let before = match &work {
            Work::Run(order) => order.follows,
            Work::Stop(run, _) => Some(*run),
        };
        let Some(before) = before.filter(|before| self.open.contains_key(before)) else { return Some(work) };
        let next = match &work {
            Work::Run(order) => Some(order.run),
            Work::Stop(..) => None,
        };
        if let Some(waiting) = self.open.get_mut(&before) {
            if next.is_none() {
                waiting.stopped.cancel();
            }
            waiting.behind.push(work);
        }
        if let Some(next) = next {
            self.enter(next, Some(before));
        }
        None
    }

    /// Puts a run in line. Returns what is cancelled once it is to be stopped, so that whatever it waits for can be left.
    pub(super) fn enter(&mut self, run: RunId, follows: Option<RunId>) -> CancellationToken {
        let waiting = self.open.entry(run).or_default();
        waiting.follows = follows;
        waiting.stopped.clone()
    }

    /// Takes a run out of the line.
    pub(super) fn leave(&mut self, run: RunId) -> Left {
        let Waiting { follows, mut behind, .. } = self.open.remove(&run).unwrap_or_default();
        let mut stop = None;
        behind.retain(|work| match work {
            Work::Stop(stopped, reason) if *stopped == run => {
                // An end by force is what counts of several.
                if stop.is_none() || *reason == StopReason::Killed {
                    stop = Some(*reason);
                }
                false
            }
            Work::Run(_) | Work::Stop(..) => true,
        });
        Left { run, follows, stop, behind }
    }
}

/// What is known of a run that left the line.
#[derive(Debug)]
pub(super) struct Left {
    run: RunId,
    follows: Option<RunId>,
    /// Whether it is to be stopped.
    pub(super) stop: Option<StopReason>,
    /// What waited behind it, in order.
    pub(super) behind: Vec<Work>,
}

impl Left {
    /// The executors never hear of this run: what follows it stands behind what it would have followed, or it would take
    /// any slot, with what another run still holds.
    pub(super) fn close_up(&mut self) {
        for work in &mut self.behind {
            if let Work::Run(order) = work
                && order.follows == Some(self.run)
            {
                order.follows = self.follows;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_protocol::task::Task;
    use jobmesh_protocol::{DurationMillis, Epoch, JobId, JobNumber};

    use super::*;

    fn run(number: u8) -> RunId {
        RunId { job: JobId::from_bytes([number; 16]), epoch: Epoch(1) }
    }

    fn order(number: u8, follows: Option<u8>) -> Work {
        Work::Run(Box::new(RunOrder {
            run: run(number),
            number: JobNumber::new(number.into()),
            job_type: "x".to_owned(),
            task: Task::Noop {},
            inputs: None,
            outputs: Vec::new(),
            secrets: [].into(),
            network: false,
            isolation: jobmesh_protocol::Isolation::None,
            kill_grace: DurationMillis(0),
            log_bytes_max: None,
            origin: None,
            follows: follows.map(run),
            allocation: None,
            reduce: false,
        }))
    }

    fn runs(works: &[Work]) -> Vec<RunId> {
        works
            .iter()
            .map(|work| match work {
                Work::Run(order) => order.run,
                Work::Stop(run, _) => *run,
            })
            .collect()
    }

    #[test]
    fn only_what_concerns_a_run_in_line_waits() {
        let mut line = Line::default();
        line.enter(run(1), None);
        assert!(line.hold(order(2, None)).is_some());
        assert!(line.hold(order(3, Some(9))).is_some());
        assert!(line.hold(Work::Stop(run(2), StopReason::Timeout)).is_some());
        assert!(line.hold(order(4, Some(1))).is_none());
        let left = line.leave(run(1));
        assert_eq!((left.stop, runs(&left.behind)), (None, vec![run(4)]));
    }

    #[test]
    fn a_chain_waits_link_by_link() {
        let mut line = Line::default();
        line.enter(run(1), None);
        assert!(line.hold(order(2, Some(1))).is_none());
        assert!(line.hold(order(3, Some(2))).is_none());
        assert!(line.hold(Work::Stop(run(2), StopReason::Withdrawn)).is_none());
        let left = line.leave(run(1));
        assert_eq!((left.stop, runs(&left.behind)), (None, vec![run(2)]));
        let left = line.leave(run(2));
        assert_eq!((left.stop, runs(&left.behind)), (Some(StopReason::Withdrawn), vec![run(3)]));
        assert!(line.leave(run(3)).behind.is_empty());
    }

    /// A follower that got ahead of the run before it would use what was given to that one.
    #[test]
    fn a_run_that_has_to_be_prepared_again_keeps_its_followers_behind_it() {
        let mut line = Line::default();
        line.enter(run(1), None);
        for (number, follows) in [(2, 1), (3, 2), (4, 3)] {
            assert!(line.hold(order(number, Some(follows))).is_none());
        }
        assert!(line.hold(Work::Stop(run(3), StopReason::Withdrawn)).is_none());
        let mut works = VecDeque::from(line.leave(run(1)).behind);
        let next = line.next(&mut works).unwrap();
        assert!(matches!(next, Next::Run(order) if order.run == run(2)));
        line.enter(run(2), None);
        assert!(line.next(&mut works).is_none(), "the rest waits for the second");
        let mut works = VecDeque::from(line.leave(run(2)).behind);
        assert!(matches!(line.next(&mut works), Some(Next::Over(over, StopReason::Withdrawn)) if over == run(3)));
        let Some(Next::Run(last)) = line.next(&mut works) else { panic!("the last one is gone") };
        assert_eq!((last.run, last.follows), (run(4), Some(run(2))), "the executors know nothing of the third");
        assert!(line.next(&mut works).is_none() && line.open.is_empty());
    }

    #[test]
    fn a_stop_is_seen_at_once_and_force_counts() {
        let mut line = Line::default();
        let stopped = line.enter(run(1), None);
        for reason in [StopReason::Cancelled, StopReason::Killed, StopReason::Draining] {
            assert!(line.hold(Work::Stop(run(1), reason)).is_none());
        }
        assert!(stopped.is_cancelled());
        assert_eq!(line.leave(run(1)).stop.unwrap(), StopReason::Killed);
    }
}
