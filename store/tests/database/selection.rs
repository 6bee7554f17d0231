//! Lists of jobs: every condition alone, all together, and page by page.

use std::collections::BTreeMap;
use std::sync::Arc;

use jobmesh_protocol::number::NUMBER_MAX;
use jobmesh_protocol::{JobSpec, JobState};
use jobmesh_store::{Group, Job, Selection, Store, Txn};

use crate::samples::{AT, LATER, array, insert, insert_job, job, memory, number, spec};

fn spec_with(job_type: &str, name: Option<&str>, labels: &[(&str, &str)]) -> Arc<JobSpec> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Arc::new(JobSpec { job_type: job_type.to_owned(), name: name.map(str::to_owned), labels, ..spec() })
}

/// A plain job, one that ended, an array with a task that runs and one that failed, and one of a schedule.
fn fill(txn: &Txn<'_>) {
    insert_job(txn, 1);
    let slow = || "slow".to_owned();
    insert(txn, &Job { state: JobState::Completed, queue: slow(), finished_at: Some(LATER), ..job(number(2)) });
    let array = number(3);
    let labelled = spec_with("true", Some("nightly"), &[("team", "blue"), ("size", "xl")]);
    insert(txn, &Job { spec: labelled, ..job(array) });
    insert(txn, &Job { state: JobState::Running, ..job(array.task(1)) });
    insert(txn, &Job { state: JobState::Discarded, finished_at: Some(LATER), ..job(array.task(2)) });
    insert(
        txn,
        &Job {
            state: JobState::Scheduled,
            spec: spec_with("gzip", None, &[("team", "blue")]),
            queue: slow(),
            fire: Some(("hourly".to_owned(), LATER)),
            created_at: LATER,
            ..job(number(4))
        },
    );
}

fn filled() -> Store {
    let mut store = memory();
    let txn = store.begin().unwrap();
    fill(&txn);
    let _committed = txn.commit().unwrap();
    store
}

fn all() -> Selection {
    Selection { limit: 100, ..Selection::default() }
}

fn tasks() -> Selection {
    Selection { with_tasks: true, ..all() }
}

fn check(selection: &Selection, wanted: &[&str]) {
    let mut store = filled();
    let found = store.begin().unwrap().view().jobs(selection).unwrap();
    let found: Vec<String> = found.iter().map(|job| job.number.to_string()).collect();
    assert_eq!(found, wanted, "{selection:?}");
}

