//! The typed queries: guards, numbers, and what replaces what.

use jobmesh_keys::Identity;
use jobmesh_protocol::envelope::{Envelope, Kind};
use jobmesh_protocol::id::{BlobRef, BootId, Hash};
use jobmesh_protocol::outcome::{Exit, Outputs, Usage};
use jobmesh_protocol::receipt::Receipt;
use jobmesh_protocol::state::Cause;
use jobmesh_protocol::ticket::{LeaseKey, Verdict};
use jobmesh_protocol::{
    AttemptState, DurationMillis, Epoch, Incarnation, Isolation, JobId, JobState, MeshId, NodeId, Outcome, RunId,
    TicketId,
};
use jobmesh_store::{
    Attempt, Choice, EndedAttempt, Fault, InUse, Inbound, InviteRow, Lease, LeasePhase, NewAttempt, NewEvent, PeerRow,
    ReceiptRow, StoreError,
};

use crate::samples::{
    AT, BOOT, DAY, LATER, PEER, attempt, cell, id_of, insert_job, invite, lease, local_attempt, memory, message_id,
    model_use, number, peer, receipt, summary,
};

const OTHER: NodeId = NodeId::from_bytes([0x33; 32]);

/// The id of the job with this number.
fn job_id(at: u32) -> JobId {
    id_of(number(at))
}

#[test]
fn an_epoch_is_used_once() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    txn.insert_attempt(&attempt(job_id(1))).unwrap();
    assert!(matches!(txn.insert_attempt(&attempt(job_id(1))), Err(StoreError::Sqlite(Fault::Rule(_)))));
    assert!(txn.insert_attempt(&attempt(job_id(2))).is_err(), "an attempt needs its job");
}

/// All jobs that had not ended were read for every blob that a peer asked for.
#[test]
fn what_a_peer_holds_is_found_until_it_has_ended() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    for at in 1..=3 {
        insert_job(&txn, at);
    }
    txn.insert_attempt(&attempt(job_id(1))).unwrap();
    txn.insert_attempt(&attempt(job_id(2))).unwrap();
    txn.insert_attempt(&local_attempt(job_id(3))).unwrap();
    assert_eq!(txn.view().jobs_awarded_to(PEER).unwrap(), [job_id(1), job_id(2)]);
    assert_eq!(txn.view().jobs_awarded_to(OTHER).unwrap(), []);
    let outcome = Outcome::Timeout;
    let (exit, outputs, usage) = (Exit::default(), Outputs::default(), Usage::default());
    let ended = EndedAttempt {
        state: AttemptState::TimedOut,
        outcome: &outcome,
        exit,
        outputs,
        usage,
        model: None,
        isolation: Some(Isolation::Contained),
        started_at: None,
    };
    txn.finish_attempt(attempt(job_id(1)).run, &ended, LATER).unwrap();
    assert_eq!(txn.view().jobs_awarded_to(PEER).unwrap(), [job_id(2)]);
}

