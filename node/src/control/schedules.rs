//! Schedules: listed, made, paused, fired by hand, forgotten.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_engine::{Command, SCHEDULE_BYTES_MAX, Schedule, ScheduleAction, Timetable};
use jobmesh_protocol::{UnixMillis, cbor};
use jobmesh_store::{ScheduleRow, StoreError};

use super::Control;
use super::actions::name;
use super::error::{Answer, Failure};
use super::extract::{Ask, Params};
use crate::api::{BackfillRequest, Done, ErrorCode, INSTANTS_MAX, Instants, NextQuery, ScheduleView, Schedules};

/// Instants that are told unless asked for otherwise.
const INSTANTS_DEFAULT: u32 = 10;

impl Control {
    async fn schedule(&self, schedule: String, action: ScheduleAction) -> Answer<Json<Done>> {
        self.done(Command::Schedule(name("schedule", schedule)?, action)).await
    }
}

impl Control {
    async fn one_schedule(&self, name: &str) -> Answer<ScheduleRow> {
        let rows = self.handle.read(|view| view.schedules()).await?;
        let missing = || {
            Failure::new(ErrorCode::NotFound, format!("there is no schedule {name:?}"))
                .hint("`jobmesh cron ls` lists the schedules")
        };
        rows.into_iter().find(|row| row.name == name).ok_or_else(missing)
    }
}

fn view(row: ScheduleRow, now: UnixMillis) -> Answer<ScheduleView> {
    let damaged = |_| Failure::internal(&StoreError::Damaged { what: "schedule" });
    let schedule: Schedule = cbor::decode(&row.body, SCHEDULE_BYTES_MAX).map_err(damaged)?;
    let timetable = Timetable::parse(&schedule.timing, row.created_at);
    let (words, next) = match timetable {
        Ok(timetable) => (timetable.words(), timetable.next_after(now.max(row.last_at))),
        // Its zone may have left the zone database since.
        Err(error) => (error.to_string(), None),
    };
    Ok(ScheduleView {
        name: row.name,
        schedule,
        words,
        is_paused: row.is_paused,
        is_declared: row.is_declared,
        // Until it fires, that is the time when it was made.
        last: (row.last_at > row.created_at).then_some(row.last_at),
        next: next.filter(|_| !row.is_paused),
    })
}

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Schedules>> {
    let rows = control.handle.read(|view| view.schedules()).await?;
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
    let row = control.one_schedule(&schedule).await?;
    let anchor = row.created_at;
    let now = control.handle.wall().max(row.last_at);
    let timing = view(row, now)?.schedule.timing;
    let wrong = |error: jobmesh_engine::TimetableError| Failure::new(ErrorCode::Conflict, error.to_string());
    let timetable = Timetable::parse(&timing, anchor).map_err(wrong)?;
    let count = query.limit.unwrap_or(INSTANTS_DEFAULT).min(INSTANTS_MAX);
    let each = std::iter::successors(timetable.next_after(now), |at| timetable.next_after(*at));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let instants = each.take(count).map(|at| timetable.jittered(at, &schedule)).collect();
    Ok(Json(Instants { instants }))
}

pub(super) async fn set(
    State(control): State<Control>,
    Path(schedule): Path<String>,
    Ask(body): Ask<Schedule>,
) -> Answer<Json<Done>> {
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
) -> Answer<Json<Done>> {
    let BackfillRequest { from, to } = body;
    if from >= to {
        let failure = Failure::new(ErrorCode::BadRequest, "the time to fill ends before it begins");
        return Err(failure.hint("give the earlier time as `from`"));
    }
    control.schedule(schedule, ScheduleAction::Backfill { from, to }).await
}
