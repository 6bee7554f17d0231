//! The interfaces of providers other than OpenAI's, in their shapes, with words of our own.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use jobmesh_executors::model::settings::ProviderKind;
use jobmesh_protocol::task::{LlmTask, Task};

use crate::harness::{CANARY, Node, ask, embed, models};
use jobmesh_tests::web::Server;

#[test]
fn anthropic() {
    let server = Server::start(|request, to| {
        assert_eq!(request.headers["x-api-key"], CANARY);
        let tail: &[&str] = if request.path.starts_with("/ill") {
            &[
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
            ]
        } else {
            &[
                "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
                "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ]
        };
        to.stream(
            "text/event-stream",
            &[
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"one-chat-20260101\",\"usage\":{\"input_tokens\":9,\"cache_read_input_tokens\":2,\"output_tokens\":1}}}\n\n",
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
                "event: ping\ndata: {\"type\":\"ping\"}\n\n",
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi!\"}}\n\n",
            ],
        );
        for piece in tail {
            to.raw(piece);
        }
    });
    let end = Node::asking(ProviderKind::Anthropic, &server.url("/v1")).run(ask("why?")).ok();
    let used = end.ended.model.clone().unwrap();
    assert_eq!((end.stdout(), used.model.as_str()), ("Hi!", "one-chat-20260101"));
    // What came out of the provider's memory was part of the question, too.
    assert_eq!((used.input_tokens, used.output_tokens, used.finish.as_deref()), (Some(11), Some(4), Some("end_turn")));
    assert_eq!(server.asked()[0].path, "/v1/messages");
    let end = Node::asking(ProviderKind::Anthropic, &server.url("/ill")).run(ask("why?"));
    assert_eq!((end.word(), end.message().contains("Overloaded")), ("error", true), "{}", end.message());
    let busy = Server::start(|_, to| {
        to.answer(529, &[], r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#);
    });
    assert_eq!(Node::asking(ProviderKind::Anthropic, &busy.url("/")).run(ask("why?")).word(), "error");
}

#[test]
fn gemini() {
    let server = Server::start(|request, to| {
        assert_eq!(request.headers["x-goog-api-key"], CANARY);
        let pieces: &[&str] = if request.path.starts_with("/filter") {
            &["data: {\"candidates\":[{\"finishReason\":\"SAFETY\"}],\"modelVersion\":\"one-chat\"}\n\n"]
        } else if request.path.starts_with("/cut") {
            &["data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}]}}]}\n\n"]
        } else {
            &[
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"H\"}],\"role\":\"model\"}}],\"modelVersion\":\"one-chat\"}\n\n",
                "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"i!\"}],\"role\":\"model\"},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2,\"totalTokenCount\":5},\"modelVersion\":\"one-chat\"}\n\n",
            ]
        };
        to.stream("text/event-stream", pieces);
    });
    let run = |path| Node::asking(ProviderKind::Gemini, &server.url(path)).run(ask("why?"));
    let end = run("/v1beta").ok();
    let used = end.ended.model.clone().unwrap();
    assert_eq!((end.stdout(), used.finish.as_deref()), ("Hi!", Some("STOP")));
    assert_eq!((used.input_tokens, used.output_tokens), (Some(3), Some(2)));
    assert!(server.asked()[0].path.starts_with("/v1beta/models/one-chat:streamGenerateContent"));
    let end = run("/filter");
    assert_eq!((end.word(), end.message().contains("filter")), ("permanent", true), "{}", end.message());
    assert_eq!(run("/cut").word(), "error");
}

#[test]
fn ollama() {
    let server = Server::start(|request, to| {
        let last = "{\"model\":\"one-chat\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":8,\"eval_count\":3}\n";
        let tail = if request.path.starts_with("/cut") { "" } else { last };
        to.stream(
            "application/x-ndjson",
            &[
                "{\"model\":\"one-chat\",\"message\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"done\":false}\n",
                "{\"model\":\"one-chat\",\"message\":{\"role\":\"assistant\",\"content\":\"!\"},\"done\":false}\n",
                tail,
            ],
        );
    });
    let task = || Task::Llm(LlmTask { tokens_max: Some(9), ..LlmTask::new("why?") });
    let end = Node::asking(ProviderKind::Ollama, &server.url("")).run(task()).ok();
    let used = end.ended.model.clone().unwrap();
    assert_eq!((end.stdout(), used.input_tokens, used.output_tokens), ("Hi!", Some(8), Some(3)));
    assert_eq!(server.asked()[0].path, "/api/chat");
    let end = Node::asking(ProviderKind::Ollama, &server.url("/cut")).run(task());
    assert_eq!((end.word(), end.stdout()), ("error", "Hi!"), "{}", end.message());
    let missing = Server::start(|_, to| to.answer(404, &[], r#"{"error":"model \"one-chat\" not found"}"#));
    let end = Node::asking(ProviderKind::Ollama, &missing.url("")).run(task());
    assert_eq!((end.word(), end.message().contains("not found")), ("permanent", true), "{}", end.message());
}

#[test]
fn what_a_provider_wants_to_hear_is_said_with_every_question() {
    let server = Server::start(|request, to| {
        assert_eq!((request.headers["x-project"].as_str(), request.headers["x-team"].as_str()), ("seven", "a b"));
        if request.path.ends_with("/embeddings") {
            to.answer(200, &[], r#"{"data":[{"index":0,"embedding":[0.5]}]}"#);
        } else {
            to.stream(
                "text/event-stream",
                &[
                    r#"data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}"#,
                    "\n\ndata: [DONE]\n\n",
                ],
            );
        }
    });
    let mut settings = models(&[("one", ProviderKind::OpenAi, &server.url("/v1"))]);
    let headers = [("X-Project", "seven"), ("X-Team", "a b")];
    settings.providers.get_mut("one").unwrap().headers =
        headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let node = Node::start(Default::default(), settings);
    assert_eq!(node.run(ask("why?")).ok().stdout(), "hi");
    node.run(embed(&["a"])).ok();
    assert_eq!(server.asked().len(), 2);
}