#[test]
fn an_attempt_reads_back_at_every_stage() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let new = attempt(job_id(1));
    txn.insert_attempt(&new).unwrap();
    let read = || txn.view().attempt(new.run).unwrap().unwrap();
    assert_eq!(read().award.zip(read().spec_hash), new.award);

    txn.start_attempt(new.run, Some((77, u64::from(u32::MAX) + 1)), LATER).unwrap();
    assert_eq!((read().state, read().started_at), (AttemptState::Running, Some(LATER)));
    assert_eq!(read().process, Some((77, u64::from(u32::MAX) + 1)));

    txn.upload_attempt(new.run, message_id(5)).unwrap();
    assert_eq!((read().state, read().receipt), (AttemptState::Uploading, Some(message_id(5))));

    let outcome = Outcome::error("signal 9");
    let exit = Exit { code: None, signal: Some(9) };
    let outputs = Outputs {
        stdout: Some(BlobRef::of(b"out")),
        stderr: Some(BlobRef::of(b"err")),
        files: Some(BlobRef::of(b"tree")),
        result: None,
    };
    let usage =
        Usage { cpu_ms: Some(DurationMillis(12)), memory_peak_bytes: Some(u64::from(u32::MAX) + 1), fuel: Some(9) };
    let (model, isolation) = (model_use(), Some(Isolation::Sandboxed));
    let state = AttemptState::Failed;
    let said = EndedAttempt {
        state,
        outcome: &outcome,
        exit,
        outputs,
        usage,
        model: Some(&model),
        isolation,
        started_at: None,
    };
    txn.finish_attempt(new.run, &said, LATER).unwrap();
    let ended = read();
    assert_eq!((ended.model.as_ref(), ended.isolation), (Some(&model), isolation));
    assert_eq!((ended.state, ended.exit, ended.outputs), (AttemptState::Failed, exit, outputs));
    assert_eq!((ended.usage, ended.finished_at), (usage, Some(LATER)));
    assert_eq!((ended.outcome.as_deref(), ended.message.as_deref()), (Some("error"), Some("signal 9")));
    for hash in [Hash::of(b"out"), Hash::of(b"err"), Hash::of(b"tree")] {
        assert_eq!(txn.view().attempts_that_wrote(hash).unwrap(), std::slice::from_ref(&ended));
    }
    assert_eq!(txn.view().attempts(job_id(1)).unwrap(), [ended]);
    assert_eq!(txn.view().attempt(RunId { job: job_id(1), epoch: Epoch(2) }).unwrap(), None);
}

/// Most attempts leave nothing behind, and then fewer columns are written.
#[test]
fn an_attempt_without_outputs_reads_back_too() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let job = insert_job(&txn, 1);
    let new = NewAttempt { state: AttemptState::Running, ..local_attempt(job.id) };
    txn.insert_attempt(&new).unwrap();
    let exit = Exit { code: Some(3), signal: None };
    let usage = Usage { memory_peak_bytes: Some(7), ..Usage::default() };
    let (outcome, outputs) = (Outcome::error("exit code 3"), Outputs::default());
    let said = EndedAttempt {
        state: AttemptState::Failed,
        outcome: &outcome,
        exit,
        outputs,
        usage,
        model: None,
        isolation: Some(Isolation::Contained),
        started_at: None,
    };
    txn.finish_attempt(new.run, &said, LATER).unwrap();
    let ended = txn.view().attempt(new.run).unwrap().unwrap();
    assert_eq!((ended.state, ended.exit, ended.outputs), (AttemptState::Failed, exit, outputs));
    assert_eq!((ended.outcome.as_deref(), ended.message.as_deref()), (Some("error"), Some("exit code 3")));
    assert_eq!((ended.usage, ended.finished_at), (usage, Some(LATER)));
    assert_eq!((ended.boot, ended.allocation, ended.award), (Some(BOOT), new.allocation, None));
}

#[test]
fn an_attempt_is_adopted_by_the_next_daemon() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let runs = [1, 2].map(|at| local_attempt(insert_job(&txn, at).id));
    for new in &runs {
        txn.insert_attempt(new).unwrap();
        txn.start_attempt(new.run, Some((77, 5)), AT).unwrap();
    }
    let [adopted, other] = runs.map(|new| new.run);
    let before = txn.view().attempt(adopted).unwrap().unwrap();
    let next = BootId::from_bytes([0xB1; 16]);
    txn.adopt_attempt(adopted, next).unwrap();
    assert_eq!(txn.view().attempt(adopted).unwrap(), Some(Attempt { boot: Some(next), ..before }));
    assert_eq!(txn.view().attempt(other).unwrap().and_then(|attempt| attempt.boot), Some(BOOT));
}

#[test]
fn events_keep_their_order() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let (job, epoch, at) = (job_id(1), Epoch(1), AT);
    for (state, cause, note) in
        [(JobState::Offered, Cause::Offered, None), (JobState::Running, Cause::Accepted, Some("by box"))]
    {
        txn.append_event(&NewEvent { job, epoch, state, cause, node: Some(PEER), note, at }).unwrap();
    }
    let events = txn.view().events(job).unwrap();
    let said: Vec<_> = events.iter().map(|event| (event.cause, event.note.as_deref())).collect();
    assert_eq!(said, [(Cause::Offered, None), (Cause::Accepted, Some("by box"))]);
    assert!(events.is_sorted_by_key(|event| event.id));
}

