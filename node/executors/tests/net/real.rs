//! The same against a real server with real models, if there is one: `tests/setup/llm.sh` starts it, and `JOBMESH_LLM_URL`
//! says where it is.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use jobmesh_executors::http::settings::Settings as HttpSettings;
use jobmesh_executors::model::settings::ProviderKind;
use jobmesh_protocol::task::{LlmTask, Task};

use crate::harness::{Node, embed, models};

/// A node whose models are those of the real server; none if there is no such server, which is said loudly.
fn node() -> Option<Node> {
    let Ok(url) = std::env::var("JOBMESH_LLM_URL") else {
        assert!(
            std::env::var_os("JOBMESH_REQUIRE_TOOLS").is_none(),
            "JOBMESH_LLM_URL is not set; see tests/setup/llm.sh"
        );
        eprintln!("SKIPPED: no real server of models; run tests/setup/llm.sh and set JOBMESH_LLM_URL");
        return None;
    };
    let mut settings = models(&[("real", ProviderKind::OpenAi, &url)]);
    settings.models.get_mut("real-chat").unwrap().model = "smollm2-135m-instruct".to_owned();
    settings.models.get_mut("real-vectors").unwrap().model = "all-minilm-l6-v2".to_owned();
    Some(Node::start(HttpSettings::default(), settings))
}

fn question(text: &str) -> LlmTask {
    LlmTask { tokens_max: Some(24), temperature_milli: Some(0), ..LlmTask::new(text) }
}

#[test]
fn a_real_model_answers() {
    let Some(node) = node() else { return };
    let end = node.run(Task::Llm(question("What is the capital of France? Answer in one short sentence."))).ok();
    assert!(end.stdout().contains("Paris"), "{}", end.stdout());
    let used = end.ended.model.clone().unwrap();
    assert!(used.finish.is_some() && used.first_token_ms.is_some() && used.latency_ms.is_some(), "{used:?}");
    assert_ne!(used.output_tokens, Some(0), "what is not known is not 0: {used:?}");
    assert_eq!(end.result()["text"], end.stdout());
}

#[test]
fn real_vectors_tell_what_is_alike() {
    let Some(node) = node() else { return };
    let texts = ["How do I reset my password?", "I forgot my login credentials", "A man is eating food."];
    let end = node.run(embed(&texts)).ok();
    let result = end.result();
    assert_eq!((&result["dimension"], end.ended.model.unwrap().dimension), (&384.into(), Some(384)));
    let vectors: Vec<Vec<f64>> = serde_json::from_value(result["embeddings"].clone()).unwrap();
    let product = |a: usize, b: usize| vectors[a].iter().zip(&vectors[b]).map(|(x, y)| x * y).sum::<f64>();
    let cosine = |a, b| product(a, b) / (product(a, a) * product(b, b)).sqrt();
    assert!(cosine(0, 1) > 0.5 && cosine(0, 2) < 0.2, "{} {}", cosine(0, 1), cosine(0, 2));
}

#[test]
fn a_question_that_is_too_long_is_never_asked_again() {
    let Some(node) = node() else { return };
    let end = node.run(Task::Llm(question(&"word ".repeat(4_000))));
    assert_eq!(end.word(), "permanent", "{}", end.message());
    assert!(end.message().contains("longer than the model's context"), "{}", end.message());
}
