//! What the commands that change jobs share: find those that are meant, make sure, do it, say what became of each.

use clap::Args;
use jobmesh::api::{ActRequest, Acted, ActedJob, Action, Pick, SelectRequest};
use jobmesh_protocol::JobState;

use crate::cli::selector::{Selector, confirm};
use crate::cli::{Context, Exit, Failure, note};

// The jobs that a command changes.
#[derive(Args, Debug)]
pub(crate) struct Target {
    /// Which jobs.
    #[command(flatten)]
    pub(crate) selector: Selector,
    /// Do it without asking, however many jobs it is
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// A change, and the words for it.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// What it is called when it is asked for: `cancel`.
    pub(crate) verb: &'static str,
    /// To which of many it can be done.
    pub(crate) only: Only,
    /// What a job does afterwards: `is being cancelled`.
    pub(crate) done: String,
    /// What it did already, where nothing changed.
    pub(crate) same: &'static str,
    /// What is asked of the node.
    pub(crate) action: Action,
}

/// Which jobs a change is for. Who says `all`, or what jobs are like, means these; a job that was named is tried in any
/// case, so that its refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    /// Those that have not ended.
    Live,
    /// Those that have ended.
    Ended,
    /// Those that have ended otherwise than they should, and groups that hold such.
    Failed,
}

impl Only {
    /// Leaves out what the change is not for, unless states were named.
    fn narrow(self, mut request: SelectRequest) -> SelectRequest {
        let is_named = request.filter.is_empty() && !request.jobs.contains(&Pick::All);
        if is_named || !request.filter.states.is_empty() {
            return request;
        }
        match self {
            Self::Live => request.filter.live = true,
            Self::Ended => request.filter.states = JobState::ALL.iter().copied().filter(|it| it.is_final()).collect(),
            Self::Failed => {
                request.filter.states = vec![JobState::Discarded, JobState::Cancelled, JobState::Skipped];
            }
        }
        request
    }
}

/// Does `deed` to the jobs that `target` means.
///
/// # Errors
/// [`Failure`] of the first job that was refused; the others are done all the same.
pub(crate) async fn act(context: &Context, target: Target, deed: Deed) -> Result<Exit, Failure> {
    let client = context.client()?;
    let select = deed.only.narrow(target.selector.said()?);
    let acted: Acted = match confirm(&client, select, (deed.verb, target.yes)).await? {
        Some(select) => client.post("/v1/actions", &ActRequest { select, action: deed.action.clone() }).await?,
        None => Acted { jobs: Vec::new(), more: false },
    };
    let refused = acted.jobs.iter().find_map(|job| job.error.clone()).map(Failure::from);
    if let (1, Some(failure)) = (acted.jobs.len(), &refused) {
        return Err(failure.clone());
    }
    let done: Vec<&ActedJob> = acted.jobs.iter().filter(|job| job.error.is_none()).collect();
    let line = |job: &&ActedJob| {
        let what = if job.changed { deed.done.as_str() } else { deed.same };
        let held = if job.stays_held { ", once it is released: it is still held" } else { "" };
        format!("job {} {what}{held}\n", job.name())
    };
    context.output.list((&acted, &acted.jobs), ActedJob::name, |_| done.iter().map(line).collect())?;
    if acted.jobs.is_empty() && !context.output.is_json() {
        note("no job is like that");
    }
    if acted.more {
        note("there are more jobs like that; say it again to go on");
    }
    match refused {
        // The document has told it already.
        Some(failure) if context.output.is_json() => Ok(failure.exit()),
        Some(failure) => Err(failure),
        None => Ok(Exit::OK),
    }
}
