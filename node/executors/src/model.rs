//! The executors for models: questions to language models (`llm`) and vectors for texts (`embedding`).
//!
//! They ask the providers that the node's owner has configured, in the daemon's runtime, on the thread of a slot. The words
//! of an answer go to standard output as they come, so that they can be followed; the result says them again as JSON, with
//! the model, the reason why it ended and the tokens. If files of the job are to be kept, the words are `answer.txt` and the
//! vectors `vectors.json`. What a provider doesn't say stays unknown and is never 0.
//!
//! Each provider is asked once: another try is the queue's business. What its refusal means is sorted by `failure.rs`; a
//! model may name others that are asked instead, in the same run, as long as nothing of an answer was heard.
//!
//! **The hard case** is a server that answers well and is wrong: with another model than the one that was asked, with an
//! answer that just ends, with no word on tokens. So what is recorded is the model that answered by its own word, an answer
//! without a reason for its end is no answer, and what was not counted costs nobody knows how much.
//!
//! Keys are read for each question and appear in no log, error or result ([`key::Key`]).

mod chat;
mod choice;
mod embedding;
mod failure;
mod find;
mod frames;
pub mod key;
mod meter;
pub mod settings;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use jobmesh_protocol::outcome::ModelUse;
use jobmesh_protocol::task::{Complexity, Content, EmbeddingTask, LlmTask, Task};
use jobmesh_protocol::{Isolation, Outcome};
use tokio::runtime::Handle;

use crate::control::Control;
use crate::event::{Ended, chain, clip};
use crate::executor::{Executor, Probe, wrong_task};
use crate::http::client::{self, ClientError};
use crate::model::choice::{Candidate, Want};
use crate::model::failure::{Failure, Remedy};
use crate::model::key::{Key, Keys};
use crate::model::settings::{KeySource, ModelKind, Settings};
use crate::order::Order;
use crate::process::Seat;
use crate::stage::{Leaves, Stage, StageError};
use crate::surroundings::Surroundings;

/// Most bytes of all texts of one task: many times what the largest model reads.
const TEXT_BYTES_MAX: u64 = 64 << 20;

/// Asks models.
#[derive(Debug)]
pub(crate) struct Model {
    runtime: Handle,
    settings: Settings,
    keys: Keys,
    web: Result<Web, ClientError>,
}

/// The ways to providers: one client below, and what knows their interfaces above it.
#[derive(Debug)]
struct Web {
    client: reqwest::Client,
    genai: genai::Client,
}

impl Web {
    fn new() -> Result<Self, ClientError> {
        let client = client::provider()?;
        let genai = genai::Client::builder().with_reqwest(client.clone()).build().map_err(|_| ClientError::Provider)?;
        Ok(Self { client, genai })
    }
}

/// What is asked, with its texts in full.
#[derive(Debug)]
enum Question<'t> {
    Llm { task: &'t LlmTask, texts: Vec<String> },
    Embedding { texts: Vec<String> },
}

/// Why a provider gave no answer, or why there is no place for it.
#[derive(Debug)]
enum Halt {
    /// Before a word of it was heard.
    Silent(Failure),
    /// After some of it was written down: nobody else may go on from there.
    Midway(Failure),
    /// It can't be written down.
    Stage(StageError),
}

impl From<StageError> for Halt {
    fn from(error: StageError) -> Self {
        Self::Stage(error)
    }
}

/// What is known at the end, or when it is stopped in the middle.
#[derive(Debug, Default)]
struct Known {
    used: Option<ModelUse>,
    notice: Option<String>,
}

impl Model {
    pub(crate) fn new(surroundings: &Surroundings) -> Self {
        let _inside = surroundings.runtime.enter();
        let (runtime, keys) = (surroundings.runtime.clone(), surroundings.keys.clone());
        Self { runtime, settings: surroundings.models.clone(), keys, web: Web::new() }
    }

    /// What is found of what is needed for embeddings. [`Executor::probe`] tells of questions.
    pub(crate) fn probe_embedding(&self) -> Probe {
        self.probe_kind("embedding", ModelKind::Embedding)
    }

