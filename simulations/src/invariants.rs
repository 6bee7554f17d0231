//! The promises, one function each. A failed one names itself in the report.
//!
//! They read what nodes keep and say, never how the engine thinks; so none of them can share its mistakes. Those whose
//! names begin with `g1` to `g6` are the guarantees that the README gives.

use std::fmt;

use jobmesh_engine::RunOrder;
use jobmesh_protocol::chain::Audit;
use jobmesh_protocol::envelope::Envelope;
use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::state::{Cause, transition};
use jobmesh_protocol::ticket::Verdict;
use jobmesh_protocol::{AttemptState, BlobRef, DurationMillis, Epoch, JobId, JobState, NodeId, Outcome, RunId};
use jobmesh_store::{Event, Job, LeasePhase, ReceiptRow, StoreError, View};

use crate::network::Seat;
use crate::oracle::{Contract, Facts, Ledger, Seen, Sight};

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant_{invariant}: {detail}")]
pub struct Violation {
    /// The name of the invariant, without its prefix.
    pub invariant: &'static str,
    /// What was found instead.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, detail: impl Into<String>) -> Self {
        Self { invariant, detail: detail.into() }
    }
}

impl From<StoreError> for Violation {
    /// No simulated disk fails the oracle, so a store that does is a bug.
    fn from(error: StoreError) -> Self {
        Self::new("the_store_works", format!("{error}: {error:?}"))
    }
}

fn hold(invariant: &'static str, holds: bool, detail: fmt::Arguments<'_>) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, detail.to_string())) }
}

/// The receipts that count.
pub(crate) fn accepted(facts: &Facts) -> impl Iterator<Item = &ReceiptRow> {
    facts.receipts.iter().filter(|receipt| receipt.verdict == Some(Verdict::Accepted))
}

/// G1: a job that a node said it has is in its database, whatever happened to the daemon.
pub(crate) fn invariant_g1_no_acknowledged_job_is_lost(
    view: View<'_>,
    acknowledged: &[JobId],
) -> Result<(), Violation> {
    for id in acknowledged {
        let is_there = view.job(*id)?.is_some();
        hold("g1_no_acknowledged_job_is_lost", is_there, format_args!("job {id} was acknowledged and is gone"))?;
    }
    Ok(())
}

/// Every change of state is one that the table allows, and the job is where its last event says.
pub(crate) fn invariant_only_legal_transitions(facts: &Facts) -> Result<(), Violation> {
    const NAME: &str = "only_legal_transitions";
    let job = &facts.job;
    let mut state = None;
    for event in &facts.events {
        let is_legal = match state {
            None => matches!(event.state, JobState::Pending | JobState::Scheduled | JobState::Available),
            Some(from) => transition(from, event.cause) == Some(event.state),
        };
        hold(NAME, is_legal, format_args!("job {}: {state:?} to {} by {}", job.number, event.state, event.cause))?;
        state = Some(event.state);
    }
    hold(NAME, state == Some(job.state), format_args!("job {} is {}, its events say {state:?}", job.number, job.state))
}

/// The fence never goes back: not along the log, not in the row, and no attempt is beyond it.
pub(crate) fn invariant_epochs_only_grow(facts: &Facts, seen: Option<&Seen>) -> Result<(), Violation> {
    const NAME: &str = "epochs_only_grow";
    let number = facts.job.number;
    let pairs = facts.events.iter().zip(facts.events.iter().skip(1));
    for (earlier, later) in pairs {
        hold(
            NAME,
            earlier.epoch <= later.epoch,
            format_args!("job {number} went from epoch {} to {}", earlier.epoch, later.epoch),
        )?;
    }
    let last = facts.attempts.iter().map(|attempt| attempt.epoch).max().unwrap_or_default();
    hold(NAME, last <= facts.job.epoch, format_args!("job {number} has attempt {last} at epoch {}", facts.job.epoch))?;
    let before = seen.map(|seen| seen.job.epoch).unwrap_or_default();
    hold(NAME, before <= facts.job.epoch, format_args!("job {number} fell from epoch {before} to {}", facts.job.epoch))
}

