//! What the ends of attempts teach, and what other members say they have learnt.
//!
//! Own observations are cells in the database; a summary of the day, signed and numbered, is what travels. Of what
//! others say, the newest version per author and day is kept as they signed it, and sums are formed here, at read
//! time: own evidence counts in full, each author's for at most a few attempts, all of them for at most a few more.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::capability::{Digest, Relayed};
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::summary::{CELLS_MAX, Cell, HEADS_MAX, Head, Heads, Summary};
use jobmesh_protocol::{DurationMillis, MonoMillis, NodeId, Outcome};
use jobmesh_store::{Job, StoreError, SummaryRow};

use crate::engine::Engine;
use crate::evidence::{Heard, Own, Standing, Tally, Work};
use crate::mutant::Mutant;
use crate::run::Conclusion;
use crate::step::Step;
use crate::timers::Timer;

/// Days that count: long enough for a machine that is used weekly, short enough to forget a broken one.
const DAYS_KEPT: u32 = 14;
/// Cells of one day that are counted: types that are made up one by one teach nothing.
const KEYS_MAX: usize = 4096;
/// A summary that somebody was asked for is asked of nobody else before this: many neighbours tell of it at once.
const ASK_AGAIN_AFTER: DurationMillis = DurationMillis::from_secs(10);
/// Summaries that somebody was asked for, as far as that is remembered.
const ASKED_MAX: usize = 4096;

/// A job type on an executor of a node.
type Key = (Work, NodeId);

/// Everything learnt, in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    /// The day of the cells at hand.
    day: u32,
    today: BTreeMap<Key, Cell>,
    unwritten: BTreeSet<Key>,
    own: Own,
    heard: Heard,
    /// Summaries that somebody was asked for: of which version, and until when nobody else is.
    asked: BTreeMap<(NodeId, u32), (u64, MonoMillis)>,
}

impl Learned {
    /// Whether to ask for a summary now, because it is news and nobody was just asked for it.
    fn asks(&mut self, now: MonoMillis, head: Head) -> bool {
        let Head { author, day, version } = head;
        if version <= self.heard.version(author, day) || !self.heard.has_room_for(author) {
            return false;
        }
        if self.asked.get(&(author, day)).is_some_and(|(asked, until)| *asked >= version && *until > now) {
            return false;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.retain(|_, (_, until)| *until > now);
        }
        if self.asked.len() < ASKED_MAX {
            self.asked.insert((author, day), (version, now.plus(ASK_AGAIN_AFTER)));
        }
        true
    }

    fn count_own(&mut self, (work, node): Key, one: Tally) {
        let tally = self.own.entry(work).or_default().entry(node).or_default();
        *tally = tally.plus(one);
    }
}

/// What a job is an example of.
fn work_of(job: &Job) -> Work {
    (job.spec.job_type.clone(), job.spec.task.executor().to_owned())
}

fn key_of(cell: &Cell) -> Key {
    ((cell.job_type.clone(), cell.executor.clone()), cell.node)
}