    fn probe_kind(&self, executor: &'static str, kind: ModelKind) -> Probe {
        if let Err(error) = &self.web {
            return Probe::missing(executor, chain(error));
        }
        if self.settings.providers.is_empty() {
            let remedy = "no provider of models; set [providers.NAME] and [models.NAME] in config.toml, or OPENAI_API_KEY, \
                          ANTHROPIC_API_KEY or GEMINI_API_KEY";
            return Probe::missing(executor, remedy);
        }
        let mut probe = Probe::ready(executor, Isolation::Sandboxed);
        for (name, provider) in &self.settings.providers {
            let peers = if provider.peers { ", also for peers" } else { "" };
            let fact = format!("{} at {}{peers}", provider.kind.word(), provider.url());
            probe.facts.insert(format!("provider {name}"), fact);
            if let Some(key) = provider.key.as_ref().filter(|key| self.is_variable_missing(key)) {
                probe.lacks.push(format!("the key of provider {name}: {}", key_words(key)));
            }
        }
        let models = self.settings.models.iter().filter(|(_, model)| model.kind == kind);
        probe.tags =
            models.take(settings::MODELS_MAX).map(|(name, _)| format!("model:{name}")).collect::<BTreeSet<_>>();
        probe
    }

    /// Whether a key is to be in the environment and is not. A secret is not looked up: a keyring may ask its owner first.
    fn is_variable_missing(&self, key: &KeySource) -> bool {
        matches!(key, KeySource::Variable(_)) && !matches!(self.keys.find(key), Ok(Some(_)))
    }

    /// Whom to ask for an order, or why nobody.
    fn candidates(&self, order: &Order) -> Result<Vec<Candidate<'_>>, Outcome> {
        let (named, want) = if let Task::Llm(task) = &order.task {
            (task.model.as_deref(), Want::Answer(task.complexity.unwrap_or(Complexity::Medium)))
        } else if let Task::Embedding(task) = &order.task {
            (task.model.as_deref(), Want::Vectors)
        } else {
            return Err(wrong_task(&order.task));
        };
        if order.isolation > Isolation::Sandboxed {
            let message =
                "a question to a model can't be kept apart from the network; it runs at most sandboxed".to_owned();
            return Err(Outcome::Permanent { message });
        }
        let found = self.settings.candidates(named, want);
        let mut found = found.map_err(|error| Outcome::Permanent { message: clip(chain(&error)) })?;
        if order.is_foreign {
            found.retain(|candidate| candidate.provider.peers);
        }
        if found.is_empty() {
            let reason = "this node asks that provider only for itself (`peers` in [providers.NAME])".to_owned();
            return Err(Outcome::Released { reason });
        }
        Ok(found)
    }

    /// Asks one after the other until one answers.
    async fn ask(&self, web: &Web, sheet: Sheet<'_, '_, '_>, known: &mut Known) -> Outcome {
        let Sheet { question, candidates, stage, control, order } = sheet;
        let mut failed: Vec<(String, Failure)> = Vec::new();
        for candidate in candidates {
            let name = format!("{} ({})", candidate.model.model, candidate.name);
            let key = match self.key(&candidate, order).await {
                Ok(key) => key,
                Err(failure) => {
                    failed.push((name, failure));
                    continue;
                }
            };
            // A server may repeat it, and a run must not end for want of room in its log before it has begun.
            if let Some(Err(error)) = key.as_ref().map(|key| stage.guard("key", key.reveal())) {
                return error.outcome();
            }
            let used = known.used.insert(ModelUse {
                provider: short(candidate.name),
                model: short(&candidate.model.model),
                ..ModelUse::default()
            });
            let asked = Asked { candidate: &candidate, key: key.as_ref(), control, order };
            let told = match &question {
                Question::Llm { task, texts } => chat::ask(&web.genai, &asked, (task, texts), stage, used).await,
                Question::Embedding { texts } => embedding::ask(&web.client, &asked, texts, stage, used).await,
            };
            match told {
                Ok(()) => {
                    known.notice = notice(&candidate, used, &failed);
                    return Outcome::Ok;
                }
                Err(Halt::Stage(error)) => return error.outcome(),
                Err(Halt::Midway(failure)) => {
                    failed.push((name, failure));
                    break;
                }
                Err(Halt::Silent(failure)) => {
                    let is_fatal = failure.remedy == Remedy::Fatal;
                    failed.push((name, failure));
                    if is_fatal {
                        break;
                    }
                }
            }
        }
        outcome_of(&failed)
    }

    async fn key(&self, candidate: &Candidate<'_>, order: &Order) -> Result<Option<Key>, Failure> {
        let Some(source) = &candidate.provider.key else { return Ok(None) };
        let (keys, asked) = (self.keys.clone(), source.clone());
        // A keyring may wait for a person, and a job that is cancelled does not.
        let found = tokio::task::spawn_blocking(move || keys.find(&asked)).await;
        let why = match found {
            Ok(Ok(Some(key))) => return Ok(Some(key)),
            // What is told to a peer names no path of this machine; the log does.
            Ok(Err(error)) if order.is_foreign => {
                tracing::warn!(provider = candidate.name, %error, "the key of a provider can't be had");
                key_words(source)
            }
            Ok(Err(error)) => error.why,
            Ok(Ok(None)) | Err(_) => key_words(source),
        };
        Err(Failure::new(Remedy::OtherProvider, format!("there is no key: {why}")))
    }
}

