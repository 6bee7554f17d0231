//! Bytes between real nodes: a gigabyte there and back, transfers whose ends are killed, trees, and a disk without room.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use jobmesh_protocol::tree::{Entry, Node as TreeNode, Tree};
use jobmesh_protocol::{BlobRef, Hash};
use jobmesh_tests::{Mount, Node, Place, Value, json, private_mounts, until_folder};

use crate::bench;

/// Large logs are allowed, so that a large file may be an output.
const LARGE: &str = "[limits]\nlog_bytes = \"4GiB\"\n";
/// Most memory of a daemon that moves a gigabyte.
const MEMORY_KIB_MAX: u64 = 200 * 1024;

/// Writes so many mebibytes that nothing makes smaller, each unlike the others.
fn write_large(path: &Path, mebibytes: u64) -> BlobRef {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut hasher = blake3::Hasher::new();
    let mut block = vec![0_u8; 1 << 20];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut block);
    for number in 0..mebibytes {
        block[..8].copy_from_slice(&number.to_le_bytes());
        hasher.update(&block);
        file.write_all(&block).unwrap();
    }
    file.flush().unwrap();
    BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size: mebibytes << 20 }
}

fn blob(node: &Node, blob: BlobRef) -> PathBuf {
    node.home().join("blobs").join(blob.hash.to_string())
}

fn part(node: &Node, blob: BlobRef) -> PathBuf {
    node.home().join("blobs").join(format!("{}.{}.part", blob.hash, blob.size))
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn counted(node: &Node, name: &str) -> u64 {
    node.json(&["status"])["counters"][name].as_u64().unwrap_or(0)
}

/// Returns when more than so many bytes of a blob have come to a node.
fn until_longer(node: &Node, input: BlobRef, bytes: u64) {
    let part = part(node, input);
    until_folder(part.parent().unwrap(), "nothing came", || size(&part) > bytes);
}

/// Returns when an attempt of a job has ended with these words.
fn until_said(a: &Node, job: &str, words: &str) {
    // Its attempts are read after each event: whatever becomes of one is one.
    a.watch().until(words, |_| a.json(&["show", job])["attempts"].to_string().contains(words));
}

/// The most memory that a daemon has ever had, in KiB.
fn memory_peak_kib(node: &Node) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.pid().number())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits for the end of a job that moves much.
fn ended(node: &Node, job: &str) -> Value {
    let run = node.run(&["wait", job, "--timeout", "240s"]);
    assert_ne!(run.code, 124, "job {job} has not ended: {}\n{}", node.json(&["explain", job]), node.log());
    node.json(&["show", job])
}

fn large_pair(bench: &jobmesh_tests::Bench) -> (Node, Node) {
    let [a, b] = ["a", "b"].map(|name| bench.node_with(name, 2, LARGE));
    a.up();
    b.up();
    a.admit(&b);
    assert_eq!(b.run(&["capability", "add", "tool:far"]).code, 0);
    (a, b)
}

/// Submits a job for `b` with this input.
fn submit(a: &Node, input: &Path, command: &str) -> String {
    let input = input.display().to_string();
    a.submit(&["--require", "tool:far", "--stdin", &input, "--", "sh", "-c", command])
}

/// One end of a transfer.
#[derive(Clone, Copy)]
enum End {
    Origin,
    Executor,
}

/// Submits a job that moves a gigabyte to `b` and, with a line before it, back; without that, what came back would be here.
fn a_gigabyte_there_and_back(a: &Node, folder: &Path) -> (String, BlobRef, BlobRef) {
    let source = folder.join("source");
    let input = write_large(&source, 1024);
    let job = submit(a, &source, "echo back; cat");
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"back\n").update_reader(File::open(&source).unwrap()).unwrap();
    fs::remove_file(&source).unwrap();
    (job, input, BlobRef { hash: Hash::from_bytes(*hasher.finalize().as_bytes()), size: input.size + 5 })
}

/// Kills a node in the middle of a transfer `to` one of both, and starts it again. Returns how much had come.
fn kill_within((to, from): (&Node, &Node), moved: BlobRef, killed: &Node) -> u64 {
    until_longer(to, moved, 4 << 20);
    let part = part(to, moved);
    for node in [to, from] {
        node.pid().freeze();
    }
    let so_far = size(&part);
    assert!(so_far < moved.size && !blob(to, moved).exists(), "it was too fast for this test");
    killed.kill();
    let other = if std::ptr::eq(killed, to) { from } else { to };
    other.pid().thaw();
    killed.up();
    so_far
}

/// What came before is not sent again: at most the group that was being written.
fn has_gone_on(to: &Node, moved: BlobRef, so_far: u64) {
    let resumed = counted(to, "blob_bytes_resumed");
    assert!(resumed + (64 << 10) > so_far, "{resumed} of {so_far} bytes were kept\n{}", to.log());
    assert!(!part(to, moved).exists() && size(&blob(to, moved)) == moved.size);
}

