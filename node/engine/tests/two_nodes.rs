//! Two engines joined by a wire that delivers at once: the whole life of a ticket, and what disturbs it.

#![expect(clippy::unwrap_used, reason = "a failure here is the failure of the test")]

#[path = "two_nodes/chains.rs"]
mod chains;
#[path = "two_nodes/entrust.rs"]
mod entrust;
#[path = "two_nodes/isolation.rs"]
mod isolation;
#[path = "two_nodes/late.rs"]
mod late;
#[path = "two_nodes/quotas.rs"]
mod quotas;
#[path = "two_nodes/rollback.rs"]
mod rollback;
#[path = "two_nodes/sealed.rs"]
mod sealed;
#[path = "two_nodes/search.rs"]
mod search;
#[path = "two_nodes/slots.rs"]
mod slots;
#[path = "two_nodes/wire.rs"]
mod wire;

use jobmesh_engine::{BlobKind, Command, Input, JobAction, Remedy, Response, Wanted};
use jobmesh_protocol::envelope::Kind;
use jobmesh_protocol::job::{Effects, Scope};
use jobmesh_protocol::outcome::Outputs;
use jobmesh_protocol::session::{ATTACHMENT_BYTES_MAX, Frame};
use jobmesh_protocol::state::FinishReason;
use jobmesh_protocol::submission::{Array, Conflict, Span, Tasks, Unique};
use jobmesh_protocol::task::{ProcessTask, Task};
use jobmesh_protocol::ticket::{Heartbeat, LeaseKey, Verdict};
use jobmesh_protocol::{
    AttemptState, BlobRef, DurationMillis, Hash, Incarnation, Isolation, JobSpec, JobState, Outcome, Submission,
};
use serde_bytes::ByteBuf;
use wire::{A, B, Wire};

fn spec(requirement: Option<&str>) -> JobSpec {
    let mut spec = JobSpec::new("test", Task::Process(ProcessTask::new(vec!["true".to_owned()])));
    spec.requirements = requirement.iter().map(|text| text.parse().unwrap()).collect();
    spec.scope = Scope::Hybrid;
    spec
}

fn escalated() -> Wire {
    let mut wire = Wire::new();
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    wire.connect();
    wire
}

#[test]
fn a_job_that_fits_runs_here() {
    let mut wire = Wire::new();
    let job = wire.submit(A, spec(None));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.end(A, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

#[test]
fn a_job_that_does_not_fit_runs_on_the_peer_that_can_and_is_accepted_once() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
    wire.end(B, 0, Outcome::Ok, b"compressed");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    let attempts = wire.attempts(A, job);
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].node, wire.node(B));
    let receipts = wire.receipts(A, job);
    assert_eq!(receipts.iter().filter(|r| r.verdict == Some(Verdict::Accepted)).count(), 1);
    assert!(wire.outbox_is_empty(), "everything was acknowledged");
}

#[test]
fn a_failure_on_a_peer_is_retried_after_its_backoff() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.retry.max_attempts = 2;
    let job = wire.submit(A, wanted);
    wire.end(B, 0, Outcome::error("exit code 7"), b"");
    assert_eq!(wire.job(A, job).state, JobState::Retryable);
    wire.pass(DurationMillis::from_secs(10));
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.end(B, 0, Outcome::error("exit code 7"), b"");
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    assert_eq!(wire.attempts(A, job).len(), 2);
}

#[test]
fn a_silent_peer_loses_its_lease_and_the_job_runs_again() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.cut();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Available);
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    wire.end(B, 0, Outcome::error("exit code 7"), b"late");
    wire.connect();
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"again");
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    let verdicts: Vec<_> = wire.receipts(A, job).iter().map(|r| r.verdict.unwrap()).collect();
    assert_eq!(verdicts, vec![Verdict::Superseded, Verdict::Accepted]);
}

#[test]
fn a_lost_attempt_of_a_job_that_may_run_once_ends_it() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    wanted.effects = Effects::Once;
    let job = wire.submit(A, wanted);
    wire.cut();
    wire.pass(DurationMillis::from_secs(60));
    assert_eq!(wire.job(A, job).state, JobState::Discarded);
    assert!(wire.refused(A, Command::Job(job, JobAction::Retry)).contains("must not run twice"));
}

