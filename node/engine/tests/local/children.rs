//! What running jobs submit.

use jobmesh_engine::{Command, Declared, Policy, Reach, Refusal, Response, Taken};
use jobmesh_protocol::submission::{Conflict, Unique};
use jobmesh_protocol::task::{
    Builtin, ContainerTask, EmbeddingTask, HttpTask, LlmTask, LuaTask, ProcessTask, Pull, Task, WasmTask,
};
use jobmesh_protocol::{BlobRef, Isolation, RunId, Submission};

use crate::desk::{node, plain, spec, with};
use crate::node::Node;

/// The one job that runs submits another.
fn child(node: &mut Node, submission: Submission) -> Result<Taken, Refusal> {
    let parent: RunId = node.executor.running()[0];
    match node.command(Command::SubmitChild(parent, Box::new(submission)))? {
        Response::Submitted(taken) => Ok(taken[0]),
        other => panic!("{other:?}"),
    }
}

fn refused(node: &mut Node, submission: Submission) -> String {
    let before = node.jobs().len();
    let refusal = child(node, submission).unwrap_err();
    assert!(matches!(refusal, Refusal::Confined { .. }), "{refusal}");
    assert_eq!(node.jobs().len(), before);
    refusal.to_string()
}

fn of(task: Task) -> Submission {
    with(|job| job.spec.task = task)
}

/// A node on which a job runs that is kept apart so well.
fn parent(level: Option<Isolation>, change: impl FnOnce(&mut Submission)) -> Node {
    let mut node = node(1);
    for tag in ["isolation:process:sandboxed", "isolation:process:untrusted"] {
        node.command(Command::AddCapability(tag.parse().unwrap())).unwrap();
    }
    let mut submission = with(|job| job.spec.isolation = level);
    change(&mut submission);
    node.submit(submission);
    assert_eq!(node.executor.running().len(), 1);
    node
}

fn unique(on_conflict: Conflict) -> Option<Unique> {
    Some(Unique { key: Some("k".to_owned()), by: Vec::new(), scope: Default::default(), on_conflict })
}

#[test]
fn a_child_is_kept_apart_as_well_as_its_parent_at_least() {
    use Isolation::{Contained, Sandboxed, Untrusted};
    for (parents, asked, given) in [
        (Sandboxed, None, Sandboxed),
        (Sandboxed, Some(Contained), Sandboxed),
        (Sandboxed, Some(Untrusted), Untrusted),
        (Untrusted, Some(Sandboxed), Untrusted),
    ] {
        let mut node = parent(Some(parents), |_| {});
        let taken = child(&mut node, with(|job| job.spec.isolation = asked)).unwrap();
        assert_eq!(node.job(taken.job).spec.isolation, Some(given), "{parents}, {asked:?}");
    }
}

#[test]
fn a_grandchild_is_bound_as_well() {
    let mut node = parent(Some(Isolation::Sandboxed), |_| {});
    let taken = child(&mut node, plain()).unwrap();
    let first = node.running()[0];
    node.ok(first);
    assert_eq!(node.running(), [taken.job]);
    let grandchild = child(&mut node, plain()).unwrap();
    assert_eq!(node.job(grandchild.job).spec.isolation, Some(Isolation::Sandboxed));
    refused(&mut node, with(|job| job.spec.network = true));
}

#[test]
fn without_the_network_nothing_is_submitted_that_uses_it() {
    let image = |pull| Task::Container(ContainerTask { pull, ..ContainerTask::new("box", vec!["true".to_owned()]) });
    let mut node = parent(Some(Isolation::Sandboxed), |_| {});
    let said = refused(&mut node, with(|job| job.spec.network = true));
    assert!(said.contains("kept apart (sandboxed)") && said.contains("has no network"), "{said}");
    for task in [
        Task::Http(HttpTask::new("http://127.0.0.1/")),
        Task::Llm(LlmTask::new("why?")),
        Task::Embedding(EmbeddingTask::new(["x"])),
        image(None),
        image(Some(Pull::Always)),
    ] {
        refused(&mut node, of(task));
    }
    for task in [
        Task::Lua(LuaTask::new("")),
        Task::Wasm(WasmTask::new(BlobRef::of(b"module"))),
        Task::Noop {},
        image(Some(Pull::Never)),
    ] {
        child(&mut node, of(task)).unwrap();
    }
    let mut node = parent(Some(Isolation::Sandboxed), |job| job.spec.network = true);
    child(&mut node, with(|job| job.spec.network = true)).unwrap();
    let taken = child(&mut node, of(Task::Http(HttpTask::new("http://127.0.0.1/")))).unwrap();
    assert_eq!(node.job(taken.job).spec.isolation, Some(Isolation::Sandboxed));
}

/// A node's owner who wants own jobs to be sandboxed, and lets them loose again.
fn decree(node: &mut Node, own: Isolation) {
    let isolation = Policy { own, ..Policy::default() };
    node.command(Command::Configure(Box::new(Declared { isolation, ..Declared::default() }))).unwrap();
}