/// An end is an end: only a person's retry leaves it, of the job or of one that it waited for, and the log only grows.
pub(crate) fn invariant_final_states_never_change(facts: &Facts, seen: Option<&Seen>) -> Result<(), Violation> {
    const NAME: &str = "final_states_never_change";
    let Some(seen) = seen else { return Ok(()) };
    let (was, is) = (&seen.job, &facts.job);
    hold(NAME, facts.events.len() >= seen.events, format_args!("job {} lost events", is.number))?;
    let is_anew = |event: &Event| matches!(event.cause, Cause::Retried | Cause::Revived);
    let is_retried = facts.events.iter().skip(seen.events).any(is_anew);
    let end = |job: &Job| (job.state, job.epoch, job.finish_reason, job.finished_at);
    let is_kept = !was.state.is_final() || is_retried || end(was) == end(is);
    hold(NAME, is_kept, format_args!("job {} was {:?} and is {:?}", is.number, end(was), end(is)))
}

/// G2: at most one receipt counts per attempt, and a job succeeds at most once for every time that it was asked for.
pub(crate) fn invariant_g2_at_most_one_accepted_result(facts: &Facts) -> Result<(), Violation> {
    const NAME: &str = "g2_at_most_one_accepted_result";
    let number = facts.job.number;
    for receipt in accepted(facts) {
        let same = accepted(facts).filter(|other| other.epoch == receipt.epoch).count();
        hold(NAME, same == 1, format_args!("job {number} accepted {same} receipts for epoch {}", receipt.epoch))?;
    }
    let count = |cause| facts.events.iter().filter(|event| event.cause == cause).count();
    let (succeeded, retried) = (count(Cause::Succeeded) + count(Cause::Late), count(Cause::Retried));
    hold(
        NAME,
        succeeded <= 1 + retried,
        format_args!("job {number} succeeded {succeeded} times and was retried {retried} times"),
    )
}

/// G3: whatever is called a success ran at least once, under that very epoch, and ended well.
pub(crate) fn invariant_g3_successes_are_backed(sight: Sight<'_>, facts: &Facts) -> Result<(), Violation> {
    const NAME: &str = "g3_successes_are_backed";
    let job = &facts.job;
    if sight.excused.origins.contains(&sight.seat) {
        return Ok(());
    }
    let ran_well = |event: &Event| {
        let at = (sight.seat, RunId { job: job.id, epoch: event.epoch });
        // Somebody else may have run an epoch that an origin used twice.
        if sight.ledger.contract(at).is_some_and(|contract| sight.excused.origins.contains(&contract.origin)) {
            return true;
        }
        let execution = sight.ledger.run(at);
        let ended = execution.and_then(|execution| execution.ended.as_ref());
        ended.is_some_and(|ended| ended.outcome == Outcome::Ok)
    };
    for event in facts.events.iter().filter(|event| event.cause == Cause::Succeeded) {
        let is_accepted = accepted(facts).any(|receipt| receipt.epoch == event.epoch);
        hold(
            NAME,
            is_accepted || ran_well(event),
            format_args!("job {} succeeded at epoch {}, which nobody ran to its end", job.number, event.epoch),
        )?;
    }
    // A late success is one of an earlier attempt, and none for work that must not run twice.
    for event in facts.events.iter().filter(|event| event.cause == Cause::Late) {
        let is_earlier = |row: &ReceiptRow| row.epoch <= event.epoch && facts.succeeded(row.epoch);
        hold(
            NAME,
            accepted(facts).any(is_earlier) && job.spec.effects != Effects::Once,
            format_args!("job {} succeeded late at epoch {}, and no earlier attempt may have", job.number, event.epoch),
        )?;
    }
    Ok(())
}