/// One question on its way: what is asked, whom, and where the answer goes.
struct Sheet<'s, 'o, 'c> {
    question: Question<'s>,
    candidates: Vec<Candidate<'s>>,
    stage: &'s mut Stage<'o>,
    control: &'s Control<'c>,
    order: &'s Order,
}

/// One provider that is asked.
struct Asked<'a> {
    candidate: &'a Candidate<'a>,
    key: Option<&'a Key>,
    control: &'a Control<'a>,
    order: &'a Order,
}

impl Executor for Model {
    fn probe(&self) -> Probe {
        self.probe_kind("llm", ModelKind::Chat)
    }

    fn perform(&self, order: &Order, _seat: &mut Seat, control: &Control<'_>) -> Ended {
        if let Some(reason) = control.stop_reason() {
            return Ended::without_process(reason.outcome());
        }
        let (candidates, question) = match self.candidates(order).and_then(|them| Ok((them, Question::read(order)?))) {
            Ok(ready) => ready,
            Err(outcome) => return Ended::without_process(outcome),
        };
        let web = match &self.web {
            Ok(web) => web,
            Err(error) => return Ended::without_process(Outcome::error(chain(error))),
        };
        let mut stage = match Stage::set(order) {
            Ok(stage) => stage,
            Err(error) => return Ended::without_process(error.outcome()),
        };
        let mut known = Known::default();
        let leaves = question.leaves();
        let sheet = Sheet { question, candidates, stage: &mut stage, control, order };
        let told = control.wait_for(&self.runtime, Box::pin(self.ask(web, sheet, &mut known)));
        let outcome = told.unwrap_or_else(|reason| reason.outcome());
        let isolation = if order.is_foreign { Isolation::Sandboxed } else { Isolation::Contained.max(order.isolation) };
        let notice = known.notice.map(|notice| stage.clean_text(notice));
        let ended = stage.clear_answer(outcome, leaves, known.used, isolation);
        Ended { notice: ended.notice.or(notice), ..ended }
    }
}

impl<'t> Question<'t> {
    /// What is left of its answer as a file.
    const fn leaves(&self) -> Leaves {
        match self {
            Self::Llm { .. } => Leaves::Said("answer.txt"),
            Self::Embedding { .. } => Leaves::Result("vectors.json"),
        }
    }

    /// Reads the texts of an order's task.
    fn read(order: &'t Order) -> Result<Self, Outcome> {
        let mut room = TEXT_BYTES_MAX;
        let mut read = |content: &Content| text_of(content, &order.blobs, &mut room);
        if let Task::Llm(task) = &order.task {
            let texts = task.messages.iter().map(|message| read(&message.content)).collect::<Result<_, _>>()?;
            Ok(Self::Llm { task, texts })
        } else if let Task::Embedding(EmbeddingTask { texts, .. }) = &order.task {
            Ok(Self::Embedding { texts: texts.iter().map(read).collect::<Result<_, _>>()? })
        } else {
            Err(wrong_task(&order.task))
        }
    }
}

