//! Model endpoints that are down, slow, rate limited, or say what is no answer: what becomes of the job, and what `show`
//! tells people of it.

use std::sync::atomic::{AtomicUsize, Ordering};

use jobmesh_tests::web::{Connection, Request, Server, nobody};
use jobmesh_tests::{Bench, Node, Value};

use crate::bench;

/// One endpoint and what becomes of a question, and of a text, that goes there.
struct Case {
    /// The first part of its path, and the name of its provider.
    name: &'static str,
    /// What is said when the job is submitted.
    options: &'static [&'static str],
    state: &'static str,
    outcome: &'static str,
    /// What `show` says to people.
    said: &'static [&'static str],
}

const CASES: [Case; 9] = [
    Case {
        name: "down",
        options: &[],
        state: "discarded",
        outcome: "error",
        said: &["the provider can't be reached", "Connection refused"],
    },
    Case { name: "slow", options: &["--timeout", "500ms"], state: "discarded", outcome: "timeout", said: &["timeout"] },
    Case {
        name: "limited",
        options: &["--retries", "1"],
        state: "retryable",
        outcome: "error",
        said: &["the provider takes no more requests for now (429): Slow down", "not before in "],
    },
    Case {
        name: "busy",
        options: &["--retries", "2", "--backoff", "fixed:1s"],
        state: "completed",
        outcome: "ok",
        said: &["the provider is overloaded or broken (503)", "tokens     11 in"],
    },
    Case {
        name: "garbled",
        options: &[],
        state: "discarded",
        outcome: "error",
        said: &["the provider's answer is not in its format"],
    },
    Case {
        name: "missing",
        options: &["--retries", "5"],
        state: "discarded",
        outcome: "permanent",
        said: &["the provider has no such model or address (404): The model `tiny` does not exist"],
    },
    Case {
        name: "other",
        options: &[],
        state: "completed",
        outcome: "ok",
        said: &["other/somebody-else", "other was asked for tiny, and somebody-else answered"],
    },
    Case {
        name: "mute",
        options: &[],
        state: "completed",
        outcome: "ok",
        said: &["tokens     unknown in", "cost       unknown"],
    },
    Case {
        name: "poor",
        options: &["--retries", "5"],
        state: "discarded",
        outcome: "permanent",
        said: &["the provider's account has no money or quota left (429)"],
    },
];

