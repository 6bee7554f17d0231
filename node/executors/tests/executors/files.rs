//! What a job finds in its directory when it begins, and what is kept of what it leaves there.

#![expect(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use jobmesh_executors::{Ended, Order, StopReason};
use jobmesh_protocol::tree::{Entry, Node as Kind, Tree};
use jobmesh_protocol::{BlobRef, Outcome};

use crate::harness::Node;

fn entry(path: &str, node: Kind) -> Entry {
    Entry { path: path.to_owned(), node }
}

fn file(node: &Node, path: &str, bytes: &[u8], mode: u16) -> Entry {
    entry(path, Kind::File { blob: node.blob(bytes), mode })
}

/// Keeps a tree among the blobs.
fn tree(node: &Node, entries: Vec<Entry>) -> BlobRef {
    node.blob(&Tree::new(entries).unwrap().encode())
}

/// An order to run a script over these files, of which what matches is kept.
fn order(node: &Node, inputs: Option<BlobRef>, script: &str, outputs: &[&str]) -> Order {
    let outputs = outputs.iter().map(|pattern| (*pattern).to_owned()).collect();
    Order { inputs, outputs, ..node.script(script) }
}

/// What was kept.
fn kept(node: &Node, ended: &Ended) -> Tree {
    let files = ended.outputs.files.unwrap_or_else(|| panic!("nothing was kept: {:?}", ended.outcome));
    Tree::decode(&node.shelf.read(files, 1 << 20).unwrap()).unwrap()
}

fn paths(tree: &Tree) -> Vec<&str> {
    tree.entries().iter().map(|entry| entry.path.as_str()).collect()
}

fn message(ended: &Ended) -> String {
    ended.outcome.message().unwrap_or_default().to_owned()
}

#[test]
fn a_job_finds_its_inputs_with_their_permissions_and_links() {
    let node = Node::start(1);
    let entries = vec![
        file(&node, "bin/run", b"#!/bin/sh\necho ran\n", 0o755),
        file(&node, "data/in.txt", b"some data", 0o640),
        entry("data/link", Kind::Link { target: "../bin/run".to_owned() }),
        entry("empty", Kind::Directory { mode: 0o750 }),
        entry("closed", Kind::Directory { mode: 0o500 }),
        file(&node, "closed/x", b"x", 0o400),
    ];
    let inputs = Some(tree(&node, entries));
    let script =
        "./data/link; cat data/in.txt closed/x; stat -c %a data/in.txt empty closed closed/x; readlink data/link";
    let ended = node.end_of(order(&node, inputs, script, &[]));
    let said = String::from_utf8(ended.inline.first().unwrap().clone()).unwrap();
    // Whoever owns a directory may always enter it and clear it.
    assert_eq!(said, "ran\nsome datax640\n750\n700\n400\n../bin/run\n", "{:?}", ended.outcome);
}

#[test]
fn what_a_job_writes_to_an_input_is_not_written_to_the_blob() {
    let node = Node::start(1);
    let inputs = tree(&node, vec![file(&node, "a", b"as it was", 0o644)]);
    let ended = node.end_of(order(&node, Some(inputs), "echo more >> a", &["a"]));
    assert_eq!(ended.outcome, Outcome::Ok);
    assert!(node.shelf.read(BlobRef::of(b"as it was"), 100).is_ok());
    assert_eq!(kept(&node, &ended).blobs().next(), Some(BlobRef::of(b"as it wasmore\n")));
}

#[test]
fn a_damaged_or_missing_input_is_named_and_nothing_runs() {
    let node = Node::start(1);
    let inputs = tree(&node, vec![file(&node, "a", b"whole", 0o644)]);
    let whole = BlobRef::of(b"whole");
    fs::write(node.shelf.path_of(whole.hash), b"wrong").unwrap();
    for what in ["was damaged", "is not on this node"] {
        let order = order(&node, Some(inputs), "echo ran > ../../ran", &[]);
        let directory = order.directory.clone();
        let ended = node.end_of(order);
        let said = message(&ended);
        assert!(said.contains(what) && said.contains("\"a\"") && said.contains(&whole.hash.to_string()), "{said}");
        assert!(matches!(ended.outcome, Outcome::Error { .. }), "it may work once the blob is brought anew");
        assert!(!directory.exists() && !node.home.path().join("ran").exists());
    }
    let junk = node.blob(b"no tree");
    let ended = node.end_of(order(&node, Some(junk), "true", &[]));
    assert!(matches!(ended.outcome, Outcome::Permanent { .. }), "{ended:?}");
}

