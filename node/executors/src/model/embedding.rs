//! Vectors for texts.
//!
//! The three interfaces for this are one request and one answer each, so they are asked here and not through the client for
//! questions, which refuses an answer that says nothing of tokens and reads whatever comes without a limit.

use std::time::Instant;

use jobmesh_protocol::outcome::ModelUse;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, RequestBuilder, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chat::{millis, transport};
use super::failure::{Answer, Failure, Remedy};
use super::settings::ProviderKind;
use super::{Asked, Halt, short};
use crate::event::Event;
use crate::output::Stream;
use crate::stage::{Stage, StageError};

/// Most texts of one request: what the narrowest provider takes.
const BATCH_MAX: usize = 100;
/// Most bytes of an answer: a hundred vectors of 16,384 numbers with 25 digits each.
const ANSWER_BYTES_MAX: usize = 48 << 20;
/// Most numbers of all vectors of a task together, which are in memory until they are written: 64 MiB.
const NUMBERS_MAX: usize = 16 << 20;
/// How long a provider may be silent.
const SILENCE_MAX: std::time::Duration = std::time::Duration::from_secs(120);

/// The result of a run.
#[derive(Debug, Serialize)]
struct Vectors<'a> {
    model: &'a str,
    dimension: usize,
    embeddings: &'a [Vec<f32>],
}

/// What is read of an answer, whoever gave it.
#[derive(Debug, Default)]
struct Batch {
    vectors: Vec<Vec<f32>>,
    model: Option<String>,
    tokens: Option<u64>,
}

/// Asks one provider for the vectors of all texts, in order, and writes them down.
pub(super) async fn ask(
    client: &Client,
    asked: &Asked<'_>,
    texts: &[String],
    stage: &mut Stage<'_>,
    used: &mut ModelUse,
) -> Result<(), Halt> {
    let began = Instant::now();
    let mut vectors: Vec<Vec<f32>> = Vec::new();
    let mut tokens = Some(0_u64);
    for batch in texts.chunks(BATCH_MAX) {
        let found = ask_batch(client, asked, batch).await.map_err(Halt::Silent)?;
        used.first_token_ms.get_or_insert_with(|| millis(began));
        if let Some(model) = found.model {
            used.model = short(&model);
        }
        // A sum of which a part is not known is not known.
        tokens = tokens.zip(found.tokens).map(|(sum, more)| sum.saturating_add(more));
        vectors.extend(found.vectors);
        if vectors.iter().map(Vec::len).sum::<usize>() > NUMBERS_MAX {
            return Err(Halt::Silent(Failure::new(
                Remedy::Fatal,
                "the vectors are too large together; embed fewer texts",
            )));
        }
        tell(asked, stage, vectors.len(), texts.len())?;
    }
    let dimension = dimension(&vectors).map_err(Halt::Silent)?;
    used.latency_ms = Some(millis(began));
    used.input_tokens = tokens;
    used.cost_micros = asked.candidate.cost_micros(&used.model, tokens, None);
    used.dimension = u32::try_from(dimension).ok();
    let result = Vectors { model: &used.model, dimension, embeddings: &vectors };
    let json = serde_json::to_vec(&result)
        .map_err(|_| Halt::Silent(Failure::new(Remedy::Retry, "the provider's vectors are not numbers")))?;
    Ok(stage.give_result(&json)?)
}

/// Says how far it is; in the log too, if that takes several requests and is worth following.
fn tell(asked: &Asked<'_>, stage: &mut Stage<'_>, have: usize, of: usize) -> Result<(), StageError> {
    let done = u16::try_from((have.min(of) * 10_000).checked_div(of).unwrap_or(0)).ok();
    let what = format!("embedded {have} of {of} texts");
    if of > BATCH_MAX {
        stage.say(Stream::Stderr, format!("{what}\n").as_bytes())?;
    }
    asked.control.emit(Event::Progress { run: asked.order.run, done, what });
    Ok(())
}

/// How many numbers each vector has.
fn dimension(vectors: &[Vec<f32>]) -> Result<usize, Failure> {
    let first = vectors.first().map_or(0, Vec::len);
    if first == 0 || vectors.iter().any(|vector| vector.len() != first) {
        return Err(Failure::new(Remedy::Retry, "the provider's vectors are empty or of several lengths"));
    }
    Ok(first)
}

async fn ask_batch(client: &Client, asked: &Asked<'_>, texts: &[String]) -> Result<Batch, Failure> {
    let request = request(client, asked, texts)?;
    let broken = |error: reqwest::Error| {
        let words = transport(&error);
        let words = asked.key.map_or_else(|| words.clone(), |key| key.scrub(&words));
        Failure::new(if error.is_builder() { Remedy::Fatal } else { Remedy::Retry }, words)
    };
    let silent = |_| Failure::new(Remedy::Retry, "the provider fell silent");
    let response = tokio::time::timeout(SILENCE_MAX, request.send()).await.map_err(silent)?.map_err(broken)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = tokio::time::timeout(SILENCE_MAX, read(response)).await.map_err(silent)?.map_err(broken)?;
    let body = body.ok_or_else(|| Failure::new(Remedy::Fatal, "the provider's answer is too long"))?;
    if !status.is_success() {
        let body = String::from_utf8_lossy(&body);
        return Err(
            Answer { status: Some(status.as_u16()), headers: Some(&headers), body: &body, key: asked.key }.judge()
        );
    }
    let batch = Batch::parse(asked.candidate.provider.kind, &body);
    let malformed = || Failure::new(Remedy::Retry, "the provider's answer is not in its format");
    batch.filter(|batch| batch.vectors.len() == texts.len()).ok_or_else(malformed)
}

