//! Queues: how many of their jobs may run at once and start in a time, whether they are paused, and the same for keys.
//!
//! Limits come from the configuration file, and what was set by hand goes before it. How far a rate limit is used
//! survives a restart, so it is counted by the wall clock; see `rate`.

use std::collections::{BTreeMap, BTreeSet};

use jobmesh_protocol::job::RateLimit;
use jobmesh_protocol::{UnixMillis, cbor};
use jobmesh_store::{QueueRow, StoreError};
use serde::{Deserialize, Serialize};

use crate::command::{QueueAction, QueueLimits};
use crate::engine::Engine;
use crate::output::{Refusal, Response};
use crate::rate::Log;
use crate::ready::Profile;
use crate::step::Step;
use crate::submit::Answer;

/// Largest encoded limits.
const LIMITS_BYTES_MAX: usize = 1024;
/// Most queues that are changed by hand: more would be a program's mistake.
const QUEUES_MAX: usize = 10_000;

/// Most jobs that a limit of a queue lets run at once: far above what any machine runs.
const CONCURRENCY_MAX: u32 = 1_000_000;

/// Every queue and key that is limited or in use.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    declared: BTreeMap<String, QueueLimits>,
    by_hand: BTreeMap<String, QueueRow>,
    limits_by_hand: BTreeMap<String, QueueLimits>,
    running: BTreeMap<String, u32>,
    running_by_key: BTreeMap<String, u32>,
    rates: BTreeMap<String, Log>,
    changed_rates: BTreeSet<String>,
}

impl Queues {
    pub(crate) const fn new(declared: BTreeMap<String, QueueLimits>) -> Self {
        Self {
            declared,
            by_hand: BTreeMap::new(),
            limits_by_hand: BTreeMap::new(),
            running: BTreeMap::new(),
            running_by_key: BTreeMap::new(),
            rates: BTreeMap::new(),
            changed_rates: BTreeSet::new(),
        }
    }

    /// How many jobs of a queue may run at once.
    pub(crate) fn concurrency(&self, queue: &str) -> Option<u32> {
        self.limit(queue, |limits| limits.concurrency)
    }

    /// How many jobs of a queue may start in a time.
    pub(crate) fn rate(&self, queue: &str) -> Option<RateLimit> {
        self.limit(queue, |limits| limits.rate)
    }

    fn limit<T>(&self, queue: &str, of: impl Fn(&QueueLimits) -> Option<Option<T>>) -> Option<T> {
        let by_hand = self.limits_by_hand.get(queue).and_then(&of);
        by_hand.or_else(|| self.declared.get(queue).and_then(of)).flatten()
    }

    pub(crate) fn is_paused(&self, queue: &str) -> bool {
        self.by_hand.get(queue).is_some_and(|row| row.is_paused)
    }

    pub(crate) fn is_draining(&self, queue: &str) -> bool {
        self.by_hand.get(queue).is_some_and(|row| row.is_draining)
    }

    /// How many jobs of a queue run now.
    pub(crate) fn running(&self, queue: &str) -> u32 {
        self.running.get(queue).copied().unwrap_or(0)
    }

    /// How many jobs of a key run now.
    pub(crate) fn running_by_key(&self, key: &str) -> u32 {
        self.running_by_key.get(key).copied().unwrap_or(0)
    }

    /// A job of this queue and key begins to count as running.
    pub(crate) fn enter(&mut self, queue: &str, key: Option<&str>) {
        grow(&mut self.running, queue);
        if let Some(key) = key {
            grow(&mut self.running_by_key, key);
        }
    }

    /// A job of this queue and key no longer counts as running.
    pub(crate) fn leave(&mut self, queue: &str, key: Option<&str>) {
        shrink(&mut self.running, queue);
        if let Some(key) = key {
            shrink(&mut self.running_by_key, key);
        }
    }

    /// When a job like this may start as far as rates are concerned; `None` if now.
    pub(crate) fn next_start(&self, profile: &Profile, now: UnixMillis) -> Option<(String, UnixMillis)> {
        let late = |(name, limit): (String, RateLimit)| self.wait(&name, limit, now).map(|at| (name, at));
        self.rates_of(profile).filter_map(late).max_by_key(|(_, at)| *at)
    }