/// A tree of a few bytes that would fill any disk.
#[test]
fn what_a_tree_comes_to_is_counted_before_anything_is_written() {
    let node = Node::start(1);
    let blob = node.blob(&[7; 1000]);
    let many = (0..100).map(|number| entry(&format!("{number}"), Kind::File { blob, mode: 0o644 })).collect();
    let mut order = order(&node, Some(tree(&node, many)), "true", &[]);
    order.limits.file_bytes_max = 99_999;
    let ended = node.end_of(order);
    assert!(message(&ended).contains("take 100000 bytes; the limit is 99999"), "{}", message(&ended));
}

#[test]
fn what_matches_is_kept_with_its_permissions_and_nothing_else() {
    let node = Node::start(1);
    let script = "umask 022; mkdir -p out/deep other; echo a > out/a.txt; echo b > out/deep/b.txt; echo c > other/c; \
                  ln -s ./a.txt out/l; chmod 4755 out/a.txt; mkdir out/empty; echo 'ü' > 'out/ü ñ'";
    let ended = node.end_of(order(&node, None, script, &["out", "other/?"]));
    assert_eq!(ended.outcome, Outcome::Ok);
    let tree = kept(&node, &ended);
    let wanted = ["other/c", "out", "out/a.txt", "out/deep", "out/deep/b.txt", "out/empty", "out/l", "out/ü ñ"];
    assert_eq!(paths(&tree), wanted);
    let at = |path: &str| tree.entries().iter().find(|entry| entry.path == path).unwrap().node.clone();
    let blob = BlobRef::of(b"a\n");
    assert_eq!(at("out/a.txt"), Kind::File { blob, mode: 0o755 }, "the set-user-id bit is dropped");
    assert_eq!(at("out/l"), Kind::Link { target: "a.txt".to_owned() });
    assert_eq!(node.shelf.read(blob, 10).unwrap(), b"a\n");
    assert!(tree.blobs().all(|blob| node.shelf.has(blob)));
}

#[test]
fn an_output_that_is_missing_fails_the_job_and_half_of_them_help_where_it_failed() {
    let node = Node::start(1);
    let ended = node.end_of(order(&node, None, "echo a > a", &["a", "out/*.png"]));
    assert_eq!(message(&ended), "no file matches the output \"out/*.png\"");
    assert_eq!(ended.outputs.files, None);
    let ended = node.end_of(order(&node, None, "echo a > a; exit 3", &["a", "out/*.png"]));
    assert_eq!((ended.exit.code, paths(&kept(&node, &ended))), (Some(3), vec!["a"]));
    let ended = node.end_of(order(&node, None, "exit 3", &["a"]));
    assert_eq!((ended.exit.code, ended.outputs.files, ended.notice), (Some(3), None, None));
}

#[test]
fn what_was_cancelled_is_not_wanted() {
    let node = Node::start(1);
    let mut pipe = node.pipe();
    let script = format!("echo a > a; echo ready > {}; sleep 600", pipe.path.display());
    let order = order(&node, None, &script, &["a"]);
    let run = order.run;
    node.executors.run(order);
    assert_eq!(pipe.line(), "ready");
    node.executors.stop(run, StopReason::Cancel);
    let ended = node.ended(run);
    assert_eq!((ended.outcome, ended.outputs.files), (Outcome::Cancelled, None));
}

/// What a hostile job leaves, by what is said of it.
#[test]
fn what_is_no_file_is_refused_by_name() {
    let node = Node::start(1);
    let secret = node.home.path().join("secret");
    fs::write(&secret, "key").unwrap();
    let outside = format!("mkdir out; ln -s {} out/l", secret.display());
    let deep = "mkdir out; cd out; for i in $(seq 200); do mkdir d; cd d; done; echo x > x".to_owned();
    let cases = [
        (outside, "the link \"out/l\" leads out of the tree"),
        ("mkdir out; ln -s ../../../secret out/l".to_owned(), "the link \"out/l\" leads out of the tree"),
        ("mkdir -p out/a; ln -s a/../../../x out/l".to_owned(), "the link \"out/l\" leads out of the tree"),
        ("mkdir out; mkfifo out/p".to_owned(), "\"out/p\" is a named pipe"),
        (deep, "lies deeper than 64 directories"),
        ("mkdir out; touch \"$(printf 'out/a\\033[2Jb')\"".to_owned(), "\"out/a\\u{1b}[2Jb\" has a name"),
        ("mkdir out; touch \"$(printf 'out/a\\377b')\"".to_owned(), "\"out/a\\xFFb\" has a name"),
    ];
    for (script, what) in cases {
        let ended = node.end_of(order(&node, None, &script, &["out"]));
        assert!(message(&ended).contains(what), "{script}: {ended:?}");
        assert!(matches!(ended.outcome, Outcome::Permanent { .. }) && ended.outputs.files.is_none());
    }
    let ended = node.end_of(order(&node, None, "rmdir ../work; ln -s / ../work", &["etc/passwd"]));
    assert!(ended.outputs.files.is_none() && matches!(ended.outcome, Outcome::Error { .. }), "{ended:?}");
}

