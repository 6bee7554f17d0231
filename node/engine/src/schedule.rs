//! Schedules: which instants have come, and what becomes of each.
//!
//! An instant fires by submitting a job that carries the schedule's name and the instant, of which the database takes
//! one only. `last_at` is the newest instant that was dealt with, and is written in the same transaction. So an
//! instant fires once, whatever crashes between and however the clock jumps.
//!
//! **The hard case** is a clock that was a year ahead and is set right: `last_at` lies in the future, and nothing
//! would fire for a year. A step back of more than [`STEP_BACK_MAX`] is therefore taken for a correction, and the
//! schedule goes on from now; the unique instants still keep out what has fired.

use std::collections::BTreeMap;

use jobmesh_protocol::schedule::{CatchUp, Overlap};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Condition, Dependency, Start};
use jobmesh_protocol::{DurationMillis, Submission, UnixMillis, cbor};
use jobmesh_store::{Job, ScheduleRow, StoreError, View};

use crate::calendar::Timetable;
use crate::command::{Schedule, ScheduleAction};
use crate::dependency::Looked;
use crate::engine::Engine;
use crate::output::{Refusal, Response, Taken};
use crate::step::Step;
use crate::submit::Answer;
use crate::timers::{ScheduleId, Timer};

/// Most instants that are made up for at once.
const MISSED_MAX: usize = 1000;
/// Most instants of one backfill.
pub const BACKFILL_MAX: usize = 10_000;
/// Most schedules.
const SCHEDULES_MAX: usize = 10_000;
/// Largest encoded schedule.
pub const SCHEDULE_BYTES_MAX: usize = 128 * 1024;
/// A newest instant that lies further ahead than this is of a clock that was wrong.
const STEP_BACK_MAX: DurationMillis = DurationMillis::from_secs(25 * 3600);

/// A schedule as the engine holds it.
#[derive(Clone, Debug)]
pub(crate) struct Scheduled {
    pub(crate) id: ScheduleId,
    pub(crate) row: ScheduleRow,
    pub(crate) schedule: Schedule,
    timetable: Timetable,
}

impl Engine {
    pub(crate) fn act_on_schedule(&mut self, step: &mut Step<'_>, name: String, action: ScheduleAction) -> Answer {
        if let ScheduleAction::Set(schedule) = action {
            if self.schedules.get(&name).is_some_and(|known| known.row.is_declared) {
                return Ok(Err(Refusal::DeclaredSchedule(name)));
            }
            return self.set_schedule(step, name, *schedule, false);
        }
        let Some(known) = self.schedules.get(&name).cloned() else { return Ok(Err(Refusal::NoSuchSchedule(name))) };
        match action {
            ScheduleAction::Set(_) => Ok(Ok(Response::Unchanged)),
            ScheduleAction::Pause => self.pause_schedule(step, known, true),
            ScheduleAction::Resume => self.pause_schedule(step, known, false),
            ScheduleAction::Remove if known.row.is_declared => Ok(Err(Refusal::DeclaredSchedule(name))),
            ScheduleAction::Remove => {
                step.txn.drop_schedule(&name)?;
                self.timers.clear(Timer::Fire(known.id));
                self.schedules.remove(&name);
                Ok(Ok(Response::Done))
            }
            ScheduleAction::Trigger => self.trigger(step, known),
            ScheduleAction::Backfill { from, to } => self.backfill(step, &known, from, to),
        }
    }