#[test]
fn an_executor_that_restarts_gives_its_leases_back() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.restart(B);
    wire.connect();
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost);
    wire.pass(DurationMillis::from_secs(60));
    wire.end(B, 0, Outcome::Ok, b"out");
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.attempts(A, job).len(), 2);
}

#[test]
fn an_origin_that_restarts_gets_the_result_once() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.restart(A);
    wire.end(B, 0, Outcome::Ok, b"out");
    wire.connect();
    assert_eq!(wire.job(A, job).state, JobState::Completed, "{:?}", wire.trace());
    assert_eq!(wire.attempts(A, job).len(), 1);
}

#[test]
fn a_cancelled_job_is_stopped_on_the_peer() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    wire.command(A, Command::Job(job, JobAction::Cancel { reason: "changed my mind".to_owned(), is_forced: false }));
    assert_eq!(wire.job(A, job).state, JobState::Cancelled);
    assert_eq!(wire.stops(B), 1);
    assert_eq!(wire.attempts(A, job)[0].isolation, None, "B has not said how it kept it");
    wire.isolation = Isolation::Sandboxed;
    wire.end(B, 0, Outcome::Cancelled, b"half");
    assert_eq!(wire.job(A, job).state, JobState::Cancelled);
    // The peer had run it and it had said something: that was shown as "isolation none" and an empty log.
    let attempt = wire.attempts(A, job).remove(0);
    assert_eq!((attempt.state, attempt.isolation), (AttemptState::Cancelled, Some(Isolation::Sandboxed)));
    assert_eq!(attempt.outputs.stdout, Some(BlobRef::of(b"half")));
    assert_eq!(wire.kept(A, BlobRef::of(b"half").hash).as_deref(), Some(&b"half"[..]));
    assert!(wire.outbox_is_empty());
}

#[test]
fn a_job_that_nobody_can_run_waits_and_says_what_is_missing() {
    let mut wire = Wire::new();
    wire.connect();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let Response::Explained(why) = wire.command(A, Command::Explain(job)) else { panic!("no explanation") };
    assert_eq!(why.state, JobState::Available);
    assert!(why.summary.contains("tool:gzip"), "{}", why.summary);
    assert_eq!(why.nodes.len(), 2);
    wire.command(B, Command::AddCapability("tool:gzip".parse().unwrap()));
    assert_eq!(wire.job(A, job).state, JobState::Running, "{:?}", wire.trace());
}

/// A peer got the words of the array, holes and all.
#[test]
fn a_task_of_an_array_leaves_with_its_item_in_place() {
    let mut wire = escalated();
    let mut wanted = spec(Some("tool:gzip"));
    let argv = ["work", "{{item}}", "{{index}}"].map(str::to_owned).to_vec();
    wanted.task = Task::Process(ProcessTask::new(argv));
    let items = vec!["a b".to_owned(), "{{index}}".to_owned()];
    let array = Array { tasks: Tasks::Items(items), at_a_time: None, max_fails: None };
    let group = wire.take(A, Submission { array: Some(array), ..Submission::new(wanted) });
    wire.pass(DurationMillis::from_secs(10));
    let orders: Vec<ProcessTask> = wire
        .orders(B)
        .iter()
        .map(|order| {
            let Task::Process(process) = &order.task else { panic!("{order:?}") };
            process.clone()
        })
        .collect();
    let argvs: Vec<_> = orders.iter().map(|process| process.argv.join("|")).collect();
    assert_eq!(argvs, ["work|a b|1", "work|{{index}}|2"]);
    assert_eq!(orders[0].environment["JOBMESH_ITEM"], "a b");
    assert_eq!(orders[1].environment["JOBMESH_ARRAY_INDEX"], "2");
    wire.end(B, 0, Outcome::Ok, b"one");
    wire.end(B, 0, Outcome::Ok, b"two");
    assert_eq!(wire.job(A, group).state, JobState::Completed, "{:?}", wire.trace());
}