#[test]
fn a_socket_is_refused_by_name_and_so_is_a_device() {
    let node = Node::start(1);
    let sockets = tempfile::tempdir_in(node.home.path()).unwrap();
    let socket = sockets.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let ended = node.end_of(order(&node, None, &format!("mv {} s", socket.display()), &["s"]));
    assert!(message(&ended).contains("\"s\" is a socket"), "{ended:?}");
    let ended = node.end_of(order(&node, None, "mknod z c 1 5", &["z"]));
    if ended.exit.code == Some(0) {
        assert!(message(&ended).contains("\"z\" is a device"), "{ended:?}");
    } else {
        eprintln!("SKIPPED the device: this user may not make one");
    }
}

#[test]
fn an_output_without_end_is_refused_by_its_length() {
    let node = Node::start(1);
    for script in ["truncate -s 1T big", "head -c 3000 /dev/zero > a; head -c 3000 /dev/zero > b"] {
        let mut order = order(&node, None, script, &["*"]);
        order.limits.file_bytes_max = 5000;
        let ended = node.end_of(order);
        assert!(message(&ended).contains("more than 5000 bytes"), "{ended:?}");
    }
    assert_eq!((node.shelf.used(), fs::read_dir(node.shelf.folder()).unwrap().count()), (0, 0), "nothing is left");
}

/// The other name of a file elsewhere is a file like any other: its bytes are kept, and what is written to it later isn't.
#[test]
fn a_hard_link_is_kept_as_a_copy() {
    let node = Node::start(1);
    let outside = node.home.path().join("outside");
    fs::write(&outside, "before").unwrap();
    let ended = node.end_of(order(&node, None, &format!("ln {} a", outside.display()), &["a"]));
    assert_eq!(ended.outcome, Outcome::Ok);
    fs::write(&outside, "after!").unwrap();
    let blob = BlobRef::of(b"before");
    assert_eq!(kept(&node, &ended).blobs().next(), Some(blob));
    assert_eq!(node.shelf.read(blob, 10).unwrap(), b"before");
    assert_ne!(inode(&outside), inode(&node.shelf.path_of(blob.hash)));
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

#[test]
fn what_can_not_be_read_is_named() {
    let node = Node::start(1);
    let ended = node.end_of(order(&node, None, "echo x > a; chmod 0 a", &["a"]));
    if ended.outcome == Outcome::Ok {
        eprintln!("SKIPPED: this user may read everything");
        return;
    }
    assert!(message(&ended).contains("failed to read the output \"a\""), "{ended:?}");
}

#[test]
fn what_is_left_elsewhere_can_not_be_kept() {
    let node = Node::start(1);
    let mut order = order(&node, None, "true", &["a"]);
    if let jobmesh_protocol::task::Task::Process(task) = &mut order.task {
        task.directory = Some("/tmp".to_owned());
    }
    let ended = node.end_of(order);
    assert!(message(&ended).contains("names its working directory"), "{ended:?}");
}

#[test]
fn beyond_the_quota_the_job_fails_and_the_node_does_not() {
    let node = Node::start(1);
    node.shelf.set_quota(1000);
    let ended = node.end_of(order(&node, None, "head -c 5000 /dev/urandom > a", &["a"]));
    let said = message(&ended);
    assert!(said.contains("\"a\" could not be kept") && said.contains("1000 is its quota"), "{said}");
    assert_eq!(node.shelf.used(), 0);
    assert_eq!(node.end_of(order(&node, None, "echo x > a", &["a"])).outcome, Outcome::Ok);
}

#[test]
fn a_working_directory_goes_when_it_has_served() {
    let node = Node::start(1);
    let inputs = Some(tree(&node, vec![file(&node, "a", b"x", 0o444)]));
    for (script, is_foreign, is_kept) in [("true", false, false), ("false", false, true), ("false", true, false)] {
        let order = Order { is_foreign, ..order(&node, inputs, script, &[]) };
        let work = order.directory.join("work");
        node.end_of(order);
        assert_eq!(work.exists(), is_kept, "{script} {is_foreign}");
    }
    assert_eq!(fs::metadata(node.shelf.path_of(BlobRef::of(b"x").hash)).unwrap().permissions().mode() & 0o111, 0);
}

/// An archive that unpacks to more than any disk has is bytes like any others: nobody unpacks it but the job.
#[test]
fn an_archive_is_just_a_file() {
    let node = Node::start(1);
    let bomb = [b"PK\x03\x04".as_slice(), &[0x78; 4096]].concat();
    let inputs = tree(&node, vec![file(&node, "bomb.zip", &bomb, 0o644)]);
    let ended = node.end_of(order(&node, Some(inputs), "wc -c < bomb.zip", &[]));
    assert_eq!(String::from_utf8(ended.inline.first().unwrap().clone()).unwrap().trim(), "4100");
}