#[test]
fn a_lease_is_known_by_its_origin_ticket_and_epoch() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=3).for_each(|at| drop(insert_job(&txn, at)));
    let (first, second) = (lease(job_id(1)), Lease { epoch: Epoch(5), ..lease(job_id(2)) });
    for lease in [first, second] {
        txn.insert_lease(&lease).unwrap();
    }
    assert_eq!(txn.view().lease(job_id(1)).unwrap(), Some(first));
    assert_eq!(txn.view().lease_of(PEER, second.key()).unwrap(), Some(second));
    assert_eq!(txn.view().lease_of(OTHER, first.key()).unwrap(), None);
    let up_to = |epoch| txn.view().leases_up_to(PEER, LeaseKey { epoch, ..first.key() }).unwrap();
    assert_eq!((up_to(Epoch(3)), up_to(Epoch(4)), up_to(Epoch(9))), (vec![], vec![first], vec![first, second]));

    assert!(txn.insert_lease(&Lease { job: job_id(3), ..first }).is_err(), "one award starts one job");

    txn.set_lease_phase(first.job, LeasePhase::Settled, Some(Verdict::Superseded)).unwrap();
    assert_eq!(txn.view().lease(first.job).unwrap().map(|lease| lease.phase), Some(LeasePhase::Settled));
}

#[test]
fn a_receipt_is_kept_once_with_its_last_verdict() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let waiting = receipt(job_id(1));
    let accepted = ReceiptRow { verdict: Some(Verdict::Accepted), ..waiting.clone() };
    txn.put_receipt(&waiting).unwrap();
    assert_eq!(txn.view().receipt(waiting.id).unwrap(), Some(waiting.clone()));
    txn.put_receipt(&accepted).unwrap();
    assert_eq!(txn.view().receipts(job_id(1)).unwrap(), [accepted]);
    assert_eq!(txn.view().receipt_count(RunId { job: job_id(1), epoch: Epoch(1) }).unwrap(), 1);
    assert_eq!(txn.view().receipt_count(RunId { job: job_id(1), epoch: Epoch(2) }).unwrap(), 0);
}

#[test]
fn the_outbox_numbers_per_peer_and_never_uses_a_number_twice() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let queue = |peer, envelope: &[u8]| txn.queue(peer, envelope, b"").unwrap();
    assert_eq!([queue(PEER, b"a"), queue(PEER, b"b"), queue(PEER, b"c"), queue(OTHER, b"d")], [1, 2, 3, 1]);
    let numbers = |after, limit| -> Vec<u64> {
        txn.view().outbox(PEER, after, limit).unwrap().into_iter().map(|queued| queued.number).collect()
    };
    assert_eq!((numbers(0, 9), numbers(1, 1)), (vec![1, 2, 3], vec![2]));
    assert_eq!(txn.view().outbox_peers().unwrap(), [PEER, OTHER]);

    assert!(txn.acknowledge(PEER, 2).unwrap());
    assert!(!txn.acknowledge(PEER, 2).unwrap(), "an old acknowledgement drops nothing");
    assert_eq!(txn.view().outbox_first(PEER).unwrap(), Some(3));
    assert!(txn.acknowledge(PEER, 3).unwrap());
    assert_eq!((txn.view().outbox_first(PEER).unwrap(), queue(PEER, b"e")), (None, 4));
    assert_eq!(txn.view().outbox_first(OTHER).unwrap(), Some(1), "each peer acknowledges its own");
    txn.clear_outbox().unwrap();
    assert_eq!((numbers(0, 9), queue(PEER, b"f")), (vec![], 5));
}

