//! Which jobs a command is about: by name, by what they are like, or both; and the question before much is changed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use jobmesh::api::{Filter, JobList, Pick, SelectRequest};
use jobmesh_protocol::{JobState, UnixMillis};

use crate::cli::time_words::parse_since;
use crate::cli::{Failure, Kind};
use crate::client::Client;

// Jobs, by name or by what they are like.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Selector {
    /// The jobs: numbers, tasks such as 42.7 or 42.3-9, lists such as 3,7-9, whole ids, `last`, `last.3`, or
    /// `all`
    #[arg(value_name = "JOB")]
    pub(crate) jobs: Vec<Pick>,
    /// What they are like.
    #[command(flatten)]
    pub(crate) filter: FilterOptions,
}

// What jobs are like.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct FilterOptions {
    /// Only jobs in this state (several with commas)
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    pub(crate) states: Vec<JobState>,
    /// Only jobs in this queue
    #[arg(long, short = 'Q', value_name = "QUEUE")]
    pub(crate) queue: Option<String>,
    /// Only jobs of this type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) job_type: Option<String>,
    /// Only jobs of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Only jobs with this label (may be repeated)
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only jobs that this schedule submitted
    #[arg(long, value_name = "NAME")]
    pub(crate) schedule: Option<String>,
    /// The tasks of groups too, not only the groups
    #[arg(long)]
    pub(crate) tasks: bool,
    /// Only jobs that were submitted since then: a length of time such as 7d, or a date
    #[arg(long, value_name = "TIME", value_parser = parse_since, allow_hyphen_values = true)]
    pub(crate) since: Option<UnixMillis>,
}

impl FilterOptions {
    fn filter(self) -> Filter {
        let Self { states, queue, job_type, name, labels, schedule, tasks, since } = self;
        let labels = labels.into_iter().collect();
        Filter { states, live: false, queue, job_type, name, labels, schedule, tasks, since }
    }
}

impl Selector {
    /// What the daemon is asked for.
    pub(crate) fn request(self, limit: Option<u32>) -> SelectRequest {
        SelectRequest { jobs: self.jobs, filter: self.filter.filter(), limit }
    }

    /// What the daemon is asked for, if anything was said at all.
    ///
    /// # Errors
    /// [`Failure`] if nothing was said: that never means all.
    pub(crate) fn said(self) -> Result<SelectRequest, Failure> {
        let request = self.request(None);
        if request.jobs.is_empty() && request.filter.is_empty() {
            let failure = Failure::new(Kind::Usage, "no jobs are named");
            return Err(
                failure.hint("name them, such as 42 or 3,7-9, say what they are like, such as --state, or say `all`")
            );
        }
        Ok(request)
    }
}

/// Makes sure that someone means it, if `request` changes more than one job that was not named. `None` if it means
/// no job at all.
///
/// # Errors
/// [`Failure`] if nobody can be asked, or the answer is no.
pub(crate) async fn confirm(
    client: &Client,
    request: SelectRequest,
    (verb, is_meant): (&str, bool),
) -> Result<Option<SelectRequest>, Failure> {
    let is_named = request.filter.is_empty() && !request.jobs.contains(&Pick::All);
    if is_named || is_meant {
        return Ok(Some(request));
    }
    let found: JobList = client.post("/v1/select", &request).await?;
    let count = found.jobs.len();
    if count > 1 {
        let many = if found.more { format!("the newest {count}") } else { count.to_string() };
        make_sure(&format!("{verb} {many} jobs"), "; `jobmesh ls` with the same options lists them")?;
    }
    // Those that were counted and no others, whatever came in the meantime.
    let jobs: Vec<Pick> = found.jobs.iter().map(|job| Pick::Id(job.id)).collect();
    let request = SelectRequest { jobs, filter: Filter::default(), limit: request.limit };
    Ok((count > 0).then_some(request))
}

/// Asks whether someone means to do so much, and says what else to do about it where nobody can be asked.
///
/// # Errors
/// [`Failure`] if nobody can be asked, or the answer is no.
pub(crate) fn make_sure(deed: &str, advice: &str) -> Result<(), Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let failure = Failure::new(Kind::Usage, format!("this would {deed}"));
        return Err(failure.hint(format!("add --yes if that is meant{advice}")));
    }
    let fault = |error: io::Error| Failure::of(Kind::File, &error);
    let mut stderr = io::stderr().lock();
    write!(stderr, "This would {deed}. Go on? [y/N] ").and_then(|()| stderr.flush()).map_err(fault)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(fault)?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Kind::Usage, "nothing was changed")),
    }
}

/// Reads the word for a state.
pub(crate) fn parse_state(word: &str) -> Result<JobState, String> {
    JobState::from_word(word).ok_or_else(|| {
        let known: Vec<_> = JobState::ALL.iter().map(|state| state.word()).collect();
        format!("the states are {}", known.join(", "))
    })
}

/// Reads `KEY=VALUE`.
pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err("write it as KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        selector: Selector,
    }

    fn request(line: &str) -> Result<SelectRequest, Failure> {
        Line::try_parse_from(std::iter::once("x").chain(line.split_whitespace())).unwrap().selector.said()
    }

    #[test]
    fn names_and_likeness_are_put_together() {
        let request = request("3,7-9 last --state completed,discarded -Q slow --label a=b").unwrap();
        assert_eq!(request.jobs.len(), 2);
        assert_eq!(request.filter.states, [JobState::Completed, JobState::Discarded]);
        assert_eq!(request.filter.labels.get("a").unwrap(), "b");
        assert_eq!(request.filter.queue.as_deref(), Some("slow"));
    }

    #[test]
    fn nothing_said_is_not_everything() {
        assert!(request("").unwrap_err().text().contains("say `all`"));
        assert!(request("all").is_ok());
    }
}
