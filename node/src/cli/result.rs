//! `jobmesh result`: what a job said its result is, byte for byte, or as a part of a document.

use clap::Args;
use data_encoding::BASE64;
use jobmesh::api::{JobDetail, JobView};
use jobmesh_protocol::JobId;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::cli::json_text::one_line;
use crate::cli::terminal::{Passage, Way};
use crate::cli::{Context, Exit, Failure, JobRef, Kind};

#[derive(Args, Debug)]
#[command(
    after_help = "With -o json the result is a part of the document: as it is if it is JSON, else as a text, else \
                        as base64; `encoding` says which of them."
)]
pub(crate) struct JobResult {
    /// The job: its number, id, or `last`
    job: JobRef,
    /// Which attempt [default: the last one]
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

impl JobResult {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        let attempt = self.attempt.map_or_else(String::new, |attempt| format!("?attempt={attempt}"));
        let path = |job: &JobRef| format!("/v1/jobs/{job}/result{attempt}");
        if !context.output.is_json() {
            let mut answer = client.bytes(&path(&self.job)).await?;
            let mut passage = Passage::new(Way::Stdout);
            while let Some(piece) = answer.next().await? {
                passage.write(&piece)?;
            }
            passage.finish()?;
            return Ok(Exit::OK);
        }
        let job = client.get::<JobDetail>(&format!("/v1/jobs/{}", self.job)).await?.job;
        // `last` must not become another job on the way.
        let mut answer = client.bytes(&path(&JobRef::of(job.id))).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.next().await? {
            bytes.extend_from_slice(&piece);
        }
        let document = Document::new(&job, &bytes).map_err(|error| Failure::of(Kind::Internal, &error))?;
        context.output.show(&document, |_| String::new())?;
        Ok(Exit::OK)
    }
}

/// How a result stands in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    Json,
    Text,
    Base64,
}

/// A result for a program.
#[derive(Debug, Serialize)]
struct Document {
    job: JobId,
    number: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<u32>,
    encoding: Encoding,
    result: Box<RawValue>,
}

impl Document {
    fn new(job: &JobView, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let (encoding, result) = encode(bytes)?;
        Ok(Self { job: job.id, number: job.number, task: job.task, encoding, result })
    }
}

fn encode(bytes: &[u8]) -> Result<(Encoding, Box<RawValue>), serde_json::Error> {
    if let Ok(value) = serde_json::from_slice::<&RawValue>(bytes) {
        // In the words of the job, but on one line, since a document may be one.
        return Ok((Encoding::Json, RawValue::from_string(one_line(value))?));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok((Encoding::Text, to_raw_value(text)?)),
        Err(_) => Ok((Encoding::Base64, to_raw_value(&BASE64.encode(bytes))?)),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;
    use crate::cli::ls;

    #[test]
    fn a_result_stands_in_a_document_as_what_it_is() {
        for (bytes, encoding, result) in [
            (&b"{\n \"a\": 1.10}\n"[..], Encoding::Json, r#"{"a":1.10}"#),
            (b"12345678901234567890123", Encoding::Json, "12345678901234567890123"),
            (b"two words\n", Encoding::Text, r#""two words\n""#),
            (b"", Encoding::Text, r#""""#),
            (b"\xff\x00", Encoding::Base64, r#""/wA=""#),
        ] {
            let document = Document::new(&ls::tests::example(), bytes).unwrap();
            assert_eq!((document.encoding, document.result.get()), (encoding, result));
            let line = serde_json::to_string(&document).unwrap();
            assert!(line.contains(r#""number":12,"encoding":""#) && !line.contains("task"), "{line}");
        }
    }
}
