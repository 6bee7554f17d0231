//! The options of `run`, `submit` and `cron add`, and the submission that they make.
//!
//! They come in groups, one file each. Every option says something only if it was given, so that the same options can
//! stand on the command line, in a script's `#JM` lines, and over a file that holds a whole submission: each is laid
//! over what was there before.

mod after;
mod array;
mod files;
mod kind;
mod limits;
mod needs;
mod script;
mod source;
mod tries;
mod unique;
mod when;
mod work;

use std::path::PathBuf;

use clap::Args;
use jobmesh::api::{JobList, Pick, SelectRequest};
use jobmesh_protocol::job::{JobSpec, Scope};
use jobmesh_protocol::submission::{Condition, Dependency, Start};
use jobmesh_protocol::task::Task;
use jobmesh_protocol::{JobId, Submission};

use crate::cli::failure::{Failure, Kind};
use crate::cli::job_ref::JobRef;
use crate::cli::time_words::now;
use crate::client::{Client, segment};

pub(crate) use script::Script;
pub(crate) use unique::parse_rate_limit;

// What to run and how.
#[derive(Args, Debug, Default)]
pub(crate) struct JobOptions {
    #[command(flatten)]
    source: source::SourceOptions,
    #[command(flatten)]
    work: work::WorkOptions,
    #[command(flatten)]
    files: files::FilesOptions,
    #[command(flatten)]
    needs: needs::NeedsOptions,
    #[command(flatten)]
    when: when::WhenOptions,
    #[command(flatten)]
    tries: tries::TriesOptions,
    #[command(flatten)]
    limits: limits::LimitsOptions,
    #[command(flatten)]
    after: after::AfterOptions,
    #[command(flatten)]
    array: array::ArrayOptions,
    #[command(flatten)]
    unique: unique::UniqueOptions,
}

/// A submission that is being put together.
#[derive(Debug)]
struct Draft {
    submission: Submission,
    /// The file that becomes its standard input.
    stdin: Option<PathBuf>,
    /// What is to be in its working directory.
    inputs: Vec<files::Input>,
    /// The files that become other parts of its task.
    uploads: Vec<kind::Upload>,
    /// The jobs that it waits for, as they were named.
    after: Vec<(JobRef, Option<Condition>)>,
    /// The open group that it joins, as it was named.
    into: Option<JobRef>,
    /// Whether anyone said where it may run.
    is_place_said: bool,
}

impl Draft {
    fn new(submission: Submission) -> Self {
        let (inputs, uploads, after) = (Vec::new(), Vec::new(), Vec::new());
        Self { submission, stdin: None, inputs, uploads, after, into: None, is_place_said: false }
    }

    /// What was written down as a whole, its place included.
    fn whole(submission: Submission) -> Self {
        Self { is_place_said: true, ..Self::new(submission) }
    }

    /// A job that does this; where it may run is still open.
    fn of(job_type: String, task: Task) -> Self {
        Self::new(Submission::new(JobSpec::new(job_type, task)))
    }

    /// Settles what was left open, and checks every bound.
    fn settle(&mut self) -> Result<(), Failure> {
        files::check_directory(self)?;
        let spec = &mut self.submission.spec;
        if !self.is_place_said {
            spec.scope =
                if spec.requirements.is_empty() || !spec.secrets.is_empty() { Scope::Local } else { Scope::Hybrid };
        }
        if let Task::Process(process) = &spec.task
            && process.directory.is_some()
            && spec.scope != Scope::Local
        {
            let message = "--cwd names a directory of this machine, but the job may run on another one";
            return Err(Failure::new(Kind::Usage, message).hint("add --where local, or leave --cwd out"));
        }
        // The jobs that it waits for are not known by their ids yet, but that there are some is.
        let stands_in = self.after.iter().map(|(_, on)| Dependency { job: JobId::from_bytes([0; 16]), on: *on });
        let mut whole = self.submission.clone();
        whole.after.extend(stands_in);
        whole.into = whole.into.or_else(|| self.into.as_ref().map(|_| JobId::from_bytes([0; 16])));
        if let Start::After(wait) = whole.start {
            // By the clock here, which may be another than that of the node, but not by much.
            whole.start = Start::At(now().plus(wait));
        }
        whole.check().map_err(|error| Failure::of(Kind::Usage, &error))?;
        let does_something = !matches!(self.submission.spec.task, Task::Noop {});
        if self.submission.open && does_something {
            let failure = Failure::new(Kind::Usage, "an open group runs nothing itself, and here is a command for it");
            return Err(failure.hint("open it with `jobmesh submit --open`, then give it tasks with --into"));
        }
        Ok(())
    }

