//! What the ends of attempts teach, and what other members say they have learnt.
//!
//! Own observations are cells in the database; a summary of the day, signed and numbered, is what travels. Of what
//! others say, the newest version per author and day is kept as they signed it, and sums are formed here, at read
//! time: own evidence counts in full, each author's for at most a few attempts, all of them for at most a few more.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::capability::{Digest, Relayed};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::summary::{CELLS_MAX, Cell, HEADS_MAX, Head, Heads, Summary};
use jobmesh_protocol::{NodeId, Outcome};
use jobmesh_store::{Job, StoreError, SummaryRow};

use crate::engine::Engine;
use crate::mutant::Mutant;
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;

/// Days that count: long enough for a machine that is used weekly, short enough to forget a broken one.
const DAYS_KEPT: u32 = 14;
/// Attempts that one author's word is worth at most.
const BORROWED_PER_AUTHOR: u64 = 4;
/// Attempts that all authors' words are worth at most.
const BORROWED_IN_ALL: u64 = 8;
/// Authors kept.
const AUTHORS_MAX: usize = 256;
/// Cells of one day that are counted: types that are made up one by one teach nothing.
const KEYS_MAX: usize = 4096;

/// A job type on an executor of a node.
type Key = (String, String, NodeId);

/// Everything learnt, in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    /// The day of the cells at hand.
    day: u32,
    today: BTreeMap<Key, Cell>,
    unwritten: BTreeSet<Key>,
    own: BTreeMap<Key, Tally>,
    heard: BTreeMap<(NodeId, u32), (u64, BTreeMap<Key, Tally>)>,
}

/// Good and bad ends.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    good: u64,
    bad: u64,
}

impl Tally {
    fn of(cell: &Cell) -> Self {
        let good = u64::from(cell.succeeded);
        Self { good, bad: u64::from(cell.attempts()).saturating_sub(good) }
    }

    const fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
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
}

fn key_of(cell: &Cell) -> Key {
    (cell.job_type.clone(), cell.executor.clone(), cell.node)
}

impl Engine {
    /// Counts the end of an attempt.
    pub(crate) fn observe(&mut self, step: &Step<'_>, job: &Job, end: &Conclusion<'_>) -> Result<(), StoreError> {
        let day = step.wall().day();
        self.open_day(step, day)?;
        let key = (job.spec.job_type.clone(), job.spec.task.executor().to_owned(), end.node);
        if self.learned.today.len() >= KEYS_MAX && !self.learned.today.contains_key(&key) {
            self.count("unlearned_type");
            return Ok(());
        }
        let cell = self.learned.today.entry(key.clone()).or_insert_with(|| Cell {
            job_type: key.0.clone(),
            executor: key.1.clone(),
            node: key.2,
            succeeded: 0,
            failed: 0,
            timed_out: 0,
            lost: 0,
            durations: Default::default(),
        });
        let times = 1 + u32::from(self.config.plays(Mutant::CountTwice));
        match end.outcome {
            Outcome::Ok => {
                cell.succeeded = cell.succeeded.saturating_add(times);
                cell.durations.add(step.wall().since(job.state_since));
            }
            Outcome::Error { .. } | Outcome::Permanent { .. } => cell.failed = cell.failed.saturating_add(times),
            Outcome::Timeout => cell.timed_out = cell.timed_out.saturating_add(times),
            Outcome::Lost { .. } => cell.lost = cell.lost.saturating_add(times),
            // Nobody's merit and nobody's fault.
            Outcome::Cancelled | Outcome::SelfCancelled { .. } | Outcome::Snoozed { .. } | Outcome::Released { .. } => {
                return Ok(());
            }
        }
        self.learned.unwritten.insert(key.clone());
        let is_good = matches!(end.outcome, Outcome::Ok);
        let one = Tally { good: u64::from(is_good), bad: u64::from(!is_good) };
        let tally = self.learned.own.entry(key).or_default();
        *tally = tally.plus(one);
        self.timers.set_if_unset(Timer::Publish, step.now.mono.plus(self.config.timing.summary_delay));
        Ok(())
    }

    /// Has the cells of a day at hand: the newest day's are.
    fn open_day(&mut self, step: &Step<'_>, day: u32) -> Result<(), StoreError> {
        if self.learned.day == day {
            return Ok(());
        }
        self.write_cells(step)?;
        self.learned.day = day;
        self.learned.today = step.view().cells(day)?.into_iter().map(|cell| (key_of(&cell), cell)).collect();
        self.forget_old_days(step, day)
    }

    /// Sums up anew what was learnt in the days that count, and drops what was heard of others.
    fn forget_old_days(&mut self, step: &Step<'_>, today: u32) -> Result<(), StoreError> {
        let since = today.saturating_sub(DAYS_KEPT);
        self.learned.heard.retain(|(_, day), _| *day >= since);
        self.learned.own.clear();
        // What was learnt while the clock was ahead counts, as what others say of tomorrow does.
        for day in since..=today.saturating_add(1) {
            for cell in step.view().cells(day)?.into_iter().take(KEYS_MAX) {
                let tally = self.learned.own.entry(key_of(&cell)).or_default();
                *tally = tally.plus(Tally::of(&cell));
            }
        }
        step.txn.drop_summaries_before(since)
    }