/// All of a body; none if it is too long.
async fn read(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn request(client: &Client, asked: &Asked<'_>, texts: &[String]) -> Result<RequestBuilder, Failure> {
    let (provider, model) = (asked.candidate.provider, &asked.candidate.model.model);
    let (path, body) = match provider.kind {
        ProviderKind::OpenAi => ("embeddings".to_owned(), json!({ "model": model, "input": texts })),
        ProviderKind::Ollama => ("api/embed".to_owned(), json!({ "model": model, "input": texts })),
        ProviderKind::Gemini => {
            let name = format!("models/{model}");
            let one = |text: &String| json!({ "model": name, "content": { "parts": [{ "text": text }] } });
            let requests: Vec<Value> = texts.iter().map(one).collect();
            (format!("{name}:batchEmbedContents"), json!({ "requests": requests }))
        }
        ProviderKind::Anthropic => {
            return Err(Failure::new(Remedy::Fatal, "Anthropic has no embeddings; name a model of another provider"));
        }
    };
    let request = client.post(format!("{}{path}", provider.url())).header(CONTENT_TYPE, "application/json");
    let request = match (asked.key, provider.kind) {
        (Some(key), ProviderKind::Gemini) => request.header("x-goog-api-key", key.reveal()),
        (Some(key), ProviderKind::OpenAi | ProviderKind::Ollama | ProviderKind::Anthropic) => {
            request.bearer_auth(key.reveal())
        }
        (None, _) => request,
    };
    let headers = &provider.headers;
    let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
    Ok(request.body(body.to_string()))
}

impl Batch {
    fn parse(kind: ProviderKind, body: &[u8]) -> Option<Self> {
        match kind {
            ProviderKind::OpenAi => serde_json::from_slice::<OfOpenAi>(body).ok().and_then(OfOpenAi::sorted),
            ProviderKind::Ollama => {
                let found: OfOllama = serde_json::from_slice(body).ok()?;
                Some(Self { vectors: found.embeddings, model: found.model, tokens: counted(found.prompt_eval_count) })
            }
            ProviderKind::Gemini => {
                let found: OfGemini = serde_json::from_slice(body).ok()?;
                Some(Self { vectors: found.embeddings.into_iter().map(|it| it.values).collect(), ..Self::default() })
            }
            ProviderKind::Anthropic => None,
        }
    }
}

/// No text has no tokens: a server that says 0 doesn't count.
fn counted(tokens: Option<u64>) -> Option<u64> {
    tokens.filter(|tokens| *tokens > 0)
}

#[derive(Deserialize)]
struct OfOpenAi {
    data: Vec<OneOfOpenAi>,
    model: Option<String>,
    usage: Option<UsageOfOpenAi>,
}

#[derive(Deserialize)]
struct OneOfOpenAi {
    index: Option<usize>,
    embedding: Vec<f32>,
}

#[derive(Deserialize)]
struct UsageOfOpenAi {
    prompt_tokens: Option<u64>,
}

impl OfOpenAi {
    /// In the order of the texts, whatever the order of the answer: each once.
    fn sorted(mut self) -> Option<Batch> {
        for (at, one) in self.data.iter_mut().enumerate() {
            one.index.get_or_insert(at);
        }
        self.data.sort_by_key(|one| one.index);
        let is_whole = self.data.iter().enumerate().all(|(at, one)| one.index == Some(at));
        let tokens = counted(self.usage.and_then(|usage| usage.prompt_tokens));
        let vectors = self.data.into_iter().map(|one| one.embedding).collect();
        is_whole.then_some(Batch { vectors, model: self.model, tokens })
    }
}

#[derive(Deserialize)]
struct OfOllama {
    embeddings: Vec<Vec<f32>>,
    model: Option<String>,
    prompt_eval_count: Option<u64>,
}

#[derive(Deserialize)]
struct OfGemini {
    embeddings: Vec<OneOfGemini>,
}

#[derive(Deserialize)]
struct OneOfGemini {
    values: Vec<f32>,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn answers_are_put_in_the_order_of_the_texts() {
        let body = br#"{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}],"model":"m","usage":{"prompt_tokens":7}}"#;
        let batch = Batch::parse(ProviderKind::OpenAi, body).unwrap();
        assert_eq!((batch.vectors, batch.tokens), (vec![vec![1.0], vec![2.0]], Some(7)));
        let twice = br#"{"data":[{"index":0,"embedding":[2.0]},{"index":0,"embedding":[1.0]}]}"#;
        assert!(Batch::parse(ProviderKind::OpenAi, twice).is_none());
        let bare = br#"{"data":[{"embedding":[2.0]}],"usage":{"prompt_tokens":0}}"#;
        assert_eq!(Batch::parse(ProviderKind::OpenAi, bare).unwrap().tokens, None);
        let ollama = br#"{"model":"m","embeddings":[[1.0,2.0]],"prompt_eval_count":3}"#;
        assert_eq!(Batch::parse(ProviderKind::Ollama, ollama).unwrap().tokens, Some(3));
        let gemini = br#"{"embeddings":[{"values":[1.0]}]}"#;
        assert_eq!(Batch::parse(ProviderKind::Gemini, gemini).unwrap().vectors, [[1.0]]);
        assert!(Batch::parse(ProviderKind::Gemini, b"<html>").is_none());
    }

    #[test]
    fn vectors_of_several_lengths_are_no_answer() {
        assert_eq!(dimension(&[vec![1.0, 2.0], vec![3.0, 4.0]]).unwrap(), 2);
        dimension(&[vec![1.0], vec![3.0, 4.0]]).unwrap_err();
        dimension(&[vec![]]).unwrap_err();
        dimension(&[]).unwrap_err();
    }
}