fn label(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[test]
fn tasks_are_listed_beside_their_groups_if_asked_for() {
    check(&all(), &["4", "3", "2", "1"]);
    check(&tasks(), &["4", "3.2", "3.1", "3", "2", "1"]);
}

#[test]
fn a_list_by_state() {
    check(&Selection { states: vec![JobState::Completed], ..all() }, &["2"]);
    check(&Selection { states: vec![JobState::Running, JobState::Discarded], ..all() }, &[]);
    check(&Selection { states: vec![JobState::Running, JobState::Discarded], ..tasks() }, &["3.2", "3.1"]);
    check(&Selection { live_only: true, ..all() }, &["4", "3", "1"]);
    check(&Selection { live_only: true, ..tasks() }, &["4", "3.1", "3", "1"]);
}

#[test]
fn a_list_by_queue_type_schedule_and_time() {
    check(&Selection { queue: Some("slow".to_owned()), ..all() }, &["4", "2"]);
    check(&Selection { queue: Some("slo".to_owned()), ..all() }, &[]);
    check(&Selection { job_type: Some("gzip".to_owned()), ..all() }, &["4"]);
    check(&Selection { job_type: Some("' OR 1 --".to_owned()), ..all() }, &[]);
    check(&Selection { schedule: Some("hourly".to_owned()), ..all() }, &["4"]);
    check(&Selection { since: Some(LATER), ..all() }, &["4"]);
    check(&Selection { since: Some(AT), ..all() }, &["4", "3", "2", "1"]);
}

#[test]
fn a_list_by_name_and_labels_knows_that_tasks_have_their_groups() {
    check(&Selection { name: Some("nightly".to_owned()), ..all() }, &["3"]);
    check(&Selection { name: Some("nightly".to_owned()), ..tasks() }, &["3.2", "3.1", "3"]);
    check(&Selection { name: Some("nigh".to_owned()), ..all() }, &[]);
    check(&Selection { labels: vec![label("team", "blue")], ..all() }, &["4", "3"]);
    check(&Selection { labels: vec![label("team", "blue"), label("size", "xl")], ..all() }, &["3"]);
    check(&Selection { labels: vec![label("team", "blue"), label("size", "s")], ..all() }, &[]);
    check(&Selection { labels: vec![label("team", "red")], ..all() }, &[]);
}

#[test]
fn a_list_by_ranges_of_numbers() {
    let of = |ranges: &[(u32, u32)]| ranges.iter().map(|(from, to)| (number(*from), number(*to))).collect::<Vec<_>>();
    check(&Selection { numbers: of(&[(2, 3)]), ..all() }, &["3", "2"]);
    check(&Selection { numbers: of(&[(4, 4), (1, 1)]), ..all() }, &["4", "1"]);
    check(&Selection { numbers: of(&[(1, 2), (2, 4)]), ..all() }, &["4", "3", "2", "1"]);
    check(&Selection { numbers: of(&[(3, 2), (9, 99)]), ..all() }, &[]);
    check(&Selection { numbers: of(&[(3, 3)]), ..tasks() }, &["3"]);
    let array = number(3);
    check(&Selection { numbers: vec![(array, array.task(NUMBER_MAX))], ..tasks() }, &["3.2", "3.1", "3"]);
    check(&Selection { numbers: vec![(array.task(2), array.task(2))], ..tasks() }, &["3.2"]);
}

#[test]
fn every_condition_holds_at_once() {
    let together = Selection {
        states: vec![JobState::Scheduled, JobState::Completed],
        live_only: true,
        own_only: true,
        queue: Some("slow".to_owned()),
        job_type: Some("gzip".to_owned()),
        name: None,
        labels: vec![label("team", "blue")],
        schedule: Some("hourly".to_owned()),
        since: Some(LATER),
        numbers: vec![(number(1), number(2)), (number(4), number(9))],
        with_tasks: true,
        before: Some(number(5)),
        limit: 2,
    };
    check(&together, &["4"]);
    let but = [
        Selection { states: vec![JobState::Running], ..together.clone() },
        Selection { queue: Some("default".to_owned()), ..together.clone() },
        Selection { job_type: Some("true".to_owned()), ..together.clone() },
        Selection { name: Some("nightly".to_owned()), ..together.clone() },
        Selection { labels: vec![label("team", "red")], ..together.clone() },
        Selection { schedule: Some("daily".to_owned()), ..together.clone() },
        Selection { numbers: vec![(number(1), number(3))], ..together.clone() },
        Selection { before: Some(number(4)), ..together.clone() },
        Selection { limit: 0, ..together },
    ];
    for selection in but {
        check(&selection, &[]);
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_repetition() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let odd = spec_with("true", None, &[("odd", "yes")]);
    for at in 1..=50 {
        let spec = if at % 2 == 1 { Arc::clone(&odd) } else { Arc::new(spec()) };
        insert(&txn, &Job { spec, ..job(number(at)) });
    }
    let mut selection = Selection { labels: vec![label("odd", "yes")], limit: 10, ..Selection::default() };
    let mut pages = Vec::new();
    // One more than there are: a page that is repeated must not be asked for for ever.
    for _ in 0..4 {
        let page: Vec<_> = txn.view().jobs(&selection).unwrap().iter().map(|job| job.number).collect();
        let Some(last) = page.last().copied() else { break };
        selection.before = Some(last);
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10, 5], "only what is shown fills a page");
    let wanted: Vec<_> = (1..=50).rev().filter(|at| at % 2 == 1).map(number).collect();
    assert_eq!(pages.concat(), wanted);
}

/// SQLite limits how deep an expression nests: a thousand ranges in a row were once refused.
#[test]
fn thousands_of_ranges_make_one_list() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    (1..=5000).for_each(|at| drop(insert_job(&txn, at)));
    let numbers: Vec<_> = (1..=5000).step_by(2).map(|at| (number(at), number(at))).collect();
    let found = txn.view().jobs(&Selection { numbers, limit: u32::MAX, ..Selection::default() }).unwrap();
    assert_eq!(found.len(), 2500);
}

/// A queue with one array of two tasks was told to run three jobs.
#[test]
fn a_group_that_runs_counts_as_its_tasks() {
    let mut store = memory();
    let txn = store.begin().unwrap();
    let group = number(1);
    insert(&txn, &Job { state: JobState::Running, ..job(group) });
    txn.insert_group(&array(group), None).unwrap();
    for task in 1..=2 {
        insert(&txn, &Job { state: JobState::Running, ..job(group.task(task)) });
    }
    let counts = |states: &[(JobState, u64)]| {
        assert_eq!(txn.view().job_counts().unwrap(), states);
        let queue: Vec<_> = states.iter().map(|(state, jobs)| ("default".to_owned(), *state, *jobs)).collect();
        assert_eq!(txn.view().queue_counts().unwrap(), queue);
    };
    counts(&[(JobState::Available, 1), (JobState::Running, 2)]);
    txn.update_group(&Group { made: 2, ..array(group) }).unwrap();
    counts(&[(JobState::Running, 2)]);
}

#[test]
fn jobs_are_counted_by_state_and_queue() {
    let mut store = filled();
    let txn = store.begin().unwrap();
    let counts = txn.view().job_counts().unwrap();
    assert_eq!(
        counts,
        [
            (JobState::Available, 2),
            (JobState::Completed, 1),
            (JobState::Discarded, 1),
            (JobState::Running, 1),
            (JobState::Scheduled, 1)
        ]
    );
    let counts = txn.view().queue_counts().unwrap();
    let queue = |name: &str, state, jobs| (name.to_owned(), state, jobs);
    assert_eq!(
        counts,
        [
            queue("default", JobState::Available, 2),
            queue("default", JobState::Running, 1),
            queue("slow", JobState::Scheduled, 1)
        ]
    );
}
