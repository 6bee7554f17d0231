//! Requests to web servers and questions to models: here, and where somebody else has what they need.

use jobmesh_tests::web::Server;
use jobmesh_tests::{Bench, Node, Value};

use crate::bench;

/// A server of one model in the shape of OpenAI, which is as good as its last word.
fn model() -> Server {
    Server::start(|request, to| {
        if request.path == "/v1/embeddings" {
            let body = r#"{"data":[{"index":0,"embedding":[0.5,0.25]}],"model":"tiny","usage":{"prompt_tokens":2}}"#;
            return to.answer(200, &[("content-type", "application/json")], body);
        }
        let pieces = [
            r#"data: {"model":"tiny-1","choices":[{"index":0,"delta":{"content":"forty"},"finish_reason":null}]}"#,
            r#"data: {"model":"tiny-1","choices":[{"index":0,"delta":{"content":"-two"},"finish_reason":"stop"}]}"#,
            r#"data: {"model":"tiny-1","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":3,"total_tokens":14}}"#,
            "data: [DONE]",
        ];
        to.stream("text/event-stream", &pieces.map(|piece| format!("{piece}\n\n")).each_ref().map(String::as_str));
    })
}

/// The tables of a node that asks this server.
fn tables(server: &Server) -> String {
    let url = server.url("/v1");
    format!(
        "[providers.local]\nkind = \"openai\"\nbase_url = \"{url}\"\n\
         [models.tiny]\nprovider = \"local\"\ninput_price = 1.0\noutput_price = 2.0\n\
         [models.vec]\nprovider = \"local\"\nmodel = \"tiny\"\nkind = \"embedding\"\n\
         [models.classes]\nmedium = \"tiny\"\nembedding = \"vec\"\n"
    )
}

/// Nodes `a`, which has nothing, and `b`, which has these tables and runs `tool:gzip`.
fn pair(bench: &Bench, tables: &str) -> (Node, Node) {
    let (a, b) = (bench.up("a"), bench.node_with("b", 2, tables));
    b.up();
    a.admit(&b);
    assert_eq!(a.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(b.run(&["capability", "add", "tool:gzip"]).code, 0);
    (a, b)
}

fn attempt(node: &Node) -> Value {
    node.json(&["show", "last"])["attempts"][0].clone()
}

#[test]
fn a_question_is_answered_here_and_its_tokens_are_shown() {
    let (bench, server) = (bench(), model());
    let a = bench.node_with("a", 2, &tables(&server));
    a.up();
    let run = a.run(&["run", "--llm", "what is it?"]);
    assert_eq!((run.code, run.text().trim_end()), (0, "forty-two"), "{}\n{}", run.stderr, a.log());
    let used = attempt(&a)["model"].clone();
    assert_eq!((&used["provider"], &used["model"]), (&"local".into(), &"tiny-1".into()), "{used}");
    assert_eq!((&used["input_tokens"], &used["output_tokens"]), (&11.into(), &3.into()), "{used}");
    assert_eq!((&used["cost_micros"], &used["finish"]), (&17.into(), &"stop".into()), "{used}");
    assert_eq!(a.run(&["run", "--embed", "text"]).code, 0, "{}", a.log());
    assert_eq!(attempt(&a)["model"]["dimension"], 2);
}

#[test]
fn a_question_goes_to_the_node_that_has_a_model() {
    let (bench, server) = (bench(), model());
    let (a, b) = pair(&bench, &tables(&server));
    for require in ["executor:llm", "model:tiny"] {
        let run = a.run(&["run", "--require", require, "--llm", "what is it?"]);
        assert_eq!((run.code, run.text().trim_end()), (0, "forty-two"), "{}\n{}\n{}", run.stderr, a.log(), b.log());
        let attempt = attempt(&a);
        assert_eq!(attempt["node"]["name"], "b");
        assert_eq!((&attempt["model"]["input_tokens"], &attempt["model"]["model"]), (&11.into(), &"tiny-1".into()));
    }
    assert_eq!(a.run(&["audit", "b"]).code, 0, "what was used is signed for");
}

#[test]
fn a_provider_that_is_paid_for_answers_nobody_else() {
    let (bench, server) = (bench(), model());
    let tables = tables(&server).replace("[models.tiny]", "peers = false\n[models.tiny]");
    let (a, _b) = pair(&bench, &tables);
    let job = a.submit(&["--require", "model:tiny", "--llm", "what is it?"]);
    assert_eq!(a.run(&["wait", "--timeout", "3s", &job]).code, 124, "{}", a.json(&["show", &job]));
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn a_request_is_made_here_and_elsewhere_and_never_for_a_peer_to_this_machine() {
    let (bench, server) = (bench(), Server::start(|_, to| to.answer(200, &[("x-kind", "test")], "hello")));
    let url = server.url("/path");
    let (a, b) = pair(&bench, "");
    let run = a.run(&["run", "--http", &url]);
    assert_eq!((run.code, run.text().as_str()), (0, "hello"), "{}\n{}", run.stderr, a.log());
    let result = a.json(&["result", "last"]);
    assert!(result.to_string().contains("x-kind"), "{result}");
    let before = server.asked().len();
    let refused = a.run(&["run", "--require", "tool:gzip", "--network", "--http", &url]);
    assert_ne!(refused.code, 0, "{}", refused.text());
    assert!(a.json(&["show", "last"]).to_string().contains("loopback"), "{}", a.json(&["show", "last"]));
    assert_eq!(server.asked().len(), before, "a peer's job reached this machine");
    assert_eq!(attempt(&a)["node"]["name"], b.name());

    let (c, d) = (bench.up("c"), bench.node_with("d", 2, "[http]\nallow = [\"127.0.0.0/8\"]\n"));
    d.up();
    c.admit(&d);
    assert_eq!(c.run(&["capability", "rm", "tool:gzip"]).code, 0);
    assert_eq!(d.run(&["capability", "add", "tool:gzip"]).code, 0);
    let run = c.run(&["run", "--require", "tool:gzip", "--network", "--http", &url]);
    assert_eq!((run.code, run.text().as_str()), (0, "hello"), "{}\n{}\n{}", run.stderr, c.log(), d.log());
    assert_eq!(attempt(&c)["node"]["name"], "d");
}