    /// Every rate limit of a job like this, by the name that it is kept under.
    fn rates_of<'a>(&'a self, profile: &'a Profile) -> impl Iterator<Item = (String, RateLimit)> + 'a {
        let own = self.rate(&profile.queue).map(|limit| (format!("queue {}", profile.queue), limit));
        own.into_iter().chain(profile.rates.iter().map(|rate| (format!("key {}", rate.key), rate.limit)))
    }

    fn wait(&self, name: &str, limit: RateLimit, now: UnixMillis) -> Option<UnixMillis> {
        self.rates.get(name)?.next(limit, now)
    }

    /// Whether jobs like this may start only so often.
    pub(crate) fn is_rated(&self, profile: &Profile) -> bool {
        self.rates_of(profile).next().is_some()
    }

    /// A job like this starts.
    pub(crate) fn start(&mut self, profile: &Profile, now: UnixMillis) {
        let limits: Vec<(String, RateLimit)> = self.rates_of(profile).collect();
        for (name, limit) in limits {
            self.changed_rates.insert(name.clone());
            self.rates.entry(name).or_default().start(limit, now);
        }
    }
}

/// Limits as they are kept. A none within a none is one and the same in CBOR, so what was said has a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    concurrency: Said<u32>,
    rate: Said<RateLimit>,
}

/// What was said of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said<T> {
    Nothing,
    Unlimited,
    Limit(T),
}

impl<T> Said<T> {
    fn of(limit: Option<Option<T>>) -> Self {
        limit.map_or(Self::Nothing, |limit| limit.map_or(Self::Unlimited, Self::Limit))
    }

    fn limit(self) -> Option<Option<T>> {
        match self {
            Self::Nothing => None,
            Self::Unlimited => Some(None),
            Self::Limit(limit) => Some(Some(limit)),
        }
    }
}

impl Kept {
    fn of(limits: QueueLimits) -> Self {
        Self { concurrency: Said::of(limits.concurrency), rate: Said::of(limits.rate) }
    }

    fn limits(self) -> QueueLimits {
        QueueLimits { concurrency: self.concurrency.limit(), rate: self.rate.limit() }
    }
}

impl QueueLimits {
    /// Reads limits as [`QueueRow::limits`] keeps them.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if they do not read back.
    pub fn of_row(bytes: &[u8]) -> Result<Self, StoreError> {
        let kept: Result<Kept, _> = cbor::decode(bytes, LIMITS_BYTES_MAX);
        kept.map(Kept::limits).map_err(|_| StoreError::Damaged { what: "queue limit" })
    }
}

fn grow(counts: &mut BTreeMap<String, u32>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count = count.saturating_add(1),
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

fn shrink(counts: &mut BTreeMap<String, u32>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(name);
        }
    }
}

impl Engine {
    /// Reads back what was set by hand, and how far rate limits are used.
    pub(crate) fn recover_queues(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for row in step.view().queues()? {
            if let Some(bytes) = &row.limits {
                self.queues.limits_by_hand.insert(row.name.clone(), QueueLimits::of_row(bytes)?);
            }
            self.queues.by_hand.insert(row.name.clone(), row);
        }
        for (name, bytes) in step.view().rates()? {
            self.queues.rates.insert(name, Log::decode(&bytes)?);
        }
        Ok(())
    }

