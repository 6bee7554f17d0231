//! A question to a language model.

use std::path::Path;

use clap::Args;
use jobmesh_protocol::task::{Complexity, LlmTask, Message, Role, Task};

use super::given::{Given, Part};
use super::misplaced;
use crate::cli::failure::Failure;
use crate::cli::job_options::Draft;

/// Most digits of a temperature behind the point: it is kept in thousandths.
const TEMPERATURE_DIGITS: usize = 3;

#[derive(Args, Debug, Default)]
pub(super) struct LlmOptions {
    /// Ask a language model
    #[arg(long = "llm", value_name = "TEXT|@FILE|-", value_parser = Given::parse, group = "kind")]
    question: Option<Given>,
    /// What the model is told before the question
    #[arg(long, value_name = "TEXT|@FILE|-", value_parser = Given::parse)]
    system: Option<Given>,
    /// How hard the question is, for the node's choice of a model: simple, medium or complex
    #[arg(long, value_name = "LEVEL", value_parser = parse_complexity)]
    complexity: Option<Complexity>,
    /// Most tokens of the answer
    #[arg(long, value_name = "N")]
    tokens: Option<u32>,
    /// How freely the model answers, from 0 to 2
    #[arg(long, value_name = "T", value_parser = parse_temperature)]
    temperature: Option<u16>,
}

impl LlmOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.question.is_some()
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.question, &self.system].into_iter().flatten().filter_map(Given::file)
    }

    /// The job, which is grouped by `name`.
    pub(super) fn draft(&self, name: &str) -> Option<Draft> {
        let question = self.question.as_ref()?;
        let messages = vec![Message { role: Role::User, content: question.content() }];
        let task = Task::Llm(LlmTask { messages, ..LlmTask::new("") });
        let uploads = question.upload(Part::Question).into_iter().collect();
        Some(Draft { uploads, ..Draft::of(name.to_owned(), task) })
    }

    /// The first option that says something.
    const fn said(&self) -> Option<&'static str> {
        if self.system.is_some() {
            Some("--system")
        } else if self.complexity.is_some() {
            Some("--complexity")
        } else if self.tokens.is_some() {
            Some("--tokens")
        } else if self.temperature.is_some() {
            Some("--temperature")
        } else {
            None
        }
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        let Some(said) = self.said() else { return Ok(()) };
        let task = &mut draft.submission.spec.task;
        let Task::Llm(llm) = &mut *task else { return Err(misplaced(said, "--llm", task)) };
        if let Some(system) = &self.system {
            llm.messages.retain(|message| message.role != Role::System);
            llm.messages.insert(0, Message { role: Role::System, content: system.content() });
            draft.uploads.extend(system.upload(Part::System));
        }
        llm.complexity = self.complexity.or(llm.complexity);
        llm.tokens_max = self.tokens.or(llm.tokens_max);
        llm.temperature_milli = self.temperature.or(llm.temperature_milli);
        Ok(())
    }
}

fn parse_complexity(word: &str) -> Result<Complexity, String> {
    Complexity::from_word(word).ok_or_else(|| "write simple, medium or complex".to_owned())
}

/// Reads a number such as 0.7 as thousandths.
fn parse_temperature(text: &str) -> Result<u16, String> {
    let wrong = || "write it as a number from 0 to 2, such as 0.7".to_owned();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = !text.is_empty() && whole.bytes().chain(decimals.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number || decimals.len() > TEMPERATURE_DIGITS || (whole.is_empty() && decimals.is_empty()) {
        return Err(wrong());
    }
    let milli = format!("{whole}{decimals:0<3}").parse::<u16>().map_err(|_| wrong())?;
    if milli > 2000 { Err(wrong()) } else { Ok(milli) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temperature_is_exact() {
        for (text, milli) in [("0", 0), ("0.7", 700), ("2", 2000), (".125", 125), ("1.", 1000)] {
            assert_eq!(parse_temperature(text), Ok(milli), "{text}");
        }
        for text in ["", ".", "2.1", "-1", "0.1234", "1e1", "99999"] {
            assert!(parse_temperature(text).is_err(), "{text}");
        }
    }
}