    /// Writes the cells that changed: once per transaction, however many attempts ended in it.
    pub(crate) fn write_cells(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for key in std::mem::take(&mut self.learned.unwritten) {
            if let Some(cell) = self.learned.today.get(&key) {
                step.txn.put_cell(self.learned.day, cell)?;
            }
        }
        Ok(())
    }

    /// Signs the day's observations and announces them.
    pub(crate) fn publish_summary(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let day = step.wall().day();
        self.write_cells(step)?;
        let mut cells = step.view().cells(day)?;
        cells.sort_by_key(|cell| std::cmp::Reverse(cell.attempts()));
        cells.truncate(CELLS_MAX);
        if cells.is_empty() {
            return Ok(());
        }
        let version = step.view().summary_version(self.me, day)? + 1;
        let envelope = self.seal(Kind::Summary, &Summary { day, version, cells });
        step.txn.put_summary(&SummaryRow { head: Head { author: self.me, day, version }, envelope })?;
        step.txn.drop_summaries_before(day.saturating_sub(DAYS_KEPT))?;
        let connected: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| peer.is_connected).map(|(node, _)| *node).collect();
        for node in connected {
            self.tell_heads(step, node)?;
        }
        self.publish_digest(step)
    }

    /// Tells a peer which summaries this node has.
    pub(crate) fn tell_heads(&mut self, step: &Step<'_>, to: NodeId) -> Result<(), StoreError> {
        let since = step.wall().day().saturating_sub(DAYS_KEPT);
        let heads: Vec<Head> = step.view().summaries(since)?.iter().map(|row| row.head).take(HEADS_MAX).collect();
        if !heads.is_empty() {
            self.note(to, Kind::SummaryHeads, &Heads { heads });
        }
        Ok(())
    }

    pub(crate) fn on_summary_heads(&mut self, step: &Step<'_>, from: NodeId, heads: &Heads) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        for head in heads.heads.iter().take(HEADS_MAX).filter(|head| head.author != self.me) {
            if head.version > step.view().summary_version(head.author, head.day)? {
                wanted.push(*head);
            }
        }
        if !wanted.is_empty() {
            self.note(from, Kind::SummaryRequest, &Heads { heads: wanted });
        }
        Ok(())
    }

    /// Asks the neighbour that passed a digest on for the summary behind it.
    pub(crate) fn ask_for_summary(
        &mut self,
        step: &Step<'_>,
        via: NodeId,
        author: NodeId,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (day, version) = (digest.summary_day, digest.summary_version);
        if version > step.view().summary_version(author, day)? {
            self.note(via, Kind::SummaryRequest, &Heads { heads: vec![Head { author, day, version }] });
        }
        Ok(())
    }

    pub(crate) fn on_summary_request(
        &mut self,
        step: &Step<'_>,
        from: NodeId,
        heads: &Heads,
    ) -> Result<(), StoreError> {
        let since = step.wall().day().saturating_sub(DAYS_KEPT);
        for row in step.view().summaries(since)? {
            let is_wanted = |head: &Head| head.author == row.head.author && head.day == row.head.day;
            if heads.heads.iter().take(HEADS_MAX).any(is_wanted) {
                self.note(from, Kind::Relayed, &Relayed(row.envelope));
            }
        }
        Ok(())
    }

    pub(crate) fn on_summary(
        &mut self,
        step: &Step<'_>,
        author: NodeId,
        summary: Summary,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let today = step.wall().day();
        let is_recent = (today.saturating_sub(DAYS_KEPT)..=today.saturating_add(1)).contains(&summary.day);
        if !self.is_member(author) && author != self.me {
            self.count("refused_summary_of_stranger");
            return Ok(());
        }
        // Old days of others go when a new one comes, so that a node that runs for years knows as few as a new one.
        self.learned.heard.retain(|(_, day), _| *day >= today.saturating_sub(DAYS_KEPT));
        let is_new_author = !self.learned.heard.keys().any(|(known, _)| *known == author);
        let is_full = self.learned.heard.keys().map(|(known, _)| known).collect::<BTreeSet<_>>().len() >= AUTHORS_MAX;
        if author == self.me || !summary.is_bounded() || !is_recent || (is_new_author && is_full) {
            self.count("refused_summary");
            return Ok(());
        }
        let head = Head { author, day: summary.day, version: summary.version };
        if step.txn.put_summary(&SummaryRow { head, envelope: bytes.to_vec() })? {
            self.hear(head, &summary);
        }
        Ok(())
    }

    fn hear(&mut self, head: Head, summary: &Summary) {
        let tallies = summary.cells.iter().map(|cell| (key_of(cell), Tally::of(cell))).collect();
        self.learned.heard.insert((head.author, head.day), (head.version, tallies));
    }

    /// Reads back what was learnt and heard.
    pub(crate) fn recover_learning(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let today = step.wall().day();
        let since = today.saturating_sub(DAYS_KEPT);
        self.forget_old_days(step, today)?;
        for row in step.view().summaries(since)? {
            let opened = Envelope::open(&row.envelope, &self.mesh).ok();
            let summary = opened.and_then(|envelope| envelope.parse::<Summary>().ok());
            if let Some(summary) = summary.filter(|_| row.head.author != self.me) {
                self.hear(row.head, &summary);
            }
        }
        Ok(())
    }

    /// How likely a node is to do such a job well, in thousandths. An unknown node stands at 500.
    pub(crate) fn score(&self, job: &Job, node: NodeId) -> u64 {
        let key = (job.spec.job_type.clone(), job.spec.task.executor().to_owned(), node);
        let own = self.learned.own.get(&key).copied().unwrap_or_default();
        let mut by_author: BTreeMap<NodeId, Tally> = BTreeMap::new();
        for ((author, _), (_, tallies)) in &self.learned.heard {
            // What a node says of itself counts for nothing.
            if let Some(tally) = tallies.get(&key).filter(|_| *author != node) {
                let sum = by_author.entry(*author).or_default();
                *sum = sum.plus(*tally);
            }
        }
        let is_believed = self.config.plays(Mutant::UnweightedSummaries);
        let (each, all) = if is_believed { (u64::MAX, u64::MAX) } else { (BORROWED_PER_AUTHOR, BORROWED_IN_ALL) };
        let capped = by_author.into_values().map(|tally| tally.capped(each));
        let borrowed = capped.fold(Tally::default(), Tally::plus).capped(all);
        let tally = own.plus(borrowed);
        (1 + tally.good).saturating_mul(1000) / (2 + tally.good + tally.bad)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_keys::{Identity, MeshRoot};
    use jobmesh_protocol::id::BootId;
    use jobmesh_protocol::job::{ProcessTask, Task};
    use jobmesh_protocol::{DurationMillis, Incarnation, JobSpec, MonoMillis, Now, UnixMillis};
    use jobmesh_store::Store;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;
    use crate::config::{Config, Detected, Timing};

    const DAY_MS: u64 = 86_400_000;

    fn config(now: UnixMillis) -> Config {
        let (root, identity) = (MeshRoot::new(Identity::from_seed([9; 32])), Identity::from_seed([1; 32]));
        Config {
            mesh: root.mesh(),
            membership: crate::founding(&root, &identity, now, [0; 16]),
            identity,
            root: None,
            boot: BootId::from_bytes([1; 16]),
            booted_at: now,
            name: "here".to_owned(),
            detected: Detected::default(),
            timing: Timing::default(),
            declared: Default::default(),
            has_rebooted: false,
            mutant: None,
        }
    }

    /// A node that ran for months knew every type that it ever ran, and what everybody ever said.
    #[test]
    fn what_is_old_is_forgotten_and_no_day_teaches_too_much() {
        let mut now = Now { mono: MonoMillis(5), wall: UnixMillis(1_800_000_000_000) };
        let (mut rng, mut store) =
            (ChaCha8Rng::seed_from_u64(1), Store::open_in_memory(Incarnation::from_bytes([1; 16])).unwrap());
        let txn = store.begin().unwrap();
        let mut engine = Engine::recover(config(now.wall), now, &mut rng, &txn).unwrap();
        let other = Identity::from_seed([2; 32]).node();
        let mut learn = |engine: &mut Engine, now: Now, job_type: &str| {
            let mut step = Step { now, rng: &mut rng, txn: &txn };
            let spec = JobSpec::new(job_type, Task::Process(ProcessTask::new(vec!["work".to_owned()])));
            let submission = jobmesh_protocol::Submission::new(spec);
            let (job, _) = crate::submit::hypothetical(engine, &mut step, submission).unwrap();
            engine.observe(&step, &job, &Conclusion::bare(other, &Outcome::Ok)).unwrap();
            engine.write_cells(&step).unwrap();
            engine.score(&job, other)
        };
        assert_eq!(learn(&mut engine, now, "old"), 666);
        let head = Head { author: other, day: now.wall.day(), version: 1 };
        engine.hear(head, &Summary { day: head.day, version: 1, cells: Vec::new() });
        for _ in 0..=DAYS_KEPT {
            now.wall = now.wall.plus(DurationMillis(DAY_MS));
            learn(&mut engine, now, "new");
        }
        assert_eq!(engine.learned.own.len(), 1, "only the new type is known");
        assert!(engine.learned.heard.is_empty());
        for number in 0..KEYS_MAX + 9 {
            learn(&mut engine, now, &number.to_string());
        }
        assert_eq!(engine.learned.today.len(), KEYS_MAX);
        assert_eq!(engine.learned.own.len(), KEYS_MAX);
        assert_eq!(engine.counters.get("unlearned_type"), Some(&10));
    }
}