impl Engine {
    /// Counts the end of an attempt.
    pub(crate) fn observe(&mut self, step: &Step<'_>, job: &Job, end: &Conclusion<'_>) -> Result<(), StoreError> {
        let day = step.wall().day();
        self.open_day(step, day)?;
        let key = (work_of(job), end.node);
        if self.learned.today.len() >= KEYS_MAX && !self.learned.today.contains_key(&key) {
            self.count("unlearned_type");
            return Ok(());
        }
        let cell = self.learned.today.entry(key.clone()).or_insert_with(|| Cell {
            job_type: key.0.0.clone(),
            executor: key.0.1.clone(),
            node: key.1,
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
        self.learned.count_own(key, one);
        self.timers.set_if_unset(Timer::Publish, step.now.mono.plus(self.announcement_delay()));
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
        self.learned.heard.forget_before(since);
        self.learned.own.clear();
        // What was learnt while the clock was ahead counts, as what others say of tomorrow does.
        for day in since..=today.saturating_add(1) {
            for cell in step.view().cells(day)?.into_iter().take(KEYS_MAX) {
                self.learned.count_own(key_of(&cell), Tally::of(&cell));
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
        let head = Head { author: self.me, day, version };
        step.txn.put_summary(&SummaryRow { head, envelope })?;
        step.txn.drop_summaries_before(day.saturating_sub(DAYS_KEPT))?;
        let news = self.seal(Kind::SummaryHeads, &Heads { heads: vec![head] });
        for node in self.connected().collect::<Vec<_>>() {
            self.send_note(node, news.clone());
        }
        self.publish_digest(step)
    }

    /// Tells a peer which summaries this node has.
    pub(crate) fn tell_heads(&mut self, step: &Step<'_>, to: NodeId) -> Result<(), StoreError> {
        let since = step.wall().day().saturating_sub(DAYS_KEPT);
        let heads = step.view().summary_heads(since, u32::try_from(HEADS_MAX).unwrap_or(u32::MAX))?;
        if !heads.is_empty() {
            self.note(to, Kind::SummaryHeads, &Heads { heads });
        }
        Ok(())
    }

    pub(crate) fn on_summary_heads(&mut self, step: &Step<'_>, from: NodeId, heads: &Heads) {
        self.ask_for_summaries(step, from, heads.heads.iter().take(HEADS_MAX).copied());
    }

    /// Asks the neighbour that passed a digest on for the summary behind it.
    pub(crate) fn ask_for_summary(&mut self, step: &Step<'_>, via: NodeId, author: NodeId, digest: &Digest) {
        let (day, version) = (digest.summary_day, digest.summary_version);
        self.ask_for_summaries(step, via, std::iter::once(Head { author, day, version }));
    }

    /// Asks for those that are news.
    fn ask_for_summaries(&mut self, step: &Step<'_>, via: NodeId, heads: impl Iterator<Item = Head>) {
        let (me, today, now) = (self.me, step.wall().day(), step.now.mono);
        if !self.is_connected(via) {
            return;
        }
        // What a stranger says is not taken, whoever passes it on.
        let peers = &self.peers;
        let is_member = |node: NodeId| node != me && peers.get(&node).is_some_and(|peer| peer.is_member);
        let is_wanted = |head: &Head| is_member(head.author) && is_recent(head.day, today);
        let heads: Vec<Head> = heads.filter(is_wanted).filter(|head| self.learned.asks(now, *head)).collect();
        if !heads.is_empty() {
            self.note(via, Kind::SummaryRequest, &Heads { heads });
        }
    }

    pub(crate) fn on_summary_request(
        &mut self,
        step: &Step<'_>,
        from: NodeId,
        heads: &Heads,
    ) -> Result<(), StoreError> {
        let since = step.wall().day().saturating_sub(DAYS_KEPT);
        for head in heads.heads.iter().take(HEADS_MAX).filter(|head| head.day >= since) {
            if let Some(envelope) = step.view().summary(head.author, head.day)? {
                self.note(from, Kind::Relayed, &Relayed(envelope));
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
        if !self.is_member(author) && author != self.me {
            self.count("refused_summary_of_stranger");
            return Ok(());
        }
        // Old days of others go when a new one comes, so that a node that runs for years knows as few as a new one.
        self.learned.heard.forget_before(today.saturating_sub(DAYS_KEPT));
        let has_room = self.learned.heard.has_room_for(author);
        if author == self.me || !summary.is_bounded() || !is_recent(summary.day, today) || !has_room {
            self.count("refused_summary");
            return Ok(());
        }
        let head = Head { author, day: summary.day, version: summary.version };
        if step.txn.put_summary(&SummaryRow { head, envelope: bytes.to_vec() })? {
            self.learned.heard.hear(head, &summary);
        }
        Ok(())
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
                self.learned.heard.hear(row.head, &summary);
            }
        }
        Ok(())
    }

    /// How well nodes do such a job.
    pub(crate) fn standing(&self, job: &Job) -> Standing<'_> {
        let is_believed = self.config.plays(Mutant::UnweightedSummaries);
        Standing::new(&self.learned.own, &self.learned.heard, &work_of(job)).believing(is_believed)
    }

    /// How likely a node is to do such a job well, in thousandths. An unknown node stands at 500.
    pub(crate) fn score(&self, job: &Job, node: NodeId) -> u64 {
        self.standing(job).score(node)
    }
}

/// Whether a day counts. Clocks of two members may be on both sides of midnight.
fn is_recent(day: u32, today: u32) -> bool {
    (today.saturating_sub(DAYS_KEPT)..=today.saturating_add(1)).contains(&day)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use jobmesh_keys::{Identity, MeshRoot};
    use jobmesh_protocol::id::BootId;
    use jobmesh_protocol::task::{ProcessTask, Task};
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
        engine.learned.heard.hear(head, &Summary { day: head.day, version: 1, cells: Vec::new() });
        for _ in 0..=DAYS_KEPT {
            now.wall = now.wall.plus(DurationMillis(DAY_MS));
            learn(&mut engine, now, "new");
        }
        assert_eq!(engine.learned.own.len(), 1, "only the new type is known");
        assert_eq!(engine.learned.heard.version(other, head.day), 0);
        for number in 0..KEYS_MAX + 9 {
            learn(&mut engine, now, &number.to_string());
        }
        assert_eq!(engine.learned.today.len(), KEYS_MAX);
        assert_eq!(engine.learned.own.len(), KEYS_MAX);
        assert_eq!(engine.counters.get("unlearned_type"), Some(&10));
    }
}
