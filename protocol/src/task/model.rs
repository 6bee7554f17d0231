//! Tasks for models: questions and embeddings.

use serde::{Deserialize, Serialize};

use super::{Content, TaskError, content_text};
use crate::state::words;

/// Most messages of a question, and most texts to be embedded.
pub const TEXTS_MAX: usize = 2048;
/// Longest name of a model in bytes.
const MODEL_BYTES_MAX: usize = 128;
/// Highest temperature, in thousandths.
const TEMPERATURE_MAX: u16 = 2000;

words!(
    /// Who said something.
    Role {
        /// Whoever sets the rules of the conversation.
        System = "system",
        /// Whoever asks.
        User = "user",
        /// The model.
        Assistant = "assistant",
    }
);

words!(
    /// How hard a question is: which model of the node's table answers it.
    Complexity {
        /// A small and fast model is enough.
        Simple = "simple",
        /// An ordinary one.
        Medium = "medium",
        /// The best there is.
        Complex = "complex",
    }
);

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: Content,
}

/// A question to a language model. Its answer is the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmTask {
    /// What was said up to now; the last message is what is answered.
    pub messages: Vec<Message>,
    /// The model, as `provider/model` or by a name that the node knows; none leaves it to the complexity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How hard it is; none leaves it to the job's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complexity: Option<Complexity>,
    /// Most tokens of the answer; none is up to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_max: Option<u32>,
    /// How freely it answers, in thousandths from 0 to 2000; none is up to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_milli: Option<u16>,
}

impl LlmTask {
    /// Asks the node's usual model one question.
    #[must_use]
    pub fn new(question: impl Into<String>) -> Self {
        let messages = vec![Message { role: Role::User, content: Content::Text(question.into()) }];
        Self { messages, model: None, complexity: None, tokens_max: None, temperature_milli: None }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let contents = self.messages.iter_mut().filter_map(|message| content_text(&mut message.content));
        contents.chain(&mut self.model)
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        if self.messages.last().is_none_or(|message| message.role != Role::User) {
            return Err(TaskError::Part { what: "conversation", problem: "must end with a message of the user" });
        }
        if self.messages.last().is_some_and(|message| message.content.is_blank()) {
            return Err(TaskError::Part { what: "question", problem: "is empty; a model would answer anything" });
        }
        if self.messages.len() > TEXTS_MAX {
            return Err(TaskError::TooMany { what: "messages", found: self.messages.len(), limit: TEXTS_MAX });
        }
        if self.tokens_max == Some(0) {
            return Err(TaskError::Part { what: "limit on tokens", problem: "is 0; leave it out for no limit" });
        }
        if self.temperature_milli.is_some_and(|milli| milli > TEMPERATURE_MAX) {
            return Err(TaskError::Part { what: "temperature", problem: "must be from 0 to 2" });
        }
        check_model(self.model.as_deref())
    }
}

/// Vectors for texts. The result is a JSON object with the model, the dimension and the vectors in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingTask {
    /// The texts.
    pub texts: Vec<Content>,
    /// The model, as `provider/model` or by a name that the node knows; none is the node's usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl EmbeddingTask {
    /// Embeds `texts` with the node's usual model.
    pub fn new<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self { texts: texts.into_iter().map(|text| Content::Text(text.into())).collect(), model: None }
    }

    pub(super) fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        self.texts.iter_mut().filter_map(content_text).chain(&mut self.model)
    }

    pub(super) fn check(&self) -> Result<(), TaskError> {
        if self.texts.is_empty() {
            return Err(TaskError::Part { what: "list of texts", problem: "is empty; give at least one" });
        }
        if self.texts.len() > TEXTS_MAX {
            return Err(TaskError::TooMany { what: "texts", found: self.texts.len(), limit: TEXTS_MAX });
        }
        check_model(self.model.as_deref())
    }
}

fn check_model(model: Option<&str>) -> Result<(), TaskError> {
    let is_name = |name: &str| {
        !name.is_empty() && name.len() <= MODEL_BYTES_MAX && !name.contains(|c: char| c.is_control() || c == ' ')
    };
    if model.is_none_or(is_name) {
        return Ok(());
    }
    Err(TaskError::Part { what: "model", problem: "must be its name in 1 to 128 bytes without blanks" })
}