#[test]
fn outputs_up_to_the_limit_come_with_the_receipt_and_larger_ones_are_fetched() {
    let mut wire = escalated();
    let small = vec![b'a'; ATTACHMENT_BYTES_MAX];
    let large = vec![b'b'; ATTACHMENT_BYTES_MAX + 1];
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let outputs = Outputs {
        stdout: Some(BlobRef::of(&large)),
        stderr: Some(BlobRef::of(b"err")),
        result: Some(BlobRef::of(&small)),
        files: None,
    };
    wire.end_with(B, 0, Outcome::Ok, outputs, vec![b"err".to_vec(), small.clone(), large.clone()]);
    assert_eq!(wire.job(A, job).state, JobState::Running, "not all of it is here");
    assert_eq!(wire.kept(A, Hash::of(&small)), Some(small));
    assert_eq!(wire.kept(A, Hash::of(b"err")).as_deref(), Some(b"err".as_slice()));
    assert_eq!(wire.kept(A, Hash::of(&large)), None);
    assert_eq!(wire.fetches(A), [(wire.node(B), BlobRef::of(&large))]);
    wire.fetched(A, Hash::of(&large));
    assert_eq!(wire.job(A, job).state, JobState::Completed);
    assert_eq!(wire.attempts(A, job)[0].outputs, outputs);
    let receipts = wire.receipts(A, job);
    assert_eq!(receipts.iter().map(|receipt| receipt.verdict).collect::<Vec<_>>(), [Some(Verdict::Accepted)]);
}

/// A transfer of any size had ten minutes, whatever came of it.
#[test]
fn outputs_that_come_slowly_are_waited_for_and_those_that_stop_are_not() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let large = BlobRef::of(&vec![b'b'; ATTACHMENT_BYTES_MAX + 1]);
    wire.end_with(B, 0, Outcome::Ok, Outputs { stdout: Some(large), ..Outputs::default() }, Vec::new());
    let (wanted, _) = wire.transfers(A);
    for _ in 0..60 {
        wire.pass(DurationMillis::from_secs(30));
        wire.tell(A, Input::FetchProgress(wanted[0]));
    }
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Uploading, "{:?}", wire.trace());
    assert_eq!(wire.transfers(A), (Vec::new(), Vec::new()), "it was neither stopped nor asked for again");
    wire.pass(DurationMillis::from_secs(63));
    assert_eq!(wire.transfers(A), (wanted.clone(), wanted.clone()), "a minute without progress");
    wire.pass(DurationMillis::from_secs(600));
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost, "{:?}", wire.trace());
    let (_, unwanted) = wire.transfers(A);
    assert_eq!(unwanted.last(), wanted.first(), "nobody waits for it any more");
}

/// The list of a tree comes with the receipt if it is short; what it lists does not.
#[test]
fn a_tree_of_outputs_is_here_when_its_files_are() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let (list, out) = (b"a list".to_vec(), b"out".to_vec());
    let (tree, stdout) = (BlobRef::of(&list), BlobRef::of(&out));
    let outputs = Outputs { stdout: Some(stdout), files: Some(tree), ..Outputs::default() };
    wire.end_with(B, 0, Outcome::Ok, outputs, vec![list, out]);
    let wanted = Wanted { blob: tree, kind: BlobKind::Tree, from: wire.node(B) };
    assert_eq!(wire.transfers(A).0, [wanted]);
    assert_eq!(wire.job(A, job).state, JobState::Running);
    wire.restart(A);
    assert_eq!(wire.transfers(A).0, [wanted], "asked for again");
    wire.tell(A, Input::Fetched(wanted));
    assert_eq!(wire.job(A, job).state, JobState::Completed);
}

#[test]
fn outputs_that_this_node_has_no_room_for_fail_their_attempt_and_say_why() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let large = BlobRef::of(&vec![b'b'; ATTACHMENT_BYTES_MAX + 1]);
    wire.end_with(B, 0, Outcome::Ok, Outputs { stdout: Some(large), ..Outputs::default() }, Vec::new());
    let wanted = wire.transfers(A).0[0];
    for _ in 0..3 {
        let reason = "the disk is full".to_owned();
        wire.tell(A, Input::FetchFailed { wanted, reason, remedy: Remedy::None });
        wire.pass(DurationMillis::from_secs(3));
    }
    let attempt = wire.attempts(A, job).remove(0);
    assert_eq!(attempt.state, AttemptState::Failed);
    let message = attempt.message.unwrap();
    assert_eq!(message, "what it left could not be brought here: the disk is full");
}

