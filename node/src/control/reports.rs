//! What running jobs have said of themselves. They say it on the socket of tasks, not here.

use axum::Json;
use axum::extract::{Path, State};

use super::Control;
use super::error::Answer;
use super::jobs::JobKey;
use crate::api::Checkpoints;

pub(super) async fn checkpoints(State(control): State<Control>, Path(id): Path<String>) -> Answer<Json<Checkpoints>> {
    let job = control.job(&JobKey::parse(&id)?).await?;
    let kept = control.handle.read(move |view| view.checkpoints(job.number)).await?;
    let checkpoints = kept.into_iter().map(|checkpoint| (checkpoint.name, checkpoint.value)).collect();
    Ok(Json(Checkpoints { checkpoints }))
}