#[test]
fn what_was_received_is_kept_beside_what_was_sent() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().inbound(PEER).unwrap(), None);
    txn.queue(PEER, b"a", b"").unwrap();
    assert_eq!(txn.view().inbound(PEER).unwrap(), None, "to have sent is not to have received");
    for (incarnation, number) in [(1, 7), (1, 8), (2, 1)] {
        let inbound = Inbound { incarnation: Incarnation::from_bytes([incarnation; 16]), number, former: None };
        txn.set_inbound(PEER, inbound).unwrap();
        assert_eq!(txn.view().inbound(PEER).unwrap(), Some(inbound));
    }
    assert_eq!(txn.queue(PEER, b"b", b"").unwrap(), 2);
}

/// Joining another mesh once dropped the count of messages sent. The database keeps its incarnation, so a peer that
/// was met again took everything up to its old number for duplicates, and acknowledged it.
#[test]
fn forgetting_the_peers_does_not_start_the_numbers_again() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.put_peer(&peer()).unwrap();
    txn.put_capability(PEER, b"record", AT).unwrap();
    txn.queue(PEER, b"a", b"").unwrap();
    txn.set_inbound(PEER, Inbound { incarnation: Incarnation::from_bytes([1; 16]), number: 7, former: None }).unwrap();
    txn.forget_peers().unwrap();
    assert_eq!(txn.view().peers().unwrap(), Vec::new());
    assert_eq!(txn.view().capabilities().unwrap(), Vec::new());
    assert_eq!(txn.view().outbox_peers().unwrap(), Vec::new());
    assert_eq!(txn.view().inbound(PEER).unwrap(), None);
    assert_eq!(txn.queue(PEER, b"b", b"").unwrap(), 2);
}

#[test]
fn the_newest_version_of_a_summary_wins_in_any_order() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    assert_eq!(txn.view().summary_version(PEER, DAY).unwrap(), 0);
    let kept = [3, 5, 4, 5].map(|version| txn.put_summary(&summary(version)).unwrap());
    assert_eq!(kept, [true, true, false, false]);
    assert_eq!(txn.view().summaries(DAY).unwrap(), [summary(5)]);
    assert_eq!(txn.view().summaries(DAY + 1).unwrap(), Vec::new());
    txn.put_cell(DAY, &cell()).unwrap();
    assert_eq!(txn.view().cells(DAY).unwrap(), [cell()]);
    txn.drop_summaries_before(DAY).unwrap();
    assert_eq!(txn.view().summary_version(PEER, DAY).unwrap(), 5);
    txn.drop_summaries_before(DAY + 1).unwrap();
    assert_eq!((txn.view().summary_version(PEER, DAY).unwrap(), txn.view().cells(DAY).unwrap()), (0, Vec::new()));
}

#[test]
fn the_last_word_on_peers_invites_tags_and_facts_is_kept() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    txn.put_peer(&peer()).unwrap();
    txn.put_peer(&PeerRow { name: "tower".to_owned(), addresses: Vec::new(), ..peer() }).unwrap();
    assert_eq!(txn.view().peers().unwrap(), [PeerRow { name: "tower".to_owned(), ..peer() }]);

    txn.put_invite(&invite()).unwrap();
    let used = InviteRow { used_by: Some(PEER), membership: Some(b"chain".to_vec()), ..invite() };
    txn.put_invite(&used).unwrap();
    assert_eq!(txn.view().invite(&used.secret_hash).unwrap(), Some(used));
    assert_eq!(txn.view().invite(&[0; 32]).unwrap(), None);

    let tag = "tool:gzip".parse().unwrap();
    txn.set_choice(&tag, Choice::Add).unwrap();
    txn.set_choice(&tag, Choice::Remove).unwrap();
    assert_eq!(txn.view().choices().unwrap(), [(tag, Choice::Remove)]);

    txn.set_meta("port", b"1").unwrap();
    txn.set_meta("port", b"2").unwrap();
    assert_eq!(txn.view().meta("port").unwrap(), Some(b"2".to_vec()));
    assert_eq!(txn.view().meta("ports").unwrap(), None);
}

