//! What attempts say of the nodes that they ran on, added up before anybody asks.
//!
//! An auction among a thousand members asks for a thousand scores in one step, and behind each there may be the words of
//! hundreds of authors about weeks. So the sums are kept: they change when a word comes, which is seldom, and a score is
//! one look. The hard case is that words are taken back, when an author says something newer of the same day and when the
//! day is too old to count; then the sums must be as if they had never been said.

use std::collections::BTreeMap;

use jobmesh_protocol::NodeId;
use jobmesh_protocol::summary::{Cell, Head, Summary};

/// Attempts that one author's word is worth at most.
const BORROWED_PER_AUTHOR: u64 = 4;
/// Attempts that all authors' words are worth at most.
const BORROWED_IN_ALL: u64 = 8;
/// Authors kept.
const AUTHORS_MAX: usize = 256;

/// A job type and the executor that runs it.
pub(crate) type Work = (String, String);

/// Good and bad ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) good: u64,
    pub(crate) bad: u64,
}

impl Tally {
    pub(crate) fn of(cell: &Cell) -> Self {
        let good = u64::from(cell.succeeded);
        Self { good, bad: u64::from(cell.attempts()).saturating_sub(good) }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }

    const fn less(self, other: Self) -> Self {
        Self { good: self.good.saturating_sub(other.good), bad: self.bad.saturating_sub(other.bad) }
    }

    /// The same proportion, worth at most `limit` attempts.
    fn capped(self, limit: u64) -> Self {
        let all = self.good.saturating_add(self.bad);
        if all <= limit {
            return self;
        }
        let good = u64::try_from(u128::from(self.good) * u128::from(limit) / u128::from(all)).unwrap_or(limit);
        Self { good, bad: limit - good }
    }

    /// In thousandths. Where nothing ended it is 500.
    const fn score(self) -> u64 {
        let (good, all) = (self.good, self.good.saturating_add(self.bad));
        good.saturating_add(1).saturating_mul(1000) / all.saturating_add(2)
    }
}

/// What all authors say of one kind of work on one node.
#[derive(Clone, Debug, Default)]
struct Words {
    by_author: BTreeMap<NodeId, Tally>,
    /// All of it, each author's and the whole for as much as they are worth.
    sum: Tally,
}

impl Words {
    fn change(&mut self, author: NodeId, change: impl FnOnce(Tally) -> Tally) {
        let tally = change(self.by_author.get(&author).copied().unwrap_or_default());
        if tally == Tally::default() {
            self.by_author.remove(&author);
        } else {
            self.by_author.insert(author, tally);
        }
        let capped = self.by_author.values().map(|tally| tally.capped(BORROWED_PER_AUTHOR));
        self.sum = capped.fold(Tally::default(), Tally::plus).capped(BORROWED_IN_ALL);
    }
}

/// One author's words about one day.
#[derive(Clone, Debug)]
struct Day {
    version: u64,
    tallies: BTreeMap<(Work, NodeId), Tally>,
}

/// What others say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    days: BTreeMap<(NodeId, u32), Day>,
    /// How many days of each author there are.
    authors: BTreeMap<NodeId, usize>,
    words: BTreeMap<Work, BTreeMap<NodeId, Words>>,
}

impl Heard {
    /// The version known of an author's day; 0 if none is.
    pub(crate) fn version(&self, author: NodeId, day: u32) -> u64 {
        self.days.get(&(author, day)).map_or(0, |day| day.version)
    }

    /// Whether there is room for the words of an author.
    pub(crate) fn has_room_for(&self, author: NodeId) -> bool {
        self.authors.contains_key(&author) || self.authors.len() < AUTHORS_MAX
    }

    /// Takes over what an author says of a day, in place of what it said before.
    pub(crate) fn hear(&mut self, head: Head, summary: &Summary) {
        self.take_back((head.author, head.day));
        let key = |cell: &Cell| ((cell.job_type.clone(), cell.executor.clone()), cell.node);
        let tallies: BTreeMap<_, _> = summary.cells.iter().map(|cell| (key(cell), Tally::of(cell))).collect();
        for ((work, node), tally) in &tallies {
            // What a node says of itself counts for nothing.
            if *node != head.author {
                let words = self.words.entry(work.clone()).or_default().entry(*node).or_default();
                words.change(head.author, |known| known.plus(*tally));
            }
        }
        *self.authors.entry(head.author).or_default() += 1;
        self.days.insert((head.author, head.day), Day { version: head.version, tallies });
    }

    /// Forgets what was said of days before this one.
    pub(crate) fn forget_before(&mut self, since: u32) {
        let old: Vec<(NodeId, u32)> = self.days.keys().filter(|(_, day)| *day < since).copied().collect();
        for day in old {
            self.take_back(day);
        }
    }

