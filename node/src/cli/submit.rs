//! `jobmesh submit`: queue jobs and return, or say what would become of them.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use jobmesh::api::{BATCH_LINES_MAX, Batch, Explanation, JobDetail, Submitted};
use jobmesh_protocol::Submission;
use serde_json::json;

use crate::cli::explain;
use crate::cli::job_options::{JobOptions, Script};
use crate::cli::run;
use crate::cli::time_words::now;
use crate::cli::{Context, Exit, Failure, JobRef, Kind, note};
use crate::client::Client;

/// Most bytes of lines that are sent at once.
const BATCH_BYTES_MAX: usize = 32 << 20;

#[derive(Args, Debug)]
#[command(
    after_help = "Writes the number of the job. When it has done so, the job survives a power cut. The node must \
                        be up: `jobmesh up -d` starts it. `jobmesh run -d` queues a job too, and starts a node first if \
                        none runs.\n\n\
                        Examples:\n  \
                        jobmesh submit --retries 3 -- make all\n  \
                        jobmesh submit build.sh release      # a script, with its arguments; see #JM above\n  \
                        jobmesh submit --array 1-100%4 -- sh -c 'echo $JOBMESH_ARRAY_INDEX'\n  \
                        jobmesh submit --dry-run -o json -- true | jq .submission | jobmesh submit -f -"
)]
pub(crate) struct Submit {
    /// Wait until the job has ended, and end as `jobmesh wait` does
    #[arg(long, short, conflicts_with = "dry_run")]
    wait: bool,
    /// Follow the job to its end, as `jobmesh run` does
    #[arg(long, conflicts_with_all = ["wait", "dry_run"])]
    follow: bool,
    /// Say what would become of the job and why, and queue nothing; with -q in a word: start, wait or exists
    #[arg(long)]
    dry_run: bool,
    /// Queue a job for each line that we read: submissions as JSON, those of 10 000 lines at once or not at all
    #[arg(long, conflicts_with_all = ["wait", "follow", "dry_run", "script", "file", "command", "kind"])]
    stdin_jobs: bool,
    /// A script to run, with its arguments; what it wants is in its own lines that begin with `#JM` and a blank. What
    /// runs is what is in the file when the job starts
    #[arg(value_name = "SCRIPT", num_args = 1.., conflicts_with = "file")]
    script: Vec<String>,
    #[command(flatten)]
    options: JobOptions,
}

impl Submit {
    pub(crate) async fn run(self, context: &Context) -> Result<Exit, Failure> {
        let client = context.client()?;
        if self.stdin_jobs {
            return submit_lines(context, &client).await;
        }
        let script = script(self.script, self.options.says_what())?;
        if self.follow {
            return Box::pin(run::follow(context, &client, (self.options, script))).await;
        }
        let submission = self.options.into_submission(&client, script.as_ref()).await?;
        if self.dry_run {
            return plan(context, &client, &submission).await;
        }
        let job: Submitted = client.post("/v1/jobs", &submission).await?;
        if !self.wait {
            return show(context, &job);
        }
        show(context, &job)?;
        let detail: JobDetail = client.get(&format!("/v1/jobs/{}/wait", JobRef::of(job.id))).await?;
        Ok(Exit::of_wait(&detail.job))
    }
}

fn script(words: Vec<String>, says_what: bool) -> Result<Option<Script>, Failure> {
    let mut words = words.into_iter();
    let Some(path) = words.next() else { return Ok(None) };
    if says_what {
        let failure = Failure::new(Kind::Usage, format!("both the script {path} and a command say what to run"));
        return Err(failure.hint("arguments of the script stand right behind it; a command stands behind `--`"));
    }
    Script::read(&PathBuf::from(path), words.collect()).map(Some)
}

/// Says what would become of a submission.
async fn plan(context: &Context, client: &Client, submission: &Submission) -> Result<Exit, Failure> {
    let plan: Explanation = client.post("/v1/plan", submission).await?;
    let both = json!({ "submission": submission, "plan": plan });
    context.output.one(&both, verdict(&plan), |colour| explain::text(&plan, now(), colour))?;
    Ok(Exit::OK)
}

/// What would become of a submission, in a word.
const fn verdict(plan: &Explanation) -> &'static str {
    match (plan.number, plan.reasons.is_empty()) {
        (Some(_), _) => "exists",
        (None, true) => "start",
        (None, false) => "wait",
    }
}

/// Shows a job that was just submitted: its number, so that a script can take it as it is.
pub(crate) fn show(context: &Context, job: &Submitted) -> Result<Exit, Failure> {
    context.output.show(job, |_| format!("{}\n", job.name()))?;
    if job.is_merged && !context.output.is_quiet() {
        note(&format!("merged into job {}, which has the same key", job.name()));
    } else if !job.is_new && !context.output.is_quiet() {
        note(&format!("job {} of the same key is there already; nothing new was queued", job.name()));
    } else if !context.output.is_json() && !context.output.is_quiet() && io::stdout().is_terminal() {
        note(&format!("queued; follow it with `jobmesh logs -f {}`", job.name()));
    }
    Ok(Exit::OK)
}

/// Queues what we read, some thousand lines at once.
async fn submit_lines(context: &Context, client: &Client) -> Result<Exit, Failure> {
    let mut sent = 0;
    loop {
        let (chunk, lines) = read_chunk()?;
        if lines == 0 {
            return Ok(Exit::OK);
        }
        let answer: Result<Batch, _> = client.post_bytes("/v1/jobs/batch", Bytes::from(chunk)).await;
        let batch = answer.map_err(|error| {
            let failure = Failure::from(error);
            if sent == 0 { failure } else { failure.hint(format!("the first {sent} lines were queued")) }
        })?;
        sent += lines;
        let text = |[first, last]: &[u64; 2]| {
            if first == last { format!("{first}\n") } else { format!("{first}-{last}\n") }
        };
        context.output.show(&batch, |_| batch.numbers.iter().map(text).collect())?;
    }
}

/// Reads as many lines as may be sent at once, and counts them.
fn read_chunk() -> Result<(Vec<u8>, usize), Failure> {
    let mut input = io::stdin().lock();
    let (mut chunk, mut lines) = (Vec::new(), 0);
    while lines < BATCH_LINES_MAX && chunk.len() < BATCH_BYTES_MAX {
        let read = input.read_until(b'\n', &mut chunk);
        let read = read.map_err(|error| Failure::new(Kind::File, format!("failed to read the lines: {error}")))?;
        if read == 0 {
            break;
        }
        lines += 1;
    }
    Ok((chunk, lines))
}