/// G4: an accepted receipt is signed by the awardee, answers that award, and says what its executor really did
/// under that epoch; and the job took it as the result of that epoch.
pub(crate) fn invariant_g4_accepted_results_are_real(
    sight: Sight<'_>,
    facts: &Facts,
    row: &ReceiptRow,
) -> Result<(), Violation> {
    const NAME: &str = "g4_accepted_results_are_real";
    let (number, epoch) = (facts.job.number, row.epoch);
    let fail =
        |what: &str| Violation::new(NAME, format!("job {number} accepted a receipt for epoch {epoch} that {what}"));
    let envelope = Envelope::open(&row.envelope, &sight.mesh).map_err(|error| fail(&format!("is forged: {error}")))?;
    let receipt: Receipt = envelope.parse().map_err(|error| fail(&format!("does not parse: {error}")))?;
    let attempt = facts.attempt(epoch).ok_or_else(|| fail("answers no attempt"))?;
    if envelope.signer() != attempt.node || row.node != attempt.node || Some(receipt.award) != attempt.award {
        return Err(fail("is not by the awardee under its award"));
    }
    if JobId::from(receipt.ticket) != facts.job.id || receipt.epoch != epoch || receipt.to != sight.node {
        return Err(fail("is for another attempt"));
    }
    // A result that came late is said at the epoch that the job had by then.
    let is_late = |event: &Event| event.cause == Cause::Late && event.epoch >= epoch && receipt.outcome == Outcome::Ok;
    let is_its = |event: &Event| event.epoch == epoch && is_end(event.cause, &receipt.outcome);
    let is_result = facts.events.iter().any(|event| is_its(event) || is_late(event));
    if !is_result {
        return Err(fail("was not the result of that epoch"));
    }
    if sight.excused.nodes.contains(&envelope.signer()) || sight.excused.origins.contains(&sight.seat) {
        return Ok(());
    }
    let contract = Contract { origin: sight.seat, job: facts.job.id, epoch };
    let execution = sight.ledger.execution(&contract);
    match &receipt.outcome {
        Outcome::Ok | Outcome::Error { .. } => {
            let execution = execution.ok_or_else(|| fail("nobody ran for"))?;
            let ended = execution.ended.as_ref().ok_or_else(|| fail("came before the run had ended"))?;
            let is_told =
                (&ended.outcome, ended.exit, ended.outputs) == (&receipt.outcome, receipt.exit, receipt.outputs);
            if execution.executor != envelope.signer() || !is_told {
                return Err(fail("says something else than what happened"));
            }
            Ok(())
        }
        // A node may say these of a run that never came to an end of its own.
        Outcome::Permanent { .. }
        | Outcome::Timeout
        | Outcome::Cancelled
        | Outcome::SelfCancelled { .. }
        | Outcome::Snoozed { .. }
        | Outcome::Released { .. }
        | Outcome::Lost { .. } => Ok(()),
    }
}

/// Whether a job moves by `cause` when its attempt ends with `outcome`.
fn is_end(cause: Cause, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Ok => cause == Cause::Succeeded,
        Outcome::Error { .. } | Outcome::Timeout => {
            matches!(cause, Cause::Failed | Cause::Exhausted | Cause::Cancelled)
        }
        Outcome::Permanent { .. } => matches!(cause, Cause::Permanent | Cause::Cancelled),
        Outcome::Cancelled => matches!(cause, Cause::Cancelled | Cause::Failed | Cause::Exhausted),
        Outcome::SelfCancelled { .. } => cause == Cause::Cancelled,
        Outcome::Snoozed { .. } => matches!(cause, Cause::Snoozed | Cause::Exhausted | Cause::Cancelled),
        Outcome::Released { .. } => matches!(cause, Cause::Released | Cause::Unclaimed | Cause::Cancelled),
        Outcome::Lost { .. } => matches!(cause, Cause::Lost | Cause::Abandoned | Cause::Cancelled),
    }
}