/// One that names the right hash and a wrong size once failed the fetch of another that named both right.
#[test]
fn inputs_are_kept_apart_by_size_and_what_does_not_fit_is_given_back_at_once() {
    let mut wire = escalated();
    let mut with_input = |size| {
        let blob = BlobRef { hash: Hash::of(b"input"), size };
        let mut spec = spec(Some("tool:gzip"));
        spec.inputs = Some(blob);
        (wire.submit(A, spec), blob)
    };
    let ((right, blob), (wrong, lie)) = (with_input(5), with_input(6));
    let (wanted, _) = wire.transfers(B);
    let of = |blob| wanted.iter().find(|wanted| wanted.blob == blob).copied().unwrap();
    let reason = "it is too large for this node".to_owned();
    wire.tell(B, Input::FetchFailed { wanted: of(lie), reason, remedy: Remedy::None });
    let given_back = wire.attempts(A, wrong).remove(0);
    assert_eq!(given_back.state, AttemptState::Released);
    assert_eq!(given_back.message.as_deref(), Some("it is too large for this node"));
    wire.tell(B, Input::Fetched(of(blob)));
    wire.end(B, 0, Outcome::Ok, b"");
    assert_eq!(wire.job(A, right).state, JobState::Completed);
}

/// Its transfer went on to the end, for nobody.
#[test]
fn a_job_that_is_cancelled_while_its_input_travels_stops_the_transfer() {
    let mut wire = escalated();
    let mut spec = spec(Some("tool:gzip"));
    spec.inputs = Some(BlobRef::of(b"a tree"));
    let job = wire.submit(A, spec);
    let (wanted, _) = wire.transfers(B);
    assert_eq!(wanted.len(), 1);
    wire.command(A, Command::Job(job, JobAction::Cancel { reason: String::new(), is_forced: false }));
    assert_eq!(wire.transfers(B).1, wanted);
}

/// A heartbeat once began the lease anew although the receipt was here, so a node that kept back its outputs and went on
/// saying that it works kept the job for ever. Found by simulation, seed 1962.
#[test]
fn heartbeats_buy_no_time_for_outputs_that_do_not_come() {
    let mut wire = escalated();
    let job = wire.submit(A, spec(Some("tool:gzip")));
    let large = BlobRef::of(&vec![b'b'; ATTACHMENT_BYTES_MAX + 1]);
    wire.end_with(B, 0, Outcome::Ok, Outputs { stdout: Some(large), ..Outputs::default() }, Vec::new());
    let leases = vec![LeaseKey { ticket: job.into(), epoch: wire.job(A, job).epoch }];
    for number in 1000..1059 {
        wire.pass(DurationMillis::from_secs(10));
        let heartbeat = Heartbeat { to: wire.node(A), number, leases: leases.clone() };
        let envelope = ByteBuf::from(wire::seal(B, Kind::Heartbeat, &heartbeat));
        wire.inject(A, Frame::Note { envelope }.encode());
        assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Uploading, "at heartbeat {number}");
    }
    wire.pass(DurationMillis::from_secs(20));
    assert_eq!(wire.attempts(A, job)[0].state, AttemptState::Lost, "{:?}", wire.trace());
}

/// How long results are kept was said by the configuration, and nobody asked.
#[test]
fn what_a_receipt_proves_is_kept_as_long_as_receipts_are() {
    let mut wire = escalated();
    let proven = wire.submit(A, spec(Some("tool:gzip")));
    wire.end(B, 0, Outcome::Ok, b"out");
    let mut brief = spec(Some("tool:gzip"));
    brief.keep_ms = Some(DurationMillis::from_secs(60));
    let brief = wire.submit(A, brief);
    wire.end(B, 0, Outcome::Ok, b"out");
    let local = wire.submit(A, spec(None));
    wire.end(A, 0, Outcome::Ok, b"out");
    wire.submit(A, spec(None));
    wire.cut();
    let mut after = |days: u64| {
        wire.pass(DurationMillis::from_secs(days * 86_400));
        wire.command(A, Command::Prune { limit: 100, ended_before: None });
        [proven, brief, local].map(|job| wire.has(A, job))
    };
    assert_eq!(after(2), [true, false, false]);
    assert_eq!(after(87), [true, false, false]);
    assert_eq!(after(2), [false, false, false]);
}

