//! What becomes of texts that are to be turned into vectors.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use jobmesh_executors::model::settings::ProviderKind;
use jobmesh_protocol::task::{EmbeddingTask, Task};
use serde_json::{Value, json};

use crate::harness::{Node, embed};
use jobmesh_tests::web::{Request, Server, nobody};

fn texts(request: &Request) -> Vec<String> {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    serde_json::from_value(body["input"].clone()).unwrap()
}

/// A server of vectors with the length of the text and so many noughts, in reverse order.
fn vectors(noughts: usize, usage: bool) -> Server {
    Server::start(move |request, to| {
        let one = |(index, text): (usize, &String)| {
            let mut vector = vec![0.0_f64; noughts + 1];
            vector[0] = f64::from(u32::try_from(text.len()).unwrap());
            json!({ "object": "embedding", "index": index, "embedding": vector })
        };
        let texts = texts(request);
        let mut data: Vec<Value> = texts.iter().enumerate().map(one).collect();
        data.reverse();
        let mut body = json!({ "object": "list", "data": data, "model": "one-vectors" });
        if usage {
            body["usage"] = json!({ "prompt_tokens": texts.len() * 2, "total_tokens": texts.len() * 2 });
        }
        to.answer(200, &[("content-type", "application/json")], body.to_string());
    })
}

#[test]
fn vectors_come_in_the_order_of_the_texts_with_their_dimension() {
    let server = vectors(2, true);
    let node = Node::asking(ProviderKind::OpenAi, &server.url("/v1"));
    let end = node.run(embed(&["a", "bb", "ccc"])).ok();
    let result = end.result();
    assert_eq!((&result["model"], &result["dimension"]), (&"one-vectors".into(), &3.into()));
    assert_eq!(result["embeddings"], json!([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.0, 0.0, 0.0]]));
    let used = end.ended.model.clone().unwrap();
    assert_eq!(
        (used.dimension, used.input_tokens, used.output_tokens, used.cost_micros),
        (Some(3), Some(6), None, Some(6))
    );

    let many: Vec<String> = (0..250).map(|n| "x".repeat(n + 1)).collect();
    let end = node.run(Task::Embedding(EmbeddingTask::new(many))).ok();
    assert_eq!(end.result()["embeddings"][249][0], 250.0);
    assert_eq!(end.ended.model.unwrap().input_tokens, Some(500));
    assert_eq!(server.asked().len(), 1 + 3, "no provider is sent more than it takes");
}

#[test]
fn a_server_that_does_not_count_leaves_it_unknown() {
    let server = vectors(0, false);
    let end = Node::asking(ProviderKind::OpenAi, &server.url("/v1")).run(embed(&["a"])).ok();
    let used = end.ended.model.unwrap();
    assert_eq!((used.input_tokens, used.cost_micros, used.dimension), (None, None, Some(1)));
}

#[test]
fn what_is_no_answer_is_tried_again() {
    let json =
        |body: &'static str| Server::start(move |_, to| to.answer(200, &[("content-type", "application/json")], body));
    let mixed = json(r#"{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[1.0,2.0]}],"model":"m"}"#);
    let short = json(r#"{"data":[{"index":0,"embedding":[1.0]}],"model":"m"}"#);
    let junk = json("{");
    for url in [mixed.url("/"), short.url("/"), junk.url("/"), nobody()] {
        let end = Node::asking(ProviderKind::OpenAi, &url).run(embed(&["a", "b"]));
        assert_eq!((end.word(), end.ended.outputs.result), ("error", None), "{}", end.message());
    }
    let busy = Server::start(|_, to| to.answer(429, &[("retry-after", "5")], "{}"));
    assert_eq!(Node::asking(ProviderKind::OpenAi, &busy.url("/")).run(embed(&["a"])).retry_after(), Some(5_000));
    let end = Node::asking(ProviderKind::Anthropic, &nobody()).run(embed(&["a"]));
    assert_eq!((end.word(), end.message().contains("no embeddings")), ("permanent", true), "{}", end.message());
}

#[test]
fn gemini_and_ollama_have_shapes_of_their_own() {
    let gemini = Server::start(|request, to| {
        assert_eq!(request.path, "/models/one-vectors:batchEmbedContents");
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(body["requests"][1]["content"]["parts"][0]["text"], "b");
        to.answer(200, &[], r#"{"embeddings":[{"values":[0.5]},{"values":[0.25]}]}"#);
    });
    let end = Node::asking(ProviderKind::Gemini, &gemini.url("")).run(embed(&["a", "b"])).ok();
    assert_eq!(end.result()["embeddings"], json!([[0.5], [0.25]]));
    let ollama = Server::start(|request, to| {
        assert_eq!((request.path.as_str(), texts(request).len()), ("/api/embed", 2));
        to.answer(200, &[], r#"{"model":"one-vectors","embeddings":[[1],[2]],"prompt_eval_count":4}"#);
    });
    let end = Node::asking(ProviderKind::Ollama, &ollama.url("")).run(embed(&["a", "b"])).ok();
    assert_eq!((end.ended.model.clone().unwrap().input_tokens, &end.result()["dimension"]), (Some(4), &1.into()));
}