/// What a node accepted, it has: the outputs are on its disk or in its database.
pub(crate) fn invariant_accepted_outputs_are_held(sight: Sight<'_>, row: &ReceiptRow) -> Result<(), Violation> {
    let Ok(envelope) = Envelope::open(&row.envelope, &sight.mesh) else { return Ok(()) };
    let Ok(receipt) = envelope.parse::<Receipt>() else { return Ok(()) };
    for blob in receipt.outputs.blobs() {
        // What is kept in the database must be what the hash says: the disk looks at that itself.
        let kept = sight.view.blob(blob.hash)?;
        let is_it = |bytes: Vec<u8>| BlobRef::of(&bytes) == blob;
        let is_held = kept.map_or_else(|| sight.disk.contains(&blob.hash), is_it);
        hold("accepted_outputs_are_held", is_held, format_args!("{:?} of receipt {} is not here", blob.hash, row.id))?;
    }
    Ok(())
}

/// An epoch is run at most once, whatever is sent again and whoever restarts.
pub(crate) fn invariant_an_epoch_runs_once(ledger: &Ledger, contract: &Contract) -> Result<(), Violation> {
    let is_new = ledger.execution(contract).is_none();
    hold(
        "an_epoch_runs_once",
        is_new,
        format_args!("job {} of {} ran a second time at epoch {}", contract.job, contract.origin, contract.epoch),
    )
}

/// G3: two runs of a job with effects never overlap. Nothing stops the process of a paused daemon, so this can only
/// hold because such a job is not run again once it may have started.
pub(crate) fn invariant_g3_once_jobs_never_overlap(
    ledger: &Ledger,
    index: usize,
    effects: Effects,
) -> Result<(), Violation> {
    let is_alone = effects != Effects::Once || ledger.live(index) == 0;
    hold(
        "g3_once_jobs_never_overlap",
        is_alone,
        format_args!("job {index} of the workload runs twice at the same time"),
    )
}

/// G5: only the winner reads the payload. No frame and no gossip holds what a job is to run, so whoever is not told the
/// key of the one bid learns nothing of it; that nothing else opens what is sealed, the tests of `jobmesh-keys` show.
pub(crate) fn invariant_g5_only_the_winner_reads_the_payload(bytes: &[u8], secret: &[u8]) -> Result<(), Violation> {
    let is_told = bytes.windows(secret.len()).any(|window| window == secret);
    hold(
        "g5_only_the_winner_reads_the_payload",
        !is_told,
        format_args!("a message of {} bytes says what a job is to run", bytes.len()),
    )
}

/// G6: a defector costs at most a bounded time. Whoever takes an award and is not heard of any more costs its origin the
/// lease and the grace; whoever goes on saying that it works costs the timeout of the job beside; whoever says that it is
/// done and does not hand over what it claims costs the time that outputs may take.
pub(crate) fn invariant_g6_a_defector_costs_a_bounded_time(
    run: RunId,
    waited: DurationMillis,
    bound: DurationMillis,
) -> Result<(), Violation> {
    hold(
        "g6_a_defector_costs_a_bounded_time",
        waited <= bound,
        format_args!("{run} was waited for {} ms without an end, {} ms are enough", waited.0, bound.0),
    )
}

/// A run starts only where its input is.
pub(crate) fn invariant_inputs_are_there(sight: Sight<'_>, order: &RunOrder) -> Result<(), Violation> {
    for input in order.task.blobs().into_iter().chain(order.inputs) {
        let is_there = sight.disk.contains(&input.hash) || sight.view.blob(input.hash)?.is_some();
        hold("inputs_are_there", is_there, format_args!("{:?} is not on {}", input.hash, sight.seat))?;
    }
    Ok(())
}

/// Liveness: when the network has healed, every job that some node can run comes to an end.
pub(crate) fn invariant_every_job_ends_once_the_network_heals(stuck: &[String]) -> Result<(), Violation> {
    let what = stuck.join("\n  ");
    hold("every_job_ends_once_the_network_heals", stuck.is_empty(), format_args!("still open:\n  {what}"))
}