    pub(crate) fn act_on_queue(&mut self, step: &Step<'_>, name: String, action: QueueAction) -> Answer {
        if let Err(error) = jobmesh_protocol::job::check_name("queue", &name) {
            return Ok(Err(Refusal::BadQueue(error.to_string())));
        }
        let is_new = !self.queues.by_hand.contains_key(&name);
        if is_new && self.queues.by_hand.len() >= QUEUES_MAX {
            return Ok(Err(Refusal::TooMany { what: "queues changed by hand", limit: QUEUES_MAX }));
        }
        let before = self.queues.by_hand.get(&name).cloned();
        let mut row = before.clone().unwrap_or_else(|| QueueRow { name: name.clone(), ..QueueRow::default() });
        match action {
            QueueAction::Pause => row.is_paused = true,
            QueueAction::Resume => (row.is_paused, row.is_draining) = (false, false),
            QueueAction::Drain => row.is_draining = true,
            QueueAction::Set(limits) => {
                if let Err(error) = check(&limits) {
                    return Ok(Err(Refusal::BadQueue(error)));
                }
                let merged = self.set_limits(&name, limits);
                row.limits = Some(cbor::encode(&Kept::of(merged)));
            }
            QueueAction::Reset => {
                self.queues.limits_by_hand.remove(&name);
                self.queues.by_hand.remove(&name);
                step.txn.drop_queue(&name)?;
                self.stirred = true;
                self.has_misplaced = true;
                return Ok(Ok(if is_new { Response::Unchanged } else { Response::Done }));
            }
        }
        self.stirred = true;
        if before.as_ref() == Some(&row) {
            return Ok(Ok(Response::Unchanged));
        }
        step.txn.put_queue(&row)?;
        self.queues.by_hand.insert(name, row);
        self.has_misplaced = true;
        Ok(Ok(Response::Done))
    }

    fn set_limits(&mut self, name: &str, limits: QueueLimits) -> QueueLimits {
        let known = self.queues.limits_by_hand.entry(name.to_owned()).or_default();
        known.concurrency = limits.concurrency.or(known.concurrency);
        known.rate = limits.rate.or(known.rate);
        *known
    }

    /// Takes over what the configuration file says of queues now.
    pub(crate) fn declare_queues(&mut self, declared: BTreeMap<String, QueueLimits>) {
        self.queues.declared = declared;
        self.stirred = true;
        self.has_misplaced = true;
    }

    /// Writes how far rate limits are used: once per transaction, however many jobs started in it.
    pub(crate) fn write_rates(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for name in std::mem::take(&mut self.queues.changed_rates) {
            if let Some(log) = self.queues.rates.get(&name) {
                step.txn.put_rate(&name, &log.encode())?;
            }
        }
        Ok(())
    }

    /// Forgets rate limits that hold nobody back any more.
    pub(crate) fn forget_rates(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        let now = step.wall();
        let over = self.queues.rates.iter_mut().filter_map(|(name, log)| (!log.forget(now)).then(|| name.clone()));
        let over: Vec<String> = over.collect();
        for name in over {
            step.txn.drop_rate(&name)?;
            self.queues.rates.remove(&name);
        }
        Ok(())
    }
}

/// Says what is wrong with the limits of the first queue that has such.
pub(crate) fn check_queues(declared: &BTreeMap<String, QueueLimits>) -> Result<(), Refusal> {
    for (name, limits) in declared {
        jobmesh_protocol::job::check_name("queue", name).map_err(|error| Refusal::BadQueue(error.to_string()))?;
        check(limits).map_err(|error| Refusal::BadQueue(format!("{name}: {error}")))?;
    }
    Ok(())
}

fn check(limits: &QueueLimits) -> Result<(), String> {
    if limits.concurrency == Some(Some(0)) {
        return Err("a queue that runs 0 jobs at once is paused: use `jobmesh queue pause`".to_owned());
    }
    if limits.concurrency.flatten().is_some_and(|limit| limit > CONCURRENCY_MAX) {
        return Err(format!("a queue runs at most {CONCURRENCY_MAX} jobs at once; =none takes its limit away"));
    }
    match limits.rate.flatten() {
        Some(rate) => rate.check().map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn no_limit_is_told_from_nothing_said_after_a_restart() {
        let limits = QueueLimits { concurrency: Some(None), rate: None };
        assert_eq!(QueueLimits::of_row(&cbor::encode(&Kept::of(limits))).unwrap(), limits);
    }

    #[test]
    fn what_was_set_by_hand_goes_before_the_file_limit_by_limit() {
        let limits = QueueLimits { concurrency: Some(Some(3)), rate: None };
        let mut queues = Queues::new(BTreeMap::from([("q".to_owned(), limits)]));
        assert_eq!(queues.concurrency("q"), Some(3));
        let by_hand = QueueLimits { concurrency: Some(None), rate: None };
        queues.limits_by_hand.insert("q".to_owned(), by_hand);
        assert_eq!(queues.concurrency("q"), None);
    }
}