/// Only what the job had asked for was looked at. So a job that ran sandboxed because its node's owner wants that could
/// submit another one with the network and every secret.
#[test]
fn the_level_that_the_owner_wants_binds_children_as_one_that_was_asked_for() {
    let mut node = node(1);
    for tag in ["isolation:process:sandboxed", "executor:lua", "isolation:lua:sandboxed"] {
        node.command(Command::AddCapability(tag.parse().unwrap())).unwrap();
    }
    decree(&mut node, Isolation::Sandboxed);
    node.submit(plain());
    let said = refused(&mut node, with(|job| job.spec.network = true));
    assert!(said.contains("kept apart (sandboxed)"), "{said}");
    refused(&mut node, with(|job| job.spec.secrets = [("KEY".to_owned(), "any".to_owned())].into()));
    refused(&mut node, of(Task::Http(HttpTask::new("http://127.0.0.1/"))));
    let taken = child(&mut node, plain()).unwrap();
    assert_eq!(node.job(taken.job).spec.isolation, Some(Isolation::Sandboxed), "also where it may go from here");
    // What runs is in its sandbox, whatever the owner wants by now.
    decree(&mut node, Isolation::Contained);
    refused(&mut node, with(|job| job.spec.network = true));
    let first = node.running()[0];
    node.ok(first);
    let second = node.running()[0];
    node.ok(second);
    node.submit(plain());
    child(&mut node, with(|job| job.spec.network = true)).unwrap();
}

#[test]
fn whether_something_may_be_submitted_is_told_before_it_is() {
    let mut node = parent(Some(Isolation::Sandboxed), |_| {});
    let run = node.executor.running()[0];
    let before = node.jobs().len();
    let mut judge = |submission| node.command(Command::JudgeChild(run, Box::new(submission)));
    assert!(matches!(judge(plain()), Ok(Response::Done)));
    let refusal = judge(with(|job| job.spec.network = true)).unwrap_err();
    assert!(matches!(refusal, Refusal::Confined { .. }), "{refusal}");
    assert_eq!(node.jobs().len(), before);
}

/// A node on which a script runs.
fn script(own: Isolation, network: bool, level: Option<Isolation>) -> Node {
    let mut node = node(1);
    for tag in ["executor:lua", "isolation:lua:sandboxed"] {
        node.command(Command::AddCapability(tag.parse().unwrap())).unwrap();
    }
    decree(&mut node, own);
    node.submit(with(|job| {
        job.spec.task = Task::Lua(LuaTask::new(""));
        (job.spec.network, job.spec.isolation) = (network, level);
    }));
    node
}

#[test]
fn a_request_of_a_script_reaches_what_its_http_job_would() {
    use Isolation::{Contained, Sandboxed};
    let granted = |mut node: Node| {
        let run = node.executor.running()[0];
        node.command(Command::GrantRequest(run))
    };
    for (own, asked, expected) in [
        (Contained, None, Reach::Open),
        (Contained, Some(Contained), Reach::Open),
        (Contained, Some(Sandboxed), Reach::Guarded),
        (Sandboxed, None, Reach::Guarded),
    ] {
        let answer = granted(script(own, true, asked));
        assert!(matches!(answer, Ok(Response::Granted(reach)) if reach == expected), "{own}, {asked:?}: {answer:?}");
    }
    assert!(matches!(granted(script(Contained, false, None)), Err(Refusal::NoNetwork)));
    assert!(matches!(granted(parent(None, |job| job.spec.network = true)), Err(Refusal::NoScript)));
}

#[test]
fn a_child_has_no_secret_that_its_parent_does_not_have() {
    let secret = |name: &str| {
        let name = name.to_owned();
        with(|job| job.spec.secrets = [("KEY".to_owned(), name)].into())
    };
    let mut node = parent(Some(Isolation::Sandboxed), |job| {
        job.spec.secrets = [("OTHER".to_owned(), "own".to_owned())].into();
    });
    let said = refused(&mut node, secret("foreign"));
    assert!(said.contains("no secrets but its own"), "{said}");
    child(&mut node, secret("own")).unwrap();
}

#[test]
fn neither_other_jobs_nor_the_node_are_its_business() {
    let mut node = parent(Some(Isolation::Sandboxed), |_| {});
    refused(&mut node, of(Task::Builtin(Builtin::Retention)));
    let theirs = node.submit(with(|job| job.unique = unique(Conflict::Reject)));
    let before = node.job(theirs).spec;
    for conflict in [Conflict::Merge, Conflict::Replace, Conflict::Debounce(crate::desk::MINUTE)] {
        let said = refused(
            &mut node,
            with(|job| {
                job.unique = unique(conflict);
                job.spec.task = Task::Process(ProcessTask::new(vec!["work".to_owned(), "more".to_owned()]));
            }),
        );
        assert!(said.contains("unique key"), "{said}");
    }
    assert_eq!(node.job(theirs).spec, before);
    let taken = child(&mut node, with(|job| job.unique = unique(Conflict::Return))).unwrap();
    assert_eq!((taken.job, taken.is_new), (theirs, false));
}

#[test]
fn a_job_that_nothing_keeps_apart_may_what_its_owner_may() {
    for level in [None, Some(Isolation::Contained)] {
        let mut node = parent(level, |_| {});
        let wide = with(|job| {
            job.spec.network = true;
            job.spec.secrets = [("KEY".to_owned(), "any".to_owned())].into();
        });
        let taken = child(&mut node, wide).unwrap();
        assert_eq!(node.job(taken.job).spec.isolation, None);
        child(&mut node, of(Task::Http(HttpTask::new("http://127.0.0.1/")))).unwrap();
    }
}

#[test]
fn what_has_ended_submits_nothing() {
    let mut node = parent(None, |_| {});
    let run = node.executor.running()[0];
    node.ok(run.job);
    let refusal = node.command(Command::SubmitChild(run, Box::new(Submission::new(spec())))).unwrap_err();
    assert!(matches!(refusal, Refusal::NotRunning));
}
