//! What a job leaves to be kept that is no file, or more than anybody wants.

use jobmesh_tests::{Mount, Place, private_mounts};

use crate::{TABLES, bench, goes_on, is_responsive, pair};

/// What a hostile job leaves, by what is said of it. Nothing of it is kept.
const LEFT: [(&str, &str); 9] = [
    ("mkdir out; ln -s /etc/passwd out/l", "the link \"out/l\" leads out of the tree"),
    ("mkdir out; ln -s ../../../node.key out/l", "the link \"out/l\" leads out of the tree"),
    ("mkdir -p out/a; ln -s a/../../../x out/l", "the link \"out/l\" leads out of the tree"),
    ("ln -s / out", "the link \"out\" leads out of the tree"),
    ("mkdir out; mkfifo out/p", "\"out/p\" is a named pipe"),
    ("mkdir out; cd out; for i in $(seq 100); do mkdir d; cd d; done; echo x > x", "lies deeper than 64 directories"),
    ("mkdir out; touch \"$(printf 'out/a\\033[2Jb')\"", "has a name"),
    ("mkdir out; truncate -s 1M out/big out/other", "more than 1048576 bytes"),
    ("mknod z c 1 5 2>/dev/null || exit 9", "exit code 9"),
];

#[test]
fn what_is_left_is_kept_only_if_it_is_files_and_not_too_much() {
    let bench = bench();
    let tables = TABLES.replace("[limits]\n", "[limits]\nfile_bytes = \"1MiB\"\n");
    let Some((a, b)) = pair(&bench, &tables) else { return };
    for (script, what) in LEFT {
        let job = a.submit(&["--require", "tool:victim", "--output", "out", "--", "sh", "-c", script]);
        let shown = a.ended(&job);
        assert!(shown["attempts"].to_string().replace("\\\"", "\"").contains(what), "{script}: {shown}\n{}", b.log());
        assert!(shown["attempts"][0]["outputs"]["files"].is_null(), "{script}: {shown}");
        is_responsive(&b);
    }
    for pattern in ["../x", "/etc/passwd", "a/../../x"] {
        let refused = a.run(&["submit", "--require", "tool:victim", "--output", pattern, "--", "true"]);
        assert_ne!(refused.code, 0, "{pattern}: {}", refused.text());
    }
    goes_on(&a, &b);
}

/// Nothing of a job that has filled the disk stays on it, so the node is as good as before.
#[test]
fn a_job_that_fills_the_disk_leaves_it_empty() {
    if private_mounts("files::a_job_that_fills_the_disk_leaves_it_empty") == Place::Outside {
        return;
    }
    let bench = bench();
    let disk = Mount::new(bench.folder().join("disk"), "size=96m");
    let home = disk.directory().join("home");
    std::fs::create_dir(&home).unwrap();
    let (a, b) = (bench.up("attacker"), bench.node_at(home));
    // Without a sandbox nothing but a look now and then keeps it from filling the disk.
    b.reconfigure("slots = 2\n[isolation]\nmembers = \"contained\"\n");
    b.up();
    a.admit(&b);
    assert_eq!(b.run(&["capability", "add", "tool:victim"]).code, 0);
    let job = a.submit(&["--require", "tool:victim", "--", "sh", "-c", "head -c 200M /dev/zero > big; sleep 100"]);
    let shown = a.ended(&job);
    assert_ne!(shown["job"]["state"], "completed", "{shown}");
    let run = b.run(&["run", "--", "echo", "alive"]);
    assert_eq!((run.code, run.text().as_str()), (0, "alive\n"), "{}\n{}", run.stderr, b.log());
    goes_on(&a, &b);
}
