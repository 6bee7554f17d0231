//! What becomes of a question when its provider is well, ill, slow, wrong or gone.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::sync::mpsc::sync_channel;

use jobmesh_executors::http::settings::Settings as HttpSettings;
use jobmesh_executors::model::settings::ProviderKind;
use jobmesh_executors::{Order, StopReason};
use jobmesh_protocol::task::{Complexity, Content, LlmTask, Message, Role, Task};
use jobmesh_protocol::{BlobRef, DurationMillis};
use serde_json::{Value, json};

use crate::harness::{CANARY, End, Node, ask, models};
use jobmesh_tests::web::{Connection, Server, nobody};

const OPENAI: ProviderKind = ProviderKind::OpenAi;

/// A piece of an answer in the shape of OpenAI.
fn piece(model: &str, text: Option<&str>, finish: Option<&str>) -> String {
    let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let value = json!({ "id": "x", "object": "chat.completion.chunk", "model": model, "choices": [choice] });
    format!("data: {value}\n\n")
}

fn usage(input: u64, output: u64) -> String {
    let usage = json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output });
    format!("data: {}\n\n", json!({ "model": "one-chat", "choices": [], "usage": usage }))
}

fn say(to: &mut Connection, pieces: &[String]) {
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    to.stream("text/event-stream", &pieces);
}

const DONE: &str = "data: [DONE]\n\n";

/// A server that says "Hi!" well, as this model, and then this.
fn good(model: &'static str, tail: Vec<String>) -> Server {
    Server::start(move |_, to| {
        let mut pieces =
            vec![piece(model, Some("Hi"), None), piece(model, Some("!"), None), piece(model, None, Some("stop"))];
        pieces.extend(tail.clone());
        say(to, &pieces);
    })
}

fn body(server: &Server) -> Value {
    serde_json::from_slice(&server.asked()[0].body).unwrap()
}

#[test]
fn an_answer_is_streamed_counted_and_priced() {
    let server = good("one-chat-2026-01-01", vec![usage(10, 5), DONE.to_owned()]);
    let node = Node::asking(OPENAI, &server.url("/v1"));
    let long = BlobRef::of(b"a long question");
    std::fs::write(node.home.path().join("blobs").join(long.hash.to_string()), "a long question").unwrap();
    let message = |role, content| Message { role, content };
    let task = LlmTask {
        messages: vec![
            message(Role::System, Content::Text("be brief".to_owned())),
            message(Role::User, Content::Text("a".to_owned())),
            message(Role::Assistant, Content::Text("b".to_owned())),
            message(Role::User, Content::Blob(long)),
        ],
        tokens_max: Some(7),
        temperature_milli: Some(500),
        ..LlmTask::new("")
    };
    let end = node.run(Task::Llm(task)).ok();
    assert_eq!(end.stdout(), "Hi!");
    let used = end.ended.model.clone().unwrap();
    assert_eq!((used.provider.as_str(), used.model.as_str()), ("one", "one-chat-2026-01-01"));
    assert_eq!((used.input_tokens, used.output_tokens, used.cost_micros), (Some(10), Some(5), Some(20)));
    assert_eq!(used.finish.as_deref(), Some("stop"));
    assert!(used.first_token_ms.is_some() && used.latency_ms >= used.first_token_ms);
    assert_eq!(end.ended.notice, None, "a version of a model is that model");
    let result = end.result();
    assert_eq!((&result["text"], &result["input_tokens"]), (&"Hi!".into(), &10.into()));
    let asked = &server.asked()[0];
    assert_eq!(
        (asked.path.as_str(), asked.headers["authorization"].as_str()),
        ("/v1/chat/completions", &*format!("Bearer {CANARY}"))
    );
    let body = body(&server);
    assert_eq!((&body["model"], &body["temperature"]), (&"one-chat".into(), &0.5.into()));
    let texts: Vec<&str> =
        body["messages"].as_array().unwrap().iter().map(|it| it["content"].as_str().unwrap()).collect();
    assert_eq!(texts, ["be brief", "a", "b", "a long question"]);
    assert!(body.to_string().contains("tokens\":7"), "{body}");
}

