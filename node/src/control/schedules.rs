//! Schedules: listed, made, paused, fired by hand, forgotten.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{
    Command, Refusal, Response, SCHEDULE_BYTES_MAX, Schedule, ScheduleAction, Timetable, instants_missed,
};
use jobmesh_protocol::{UnixMillis, cbor};
use jobmesh_store::{ScheduleRow, StoreError, View};

use super::Control;
use super::actions::name;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use crate::api::{
    BackfillRequest, Backfilled, Done, ErrorCode, INSTANTS_MAX, Instants, NextQuery, Passed, ScheduleView, Schedules,
};

/// Instants that are told unless asked for otherwise.
const INSTANTS_DEFAULT: u32 = 10;

impl Control {
    async fn schedule(&self, schedule: String, action: ScheduleAction) -> Answer<Json<Done>> {
        self.done(Command::Schedule(name("schedule", schedule)?, action)).await
    }

    async fn all_schedules(&self) -> Answer<Vec<Row>> {
        let read = |view: View<'_>| view.schedules()?.into_iter().map(|row| with_last(view, row)).collect();
        Ok(self.handle.read(read).await?)
    }

    async fn one_schedule(&self, name: &str) -> Answer<Row> {
        let wanted = name.to_owned();
        let read = move |view: View<'_>| view.schedule(&wanted)?.map(|row| with_last(view, row)).transpose();
        self.handle.read(read).await?.ok_or_else(|| Refusal::NoSuchSchedule(name.to_owned()).into())
    }

    /// How many jobs a backfill would make.
    async fn missed(&self, schedule: String, within: (UnixMillis, UnixMillis)) -> Answer<usize> {
        let (row, _) = self.one_schedule(&schedule).await?;
        let timetable = timetable_of(&schedule_of(&row)?, &row)?;
        let now = self.handle.wall();
        let read = move |view: View<'_>| instants_missed(view, &schedule, &timetable, within, now);
        Ok(self.handle.read(read).await??.len())
    }
}

/// A schedule with the newest instant whose job is kept.
type Row = (ScheduleRow, Option<UnixMillis>);

fn with_last(view: View<'_>, row: ScheduleRow) -> Result<Row, StoreError> {
    let fired = view.last_fired(&row.name)?;
    Ok((row, fired))
}

/// What a row says of its schedule.
fn schedule_of(row: &ScheduleRow) -> Answer<Schedule> {
    let damaged = |_| Failure::internal(&StoreError::Damaged { what: "schedule" });
    cbor::decode(&row.body, SCHEDULE_BYTES_MAX).map_err(damaged)
}

fn timetable_of(schedule: &Schedule, row: &ScheduleRow) -> Answer<Timetable> {
    Timetable::parse(&schedule.timing, row.created_at)
        .map_err(|error| Failure::new(ErrorCode::Conflict, error.to_string()))
}

fn view((row, fired): Row, now: UnixMillis) -> Answer<ScheduleView> {
    let schedule = schedule_of(&row)?;
    let timetable = Timetable::parse(&schedule.timing, row.created_at);
    let (words, next, dealt_with) = match timetable {
        Ok(timetable) => {
            // A pause and a change move `last_at`, too, but hardly ever to an instant.
            let is_instant = timetable.latest_at_or_before(row.last_at) == Some(row.last_at);
            let dealt_with = (is_instant && row.last_at > row.created_at).then_some(row.last_at);
            (timetable.words(), timetable.next_after(now.max(row.last_at)), dealt_with)
        }
        // Its zone may have left the zone database since.
        Err(error) => (error.to_string(), None, None),
    };
    Ok(ScheduleView {
        name: row.name,
        schedule,
        words,
        is_paused: row.is_paused,
        is_declared: row.is_declared,
        last: fired.max(dealt_with),
        passed: row.passed.map(|(at, why)| Passed { at, why }),
        next: next.filter(|_| !row.is_paused),
    })
}

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Schedules>> {
    let rows = control.all_schedules().await?;
    let now = control.handle.wall();
    let schedules: Answer<Vec<ScheduleView>> = rows.into_iter().map(|row| view(row, now)).collect();
    Ok(Json(Schedules { schedules: schedules? }))
}

pub(super) async fn show(State(control): State<Control>, Path(schedule): Path<String>) -> Answer<Json<ScheduleView>> {
    view(control.one_schedule(&schedule).await?, control.handle.wall()).map(Json)
}

pub(super) async fn next(
    State(control): State<Control>,
    Path(schedule): Path<String>,
    Params(query): Params<NextQuery>,
) -> Answer<Json<Instants>> {
    let (row, _) = control.one_schedule(&schedule).await?;
    let now = control.handle.wall().max(row.last_at);
    let timetable = timetable_of(&schedule_of(&row)?, &row)?;
    let count = query.limit.unwrap_or(INSTANTS_DEFAULT).min(INSTANTS_MAX);
    let each = std::iter::successors(timetable.next_after(now), |at| timetable.next_after(*at));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let instants: Vec<UnixMillis> = each.take(count).map(|at| timetable.jittered(at, &schedule)).collect();
    let readings = instants.iter().map(|at| timetable.wall_clock(*at)).collect();
    Ok(Json(Instants { instants, readings }))
}

pub(super) async fn set(
    State(control): State<Control>,
    Path(schedule): Path<String>,
    Ask(body): Ask<Schedule>,
) -> Answer<Json<Done>> {
    control.check_input(&body.submission.spec).await?;
    control.schedule(schedule, ScheduleAction::Set(Box::new(body))).await
}

pub(super) async fn remove(State(control): State<Control>, Path(schedule): Path<String>) -> Answer<Json<Done>> {
    control.schedule(schedule, ScheduleAction::Remove).await
}

pub(super) async fn pause(State(control): State<Control>, Path(schedule): Path<String>) -> Answer<Json<Done>> {
    control.schedule(schedule, ScheduleAction::Pause).await
}

pub(super) async fn resume(State(control): State<Control>, Path(schedule): Path<String>) -> Answer<Json<Done>> {
    control.schedule(schedule, ScheduleAction::Resume).await
}

pub(super) async fn trigger(State(control): State<Control>, Path(schedule): Path<String>) -> Answer<Json<Done>> {
    control.schedule(schedule, ScheduleAction::Trigger).await
}

pub(super) async fn backfill(
    State(control): State<Control>,
    Path(schedule): Path<String>,
    Ask(body): Ask<BackfillRequest>,
) -> Answer<Json<Backfilled>> {
    let BackfillRequest { from, to, dry_run } = body;
    if from >= to {
        let failure = Failure::new(ErrorCode::BadRequest, "the time to fill ends before it begins");
        return Err(failure.hint("give the earlier time as `from`"));
    }
    if dry_run {
        return control.missed(schedule, (from, to)).await.map(|jobs| Json(Backfilled { jobs }));
    }
    let command = Command::Schedule(name("schedule", schedule)?, ScheduleAction::Backfill { from, to });
    if let Response::Submitted(taken) = control.handle.command(command).await? {
        return Ok(Json(Backfilled { jobs: taken.len() }));
    }
    Err(Failure::unexpected())
}
