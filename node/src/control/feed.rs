//! The log of events, from any of its numbers on: history first, then what comes.
//!
//! Changes are told from memory as long as the watcher keeps up. One that falls behind gets what it missed from the
//! log, so that nothing is left out and nothing comes twice.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use jobmesh_engine::Change as EngineChange;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::Control;
use super::error::Answer;
use super::extract::Params;
use super::submit::line_of;
use super::view;
use crate::api::{Change, FeedQuery};

/// Events of one reading.
const PAGE: u32 = 1000;
/// Events that are told of the past unless asked for otherwise: about one screen.
const RECENT: u64 = 50;

pub(super) async fn show(State(control): State<Control>, Params(query): Params<FeedQuery>) -> Answer<Response> {
    let changes = control.handle.subscribe();
    let last = control.handle.read(|view| view.last_event()).await?;
    let seen = match (query.from, query.follow) {
        (Some(from), _) => from,
        (None, true) => last,
        (None, false) => last.saturating_sub(RECENT),
    };
    let feed = Feed { control, changes, seen, is_followed: query.follow, is_behind: true, news: VecDeque::new() };
    let lines = futures::stream::unfold(feed, |mut feed| async move {
        let change = feed.next().await?;
        Some((Ok::<_, Infallible>(line_of(&change)), feed))
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

struct Feed {
    control: Control,
    changes: Receiver<EngineChange>,
    /// The last event that was put among the news.
    seen: u64,
    is_followed: bool,
    /// Whether the log may hold more than was told.
    is_behind: bool,
    news: VecDeque<Change>,
}

impl Feed {
    async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.news.pop_front() {
                return Some(change);
            }
            if self.is_behind {
                self.read_on().await?;
                continue;
            }
            if !self.is_followed {
                return None;
            }
            let change = tokio::select! {
                biased;
                () = self.control.closing.cancelled() => return None,
                change = self.changes.recv() => change,
            };
            match change {
                Ok(change) if change.event > self.seen => {
                    self.seen = change.event;
                    return Some(view::change(&self.control.handle, change));
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes the next page of the log. `None` if it can't be read.
    async fn read_on(&mut self) -> Option<()> {
        let seen = self.seen;
        let page = self.control.handle.read(move |view| view.events_after(seen, PAGE)).await;
        let page = page.inspect_err(|error| tracing::warn!(%error, "the log of events could not be read")).ok()?;
        self.is_behind = page.len() as u64 == u64::from(PAGE);
        self.seen = page.last().map_or(seen, |(_, event)| event.id);
        self.news.extend(page.iter().map(|(number, event)| view::change_of(&self.control.handle, *number, event)));
        Some(())
    }
}