/// A gigabyte there and a gigabyte back, in little memory, with a node that is killed on the way there and on the way back.
fn goes_on_where_it_was(end: End) {
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let killed = match end {
        End::Origin => &a,
        End::Executor => &b,
    };
    let (job, input, output) = a_gigabyte_there_and_back(&a, bench.folder());
    let there = kill_within((&b, &a), input, killed);
    until_longer(&a, output, 0);
    has_gone_on(&b, input, there);
    let back = kill_within((&a, &b), output, killed);
    let shown = ended(&a, &job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
    has_gone_on(&a, output, back);
    let written = &shown["attempts"].as_array().unwrap().last().unwrap()["outputs"]["stdout"];
    assert_eq!(written["hash"].as_str().unwrap().parse::<Hash>().unwrap(), output.hash, "{shown}");
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(blob(&a, output)).unwrap()).unwrap();
    assert_eq!(hasher.finalize().as_bytes(), output.hash.as_bytes());
    for node in [&a, &b] {
        let peak = memory_peak_kib(node);
        assert!(peak < MEMORY_KIB_MAX, "{} had {peak} KiB", node.name());
    }
}

#[test]
fn a_gigabyte_goes_on_where_it_was_when_its_origin_was_killed() {
    goes_on_where_it_was(End::Origin);
}

#[test]
fn a_gigabyte_goes_on_where_it_was_when_its_executor_was_killed() {
    goes_on_where_it_was(End::Executor);
}

/// What is here already moves once, whatever is in between: the peer shows that it has it, also to a daemon that has
/// forgotten what came from where.
#[test]
fn a_second_job_with_the_same_input_moves_no_bytes_again() {
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let source = bench.folder().join("source");
    let input = write_large(&source, 64);
    let runs = |a: &Node| {
        let job = submit(a, &source, "wc -c");
        let shown = ended(a, &job);
        assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
        assert_eq!(a.wrote(&job).trim(), input.size.to_string());
    };
    runs(&a);
    assert_eq!(counted(&b, "blob_bytes_received"), input.size);
    runs(&a);
    assert_eq!(
        (counted(&b, "blob_bytes_received"), counted(&b, "blob_shown")),
        (input.size, 0),
        "what it sent, it has"
    );
    b.down();
    b.up();
    runs(&a);
    assert_eq!((counted(&b, "blob_bytes_received"), counted(&b, "blob_shown")), (0, 1), "{}", b.log());
    runs(&a);
    assert_eq!((counted(&b, "blob_bytes_received"), counted(&b, "blob_shown")), (0, 1), "{}", b.log());
}

/// Submits a job for `b` whose input is this blob, which is here already.
fn submit_blob(a: &Node, blob: BlobRef, script: &str) -> String {
    let stdin = json!({ "hash": blob.hash, "size": blob.size });
    let task = json!({ "process": { "argv": ["sh", "-c", script], "stdin": stdin } });
    let requirements = json!([{ "has": "tool:far" }]);
    let spec = json!({ "job_type": "sh", "task": task, "requirements": requirements, "scope": "hybrid" });
    let submitted = a.api().ask("POST", "/v1/jobs", Some(&json!({ "spec": spec }))).json();
    submitted["number"].as_u64().unwrap_or_else(|| panic!("{submitted}")).to_string()
}

/// One byte in the middle of a copy goes bad after it was sent once: what comes before it is sent, the receiver hears where
/// it stops, the server tells its people, and nothing wrong is ever run.
#[test]
fn a_byte_that_goes_bad_on_the_disk_is_found_at_its_chunk_and_the_rest_comes_once_it_is_mended() {
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let source = bench.folder().join("source");
    let input = write_large(&source, 16);
    let first = submit(&a, &source, "wc -c");
    assert_eq!(ended(&a, &first)["job"]["state"], "completed", "{}", b.log());
    b.down();
    fs::remove_file(blob(&b, input)).unwrap();
    let flip = || {
        use std::os::unix::fs::FileExt as _;
        let file = File::options().read(true).write(true).open(blob(&a, input)).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, 10 << 20).unwrap();
        file.write_all_at(&[byte[0] ^ 1], 10 << 20).unwrap();
    };
    flip();
    let job = submit_blob(&a, input, "wc -c");
    b.up();
    let why = "is damaged";
    until_said(&a, &job, why);
    assert!(a.json(&["explain", &job]).to_string().contains(why), "{}", a.json(&["explain", &job]));
    // What was verified before that place is kept, and nothing behind it: a segment is four groups of 64 KiB.
    assert_eq!(size(&part(&b, input)), 10 << 20);
    assert!(!blob(&b, input).exists() && counted(&b, "blob_bytes_received") == 10 << 20);
    assert!(counted(&a, "blob_damaged") > 0 && a.log().contains("is damaged"), "{}", a.log());
    assert_eq!(a.run(&["run", "--require", "tool:far", "--", "echo", "next"]).text(), "next\n");
    flip();
    let shown = ended(&a, &job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
    assert_eq!(a.wrote(&job).trim(), input.size.to_string());
    assert_eq!(counted(&b, "blob_bytes_received"), input.size, "nothing came twice");
}