/// What must arrive does: an executor that sent a receipt has heard what became of it. A receipt that is forgotten on
/// the way costs a second run, which hides the loss from every other invariant.
pub(crate) fn invariant_every_receipt_is_settled_once_the_network_heals(
    view: View<'_>,
    jobs: &[Job],
) -> Result<(), Violation> {
    for job in jobs.iter().filter(|job| job.origin.is_some()) {
        let attempts = view.attempts(job.id)?;
        let outcome = attempts.last().and_then(|attempt| attempt.outcome.as_deref());
        // Any other end may have been told by a release, which nobody answers.
        let sent_receipt = matches!(outcome, Some("ok" | "error" | "permanent" | "timeout"));
        let phase = view.lease(job.id)?.map(|lease| lease.phase);
        hold(
            "every_receipt_is_settled_once_the_network_heals",
            !sent_receipt || phase != Some(LeasePhase::Reported),
            format_args!("job {} ended with {outcome:?} and its origin never said a word", job.number),
        )?;
    }
    Ok(())
}

/// The receipts of one node to another are the same chain on both sides: none missing, none doubled, each countersigned.
pub(crate) fn invariant_receipts_are_a_chain(given: &Audit, taken: &Audit) -> Result<(), Violation> {
    const NAME: &str = "receipts_are_a_chain";
    hold(NAME, given.is_good(), format_args!("what was given: {:?}", given.findings))?;
    hold(NAME, given == taken, format_args!("{given:?} was given and {taken:?} was taken"))
}

/// A job that is to run where it was submitted is shown to nobody else.
pub(crate) fn invariant_what_is_local_stays_here(facts: &Facts) -> Result<(), Violation> {
    let job = &facts.job;
    let is_told = |event: &Event| matches!(event.cause, Cause::Offered | Cause::Awarded);
    hold(
        "what_is_local_stays_here",
        job.spec.scope != Scope::Local || !facts.events.iter().any(is_told),
        format_args!("job {} was offered though it is to stay here", job.number),
    )
}

/// What an executor gives back as if it had never been there did not run: otherwise work that must not run twice would.
pub(crate) fn invariant_what_was_given_back_did_not_run(sight: Sight<'_>, facts: &Facts) -> Result<(), Violation> {
    if sight.excused.origins.contains(&sight.seat) {
        return Ok(());
    }
    for attempt in facts.attempts.iter().filter(|attempt| attempt.award.is_some()) {
        let contract = Contract { origin: sight.seat, job: attempt.job, epoch: attempt.epoch };
        let has_run = attempt.state == AttemptState::Released
            && !sight.excused.nodes.contains(&attempt.node)
            && sight.ledger.execution(&contract).is_some();
        hold(
            "what_was_given_back_did_not_run",
            !has_run,
            format_args!("job {} was given back at epoch {}, and ran", facts.job.number, attempt.epoch),
        )?;
    }
    Ok(())
}

/// A run begins when its attempt is on disk: nobody could find it after a crash otherwise.
pub(crate) fn invariant_runs_are_durable(run: RunId, is_known: bool) -> Result<(), Violation> {
    hold("runs_are_durable", is_known, format_args!("{run} begins, and the database does not know it"))
}

/// A run begins only on a node that has what its job needs, and where its job may go.
pub(crate) fn invariant_runs_are_where_they_may_be(index: usize, seat: Seat, may_run: bool) -> Result<(), Violation> {
    hold("runs_are_where_they_may_be", may_run, format_args!("job {index} of the workload runs on {seat}"))
}

/// What somebody was told is cancelled is not tried again, but by another wish.
pub(crate) fn invariant_a_cancelled_job_runs_no_more(
    contract: &Contract,
    since: Option<Epoch>,
) -> Result<(), Violation> {
    hold(
        "a_cancelled_job_runs_no_more",
        since.is_none_or(|since| contract.epoch <= since),
        format_args!("job {} was cancelled at epoch {since:?} and runs at epoch {}", contract.job, contract.epoch),
    )
}