    fn set_schedule(&mut self, step: &mut Step<'_>, name: String, schedule: Schedule, is_declared: bool) -> Answer {
        let known = self.schedules.get(&name).cloned();
        if known.is_none() && self.schedules.len() >= SCHEDULES_MAX {
            return Ok(Err(Refusal::TooMany { what: "schedules", limit: SCHEDULES_MAX }));
        }
        if known.as_ref().is_some_and(|known| known.schedule == schedule && known.row.is_declared == is_declared) {
            return Ok(Ok(Response::Unchanged));
        }
        let body = match self.judge_schedule(step, &name, &schedule)? {
            Ok(body) => body,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let is_same_timing = known.as_ref().is_some_and(|known| known.schedule.timing == schedule.timing);
        let since = known.as_ref().filter(|_| is_same_timing).map(|known| (known.row.created_at, known.row.last_at));
        let (created_at, last_at) = since.unwrap_or((step.wall(), step.wall()));
        let timetable = match Timetable::parse(&schedule.timing, created_at) {
            Ok(timetable) => timetable,
            Err(error) => return Ok(Err(Refusal::BadSchedule(error.to_string()))),
        };
        let row = ScheduleRow {
            name: name.clone(),
            body,
            is_paused: known.as_ref().is_some_and(|known| known.row.is_paused),
            is_declared,
            last_at,
            created_at,
            passed: None,
        };
        step.txn.put_schedule(&row)?;
        let id = known.map_or_else(|| self.new_schedule_id(), |known| known.id);
        let scheduled = Scheduled { id, row, schedule, timetable };
        self.set_fire(step, &scheduled);
        self.schedules.insert(name, scheduled);
        Ok(Ok(Response::Done))
    }

    /// Whether a schedule can be set, whatever others there are: how it is kept, or why not.
    fn judge_schedule(
        &self,
        step: &Step<'_>,
        name: &str,
        schedule: &Schedule,
    ) -> Result<Result<Vec<u8>, Refusal>, StoreError> {
        if let Err(error) = jobmesh_protocol::job::check_name("schedule", name) {
            return Ok(Err(Refusal::BadSpec(error.to_string())));
        }
        if let Some(error) = for_one_instant(&schedule.submission) {
            return Ok(Err(Refusal::BadSchedule(error.to_owned())));
        }
        // Who holds its unique key now says nothing of the instants to come.
        let submission = Submission { unique: None, ..schedule.submission.clone() };
        let checked = schedule.submission.check().map_err(|error| Refusal::BadSpec(error.to_string()));
        if let Err(refusal) = checked.and(self.check(step, &submission, &mut Looked::default())?) {
            return Ok(Err(refusal));
        }
        let timetable = Timetable::parse(&schedule.timing, step.wall());
        if let Err(error) = timetable.and_then(|timetable| timetable.check_jitter()) {
            return Ok(Err(Refusal::BadSchedule(error.to_string())));
        }
        let body = cbor::encode(schedule);
        if body.len() > SCHEDULE_BYTES_MAX {
            let error = format!("it takes {} bytes, and the limit is {SCHEDULE_BYTES_MAX}", body.len());
            return Ok(Err(Refusal::BadSchedule(error)));
        }
        Ok(Ok(body))
    }

    /// Finds whatever would keep one of these schedules from being declared, before anything is changed.
    pub(crate) fn check_declared(
        &self,
        step: &Step<'_>,
        declared: &BTreeMap<String, Schedule>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let by_hand = |name: &String| self.schedules.get(name).is_some_and(|known| !known.row.is_declared);
        let kept = self.schedules.keys().filter(|name| by_hand(name)).count();
        let new: Vec<_> = declared.iter().filter(|(name, _)| !by_hand(name)).collect();
        if kept + new.len() > SCHEDULES_MAX {
            return Ok(Err(Refusal::TooMany { what: "schedules", limit: SCHEDULES_MAX }));
        }
        for (name, schedule) in new {
            // One that stays as it is may be of a queue that takes nothing just now.
            if self.schedules.get(name).is_some_and(|known| known.schedule == *schedule) {
                continue;
            }
            if let Err(refusal) = self.judge_schedule(step, name, schedule)? {
                return Ok(Err(Refusal::BadSchedule(format!("schedule {name}: {refusal}"))));
            }
        }
        Ok(Ok(()))
    }

    fn new_schedule_id(&mut self) -> ScheduleId {
        self.next_schedule += 1;
        ScheduleId(self.next_schedule)
    }

    /// Takes over the schedules that the configuration file declares now, and drops those that it does not any more.
    pub(crate) fn declare_schedules(
        &mut self,
        step: &mut Step<'_>,
        declared: BTreeMap<String, Schedule>,
    ) -> Result<Vec<String>, StoreError> {
        let is_gone = |(name, known): &(&String, &Scheduled)| known.row.is_declared && !declared.contains_key(*name);
        let gone: Vec<String> = self.schedules.iter().filter(is_gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            step.txn.drop_schedule(&name)?;
            if let Some(known) = self.schedules.remove(&name) {
                self.timers.clear(Timer::Fire(known.id));
            }
        }
        let mut refused = Vec::new();
        for (name, schedule) in declared {
            // What a person set by hand under the same name stays theirs.
            if self.schedules.get(&name).is_some_and(|known| !known.row.is_declared) {
                continue;
            }
            if let Err(refusal) = self.set_schedule(step, name.clone(), schedule, true)? {
                refused.push(format!("schedule {name}: {refusal}"));
            }
        }
        Ok(refused)
    }

    fn pause_schedule(&mut self, step: &Step<'_>, mut known: Scheduled, is_paused: bool) -> Answer {
        if known.row.is_paused == is_paused {
            return Ok(Ok(Response::Unchanged));
        }
        known.row.is_paused = is_paused;
        // What would have fired meanwhile was not missed.
        known.row.last_at = known.row.last_at.max(step.wall());
        step.txn.put_schedule(&known.row)?;
        self.set_fire(step, &known);
        self.schedules.insert(known.row.name.clone(), known);
        Ok(Ok(Response::Done))
    }

    fn set_fire(&mut self, step: &Step<'_>, known: &Scheduled) {
        self.timers.clear(Timer::Fire(known.id));
        if known.row.is_paused {
            return;
        }
        if let Some(next) = known.timetable.next_after(known.row.last_at) {
            self.set_dated(step, Timer::Fire(known.id), next);
        }
    }

    /// Reads the schedules back. What was missed meanwhile is dealt with by the first timers.
    pub(crate) fn recover_schedules(&mut self, step: &Step<'_>) -> Result<(), StoreError> {
        for row in step.view().schedules()? {
            let damaged = StoreError::Damaged { what: "schedule" };
            let Ok(schedule) = cbor::decode::<Schedule>(&row.body, SCHEDULE_BYTES_MAX) else { return Err(damaged) };
            // A zone that a newer database of zones no longer has must not keep the node from starting.
            let Ok(timetable) = Timetable::parse(&schedule.timing, row.created_at) else {
                self.count("unreadable_schedule");
                continue;
            };
            let id = self.new_schedule_id();
            let name = row.name.clone();
            let known = Scheduled { id, row, schedule, timetable };
            self.set_fire(step, &known);
            self.schedules.insert(name, known);
        }
        Ok(())
    }

    pub(crate) fn on_fire(&mut self, step: &mut Step<'_>, id: ScheduleId) -> Result<(), StoreError> {
        let found = self.schedules.values().find(|known| known.id == id && !known.row.is_paused).cloned();
        let Some(mut known) = found else { return Ok(()) };
        let now = step.wall();
        if known.row.last_at > now.plus(STEP_BACK_MAX) {
            known.row.last_at = now;
        }
        let catch_up: CatchUp = known.schedule.catch_up;
        for instant in known.timetable.missed(known.row.last_at, now, catch_up, MISSED_MAX) {
            if let Err(refusal) = self.fire(step, &known, instant)? {
                known.row.passed = Some((instant, refusal.to_string()));
            }
        }
        if let Some(latest) = known.timetable.latest_at_or_before(now).filter(|latest| *latest > known.row.last_at) {
            known.row.last_at = latest;
        }
        step.txn.put_schedule(&known.row)?;
        self.set_fire(step, &known);
        self.schedules.insert(known.row.name.clone(), known);
        Ok(())
    }

    /// Submits the job of an instant, if the jobs of earlier ones let it. What was fine when the schedule was made may not
    /// be any more: the instant passes then, for the reason that is returned.
    fn fire(
        &mut self,
        step: &mut Step<'_>,
        known: &Scheduled,
        instant: UnixMillis,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let name = &known.row.name;
        if step.view().fired(name, instant)? {
            return Ok(Ok(()));
        }
        if let Err(refusal) = self.check_instant(step, known)? {
            return Ok(Err(refusal));
        }
        let live = step.view().live_fired(name)?;
        let after = match (known.schedule.overlap, live.last()) {
            (_, None) | (Overlap::Allow, Some(_)) => None,
            (Overlap::Skip, Some(_)) => return Ok(Ok(())),
            (Overlap::BufferOne, Some(_)) if live.len() > 1 => return Ok(Ok(())),
            (Overlap::BufferOne | Overlap::BufferAll, Some(last)) => Some(last.id),
            (Overlap::CancelOther, Some(last)) => {
                let last = last.id;
                for job in live {
                    self.drop_job(step, job, FinishReason::Replaced, "the next instant of its schedule came")?;
                }
                Some(last)
            }
        };
        self.submit_instant(step, known, instant, after)?;
        Ok(Ok(()))
    }

    /// Whether the job of a schedule can be submitted now. Who holds its unique key is for the instant itself.
    fn check_instant(&self, step: &Step<'_>, known: &Scheduled) -> Result<Result<(), Refusal>, StoreError> {
        let submission = Submission { unique: None, ..known.schedule.submission.clone() };
        if let Err(error) = known.schedule.submission.check() {
            return Ok(Err(Refusal::BadSpec(error.to_string())));
        }
        self.check(step, &submission, &mut Looked::default())
    }

    fn submit_instant(
        &mut self,
        step: &mut Step<'_>,
        known: &Scheduled,
        instant: UnixMillis,
        after: Option<jobmesh_protocol::JobId>,
    ) -> Result<Taken, StoreError> {
        let mut submission = known.schedule.submission.clone();
        submission.after.extend(after.map(|job| Dependency { job, on: Some(Condition::Done) }));
        let at = known.timetable.jittered(instant, &known.row.name);
        if at > step.wall() {
            submission.start = Start::At(at);
        }
        self.take_in(step, submission, Some((known.row.name.clone(), instant)))
    }

    /// Submits the job beside the instants. It belongs to the schedule all the same, so it is given a moment that none
    /// of them has.
    fn trigger(&mut self, step: &mut Step<'_>, known: Scheduled) -> Answer {
        if let Err(refusal) = self.check(step, &known.schedule.submission, &mut Looked::default())? {
            return Ok(Err(refusal));
        }
        let name = known.row.name;
        let mut at = step.wall();
        while known.timetable.latest_at_or_before(at) == Some(at) || step.view().fired(&name, at)? {
            at = at.plus(DurationMillis(1));
        }
        let taken = self.take_in(step, known.schedule.submission, Some((name, at)))?;
        Ok(Ok(Response::Submitted(vec![taken])))
    }

    fn backfill(&mut self, step: &mut Step<'_>, known: &Scheduled, from: UnixMillis, to: UnixMillis) -> Answer {
        if let Err(refusal) = self.check_instant(step, known)? {
            return Ok(Err(refusal));
        }
        let name = &known.row.name;
        let instants = match instants_missed(step.view(), name, &known.timetable, (from, to), step.wall())? {
            Ok(instants) => instants,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut taken = Vec::new();
        let mut before: Option<Job> = None;
        for instant in instants {
            let after = before.as_ref().filter(|_| known.schedule.overlap != Overlap::Allow).map(|job| job.id);
            let one = self.submit_instant(step, known, instant, after)?;
            before = step.view().job_by_number(one.number)?;
            taken.push(one);
        }
        Ok(Ok(Response::Submitted(taken)))
    }
}

/// The instants after one time and up to another, oldest first, at which a schedule has not fired: those that a backfill
/// makes up for.
///
/// # Errors
/// [`StoreError`] if the database fails. The inner error if `to` is after `now`, there are more than [`BACKFILL_MAX`]
/// instants, or it may be forgotten whether the schedule fired at one of them.
pub fn instants_missed(
    view: View<'_>,
    schedule: &str,
    timetable: &Timetable,
    (from, to): (UnixMillis, UnixMillis),
    now: UnixMillis,
) -> Result<Result<Vec<UnixMillis>, Refusal>, StoreError> {
    if to > now {
        return Ok(Err(Refusal::InstantsToCome { now }));
    }
    let instants = timetable.between(from, to, BACKFILL_MAX + 1);
    if instants.len() > BACKFILL_MAX {
        return Ok(Err(Refusal::TooMany { what: "instants of one backfill", limit: BACKFILL_MAX }));
    }
    let since = view.fired_since(schedule)?;
    if let Some(since) = since.filter(|since| instants.first().is_some_and(|first| first < since)) {
        return Ok(Err(Refusal::ForgottenInstants { schedule: schedule.to_owned(), since }));
    }
    let mut missed = Vec::new();
    for instant in instants {
        if !view.fired(schedule, instant)? {
            missed.push(instant);
        }
    }
    Ok(Ok(missed))
}

/// What of a submission can be meant for one job only, and not for one of every instant.
const fn for_one_instant(submission: &Submission) -> Option<&'static str> {
    if submission.idempotency_key.is_some() {
        return Some(
            "an idempotency key would name the job of every instant, and only the first would be taken on; leave it out, \
             since an instant fires once anyway, or use a unique key",
        );
    }
    if submission.deadline.is_some() {
        return Some(
            "a deadline is one date, and would be past for all later instants; give the job a timeout, or say within \
             which time it must start",
        );
    }
    if matches!(submission.start, Start::At(_)) {
        return Some(
            "a start at one date is not for every instant; say so by the times of the schedule, or as a delay",
        );
    }
    if submission.open {
        return Some(
            "a group that is opened at every instant would never be closed; give the schedule an array, or a command",
        );
    }
    if submission.into.is_some() {
        return Some("an open group will have been closed by some instant; submit jobs into a group one by one");
    }
    if !submission.after.is_empty() {
        return Some(
            "it would wait for the same jobs at every instant; leave `after` out, and let the schedule's overlap say \
             what waits for what",
        );
    }
    None
}