/// Uploads bytes as other programs do, and returns what names them.
fn upload(node: &Node, bytes: &[u8]) -> BlobRef {
    let mut socket = UnixStream::connect(node.home().join("control.sock")).unwrap();
    let head = format!(
        "POST /v1/blobs HTTP/1.1\r\nhost: jobmesh\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(bytes).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    BlobRef::of(bytes)
}

fn tree_of(files: &[(String, BlobRef)]) -> Tree {
    let entry = |(path, blob): &(String, BlobRef)| {
        let node = TreeNode::File { blob: *blob, mode: 0o644 };
        Entry { path: path.clone(), node }
    };
    Tree::new(files.iter().map(entry).collect()).unwrap()
}

/// Submits a job for `b` that begins with this tree and keeps what it leaves in `out`.
fn submit_tree(a: &Node, tree: BlobRef, script: &str) -> String {
    let task = json!({ "process": { "argv": ["sh", "-c", script] } });
    let inputs = json!({ "hash": tree.hash, "size": tree.size });
    let requirements = json!([{ "has": "tool:far" }]);
    let spec = json!({
        "job_type": "sh", "task": task, "inputs": inputs, "outputs": ["out/**"], "requirements": requirements,
        "scope": "hybrid",
    });
    let submitted = a.api().ask("POST", "/v1/jobs", Some(&json!({ "spec": spec }))).json();
    submitted["number"].as_u64().unwrap_or_else(|| panic!("{submitted}")).to_string()
}

/// Neither end lays out a file of the other that is not named, and both have all of both trees in the end.
#[test]
fn a_tree_goes_there_and_another_one_comes_back() {
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let contents: Vec<Vec<u8>> = (1..=3_u8).map(|byte| vec![byte; 300_000]).collect();
    let name = |(number, content): (usize, &Vec<u8>)| (format!("in/{number}"), upload(&a, content));
    let tree = upload(&a, &tree_of(&contents.iter().enumerate().map(name).collect::<Vec<_>>()).encode());
    let job = submit_tree(&a, tree, "mkdir out && cat in/0 in/1 in/2 > out/all && cp in/1 out/one && ls in");
    let shown = ended(&a, &job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
    assert_eq!(a.wrote(&job), "0\n1\n2\n");
    let all = contents.concat();
    assert_eq!(fs::read(blob(&a, BlobRef::of(&all))).unwrap(), all);
    let listed = a.api().ask("GET", &format!("/v1/jobs/{job}/artifacts"), None).json().to_string();
    for (path, bytes) in [("out/all", &all), ("out/one", &contents[1])] {
        let hash = Hash::of(bytes).to_string();
        assert!(listed.contains(path) && listed.contains(&hash), "{path}: {listed}");
    }
    // What one of them is was here from the start.
    let received = counted(&a, "blob_bytes_received");
    assert!(received >= all.len() as u64 && received < all.len() as u64 + 10_000, "{received}");
}

#[test]
fn a_tree_arrives_with_all_its_files_and_what_is_here_is_not_sent_again() {
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let contents: Vec<Vec<u8>> = (0..40_u32).map(|number| number.to_le_bytes().repeat(10_000)).collect();
    let files = |range: std::ops::Range<usize>| -> Vec<(String, BlobRef)> {
        range.map(|number| (format!("folder/{number}"), upload(&a, &contents[number]))).collect()
    };
    let first = files(0..30);
    let tree = upload(&a, &tree_of(&first).encode());
    let shown = ended(&a, &submit_tree(&a, tree, "mkdir out && echo x > out/x"));
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
    for (path, file) in &first {
        assert_eq!(fs::read(blob(&b, *file)).unwrap().len() as u64, file.size, "{path}");
    }
    // Exactly: a stream that met a busy acceptor once failed the transfer, and a file that was written, and whose
    // transfer was given up before it was counted, was found there by the next one.
    let received = counted(&b, "blob_bytes_received");
    assert_eq!(received, 30 * 40_000 + tree.size, "{}", b.log());
    // Twenty of these are there, and one content is there under two names.
    let mut second = files(10..40);
    second.push(("again".to_owned(), BlobRef::of(&contents[39])));
    let tree = upload(&a, &tree_of(&second).encode());
    let shown = ended(&a, &submit_tree(&a, tree, "mkdir out && echo x > out/x"));
    assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
    assert_eq!(counted(&b, "blob_bytes_received") - received, 10 * 40_000 + tree.size);
}

/// Each file was a stream, a request and a sync of its own: five thousand took minutes, and failed at every stream that met
/// a busy acceptor.
#[test]
fn a_tree_of_many_small_files_takes_few_streams_there_and_back_and_to_a_daemon_that_has_forgotten_it() {
    const FILES: u64 = 1500;
    let bench = bench();
    let (a, b) = large_pair(&bench);
    let folder = bench.folder().join("many");
    for number in 0..FILES {
        let under = folder.join((number % 30).to_string());
        fs::create_dir_all(&under).unwrap();
        fs::write(under.join(number.to_string()), format!("{number}\n").repeat(100)).unwrap();
    }
    let input = format!("{}:in", folder.display());
    let copies =
        "mkdir out && cat in/*/* | sort | uniq -c | wc -l && for f in in/*/*; do echo x >> $f; done && mv in out";
    let submit = |script: &str, output: &[&str]| {
        let words = [&["--require", "tool:far", "--input", &input], output, &["--", "sh", "-c", script]].concat();
        let job = a.submit(&words);
        let shown = ended(&a, &job);
        assert_eq!(shown["job"]["state"], "completed", "{shown}\n{}", b.log());
        job
    };
    let job = submit(copies, &["--output", "out/**"]);
    assert_eq!(a.wrote(&job).trim(), FILES.to_string());
    let listed = a.api().ask("GET", &format!("/v1/jobs/{job}/artifacts"), None).json();
    let files = listed["artifacts"].as_array().unwrap().iter().filter(|it| it["kind"] == "file").count();
    assert_eq!(files as u64, FILES);
    for node in [&a, &b] {
        assert!(counted(node, "blob_streams") < 20, "{}: {}", node.name(), node.json(&["status"])["counters"]);
        let left = fs::read_dir(node.home().join("blobs")).unwrap().filter_map(Result::ok);
        let left: Vec<_> = left.map(|entry| entry.file_name()).filter(|name| name.len() != 64).collect();
        assert!(left.is_empty(), "{}: {left:?}", node.name());
    }
    b.down();
    b.up();
    let streams = counted(&a, "blob_streams");
    submit("ls in/0 | wc -l", &[]);
    assert_eq!((counted(&b, "blob_bytes_received"), counted(&b, "blob_not_shown")), (0, 0), "{}", b.log());
    assert_eq!(counted(&b, "blob_shown"), FILES + 1, "its files and its list");
    assert!(counted(&a, "blob_streams") - streams < 10);
}

#[test]
fn a_disk_without_room_for_an_input_refuses_the_job_and_the_node_goes_on() {
    let test = "transfer::a_disk_without_room_for_an_input_refuses_the_job_and_the_node_goes_on";
    if private_mounts(test) == Place::Outside {
        return;
    }
    let bench = bench();
    let disk = Mount::new(bench.folder().join("disk"), "size=48m");
    let home = disk.directory().join("home");
    fs::create_dir(&home).unwrap();
    let (a, b) = (bench.up("origin"), bench.node_at(home));
    b.reconfigure("slots = 2\n[isolation]\nmembers = \"contained\"\n[blobs]\nquota = \"1GiB\"\n");
    b.up();
    a.admit(&b);
    assert_eq!(b.run(&["capability", "add", "tool:far"]).code, 0);
    let source = bench.folder().join("source");
    write_large(&source, 64);
    let job = submit(&a, &source, "wc -c");
    until_said(&a, &job, "the disk has no room for it");
    let explained = a.json(&["explain", &job]);
    assert!(explained.to_string().contains("the disk has no room for it"), "{explained}");
    assert_eq!(a.run(&["cancel", &job]).code, 0);
    // What seemed to have room and has none in the middle of it.
    fs::remove_file(&source).unwrap();
    let input = write_large(&source, 30);
    let job = submit(&a, &source, "wc -c");
    until_longer(&b, input, 1 << 20);
    b.pid().freeze();
    assert!(!blob(&b, input).exists(), "it was too fast for this test");
    let filler = disk.directory().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    b.pid().thaw();
    until_said(&a, &job, "the disk is full");
    fs::remove_file(&filler).unwrap();
    assert_eq!(a.run(&["cancel", &job]).code, 0);
    let small = a.file("small", b"four");
    let small = submit(&a, Path::new(&small), "wc -c");
    assert_eq!(ended(&a, &small)["job"]["state"], "completed");
    assert_eq!(a.wrote(&small).trim(), "4");
    assert!(!b.log().contains("panicked"), "{}", b.log());
}