/// A job that waits for others runs when all of them have succeeded.
pub(crate) fn invariant_a_job_waits_for_its_upstream(index: usize, open: &[usize]) -> Result<(), Violation> {
    hold(
        "a_job_waits_for_its_upstream",
        open.is_empty(),
        format_args!("job {index} of the workload runs, and of what it waits for {open:?} never succeeded"),
    )
}

/// Nobody is given up early: an attempt whose executor was not heard of is called lost a lease and the grace after the
/// award at the earliest, whatever a clock on a wall says.
pub(crate) fn invariant_nobody_is_given_up_early(
    run: RunId,
    waited: DurationMillis,
    least: DurationMillis,
) -> Result<(), Violation> {
    hold(
        "nobody_is_given_up_early",
        waited >= least,
        format_args!("{run} was called lost after {} ms, and its lease lasts {} ms", waited.0, least.0),
    )
}

/// What must not run twice is stopped when its executor has not heard of its origin for as long as a lease lasts, so that
/// it has stopped when the origin calls it lost.
pub(crate) fn invariant_once_jobs_end_with_their_lease(
    run: RunId,
    alone: DurationMillis,
    bound: DurationMillis,
) -> Result<(), Violation> {
    hold(
        "once_jobs_end_with_their_lease",
        alone <= bound,
        format_args!("{run} must not run twice and still runs {} ms after its origin was heard of", alone.0),
    )
}

/// What a member can sign without end is kept up to a limit.
pub(crate) fn invariant_what_a_member_leaves_is_bounded(links: u64, most: u64) -> Result<(), Violation> {
    hold(
        "what_a_member_leaves_is_bounded",
        links <= most,
        format_args!("{links} receipts for no job are kept of one member, {most} are enough"),
    )
}

/// The end of an attempt teaches once, whatever is sent again.
pub(crate) fn invariant_an_end_teaches_once(counted: u64, ended: u64) -> Result<(), Violation> {
    hold(
        "an_end_teaches_once",
        counted <= ended,
        format_args!("the ends of {counted} attempts were counted, and {ended} have ended"),
    )
}

/// What others say of a node sways its score by eight attempts at most, however many say it.
pub(crate) fn invariant_others_sway_a_score_a_little(
    node: NodeId,
    score: u64,
    (good, all): (u64, u64),
) -> Result<(), Violation> {
    const OTHERS: u64 = 8;
    let worst = (1 + good) * 1000 / (2 + all + OTHERS);
    let best = (1 + good + OTHERS) * 1000 / (2 + all + OTHERS);
    hold(
        "others_sway_a_score_a_little",
        (worst..=best).contains(&score),
        format_args!("{} has {score}, and {good} good of {all} attempts were seen", node.short()),
    )
}

/// Quiescence: a healed world with nothing to do does next to nothing.
pub(crate) fn invariant_quiescence(steps: u64, bound: u64) -> Result<(), Violation> {
    hold("quiescence", steps <= bound, format_args!("{steps} steps where {bound} are enough"))
}

/// No job completes. False on purpose: whoever watches it and sees no failure has an oracle that sleeps.
pub(crate) fn invariant_canary_no_job_completes(facts: &Facts) -> Result<(), Violation> {
    let is_open = facts.job.state != JobState::Completed;
    hold("canary_no_job_completes", is_open, format_args!("job {} completed", facts.job.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_in_the_clear_is_seen_wherever_it_is() {
        let check = |bytes: &[u8]| invariant_g5_only_the_winner_reads_the_payload(bytes, b"secret");
        for told in [&b"secret"[..], b"a secret", b"secrets", b"a\0secret\0"] {
            assert!(check(told).is_err(), "{told:?}");
        }
        for sealed in [&b""[..], b"secre", b"s ecret", b"Secret"] {
            assert!(check(sealed).is_ok(), "{sealed:?}");
        }
    }
}
