//! What this node advertises: found on the machine, added or removed by a person.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use jobmesh_engine::pool::Pools;
use jobmesh_engine::{Command, Response};
use jobmesh_protocol::Tag;
use jobmesh_store::Choice;

use super::Control;
use super::error::{Answer, Failure};
use super::extract::Ask;
use super::view;
use crate::api::{Capabilities, CapabilityAnswer, CapabilityRequest, ErrorCode, TagSource, TagView};

pub(super) async fn list(State(control): State<Control>) -> Answer<Json<Capabilities>> {
    let choices: BTreeMap<Tag, Choice> = control.handle.read(|view| view.choices()).await?.into_iter().collect();
    let detected = control.handle.detected();
    let known: BTreeSet<&Tag> = detected.tags.iter().chain(choices.keys()).collect();
    let tags = known.into_iter().map(|tag| {
        let is_detected = detected.tags.contains(tag);
        let (source, is_advertised) = match choices.get(tag) {
            Some(Choice::Remove) => (TagSource::Removed, false),
            Some(Choice::Add) if !is_detected => (TagSource::Added, true),
            Some(Choice::Add) | None => (TagSource::Detected, true),
        };
        TagView { tag: tag.clone(), source, is_advertised }
    });
    Ok(Json(Capabilities {
        tags: tags.collect(),
        attributes: view::attributes(detected.attributes.clone()),
        resources: Pools::new(detected.pools.clone()).map(|pools| pools.total()).unwrap_or_default(),
        slots: detected.slots,
    }))
}

pub(super) async fn add(
    State(control): State<Control>,
    Ask(body): Ask<CapabilityRequest>,
) -> Answer<Json<CapabilityAnswer>> {
    change(&control, body, Command::AddCapability).await
}

pub(super) async fn remove(
    State(control): State<Control>,
    Ask(body): Ask<CapabilityRequest>,
) -> Answer<Json<CapabilityAnswer>> {
    change(&control, body, Command::RemoveCapability).await
}

async fn change(
    control: &Control,
    body: CapabilityRequest,
    command: fn(Tag) -> Command,
) -> Answer<Json<CapabilityAnswer>> {
    if body.tags.is_empty() {
        return Err(Failure::new(ErrorCode::BadRequest, "no tag is given").hint("a tag looks like tool:gzip"));
    }
    let mut answer = CapabilityAnswer { changed: Vec::new(), unchanged: Vec::new() };
    for tag in body.tags {
        match control.handle.command(command(tag.clone())).await? {
            Response::Done => answer.changed.push(tag),
            Response::Unchanged => answer.unchanged.push(tag),
            Response::Submitted(_)
            | Response::Pruned(_)
            | Response::Explained(_)
            | Response::Invited(_)
            | Response::Judged(_)
            | Response::Counted(_)
            | Response::Granted(_) => return Err(Failure::unexpected()),
        }
    }
    Ok(Json(answer))
}
