//! What a job waits for, and the group that it joins.

use clap::Args;
use jobmesh_protocol::submission::{Condition, Rule};

use super::Draft;
use crate::cli::job_ref::JobRef;

#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Together with other jobs")]
pub(super) struct AfterOptions {
    /// Wait for another job or array: 42, 42:ok, 42:done or 42:failed, also `last` (may be repeated)
    ///
    /// 42:failed is met if it was discarded, cancelled or skipped; 42:done by any end.
    #[arg(long, value_name = "JOB[:HOW]", value_delimiter = ',', value_parser = parse_after)]
    after: Vec<(JobRef, Option<Condition>)>,
    /// How many of those must end how: all_success, all_done, any_success, none_failed or always
    /// [default: all_success]
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    after_rule: Option<Rule>,
    /// Give it the results of the jobs that it waits for, as a file of JSON lines in $JOBMESH_RESULTS
    #[arg(long)]
    reduce: bool,
    /// Open a group that takes further jobs until `jobmesh close`; it needs no command
    #[arg(long)]
    open: bool,
    /// Become a task of this open group
    #[arg(long, value_name = "JOB")]
    into: Option<JobRef>,
}

impl AfterOptions {
    pub(super) const fn names_jobs(&self) -> bool {
        !self.after.is_empty() || self.into.is_some()
    }

    /// Whether it opens a group.
    pub(super) const fn opens(&self) -> bool {
        self.open
    }

    pub(super) fn lay_over(self, draft: &mut Draft) {
        let submission = &mut draft.submission;
        submission.rule = self.after_rule.unwrap_or(submission.rule);
        submission.reduce |= self.reduce;
        submission.open |= self.open;
        draft.after.extend(self.after);
        draft.into = self.into.or_else(|| draft.into.take());
    }
}

fn parse_after(text: &str) -> Result<(JobRef, Option<Condition>), String> {
    let Some((job, how)) = text.split_once(':') else { return Ok((text.parse()?, None)) };
    let known = "a job is waited for to end :ok, :done or :failed";
    let how = Condition::from_word(how).ok_or_else(|| known.to_owned())?;
    Ok((job.parse()?, Some(how)))
}

fn parse_rule(text: &str) -> Result<Rule, String> {
    Rule::from_word(&text.replace('-', "_")).ok_or_else(|| {
        let known: Vec<_> = Rule::ALL.iter().map(|rule| rule.word()).collect();
        format!("the rules are {}", known.join(", "))
    })
}