/// A job that was out for bids was merged into, and awarded as something else than was offered; or it was not put off.
#[test]
fn an_offer_is_withdrawn_when_a_newer_job_of_its_key_changes_it() {
    for on_conflict in [Conflict::Merge, Conflict::Debounce(DurationMillis::from_secs(5)), Conflict::Replace] {
        let mut wire = escalated();
        wire.hold_frames();
        let unique = Unique { key: Some("one".to_owned()), by: Vec::new(), scope: Span::Incomplete, on_conflict };
        let mut submission = Submission::new(spec(Some("tool:gzip")));
        submission.unique = Some(unique);
        let job = wire.take(A, submission.clone());
        if matches!(on_conflict, Conflict::Debounce(_)) {
            wire.pass(DurationMillis::from_secs(5));
        }
        assert_eq!(wire.job(A, job).state, JobState::Offered);
        if let Task::Process(process) = &mut submission.spec.task {
            process.argv.push("more".to_owned());
        }
        let second = wire.take(A, submission);
        assert_eq!(second == job, on_conflict != Conflict::Replace);
        wire.let_frames_go();
        wire.pass(DurationMillis::from_secs(6));
        assert_eq!(wire.job(A, second).state, JobState::Running, "{:?}", wire.trace());
        let orders = wire.orders(B);
        let Some(Task::Process(process)) = orders.last().map(|order| &order.task) else { panic!("{orders:?}") };
        let argv = process.argv.len();
        assert_eq!(argv, if matches!(on_conflict, Conflict::Debounce(_)) { 1 } else { 2 });
        assert_eq!(wire.attempts(A, second).len(), 1);
    }
}

#[test]
fn what_one_node_learns_the_other_hears() {
    let mut wire = Wire::new();
    wire.connect();
    wire.submit(A, spec(None));
    wire.end(A, 0, Outcome::Ok, b"");
    wire.pass(DurationMillis::from_secs(10));
    assert_eq!(wire.summaries(B), vec![wire.node(A)]);
}

#[test]
fn hostile_bytes_are_counted_and_change_nothing() {
    let mut wire = escalated();
    let before = wire.dump(A);
    wire.inject(A, vec![0xff; 100]);
    wire.inject(A, Vec::new());
    wire.inject(A, vec![0x81; 10_000]);
    wire.inject(A, vec![0; 300_000]);
    assert_eq!(wire.dump(A), before);
    assert_eq!(wire.counter(A, "refused_malformed_frame"), 4);
}

/// A number that no database column holds made every step fail in which it arrived.
#[test]
fn numbers_beyond_the_database_are_refused_at_the_edge() {
    let mut wire = escalated();
    let incarnation = Incarnation::from_bytes([1; 16]);
    for number in [u64::MAX, u64::MAX - 1, 1 << 63] {
        wire.inject(A, Frame::data((incarnation, number, number), Vec::new(), Vec::new()).encode());
        wire.inject(A, Frame::Ack { incarnation: Incarnation::from_bytes([0; 16]), number }.encode());
    }
    assert_eq!(wire.counter(A, "refused_malformed_frame"), 6);
}

/// Every auction gave it all of its time again.
#[test]
fn auctions_that_come_to_nothing_leave_the_time_to_start_as_it_was() {
    let mut wire = escalated();
    for _ in 0..2 {
        wire.submit(B, spec(None));
    }
    let within = Some(DurationMillis::from_secs(20));
    let wanted = Submission { start_within_ms: within, ..Submission::new(spec(Some("tool:gzip"))) };
    let Response::Submitted(taken) = wire.command(A, Command::Submit(vec![wanted])) else { panic!("not submitted") };
    wire.pass(DurationMillis::from_secs(19));
    assert_eq!(wire.job(A, taken[0].job).state, JobState::Available, "{:?}", wire.trace());
    wire.pass(DurationMillis::from_secs(1));
    assert_eq!(wire.job(A, taken[0].job).finish_reason, Some(FinishReason::Expired));
}