fn text_of(content: &Content, blobs: &Path, room: &mut u64) -> Result<String, Outcome> {
    let too_much =
        || Outcome::Permanent { message: format!("the texts have more than {TEXT_BYTES_MAX} bytes together") };
    let text = match content {
        Content::Text(text) => text.clone(),
        Content::Blob(blob) if blob.size > *room => return Err(too_much()),
        Content::Blob(blob) => {
            let mut bytes = Vec::new();
            let read = std::fs::File::open(blobs.join(blob.hash.to_string()))
                .and_then(|file| file.take(TEXT_BYTES_MAX).read_to_end(&mut bytes));
            read.map_err(|error| Outcome::error(format!("failed to read the text in blob {}: {error}", blob.hash)))?;
            let no_text = |_| Outcome::Permanent { message: format!("blob {} is no text in UTF-8", blob.hash) };
            String::from_utf8(bytes).map_err(no_text)?
        }
    };
    *room = room.checked_sub(text.len() as u64).ok_or_else(too_much)?;
    Ok(text)
}

/// What people should know of an answer that came.
fn notice(candidate: &Candidate<'_>, used: &ModelUse, failed: &[(String, Failure)]) -> Option<String> {
    let asked = &candidate.model.model;
    let other = (!choice::is_same(asked, &used.model))
        .then(|| format!("{} was asked for {asked}, and {} answered", candidate.name, used.model));
    let instead = failed.iter().map(|(name, failure)| format!("{name} failed: {}", failure.message));
    let all: Vec<String> = instead.chain(other).collect();
    (!all.is_empty()).then(|| clip(all.join("; ")))
}

/// What it means that nobody answered.
fn outcome_of(failed: &[(String, Failure)]) -> Outcome {
    let words: Vec<String> = failed.iter().map(|(name, failure)| format!("{name}: {}", failure.message)).collect();
    let message = clip(words.join("; "));
    let waits = failed.iter().filter_map(|(_, failure)| match failure.remedy {
        Remedy::Retry => Some(None),
        Remedy::Later(wait) => Some(Some(wait)),
        Remedy::OtherProvider | Remedy::Fatal => None,
    });
    let is_fatal = failed.last().is_none_or(|(_, failure)| failure.remedy == Remedy::Fatal);
    // None, which is at once, is less than any wait.
    match waits.min().filter(|_| !is_fatal) {
        Some(retry_after_ms) => Outcome::Error { message, retry_after_ms },
        None => Outcome::Permanent { message },
    }
}

fn key_words(source: &KeySource) -> String {
    match source {
        KeySource::Variable(name) => format!("set {name} in the daemon's environment"),
        KeySource::Secret(name) => format!("set the secret {name}"),
    }
}

/// Cuts a word to what a record of a model may hold.
fn short(word: &str) -> String {
    word.char_indices().take_while(|(at, c)| at + c.len_utf8() <= 128).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use jobmesh_protocol::DurationMillis;

    use super::*;

    fn outcome(remedies: &[Remedy]) -> Outcome {
        let failed: Vec<_> = remedies.iter().map(|remedy| ("m".to_owned(), Failure::new(*remedy, "x"))).collect();
        outcome_of(&failed)
    }

    #[test]
    fn the_soonest_of_several_providers_decides() {
        let later = |wait| Remedy::Later(DurationMillis(wait));
        assert_eq!(outcome(&[]).word(), "permanent", "there is nobody to ask");
        let error = |wait: Option<u64>| wait.map(DurationMillis);
        let wait_of = |remedies: &[Remedy]| {
            let outcome = outcome(remedies);
            let Outcome::Error { retry_after_ms, .. } = outcome else { return Err(outcome.word()) };
            Ok(retry_after_ms)
        };
        assert_eq!(wait_of(&[later(9), later(5)]), Ok(error(Some(5))));
        assert_eq!(wait_of(&[later(9), Remedy::Retry]), Ok(None));
        assert_eq!(wait_of(&[later(9), Remedy::OtherProvider]), Ok(error(Some(9))));
        assert_eq!(wait_of(&[Remedy::OtherProvider]), Err("permanent"));
        assert_eq!(wait_of(&[later(9), Remedy::Fatal]), Err("permanent"));
        assert_eq!(outcome(&[Remedy::Retry, Remedy::OtherProvider]).message(), Some("m: x; m: x"));
    }
}