/// The server of all cases but the one that has none.
fn server() -> Server {
    let busy = [AtomicUsize::new(0), AtomicUsize::new(0)];
    Server::start(move |request, to| {
        let is_question = request.path.ends_with("/chat/completions");
        let json = ("content-type", "application/json");
        match request.path.split('/').nth(1).unwrap_or_default() {
            "slow" => to.until_gone(),
            "limited" => to.answer(429, &[json, ("retry-after", "100")], r#"{"error":{"message":"Slow down"}}"#),
            "busy" if busy[usize::from(is_question)].fetch_add(1, Ordering::Relaxed) == 0 => {
                to.answer(503, &[("retry-after", "1")], "busy");
            }
            "garbled" if is_question => to.stream("text/event-stream", &["data: {\"choices\":[{\"delta\"\n\n"]),
            "garbled" => to.answer(200, &[json], r#"{"data":[{"embedding":[0.1,"#),
            "missing" => {
                let body = r#"{"error":{"message":"The model `tiny` does not exist","code":"model_not_found"}}"#;
                to.answer(404, &[json], body);
            }
            "poor" => {
                let body = r#"{"error":{"message":"You are out of credits","code":"insufficient_quota"}}"#;
                to.answer(429, &[json], body);
            }
            "other" => answer(request, to, "somebody-else", true),
            "mute" => answer(request, to, "tiny", false),
            _ => answer(request, to, "tiny", true),
        }
    })
}

/// Answers as this model, with or without a word on tokens.
fn answer(request: &Request, to: &mut Connection, model: &str, is_counted: bool) {
    if request.path.ends_with("/embeddings") {
        let usage = if is_counted { r#","usage":{"prompt_tokens":11}"# } else { "" };
        let body = format!(r#"{{"data":[{{"index":0,"embedding":[0.5,0.25]}}],"model":"{model}"{usage}}}"#);
        return to.answer(200, &[("content-type", "application/json")], body);
    }
    let said = r#""choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]"#;
    let usage = r#""choices":[],"usage":{"prompt_tokens":11,"completion_tokens":1,"total_tokens":12}"#;
    let piece = |what: &str| format!("data: {{\"model\":\"{model}\",{what}}}\n\n");
    let counted = if is_counted { piece(usage) } else { String::new() };
    to.stream("text/event-stream", &[&piece(said), &counted, "data: [DONE]\n\n"]);
}

/// The providers of all cases.
fn tables(server: &Server) -> String {
    let table = |case: &Case| {
        let Case { name, .. } = case;
        let url = if *name == "down" { format!("{}v1", nobody()) } else { server.url(&format!("/{name}/v1")) };
        let model = |kind: &str| {
            let prices = "input_price = 1.0\noutput_price = 1.0\n";
            format!("[models.{name}-{kind}]\nprovider = \"{name}\"\nmodel = \"tiny\"\nkind = \"{kind}\"\n{prices}")
        };
        format!("[providers.{name}]\nkind = \"openai\"\nbase_url = \"{url}\"\n{}{}", model("chat"), model("embedding"))
    };
    CASES.iter().map(table).collect()
}

/// Submits a question or a text for an endpoint.
fn submit(a: &Node, case: &Case, kind: &str, more: &[&str]) -> String {
    let model = format!("{}-{kind}", case.name);
    let option = if kind == "chat" { "--llm" } else { "--embed" };
    a.submit(&[more, case.options, &[option, "what is it?", "--model", &model]].concat())
}

/// Waits for what should become of a job, and compares it with what is shown of it.
fn judge(a: &Node, b: &Node, case: &Case, job: &str) -> Value {
    let _ = a.watch().until_state(job, case.state);
    let shown = a.json(&["show", job]);
    let attempts = shown["attempts"].as_array().unwrap();
    let last = attempts.last().unwrap();
    assert_eq!((&shown["job"]["state"], &last["outcome"]), (&case.state.into(), &case.outcome.into()), "{shown}");
    assert_eq!(attempts.len(), if case.name == "busy" { 2 } else { 1 }, "{shown}");
    assert_eq!(last["node"]["name"], b.name(), "{shown}");
    assert_eq!(last["model"]["provider"], case.name, "{shown}");
    let text = a.run(&["show", job]).text();
    for words in case.said {
        // Another one than was asked is known only where it was asked.
        let is_theirs = a.name() != b.name() && words.contains("was asked for");
        assert!(is_theirs || text.contains(words), "{}: {words:?} is not in\n{text}", case.name);
    }
    shown
}

/// What else holds of some of them.
fn judge_more(shown: &Value, case: &Case) {
    let used = &shown["attempts"].as_array().unwrap().last().unwrap()["model"];
    match case.name {
        "limited" => {
            let wait = shown["job"]["run_at"].as_u64().unwrap() - shown["job"]["state_since"].as_u64().unwrap();
            assert!((99_000..200_000).contains(&wait), "{wait} ms: {shown}");
        }
        "mute" => assert!(used["input_tokens"].is_null() && used["cost_micros"].is_null(), "{used}"),
        "busy" => assert!(used["input_tokens"] == 11 && used["cost_micros"].is_u64(), "{used}"),
        "other" => assert!(used["input_tokens"] == 11 && used["cost_micros"].is_null(), "{used}"),
        _ => assert!(used["input_tokens"].is_null(), "{used}"),
    }
}

/// A node that asks these endpoints.
fn asking(bench: &Bench, name: &str, server: &Server) -> Node {
    let node = bench.node_with(name, 8, &tables(server));
    node.up();
    node
}

#[test]
fn each_endpoint_has_its_outcome_here() {
    let (bench, server) = (bench(), server());
    let a = asking(&bench, "a", &server);
    let kinds = ["chat", "embedding"];
    let jobs = kinds.map(|kind| CASES.each_ref().map(|case| submit(&a, case, kind, &[])));
    for (case, job) in jobs.iter().flat_map(|jobs| CASES.iter().zip(jobs)) {
        judge_more(&judge(&a, &a, case, job), case);
    }
    let job = a.submit(&["--llm", "what is it?", "--model", "nothing"]);
    let shown = a.ended(&job);
    assert_eq!(shown["attempts"][0]["outcome"], "permanent", "{shown}");
    let text = a.run(&["show", &job]).text();
    assert!(text.contains("this node knows no chat model \"nothing\"; it knows busy-chat, down-chat"), "{text}");
}

#[test]
fn each_endpoint_of_a_peer_has_its_outcome_at_the_origin() {
    let (bench, server) = (bench(), server());
    let (a, b) = (bench.up("a"), asking(&bench, "b", &server));
    a.admit(&b);
    for case in &CASES {
        let require = format!("model:{}-chat", case.name);
        let job = submit(&a, case, "chat", &["--require", &require]);
        judge_more(&judge(&a, &b, case, &job), case);
        if case.state != "retryable" {
            assert_eq!(a.run(&["receipt", "verify", &job]).code, 0, "{}", case.name);
        }
    }
}
