//! What the pieces of an answer say beside its words: which model speaks, why it stopped, what went wrong.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use genai::chat::RawFrameRef;
use serde_json::Value;

/// Longest refusal that is kept.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What was seen up to now.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The model, by the provider's word.
    pub(super) model: Option<String>,
    /// Why the answer ended.
    pub(super) finish: Option<String>,
    /// A refusal in the middle of it, as JSON.
    pub(super) refusal: Option<String>,
    /// Whether anything came at all.
    pub(super) any: bool,
}

/// Looks at every piece as it comes.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<Seen>>);

impl Watch {
    pub(super) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    pub(super) fn look(&self, frame: &RawFrameRef<'_>) {
        if let Some(value) = frame.json() {
            self.lock().read(&value);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn read(&mut self, value: &Value) {
        self.any = true;
        let word = |paths: &[&str]| {
            let found = paths.iter().find_map(|path| value.pointer(path)?.as_str());
            found.filter(|word| !word.is_empty()).map(super::short)
        };
        if self.model.is_none() {
            self.model = word(&["/model", "/message/model", "/modelVersion"]);
        }
        let finish = ["/choices/0/finish_reason", "/delta/stop_reason", "/candidates/0/finishReason", "/done_reason"];
        if let Some(finish) = word(&finish) {
            self.finish = Some(finish);
        }
        if value.get("error").is_some_and(|error| !error.is_null()) && self.refusal.is_none() {
            self.refusal = Some(value.to_string()).filter(|text| text.len() <= BODY_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_says_it_elsewhere() {
        let frames = [
            (r#"{"model":"m","choices":[{"delta":{},"finish_reason":"stop"}]}"#, Some("m"), Some("stop")),
            (r#"{"type":"message_start","message":{"model":"m"}}"#, Some("m"), None),
            (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, None, Some("end_turn")),
            (r#"{"candidates":[{"finishReason":"STOP"}],"modelVersion":"m"}"#, Some("m"), Some("STOP")),
            (r#"{"model":"m","done":true,"done_reason":"length"}"#, Some("m"), Some("length")),
            (r#"{"model":"","choices":[{"finish_reason":null}]}"#, None, None),
        ];
        for (text, model, finish) in frames {
            let watch = Watch::default();
            watch.look(&RawFrameRef { index: 0, event: None, data: text, elapsed_us: 0 });
            let seen = watch.seen();
            assert_eq!((seen.model.as_deref(), seen.finish.as_deref()), (model, finish), "{text}");
            assert_eq!(seen.refusal, None);
        }
        let watch = Watch::default();
        watch.look(&RawFrameRef {
            index: 0,
            event: None,
            data: r#"{"error":{"type":"overloaded_error"}}"#,
            elapsed_us: 0,
        });
        assert!(watch.seen().refusal.is_some());
    }
}
