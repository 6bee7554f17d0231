//! A server of pages and models that says the same each time, at once: for what only looks at the way there and back.

use crate::web::{Connection, Request, Server};

/// What the model says.
const COMPLETION: &str = concat!(
    r#"data: {"id":"x","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
    "\n\n",
    r#"data: {"id":"x","object":"chat.completion.chunk","model":"small","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\ndata: [DONE]\n\n",
);

/// The vector of a text.
const EMBEDDING: &str = r#"{"object":"list","model":"small","data":[{"object":"embedding","index":0,"embedding":[0.5,0.25]}],"usage":{"prompt_tokens":1,"total_tokens":1}}"#;

/// Starts one. Its page is `/`, and its models are those of an OpenAI-compatible API below `/v1/`, whatever their name.
///
/// # Panics
/// If there is no port for it.
#[must_use]
pub fn provider() -> Server {
    Server::start(answer)
}

fn answer(request: &Request, to: &mut Connection) {
    let (kind, body) = match request.path.rsplit('/').next() {
        Some("completions") => ("text/event-stream", COMPLETION),
        Some("embeddings") => ("application/json", EMBEDDING),
        Some(_) | None => ("text/plain", ""),
    };
    to.answer(200, &[("content-type", kind)], body);
}