    /// Asks the node which jobs are meant.
    async fn name(&mut self, client: &Client) -> Result<(), Failure> {
        for (job, on) in std::mem::take(&mut self.after) {
            let job = find(client, &job).await?;
            self.submission.after.push(Dependency { job, on });
        }
        if let Some(group) = self.into.take() {
            self.submission.into = Some(find(client, &group).await?);
        }
        Ok(())
    }

    /// Sends the files to the node.
    async fn bring_input(&mut self, client: &Client) -> Result<(), Failure> {
        let inputs = std::mem::take(&mut self.inputs);
        if !inputs.is_empty() {
            let there = self.submission.spec.inputs;
            self.submission.spec.inputs = Some(Box::pin(files::bring(client, inputs, there)).await?);
        }
        for upload in std::mem::take(&mut self.uploads) {
            let blob = work::upload(client, upload.file.clone()).await?;
            upload.place(&mut self.submission.spec.task, blob);
        }
        let Some(path) = self.stdin.take() else { return Ok(()) };
        let Some(stdin) = self.submission.spec.task.stdin_mut() else {
            return Err(Failure::new(Kind::Usage, "--stdin is for commands; this job reads nothing"));
        };
        *stdin = Some(work::upload(client, path).await?);
        Ok(())
    }
}

async fn find(client: &Client, job: &JobRef) -> Result<JobId, Failure> {
    let pick = job.pick();
    if let Pick::Id(id) = pick {
        return Ok(id);
    }
    let request = SelectRequest { jobs: vec![pick], ..SelectRequest::default() };
    let found: JobList = client.post("/v1/select", &request).await?;
    let missing = || Failure::new(Kind::NotFound, format!("there is no job {job}"));
    found.jobs.first().map(|found| found.id).ok_or_else(missing)
}

impl JobOptions {
    /// Whether the node has to be asked before the submission is whole.
    pub(crate) fn asks_first(&self) -> bool {
        let brings = self.work.stdin.is_some() || !self.files.inputs.is_empty() || self.source.kind.uploads();
        brings || self.after.names_jobs() || self.source.declared().is_some()
    }

    /// Whether anything here says what is to run.
    pub(crate) const fn says_what(&self) -> bool {
        self.source.says_what()
    }

    /// Makes the submission. Its input is sent last, so that a large one is not sent for nothing.
    ///
    /// # Errors
    /// [`Failure`] if a value is out of bounds, a file can't be read, or the node refuses.
    pub(crate) async fn into_submission(self, client: &Client, script: Option<&Script>) -> Result<Submission, Failure> {
        if self.work.stdin.is_none() {
            work::mention_pipe(self.stdin_readers() > 0);
        }
        if self.stdin_readers() > 1 {
            return Err(Failure::new(Kind::Usage, "what is piped in can be read once only, and two options want it"));
        }
        self.source.check()?;
        let base = match (script, self.source.declared()) {
            (Some(script), _) => script.draft()?,
            (None, Some((name, question))) => {
                let path = format!("/v1/types/{}/submission", segment(&name));
                Draft::whole(client.post(&path, &question).await?)
            }
            // A group of others needs no work of its own.
            (None, None) if self.after.opens() && !self.says_what() => Draft::of("group".to_owned(), Task::Noop {}),
            (None, None) => self.source.draft()?,
        };
        let mut draft = self.over(base)?;
        draft.name(client).await?;
        draft.bring_input(client).await?;
        Ok(draft.submission)
    }

    /// How many options read what is piped in.
    fn stdin_readers(&self) -> usize {
        let for_job = self.work.stdin.as_ref().is_some_and(|path| path.as_os_str() == "-");
        usize::from(for_job) + usize::from(self.array.reads_stdin()) + self.source.stdin_readers()
    }

    /// Lays these options over what is there, and settles the rest.
    fn over(self, mut draft: Draft) -> Result<Draft, Failure> {
        self.lay_over(&mut draft)?;
        draft.settle()?;
        Ok(draft)
    }

    /// Says everything that was given, and leaves the rest as it is.
    fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        self.source.lay_over(draft)?;
        self.work.lay_over(draft)?;
        self.files.lay_over(draft);
        self.needs.lay_over(draft)?;
        self.when.lay_over(draft);
        self.tries.lay_over(draft);
        self.limits.lay_over(draft);
        self.after.lay_over(draft);
        self.array.lay_over(draft)?;
        self.unique.lay_over(draft)
    }
}

#[cfg(test)]
mod tests;