    fn take_back(&mut self, (author, day): (NodeId, u32)) {
        let Some(said) = self.days.remove(&(author, day)) else { return };
        for ((work, node), tally) in said.tallies {
            let Some(of_work) = self.words.get_mut(&work) else { continue };
            if let Some(words) = of_work.get_mut(&node) {
                words.change(author, |known| known.less(tally));
                if words.by_author.is_empty() {
                    of_work.remove(&node);
                }
            }
            if of_work.is_empty() {
                self.words.remove(&work);
            }
        }
        if let Some(days) = self.authors.get_mut(&author) {
            *days -= 1;
            if *days == 0 {
                self.authors.remove(&author);
            }
        }
    }
}

/// What this node saw itself.
pub(crate) type Own = BTreeMap<Work, BTreeMap<NodeId, Tally>>;

/// How well nodes do one kind of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing<'a> {
    own: Option<&'a BTreeMap<NodeId, Tally>>,
    words: Option<&'a BTreeMap<NodeId, Words>>,
}

impl<'a> Standing<'a> {
    pub(crate) fn new(own: &'a Own, heard: &'a Heard, work: &Work) -> Self {
        Self { own: own.get(work), words: heard.words.get(work) }
    }

    /// How likely a node is to do it well, in thousandths. An unknown node stands at 500.
    pub(crate) fn score(&self, node: NodeId) -> u64 {
        let own = self.own.and_then(|own| own.get(&node)).copied().unwrap_or_default();
        let words = self.words.and_then(|words| words.get(&node)).map(|words| words.sum).unwrap_or_default();
        own.plus(words).score()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 32])
    }

    fn work() -> Work {
        ("build".to_owned(), "process".to_owned())
    }

    fn says(heard: &mut Heard, (author, day, version): (u8, u32, u64), (of, good, bad): (u8, u32, u32)) {
        let cell = Cell {
            job_type: "build".to_owned(),
            executor: "process".to_owned(),
            node: node(of),
            succeeded: good,
            failed: bad,
            timed_out: 0,
            lost: 0,
            durations: Default::default(),
        };
        let head = Head { author: node(author), day, version };
        heard.hear(head, &Summary { day, version, cells: vec![cell] });
    }

    fn score(heard: &Heard, of: u8) -> u64 {
        Standing::new(&Own::default(), heard, &work()).score(node(of))
    }

    #[test]
    fn sums_are_those_of_all_words_that_count() {
        let mut heard = Heard::default();
        assert_eq!(score(&heard, 9), 500);
        says(&mut heard, (1, 10, 1), (9, 2, 0));
        assert_eq!(score(&heard, 9), 750, "(1 + 2) of (2 + 2)");
        says(&mut heard, (1, 11, 1), (9, 1000, 0));
        assert_eq!(score(&heard, 9), 833, "one author is worth four");
        says(&mut heard, (2, 11, 1), (9, 1000, 0));
        says(&mut heard, (3, 11, 1), (9, 1000, 0));
        assert_eq!(score(&heard, 9), 900, "all of them are worth eight");
        says(&mut heard, (9, 11, 1), (9, 0, 1000));
        assert_eq!(score(&heard, 9), 900, "what it says of itself counts for nothing");
    }

    /// The words of a day come in many versions, and the sums must not grow with them.
    #[test]
    fn what_is_taken_back_was_never_said() {
        let mut heard = Heard::default();
        says(&mut heard, (1, 10, 1), (9, 0, 3));
        says(&mut heard, (1, 10, 2), (9, 1, 3));
        says(&mut heard, (1, 11, 1), (9, 1, 0));
        assert_eq!((heard.version(node(1), 10), heard.version(node(2), 10)), (2, 0));
        assert_eq!(score(&heard, 9), 333, "(1 + 1) of (2 + 4), since 2 of 5 capped at 4 is 1");
        heard.forget_before(11);
        assert_eq!(score(&heard, 9), 666);
        heard.forget_before(12);
        assert_eq!(score(&heard, 9), 500);
        assert!(heard.words.is_empty() && heard.authors.is_empty() && heard.days.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_authors() {
        let mut heard = Heard::default();
        let author = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            NodeId::from_bytes(bytes)
        };
        for number in 0..AUTHORS_MAX {
            assert!(heard.has_room_for(author(number)));
            let head = Head { author: author(number), day: 10, version: 1 };
            heard.hear(head, &Summary { day: 10, version: 1, cells: Vec::new() });
        }
        assert!(!heard.has_room_for(author(AUTHORS_MAX)));
        assert!(heard.has_room_for(author(0)));
    }
}
