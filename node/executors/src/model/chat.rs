//! A question to a language model, and its answer word by word.

use std::io;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use genai::adapter::AdapterKind;
use genai::chat::{ChatMessage, ChatOptions, ChatRequest, ChatStreamEvent, StreamEnd, Usage};
use genai::resolver::{AuthData, Endpoint};
use genai::webc::StreamTimeout;
use genai::{ModelIden, ServiceTarget};
use jobmesh_protocol::DurationMillis;
use jobmesh_protocol::outcome::ModelUse;
use jobmesh_protocol::task::{LlmTask, Role};
use serde::Serialize;
use tokio::sync::mpsc;

use super::failure::{Answer, Failure, Remedy};
use super::frames::{Seen, Watch};
use super::meter::Meter;
use super::settings::ProviderKind;
use super::{Asked, Halt, short};
use crate::event::{Event, chain, clip};
use crate::output::Stream;
use crate::stage::Stage;

/// How long a model may think before its first word. A large one on a small machine reads a long question for minutes.
const FIRST_WORD_MAX: Duration = Duration::from_secs(600);
/// How long it may pause in the middle.
const PAUSE_MAX: Duration = Duration::from_secs(120);
/// Longest answer in bytes: far more than any model says.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Pieces of an answer that may wait to be written down.
const EVENTS_MAX: usize = 16;
/// How often it is told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// The result of a run.
#[derive(Debug, Serialize)]
struct Said<'a> {
    text: &'a str,
    provider: &'a str,
    model: &'a str,
    finish: Option<&'a str>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cost_micros: Option<u64>,
}

/// Asks one provider, writes down what it says, and notes what is known of it as soon as it is.
pub(super) async fn ask(
    client: &genai::Client,
    asked: &Asked<'_>,
    (task, texts): (&LlmTask, &[String]),
    stage: &mut Stage<'_>,
    used: &mut ModelUse,
) -> Result<(), Halt> {
    let began = Instant::now();
    let watch = Watch::default();
    let mut hearing = Hearing { asked, stage, used, began, text: String::new(), told: began };
    let question = (target(asked), request(task, texts), options(task, asked, &watch));
    let mut events = listen(client.clone(), question).map_err(|error| {
        Halt::Silent(Failure::new(Remedy::Retry, format!("failed to start a thread for the answer: {error}")))
    })?;
    let mut end = None;
    let mut patience = FIRST_WORD_MAX;
    loop {
        // A piece without an end is none, however much of it comes.
        let Ok(event) = tokio::time::timeout(patience, events.recv()).await else {
            return Err(hearing.halt(Failure::new(Remedy::Retry, "the model said nothing for too long")));
        };
        let Some(event) = event else { break };
        patience = PAUSE_MAX;
        match event {
            Ok(ChatStreamEvent::End(last)) => {
                end = Some(last);
                break;
            }
            Ok(event) => hearing.hear(&event)?,
            Err(error) => {
                let seen = watch.seen();
                let failure =
                    seen.refusal.as_deref().map_or_else(|| failure(&error, asked), |body| refusal(body, asked));
                return Err(hearing.halt(failure));
            }
        }
    }
    hearing.finish(end, watch.seen())
}

/// What is heard of an answer.
type Heard = Result<ChatStreamEvent, genai::Error>;

