//! Secrets of real runs: where they go, and where they never are.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use jobmesh_executors::{Ended, Limits, Order, Secret, Secrets, StopReason, Stream, log_path};
use jobmesh_protocol::{BlobRef, Isolation, Outcome};

use crate::harness::Node;
use crate::podman::{self, IMAGE, podman};

/// A value that is nowhere else.
const CANARY: &str = "canary-Zx81-\"q\"-0123456789";

fn with_secret(mut order: Order) -> Order {
    let mut secrets = Secrets::default();
    secrets.insert("TOKEN".to_owned(), "registry".to_owned(), Secret::new(CANARY.to_owned()));
    order.secrets = secrets;
    order
}

/// Whether a file below `place` has the value in it, in one of the forms in which a shell prints it.
fn is_in(place: &Path) -> bool {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    std::fs::read_dir(place).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            return is_in(&path);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        text.contains(CANARY) || text.contains(&hex) || text.contains("canary-Zx81")
    })
}

fn text_of(ended: &Ended, blob: Option<BlobRef>) -> String {
    let found = ended.inline.iter().find(|bytes| Some(BlobRef::of(bytes)) == blob);
    String::from_utf8(found.cloned().unwrap_or_default()).unwrap()
}

/// Says the secret in every way that a run can say something.
const TELLTALE: &str = r#"printf '%s\n' "it is $TOKEN"; printf '%s\n' "$TOKEN" >&2
    printf '%s' "$TOKEN" > "$JOBMESH_RESULT"
    printf '{"outcome":"permanent","message":"wrong: canary-Zx81-\\"q\\"-0123456789"}' > "$JOBMESH_OUTCOME""#;

fn assert_clean(node: &Node, ended: &Ended) {
    assert_eq!(ended.outcome, Outcome::Permanent { message: "wrong: [secret registry]".to_owned() });
    assert_eq!(text_of(ended, ended.outputs.stdout), "it is [secret registry]\n");
    assert_eq!(text_of(ended, ended.outputs.stderr), "[secret registry]\n");
    assert_eq!(text_of(ended, ended.outputs.result), "[secret registry]");
    assert!(!is_in(node.home.path()), "the value is in a file");
    assert!(!format!("{ended:?}").contains("canary"), "{ended:?}");
}

#[test]
fn a_command_has_its_secret_and_nobody_reads_it_afterwards() {
    let node = Node::start(1);
    let ended = node.end_of(with_secret(node.script(TELLTALE)));
    assert_clean(&node, &ended);
    let ended = node.end_of(with_secret(node.script(r#"test ${#TOKEN} = 26"#)));
    assert_eq!(ended.outcome, Outcome::Ok, "{ended:?}");
}

/// What a sandboxed command had said of its end was taken out of its sandbox after everything was searched, so its
/// result went to its origin as it was.
#[test]
fn a_sandboxed_command_has_its_secret_and_nobody_reads_it_afterwards() {
    let Some(node) = Node::start_sandboxed(1) else { return };
    for is_foreign in [true, false] {
        let ended = node.end_of(Order { is_foreign, network: false, ..with_secret(node.script(TELLTALE)) });
        assert_clean(&node, &ended);
        assert_eq!(ended.isolation, Isolation::Sandboxed);
    }
    let within = r#"printf '{"outcome":"ok","result":"canary-Zx81-\"q\"-0123456789"}' > "$JOBMESH_OUTCOME""#;
    let ended = node.end_of(with_secret(node.script(within)));
    assert_eq!(
        (&ended.outcome, text_of(&ended, ended.outputs.result).as_str()),
        (&Outcome::Ok, r#""[secret registry]""#)
    );
    assert!(!is_in(node.home.path()), "the value is in a file");
}

#[test]
fn a_container_has_its_secret_and_nobody_reads_it_afterwards() {
    let Some(podman) = podman() else { return };
    let node = podman::node(podman::containers(&podman));
    let words = ["sh", "-c", TELLTALE].map(str::to_owned).to_vec();
    let task = jobmesh_protocol::task::ContainerTask::new(IMAGE, words);
    let ended = node.end_of(with_secret(node.order(jobmesh_protocol::task::Task::Container(task))));
    assert_clean(&node, &ended);
}

#[test]
fn a_log_can_be_followed_and_its_limit_holds() {
    let node = Node::start(1);
    let order = with_secret(node.script("echo ready; sleep 600"));
    node.executors.run(order.clone());
    let path = log_path(&order.directory, Stream::Stdout);
    let until = std::time::Instant::now() + crate::harness::DEADLINE;
    while std::fs::read_to_string(&path).unwrap_or_default() != "ready\n" {
        assert!(std::time::Instant::now() < until, "nothing arrives while it runs");
        std::thread::yield_now();
    }
    node.executors.stop(order.run, StopReason::Cancel);
    assert_eq!(node.ended(order.run).outcome, Outcome::Cancelled);

    let mut order = with_secret(node.script("yes"));
    order.limits = Limits { log_bytes_max: 1 << 20, ..Limits::default() };
    let ended = node.end_of(order);
    assert_eq!((ended.outcome.word(), ended.outputs.stdout.unwrap().size), ("permanent", 1 << 20));
}

#[test]
fn a_secret_on_the_command_line_of_a_failed_start_is_not_told() {
    let node = Node::start(1);
    // The variables of a container and a command are told to nobody, and neither is an order.
    let order = with_secret(node.command(&["no-such-program"]));
    assert!(!format!("{order:?}").contains("canary"));
    let ended = node.end_of(order);
    assert_eq!(ended.outcome.word(), "permanent");
    assert!(!format!("{ended:?}").contains("canary"));
}