#[test]
fn what_the_provider_does_not_say_is_not_known() {
    for tail in [vec![DONE.to_owned()], vec![usage(0, 0), DONE.to_owned()], vec![]] {
        let server = good("one-chat", tail);
        let end = Node::asking(OPENAI, &server.url("/v1/")).run(ask("why?")).ok();
        let used = end.ended.model.clone().unwrap();
        assert_eq!((used.input_tokens, used.output_tokens, used.cost_micros), (None, None, None));
        assert_eq!(end.result()["input_tokens"], Value::Null);
        assert_eq!(end.stdout(), "Hi!");
    }
}

#[test]
fn another_model_than_the_one_that_was_asked_is_recorded_and_told() {
    let counted = json!({ "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 });
    let counted = format!("data: {}\n\n", json!({ "model": "some-default", "choices": [], "usage": counted }));
    let server = good("some-default", vec![counted, DONE.to_owned()]);
    let end = Node::asking(OPENAI, &server.url("/v1")).run(ask("why?")).ok();
    let used = end.ended.model.clone().unwrap();
    assert_eq!((used.model.as_str(), used.input_tokens, used.output_tokens), ("some-default", Some(10), Some(5)));
    assert_eq!((used.cost_micros, &end.result()["cost_micros"]), (None, &Value::Null), "its price is not known");
    assert_eq!(end.ended.notice.unwrap(), "one was asked for one-chat, and some-default answered");
}

/// What a run ends with if its only provider says this.
fn told(status: u16, headers: &'static [(&str, &str)], body: &'static str) -> End {
    let server = Server::start(move |_, to| to.answer(status, headers, body));
    let node = Node::asking(OPENAI, &server.url("/v1"));
    let end = node.run(ask("why?"));
    assert_eq!(server.asked().len(), 1, "a provider is asked once");
    assert_eq!(end.ended.model.as_ref().unwrap().provider, "one");
    end
}

#[test]
fn a_refusal_is_sorted_by_what_helps() {
    let json = &[("content-type", "application/json")];
    let end = told(
        429,
        &[("retry-after-ms", "1500"), ("content-type", "application/json")],
        r#"{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}"#,
    );
    assert_eq!(end.retry_after(), Some(1_500));
    assert_eq!(end.message(), "one-chat (one): the provider takes no more requests for now (429): Slow down");
    assert_eq!(told(503, &[("retry-after", "30")], "busy").retry_after(), Some(30_000));
    assert_eq!(told(500, json, "{").retry_after(), None);
    let broke = told(429, json, r#"{"error":{"message":"No money","code":"insufficient_quota"}}"#);
    assert_eq!((broke.word(), broke.message().contains("no money or quota")), ("permanent", true));
    let key = told(401, json, r#"{"error":{"message":"Incorrect API key provided: sk-canary-5f2e9b81c7."}}"#);
    assert_eq!((key.word(), key.message().contains("[key]")), ("permanent", true), "{}", key.message());
    let long = told(400, json, r#"{"error":{"message":"x","code":"context_length_exceeded"}}"#);
    assert_eq!((long.word(), long.message().contains("longer than the model's context")), ("permanent", true));
    let wrong = told(404, json, r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#);
    assert_eq!((wrong.word(), wrong.message().contains("no such model")), ("permanent", true));
}

#[test]
fn an_answer_that_is_none_is_tried_again() {
    let server = Server::start(|request, to| match request.path.as_str() {
        "/json/chat/completions" => say(to, &["data: {\"choices\":[{\"delta\"\n\n".to_owned()]),
        "/page/chat/completions" => to.answer(200, &[("content-type", "text/html")], "<html>welcome</html>"),
        "/empty/chat/completions" => to.answer(200, &[("content-type", "text/event-stream")], ""),
        "/whole/chat/completions" => to.answer(200, &[("content-type", "application/json")], r#"{"choices":[]}"#),
        "/cut/chat/completions" => say(to, &[piece("one-chat", Some("half of"), None)]),
        "/broken/chat/completions" => {
            to.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 9999\r\n\r\n");
            to.raw(piece("one-chat", Some("half of"), None));
        }
        _ => {
            to.stream("text/event-stream", &[&piece("one-chat", Some("half of"), None)]);
            to.raw("data: {\"error\":{\"message\":\"crashed\",\"type\":\"server_error\"}}\n\n");
        }
    });
    for path in ["/json", "/page", "/empty", "/whole", "/cut", "/broken", "/refused"] {
        let end = Node::asking(OPENAI, &server.url(path)).run(ask("why?"));
        assert_eq!((end.word(), end.retry_after()), ("error", None), "{path}: {}", end.message());
        let has_half = end.stdout() == "half of";
        assert_eq!(has_half, matches!(path, "/cut" | "/broken" | "/refused"), "{path}: {:?}", end.stdout());
        assert_eq!(end.ended.outputs.result, None, "{path}");
    }
    let end = Node::asking(OPENAI, &nobody()).run(ask("why?"));
    assert_eq!((end.word(), end.message().contains("can't be reached")), ("error", true), "{}", end.message());
}

#[test]
fn who_fails_is_replaced_by_who_is_named_for_it() {
    let ill = Server::start(|_, to| to.answer(401, &[], "{}"));
    let busy = Server::start(|_, to| to.answer(503, &[("retry-after", "9")], "{}"));
    let well = good("three-chat", vec![usage(1, 2), DONE.to_owned()]);
    let urls = [ill.url("/v1"), busy.url("/v1"), well.url("/v1")];
    let all = [("one", OPENAI, &*urls[0]), ("two", OPENAI, &*urls[1]), ("three", OPENAI, &*urls[2])];
    let start = |settings| Node::start(HttpSettings::default(), settings);
    let end = start(models(&all)).run(ask("why?")).ok();
    assert_eq!((end.ended.model.clone().unwrap().provider.as_str(), end.stdout()), ("three", "Hi!"));
    let notice = end.ended.notice.clone().unwrap();
    assert!(notice.contains("one-chat (one) failed") && notice.contains("two-chat (two) failed"), "{notice}");

    let end = start(models(&all[..2])).run(ask("why?"));
    assert_eq!((end.retry_after(), end.message().contains("one-chat (one)")), (Some(9_000), true));

    // A question that is wrong is wrong for everybody, and a model that has begun is not replaced.
    let wrong = Server::start(|_, to| to.answer(400, &[], r#"{"error":{"message":"bad"}}"#));
    let half = Server::start(|_, to| say(to, &[piece("one-chat", Some("half"), None)]));
    for (server, word) in [(wrong, "permanent"), (half, "error")] {
        let before = well.asked().len();
        let url = server.url("/v1");
        let end = start(models(&[("one", OPENAI, &url), all[2]])).run(ask("why?"));
        assert_eq!((end.word(), well.asked().len()), (word, before), "{}", end.message());
    }
}

#[test]
fn a_missing_key_and_an_unknown_model_are_named() {
    let server = good("one-chat", vec![DONE.to_owned()]);
    let mut settings = models(&[("one", OPENAI, &server.url("/v1"))]);
    let key = jobmesh_executors::model::settings::KeySource::Variable("OTHER".to_owned());
    settings.providers.get_mut("one").unwrap().key = Some(key);
    let end = Node::start(HttpSettings::default(), settings.clone()).run(ask("why?"));
    assert_eq!((end.word(), end.message().contains("set OTHER")), ("permanent", true), "{}", end.message());
    let secret = jobmesh_executors::model::settings::KeySource::Secret("locked".to_owned());
    settings.providers.get_mut("one").unwrap().key = Some(secret);
    let node = Node::start(HttpSettings::default(), settings.clone());
    let end = node.run(ask("why?"));
    let said = "one-chat (one): there is no key: others may read /home/me/locked";
    assert_eq!((end.word(), end.message()), ("permanent", said), "the cause, not only that it is missing");
    let end = node.end_of(node.foreign(ask("why?")));
    let said = "one-chat (one): there is no key: set the secret locked";
    assert_eq!((end.word(), end.message()), ("permanent", said), "no peer is told of files here");
    settings.providers.get_mut("one").unwrap().key = None;
    let node = Node::start(HttpSettings::default(), settings);
    let named = |model: &str| Task::Llm(LlmTask { model: Some(model.to_owned()), ..LlmTask::new("why?") });
    node.run(named("one-chat")).ok();
    node.run(named("one/anything")).ok();
    node.run(Task::Llm(LlmTask { complexity: Some(Complexity::Complex), ..LlmTask::new("why?") })).ok();
    let end = node.run(named("nothing"));
    assert_eq!((end.word(), end.message().contains("it knows one-chat")), ("permanent", true), "{}", end.message());
    let end = Node::web().run(ask("why?"));
    assert_eq!((end.word(), end.message().contains("[models.classes]")), ("permanent", true), "{}", end.message());
}

#[test]
fn a_model_that_says_one_endless_word_is_stopped() {
    let (told, begun) = sync_channel(1);
    let server = Server::start(move |_, to| {
        to.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: ");
        let _ = told.try_send(());
        let word = "x".repeat(1 << 16);
        while to.is_heard(&word) {}
    });
    let node = Node::asking(OPENAI, &server.url("/v1"));
    let order = node.order(ask("Go on!"));
    let run = order.run;
    node.executors.run(order);
    begun.recv().unwrap();
    node.executors.stop(run, StopReason::Timeout);
    assert_eq!(node.ended(run).outcome.word(), "timeout");
}

/// It was kept in memory for ten minutes, and copied anew with every part of it that came.
#[test]
fn a_model_that_says_one_endless_word_ends_by_itself_and_takes_little_memory() {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    let server = Server::start(move |_, to| {
        to.raw("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\ndata: ");
        let word = "x".repeat(1 << 16);
        while to.is_heard(&word) {}
    });
    let node = Node::asking(OPENAI, &server.url("/v1"));
    let before = peak();
    let order = node.order(ask("Go on!"));
    let run = order.run;
    node.executors.run(order);
    let ended = node.ended(run);
    assert_eq!(ended.outcome.word(), "error", "{ended:?}");
    assert!(ended.outcome.message().unwrap().contains("not in its format"), "{ended:?}");
    // Other tests run beside it.
    assert!(peak() - before < 512, "{} MiB", peak() - before);
}

#[test]
fn a_slow_model_is_stopped_before_and_in_the_middle_of_its_answer() {
    let (came, seen) = sync_channel(4);
    let server = Server::start(move |request, to| {
        if request.path.starts_with("/half") {
            to.stream("text/event-stream", &[&piece("one-chat", Some("half"), None)]);
        }
        came.send(()).unwrap();
        to.until_gone();
        came.send(()).unwrap();
    });
    for (path, reason, word) in [("/none", StopReason::Timeout, "timeout"), ("/half", StopReason::Cancel, "cancelled")]
    {
        let node = Node::asking(OPENAI, &server.url(path));
        let order = Order { kill_grace: DurationMillis(0), ..node.order(ask("why?")) };
        let run = order.run;
        node.executors.run(order);
        seen.recv().unwrap();
        node.executors.stop(run, reason);
        let ended = node.ended(run);
        assert_eq!((ended.outcome.word(), ended.model.unwrap().provider.as_str()), (word, "one"));
        seen.recv().unwrap();
    }
}