#[test]
fn an_earlier_attempt_tells_of_a_job_that_completed_by_it() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let run = |epoch| RunId { job: job_id(1), epoch: Epoch(epoch) };
    let end = |epoch, state| {
        txn.insert_attempt(&NewAttempt { run: run(epoch), ..attempt(job_id(1)) }).unwrap();
        let (exit, outputs, usage) = Default::default();
        let ended = EndedAttempt {
            state,
            outcome: &Outcome::Cancelled,
            exit,
            outputs,
            usage,
            model: None,
            isolation: Some(Isolation::Contained),
            started_at: None,
        };
        txn.finish_attempt(run(epoch), &ended, LATER).unwrap();
    };
    let telling = |epoch, state| txn.view().telling_attempt(run(epoch), state).unwrap().map(|attempt| attempt.epoch.0);
    end(1, AttemptState::Succeeded);
    end(2, AttemptState::Superseded);
    assert_eq!(telling(2, JobState::Completed), Some(1));
    assert_eq!(telling(2, JobState::Running), Some(2), "a success before a retry is long ago");
    assert_eq!(telling(3, JobState::Completed), None);
    end(3, AttemptState::Succeeded);
    assert_eq!(telling(3, JobState::Completed), Some(3));
}

/// What came of outputs was deleted as nobody's while the rest was on its way, and the job completed without it.
#[test]
fn outputs_on_their_way_are_needed() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    let [stdout, stderr, result, files] = [b"1", b"2", b"3", b"4"].map(|bytes| Some(BlobRef::of(bytes)));
    let receipt_of = |outputs| Receipt {
        award: message_id(1),
        ticket: TicketId::from_bytes([2; 16]),
        epoch: Epoch(1),
        to: OTHER,
        number: 1,
        previous: Hash::of(b""),
        spec: Hash::of(b"spec"),
        outcome: Outcome::Ok,
        exit: Exit::default(),
        outputs,
        usage: Usage::default(),
        model: None,
        isolation: Isolation::Sandboxed,
        started_at: AT,
        finished_at: LATER,
    };
    let (identity, mesh) = (Identity::from_seed([7; 32]), MeshId::from_bytes([8; 32]));
    let body = receipt_of(Outputs { stdout, stderr, result, files });
    let envelope = Envelope::seal(&identity, &mesh, Kind::Receipt, &body);
    let coming = ReceiptRow { envelope, ..receipt(job_id(1)) };
    let used = || {
        let mut used = Vec::new();
        txn.view().each_blob_in_use(|blob| used.push(blob)).unwrap();
        used
    };
    let without = used();
    txn.put_receipt(&coming).unwrap();
    let hash = |blob: Option<BlobRef>| blob.unwrap().hash;
    let bytes = [stdout, stderr, result].map(|blob| InUse::Bytes(hash(blob)));
    let all: Vec<_> = bytes.into_iter().chain([InUse::Tree(hash(files))]).collect();
    assert!(all.iter().all(|blob| used().contains(blob) && !without.contains(blob)), "{:?}", used());
    txn.put_receipt(&ReceiptRow { verdict: Some(Verdict::Superseded), ..coming.clone() }).unwrap();
    assert_eq!(used(), without, "nobody brings them any more");
    txn.put_receipt(&ReceiptRow { envelope: b"?".to_vec(), id: message_id(3), ..coming }).unwrap();
    assert!(matches!(txn.view().each_blob_in_use(|_| ()), Err(StoreError::Damaged { what: "receipt" })));
}

#[test]
fn receipts_without_a_verdict_are_found_again() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    insert_job(&txn, 1);
    txn.insert_attempt(&attempt(job_id(1))).unwrap();
    let run = RunId { job: job_id(1), epoch: Epoch(1) };
    let waiting = receipt(job_id(1));
    txn.put_receipt(&waiting).unwrap();
    txn.put_receipt(&ReceiptRow { id: message_id(9), ..waiting.clone() }).unwrap();
    assert_eq!(txn.view().open_receipts().unwrap(), [run]);
    txn.name_receipt(run, waiting.id).unwrap();
    assert_eq!(txn.view().attempt(run).unwrap().unwrap().receipt, Some(waiting.id));
    for id in [waiting.id, message_id(9)] {
        txn.put_receipt(&ReceiptRow { id, verdict: Some(Verdict::Superseded), ..waiting.clone() }).unwrap();
    }
    assert_eq!(txn.view().open_receipts().unwrap(), []);
}