/// Has an answer read on a thread of its own, which ends when nobody listens.
///
/// What reads it takes all that has come before it lets anything else happen, so a server that says one endless word would
/// keep a run from hearing that it must end. There it shares its thread with what brings more, and has to wait for that.
fn listen(
    client: genai::Client,
    question: (ServiceTarget, ChatRequest, ChatOptions),
) -> io::Result<mpsc::Receiver<Heard>> {
    let (events, heard) = mpsc::channel(EVENTS_MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let named = std::thread::Builder::new().name("jobmesh-answer".to_owned());
    named.spawn(move || {
        let meter = Meter::start();
        runtime.block_on(async {
            tokio::select! {
                () = read(&client, question, &events, &meter) => {}
                () = meter.ran_out() => tracing::warn!("a provider says one piece without an end"),
                () = events.closed() => {}
            }
        });
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(heard)
}

async fn read(
    client: &genai::Client,
    (target, request, options): (ServiceTarget, ChatRequest, ChatOptions),
    events: &mpsc::Sender<Heard>,
    meter: &Meter,
) {
    let mut stream = match client.exec_chat_stream(target, request, Some(&options)).await {
        Ok(opened) => opened.stream,
        Err(error) => {
            // Whoever asked may have gone.
            let _ = events.send(Err(error)).await;
            return;
        }
    };
    while let Some(event) = stream.next().await {
        meter.begin();
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// An answer that is being heard.
struct Hearing<'h, 'o> {
    asked: &'h Asked<'h>,
    stage: &'h mut Stage<'o>,
    used: &'h mut ModelUse,
    began: Instant,
    text: String,
    told: Instant,
}

impl Hearing<'_, '_> {
    fn hear(&mut self, event: &ChatStreamEvent) -> Result<(), Halt> {
        match event {
            ChatStreamEvent::Chunk(chunk) => {
                self.begin();
                if self.text.len().saturating_add(chunk.content.len()) > ANSWER_BYTES_MAX {
                    let problem = format!("the answer is longer than {ANSWER_BYTES_MAX} bytes");
                    return Err(Halt::Midway(Failure::new(Remedy::Fatal, problem)));
                }
                self.stage.say(Stream::Stdout, chunk.content.as_bytes())?;
                self.text.push_str(&chunk.content);
            }
            // What it thinks is no part of the answer, but people want to see it.
            ChatStreamEvent::ReasoningChunk(chunk) => {
                self.begin();
                self.stage.say(Stream::Stderr, chunk.content.as_bytes())?;
            }
            ChatStreamEvent::Start
            | ChatStreamEvent::ThoughtSignatureChunk(_)
            | ChatStreamEvent::ToolCallChunk(_)
            | ChatStreamEvent::End(_)
            | ChatStreamEvent::Heartbeat => {}
        }
        if self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            let what = format!("{} has said {} characters", self.used.model, self.text.chars().count());
            self.asked.control.emit(Event::Progress { run: self.asked.order.run, done: None, what });
        }
        Ok(())
    }

    fn begin(&mut self) {
        let began = self.began;
        self.used.first_token_ms.get_or_insert_with(|| millis(began));
    }

    fn halt(&self, failure: Failure) -> Halt {
        if self.used.first_token_ms.is_none() { Halt::Silent(failure) } else { Halt::Midway(failure) }
    }

    /// Judges how it ended and writes the result.
    fn finish(mut self, end: Option<StreamEnd>, seen: Seen) -> Result<(), Halt> {
        self.used.latency_ms = Some(millis(self.began));
        if let Some(model) = seen.model {
            self.used.model = model;
        }
        let usage = end.as_ref().and_then(|end| end.captured_usage.as_ref());
        self.count(usage);
        let reason = end.as_ref().and_then(|end| end.captured_stop_reason.as_ref()).map(|reason| short(reason.raw()));
        self.used.finish = seen.finish.or(reason);
        if let Some(body) = seen.refusal {
            return Err(self.halt(refusal(&body, self.asked)));
        }
        if !seen.any {
            return Err(self.halt(Failure::new(Remedy::Retry, "the provider's answer is not in its format")));
        }
        // These two say by a word of their own that it is over; of the others that word is made up where there is none.
        let says_end = matches!(self.asked.candidate.provider.kind, ProviderKind::OpenAi | ProviderKind::Anthropic);
        if self.used.finish.is_none() && !(end.is_some() && says_end) {
            return Err(self.halt(Failure::new(Remedy::Retry, "the answer was cut before its end")));
        }
        if self.text.is_empty() && self.used.finish.as_deref().is_some_and(is_filter) {
            return Err(self.halt(Failure::new(Remedy::Fatal, "the provider's filter kept the answer back")));
        }
        self.write()
    }

    fn count(&mut self, usage: Option<&Usage>) {
        // A server that doesn't count says 0 as well. No question is empty, and neither is an answer with words.
        let known = |count: Option<i32>, may_be_0: bool| {
            count.and_then(|count| u64::try_from(count).ok()).filter(|count| *count > 0 || may_be_0)
        };
        self.used.input_tokens = usage.and_then(|usage| known(usage.prompt_tokens, false));
        let is_mute = self.used.first_token_ms.is_none() && self.used.input_tokens.is_some();
        self.used.output_tokens = usage.and_then(|usage| known(usage.completion_tokens, is_mute));
        let used = &mut *self.used;
        used.cost_micros = self.asked.candidate.cost_micros(&used.model, used.input_tokens, used.output_tokens);
    }

    fn write(self) -> Result<(), Halt> {
        let used = &*self.used;
        let result = Said {
            text: &self.text,
            provider: &used.provider,
            model: &used.model,
            finish: used.finish.as_deref(),
            input_tokens: used.input_tokens,
            output_tokens: used.output_tokens,
            cost_micros: used.cost_micros,
        };
        let json = serde_json::to_vec(&result)
            .map_err(|error| Halt::Midway(Failure::new(Remedy::Fatal, format!("the result is no JSON: {error}"))))?;
        Ok(self.stage.give_result(&json)?)
    }
}

fn target(asked: &Asked<'_>) -> ServiceTarget {
    let provider = asked.candidate.provider;
    let kind = match provider.kind {
        ProviderKind::OpenAi => AdapterKind::OpenAI,
        ProviderKind::Anthropic => AdapterKind::Anthropic,
        ProviderKind::Gemini => AdapterKind::Gemini,
        ProviderKind::Ollama => AdapterKind::Ollama,
    };
    // A server of one's own wants no key, but its interface has a place for one.
    let key = asked.key.map_or("none", |key| key.reveal());
    ServiceTarget {
        endpoint: Endpoint::from_owned(provider.url()),
        auth: AuthData::from_single(key),
        model: ModelIden::new(kind, asked.candidate.model.model.clone()),
    }
}

fn request(task: &LlmTask, texts: &[String]) -> ChatRequest {
    let messages = task.messages.iter().zip(texts).map(|(message, text)| match message.role {
        Role::System => ChatMessage::system(text.as_str()),
        Role::User => ChatMessage::user(text.as_str()),
        Role::Assistant => ChatMessage::assistant(text.as_str()),
    });
    ChatRequest::new(messages.collect())
}

fn options(task: &LlmTask, asked: &Asked<'_>, watch: &Watch) -> ChatOptions {
    let watch = watch.clone();
    let mut options = ChatOptions::default()
        .with_capture_usage(true)
        .with_stream_header_timeout(FIRST_WORD_MAX)
        .with_stream_read_timeout(PAUSE_MAX)
        .with_raw_frame_fn(move |_, frame| watch.look(&frame));
    let headers = &asked.candidate.provider.headers;
    if !headers.is_empty() {
        let pairs: Vec<(String, String)> = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        options = options.with_extra_headers(pairs);
    }
    if let Some(milli) = task.temperature_milli {
        options = options.with_temperature(f64::from(milli) / 1000.0);
    }
    if let Some(most) = task.tokens_max {
        options = options.with_max_tokens(most);
    }
    options
}

/// Whether an answer ended because somebody did not like it.
fn is_filter(finish: &str) -> bool {
    const WORDS: [&str; 7] =
        ["content_filter", "refusal", "safety", "recitation", "blocklist", "prohibited_content", "spii"];
    WORDS.iter().any(|word| finish.eq_ignore_ascii_case(word))
}

fn refusal(body: &str, asked: &Asked<'_>) -> Failure {
    Answer { status: None, headers: None, body, key: asked.key }.judge()
}

/// Sorts what the client says went wrong.
fn failure(error: &genai::Error, asked: &Asked<'_>) -> Failure {
    if let genai::Error::HttpError { status, body, headers, .. } = error {
        let (status, headers) = (Some(status.as_u16()), Some(&**headers));
        return Answer { status, headers, body, key: asked.key }.judge();
    }
    if let genai::Error::ChatResponse { body, .. } = error {
        return refusal(&body.to_string(), asked);
    }
    if let genai::Error::WebStream { error, .. } = error {
        if let Some(inner) = error.downcast_ref::<genai::Error>() {
            return failure(inner, asked);
        }
        let words = match error.downcast_ref::<StreamTimeout>() {
            Some(StreamTimeout::Headers) => "the provider did not begin to answer".to_owned(),
            Some(StreamTimeout::Read) => "the provider fell silent".to_owned(),
            None => error.downcast_ref::<reqwest::Error>().map_or_else(|| error.to_string(), transport),
        };
        return Failure::new(Remedy::Retry, scrub(asked, &words));
    }
    if matches!(error, genai::Error::StreamParse { .. } | genai::Error::JsonValueExt(_) | genai::Error::SerdeJson(_)) {
        return Failure::new(Remedy::Retry, "the provider's answer is not in its format");
    }
    Failure::new(Remedy::Fatal, scrub(asked, &clip(error.to_string())))
}

/// What a connection died of, without the address.
pub(super) fn transport(error: &reqwest::Error) -> String {
    let what =
        if error.is_connect() { "the provider can't be reached" } else { "the connection to the provider broke" };
    let mut source = std::error::Error::source(error);
    let mut innermost = None;
    while let Some(inner) = source {
        innermost = Some(inner);
        source = inner.source();
    }
    innermost.map_or_else(|| what.to_owned(), |inner| format!("{what}: {}", chain(inner)))
}

fn scrub(asked: &Asked<'_>, words: &str) -> String {
    asked.key.map_or_else(|| words.to_owned(), |key| key.scrub(words))
}

pub(super) fn millis(since: Instant) -> DurationMillis {
    DurationMillis(u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX))
}
