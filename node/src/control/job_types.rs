//! Job types, and reading the configuration file again.

use axum::Json;
use axum::extract::{Path, State};
use jobmesh_protocol::Submission;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use crate::api::{ErrorCode, Reloaded, TypeRequest, Types};
use crate::causes::causes;
use crate::job_types::{JobType, ParameterError, TypeView, UnknownType};
use crate::runtime::{BringError, ReloadError, bring, bring_inputs};

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Types>> {
    let types = control.handle.config().job_types.all().map(JobType::view).collect();
    std::future::ready(Ok(Json(Types { types }))).await
}

pub(super) async fn show(State(control): State<Control>, Path(name): Path<String>) -> Answer<Json<TypeView>> {
    let config = control.handle.config();
    let found = config.job_types.find(&name).map_err(|error| missing(&error));
    std::future::ready(found.map(|job_type| Json(job_type.view()))).await
}

pub(super) async fn submission(
    State(control): State<Control>,
    Path(name): Path<String>,
    Ask(body): Ask<TypeRequest>,
) -> Answer<Json<Submission>> {
    let config = control.handle.config();
    let wrong = |error: ParameterError| Failure::new(ErrorCode::BadRequest, error.to_string());
    let job_type = config.job_types.find(&name).map_err(|error| missing(&error))?;
    let (mut made, inputs) = job_type.draft(&body.parameters).map_err(wrong)?;
    bring(control.handle.blobs(), job_type).await.map_err(|error| file_failure(&error))?;
    if !inputs.is_empty() {
        let tree = bring_inputs(control.handle.blobs(), inputs).await;
        made.spec.inputs = Some(tree.map_err(|error| Failure::new(ErrorCode::BadRequest, causes(&error)))?);
    }
    Ok(Json(made))
}

fn file_failure(error: &BringError) -> Failure {
    Failure::new(ErrorCode::Conflict, causes(error))
}

fn missing(error: &UnknownType) -> Failure {
    Failure::new(ErrorCode::NotFound, error.to_string()).hint("`jobmesh types ls` lists them")
}

pub(super) async fn reload(State(control): State<Control>) -> Answer<Json<Reloaded>> {
    let wrong = |error: ReloadError| match error {
        ReloadError::Config(error) => {
            Failure::new(ErrorCode::Conflict, error.to_string()).hint("nothing was changed; the node goes on as it was")
        }
        ReloadError::TypeFile(error) => file_failure(&error).hint("nothing was changed; the node goes on as it was"),
        ReloadError::Command(error) => error.into(),
        ReloadError::Interrupted => Failure::internal(&error),
    };
    let reload = control.handle.reload().await.map_err(wrong)?;
    Ok(Json(Reloaded { pending: reload.pending }))
}
