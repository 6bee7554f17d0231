//! Files that go into jobs and come out of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jobmesh_protocol::{BlobRef, Hash};
use jobmesh_tests::web::Server;
use jobmesh_tests::{Node, Value, json};

use crate::{bench, node, refused};

/// A directory with some files in it.
fn source(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("run.sh"), "#!/bin/sh\ncat deep/er/data link\n").unwrap();
    fs::set_permissions(source.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(source.join("deep/er/data"), "some data\n").unwrap();
    symlink("deep/er/data", source.join("link")).unwrap();
    source
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn blob_path(node: &Node, content: &[u8]) -> PathBuf {
    node.home().join("blobs").join(Hash::of(content).to_string())
}

/// What a job left, by path.
fn artifacts(node: &Node, job: &str) -> Vec<String> {
    let list = node.json(&["artifacts", job])["artifacts"].as_array().unwrap().clone();
    list.iter().map(|artifact| artifact["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_goes_in_comes_out_with_permissions_and_links() {
    let bench = bench();
    let node = node(&bench, "");
    let source = source(bench.folder());
    let inputs = format!("{}/", text(&source));
    let script = "./run.sh > out.txt; mkdir out; mv run.sh link out; cp -r deep out/deep; chmod 600 out.txt";
    let job = node.submit(&["--input", &inputs, "--output", "out", "--output", "*.txt", "--", "sh", "-c", script]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "completed", "{shown}");
    let paths = ["out", "out.txt", "out/deep", "out/deep/er", "out/deep/er/data", "out/link", "out/run.sh"];
    assert_eq!(artifacts(&node, &job), paths);

    let files = &node.json(&["show", &job])["files"];
    assert_eq!((&files["count"], &files["bytes"]), (&3.into(), &(20 + 10 + 32).into()), "{files}");
    assert_eq!(files["first"].as_array().unwrap().len(), paths.len());
    let shown = node.run(&["show", &job]).text();
    assert!(shown.contains("3 files, 62 B") && shown.contains("out.txt (20 B)"), "{shown}");

    let to = bench.folder().join("got");
    let run = node.run(&["artifacts", &job, "--get", "--to", text(&to)]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(fs::read_to_string(to.join("out.txt")).unwrap(), "some data\nsome data\n");
    assert_eq!(fs::read_link(to.join("out/link")).unwrap(), Path::new("deep/er/data"));
    let mode = |path: &str| fs::metadata(to.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("out.txt"), mode("out/run.sh")), (0o600, 0o755));

    let said = refused(&node, 2, &["artifacts", &job, "--get", "*.txt", "--to", text(&to)]);
    assert!(said.contains("is there already") && said.contains("--force"), "{said}");
    fs::write(to.join("out.txt"), "mine").unwrap();
    assert_eq!(node.run(&["artifacts", &job, "--get", "*.txt", "--to", text(&to), "--force"]).code, 0);
    assert_eq!(fs::read_to_string(to.join("out.txt")).unwrap(), "some data\nsome data\n");
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no unfinished file is left: {left:?}");
}

#[test]
fn an_input_may_have_another_name_or_be_on_the_node_already() {
    let bench = bench();
    let node = node(&bench, "");
    let source = source(bench.folder());
    let file = node.file("data.csv", b"1,2\n");
    let sent = node.run(&["cp", &file, "blob:"]);
    let hash = sent.text().trim().to_owned();
    assert_eq!(hash, Hash::of(b"1,2\n").to_string());
    let tree = node.run(&["cp", text(&source), "blob:"]).text().trim().to_owned();
    let inputs = [
        file.clone(),
        format!("{file}:in/named.csv"),
        format!("{hash}:hashed"),
        text(&source).to_owned(),
        format!("{tree}:below/"),
    ];
    let mut words: Vec<&str> = inputs.iter().flat_map(|input| ["--input", input.as_str()]).collect();
    words.extend(["--", "find", ".", "-type", "f"]);
    let job = node.submit(&words);
    node.wait_for(std::slice::from_ref(&job));
    let mut found: Vec<String> = node.wrote(&job).lines().map(str::to_owned).collect();
    found.sort();
    let mut wanted = ["./data.csv", "./in/named.csv", "./hashed"].map(str::to_owned).to_vec();
    for below in ["source", "below"] {
        wanted.extend(["run.sh", "deep/er/data"].map(|name| format!("./{below}/{name}")));
    }
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn a_script_and_a_declared_type_say_what_is_kept() {
    let bench = bench();
    let node = node(&bench, "[job_types.make]\nshell = \"echo x > a.log; echo y > b.txt\"\noutputs = [\"*.log\"]\n");
    let job = node.submit(&["--type", "make", "--output", "b.txt"]);
    node.wait_for(std::slice::from_ref(&job));
    assert_eq!(artifacts(&node, &job), ["a.log", "b.txt"]);
    let data = node.file("data", b"from a script\n");
    let text = format!("#!/bin/sh\n#JM --input {data}:in --output ./out/\nmkdir out; cp in out/copy\n");
    let script = node.file("build.sh", text.as_bytes());
    let job = node.submit(&[&script]);
    node.wait_for(std::slice::from_ref(&job));
    assert_eq!(artifacts(&node, &job), ["out", "out/copy"]);
    let run = node.run(&["cp", &format!("{job}:out/copy"), "-"]);
    assert_eq!(run.text(), "from a script\n");
}

#[test]
fn files_are_copied_to_where_they_are_wanted() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "mkdir -p out/sub; echo a > out/a; echo b > out/sub/b";
    let job = node.submit(&["--output", "out", "--", "sh", "-c", script]);
    node.wait_for(std::slice::from_ref(&job));
    let folder = bench.folder().join("to");
    fs::create_dir(&folder).unwrap();
    let copy = |from: &str, to: &Path| {
        let run = node.run(&["cp", &format!("{job}:{from}"), text(to)]);
        assert_eq!(run.code, 0, "{from}: {}", run.stderr);
    };
    copy("out/a", &folder);
    copy("out/a", &folder.join("other"));
    copy("out", &folder.join("new"));
    copy("", &folder.join("all"));
    for path in ["a", "other", "new/a", "new/sub/b", "all/out/a"] {
        assert!(folder.join(path).is_file(), "{path}");
    }
    let blob = BlobRef::of(b"b\n");
    assert_eq!(node.run(&["cp", &format!("blob:{}", blob.hash), text(&folder.join("b"))]).code, 0);
    assert_eq!(fs::read(folder.join("b")).unwrap(), b"b\n");
    for (words, what) in [
        (vec!["cp", "1:nothing", "x"], "left no \"nothing\""),
        (vec!["cp", "blob:0", "x"], "no hash"),
        (vec!["cp", "a", "b"], "one of the two must be of the node"),
        (vec!["cp", "1:out", "-"], "only a single file"),
    ] {
        assert!(refused(&node, 2, &words).contains(what), "{words:?}");
    }
}

/// A name in a job's output must not decide what of ours is overwritten.
#[test]
fn nothing_is_written_through_a_link() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--output", "out", "--", "sh", "-c", "mkdir out; echo evil > out/key"]);
    node.wait_for(std::slice::from_ref(&job));
    let (folder, secret) = (bench.folder().join("to"), bench.folder().join("secret"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "mine").unwrap();
    symlink(&secret, folder.join("out")).unwrap();
    let said = refused(&node, 2, &["artifacts", &job, "--get", "--to", text(&folder), "--force"]);
    assert!(said.contains("nothing is written through links"), "{said}");
    assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "mine");
    let file = bench.folder().join("file");
    fs::write(&file, "mine").unwrap();
    fs::remove_file(folder.join("out")).unwrap();
    symlink(&file, folder.join("key")).unwrap();
    assert_eq!(node.run(&["cp", &format!("{job}:out/key"), text(&folder), "--force"]).code, 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine", "the link itself was replaced");
    assert_eq!(fs::read_to_string(folder.join("key")).unwrap(), "evil\n");
}

#[test]
fn what_can_not_be_given_or_kept_is_refused_when_it_is_submitted() {
    let bench = bench();
    let node = node(&bench, "");
    let source = source(bench.folder());
    let cases = [
        (vec!["--input", "/nowhere", "--", "true"], "there is no file /nowhere"),
        (vec!["--output", "out/[a", "--", "true"], "\"out/[a\" is no pattern"),
        (vec!["--output", "../x", "--", "true"], "must be a path inside"),
        (vec!["--output", "x", "--cwd", "/tmp", "--where", "local", "--", "true"], "--cwd names another"),
        (vec!["--input", "/dev/null:x", "--", "true"], "is a device"),
    ];
    for (words, what) in cases {
        let said = refused(&node, 2, &[vec!["submit"], words].concat());
        assert!(said.contains(what), "{said}");
    }
    symlink("/etc/passwd", source.join("out")).unwrap();
    let said = refused(&node, 2, &["submit", "--input", text(&source), "--", "true"]);
    assert!(said.contains("\"source/out\" leads out of the tree"), "{said}");
    let spec = |tree: BlobRef| json!({"spec": {"job_type": "x", "task": {"noop": {}}, "inputs": tree}});
    let (status, answer) = node.ask("POST", "/v1/jobs", &spec(BlobRef::of(b"never sent")));
    assert_eq!(status, 400, "{answer}");
    assert!(node.listed(&["-a"]).is_empty());
}

#[test]
fn an_output_that_is_missing_fails_the_job_and_says_so() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--output", "out/*.png", "--", "true"]);
    let shown = node.ended(&job);
    assert_eq!(shown["job"]["state"], "discarded", "{shown}");
    let message = shown["job"]["message"].as_str().unwrap();
    assert!(message.contains("no file matches the output \"out/*.png\""), "{message}");
    let said = node.run(&["artifacts", "last"]);
    let why = "since it failed: no file matches the output \"out/*.png\"";
    assert!(said.stderr.contains(&format!("Nothing was kept of job {job}, {why}")), "{}", said.stderr);
    let said = node.run(&["artifacts", "last", "--get"]);
    assert!(said.stderr.contains(&format!("nothing was kept of job {job}, {why}")), "{}", said.stderr);
    assert!(!said.stderr.contains("--output"), "it was said what is to be kept: {}", said.stderr);
}

/// One that had ended was said to have left nothing yet, with the advice to wait for its end.
#[test]
fn of_a_job_that_kept_nothing_it_is_said_why() {
    let bench = bench();
    let node = node(&bench, "");
    let job = node.submit(&["--hold", "--output", "*", "--", "true"]);
    let said = refused(&node, 2, &["artifacts", &job]);
    assert!(said.contains("has left no files yet") && said.contains(&format!("`jobmesh wait {job}`")), "{said}");
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    for arguments in [&["artifacts", &job][..], &["cp", &format!("{job}:a"), "-"]] {
        let said = refused(&node, 2, arguments);
        assert!(said.contains(&format!("job {job} is cancelled and never ran")) && !said.contains("wait"), "{said}");
    }
    let job = node.submit(&["--", "true"]);
    let _ = node.ended(&job);
    let said = node.run(&["artifacts", &job]).stderr;
    assert_eq!(
        said,
        format!("Nothing was kept of job {job}; say what is to be kept when it is submitted: --output GLOB\n")
    );
    let said = refused(&node, 2, &["artifacts", &job, "--attempt", "7"]);
    assert!(said.contains(&format!("job {job} has no attempt 7")), "{said}");
}

#[test]
fn names_with_escapes_do_not_reach_the_terminal() {
    let bench = bench();
    let node = node(&bench, "");
    let script = "mkdir out; touch \"$(printf 'out/a\\033[2Jb')\"";
    let job = node.submit(&["--output", "out", "--", "sh", "-c", script]);
    let shown = node.ended(&job);
    assert!(shown["job"]["message"].as_str().unwrap().contains("\\u{1b}"), "{shown}");
    let job = node.submit(&["--output", "*", "--", "touch", "a\u{202e}b"]);
    node.wait_for(std::slice::from_ref(&job));
    let listed = node.run(&["artifacts", &job]).text();
    assert!(!listed.contains('\u{202e}') && listed.contains("a\u{fffd}b"), "{listed}");
}

#[test]
fn beyond_the_quota_what_nobody_needs_goes_and_then_nothing_more_is_taken() {
    let bench = bench();
    let node = node(&bench, "[blobs]\nquota = \"1MiB\"\n");
    let huge = node.file("e", &vec![b'e'; (1 << 20) + 1]);
    let said = refused(&node, 2, &["submit", "--input", &huge, "--", "true"]);
    assert!(said.contains("more bytes than this node keeps at all") && !said.contains("prune"), "{said}");
    let bytes = |letter: u8| vec![letter; 400 << 10];
    let [unused, used, new] = [b'a', b'b', b'c'].map(|letter| {
        let file = node.file(&format!("{}", char::from(letter)), &bytes(letter));
        (file, blob_path(&node, &bytes(letter)))
    });
    assert_eq!(node.run(&["cp", &unused.0, "blob:"]).code, 0);
    let job = node.submit(&["--input", &used.0, "--hold", "--", "true"]);
    for (_, blob) in [&unused, &used] {
        let week = SystemTime::now() - Duration::from_secs(7 * 86_400);
        fs::File::open(blob).unwrap().set_modified(week).unwrap();
    }
    assert_eq!(node.run(&["cp", &new.0, "blob:"]).code, 0, "what nobody needs goes for it");
    assert!(!unused.1.exists() && used.1.exists() && new.1.exists());
    let more = node.file("d", &bytes(b'd'));
    let said = node.run(&["cp", &more, "blob:"]);
    assert!(said.code == 75 && said.stderr.contains("1048576 is its quota"), "{} {}", said.code, said.stderr);
    let status = node.json(&["status"]);
    let bytes = status["blobs"]["bytes"].as_u64().unwrap();
    assert!(bytes > 800 << 10 && bytes < 1 << 20, "{status}");
    assert!(node.run(&["status"]).text().contains("of 1.0 MiB"));
    assert_eq!(node.run(&["cancel", &job]).code, 0);
    assert_eq!(node.run(&["submit", "--", "true"]).code, 0, "the node goes on");
}

#[test]
fn a_damaged_blob_is_noticed_and_can_be_brought_anew() {
    let bench = bench();
    let node = node(&bench, "");
    let file = node.file("data", b"as it was");
    let submit = || node.submit(&["--input", &file, "--", "cat", "data"]);
    node.wait_for(&[submit()]);
    fs::write(blob_path(&node, b"as it was"), b"as it is!").unwrap();
    // The client sends only what is not there, and it is there by its name.
    let shown = node.ended(&submit());
    let message = shown["job"]["message"].as_str().unwrap();
    assert!(message.contains("was damaged") && message.contains(&Hash::of(b"as it was").to_string()), "{shown}");
    let job = submit();
    node.wait_for(std::slice::from_ref(&job));
    assert_eq!(node.wrote(&job), "as it was");
}

/// Only trees were compared with their hash. What else a job reads ran as the disk had it, under the hash of what it was.
#[test]
fn whatever_a_job_reads_is_compared_with_its_hash_when_it_runs() {
    let bench = bench();
    let node = node(&bench, "");
    let server = Server::start(|_, to| to.answer(200, &[], ""));
    let url = server.url("/");
    let (script, module) = ("print('as it was')".repeat(10_000), "(module (func (export \"_start\")))");
    let large = "as it was".repeat(100_000);
    let cases: [(&str, &str, &[&str]); 4] = [
        ("--stdin", &large, &["--", "true"]),
        ("--lua", &script, &[]),
        ("--wasm", module, &[]),
        ("--body", &large, &["--http", &url, "-X", "POST"]),
    ];
    for (option, content, rest) in cases {
        let file = node.file("read", content.as_bytes());
        let named = if option == "--body" { format!("@{file}") } else { file };
        let submit = |more: &[&str]| node.submit(&[more, &["--retries", "0", option, &named], rest].concat());
        let path = blob_path(&node, content.as_bytes());
        let job = submit(&["--hold"]);
        let mut bytes = content.as_bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(node.run(&["release", &job]).code, 0);
        let shown = node.ended(&job);
        let message = shown["job"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("was damaged") && message.contains("what the job reads"), "{option}: {shown}");
        assert!(!path.exists(), "{option}");
        assert_eq!(node.ended(&submit(&[]))["job"]["state"], "completed", "{option}: it was brought anew");
    }
    assert_eq!(server.asked().len(), 1, "the damaged body was not sent");
}

#[test]
fn the_socket_tells_what_is_missing_and_hands_out_blobs() {
    let bench = bench();
    let node = node(&bench, "");
    let file = node.file("x", b"here");
    assert_eq!(node.run(&["cp", &file, "blob:"]).code, 0);
    let (here, away) = (BlobRef::of(b"here"), BlobRef::of(b"away"));
    let (status, answer) = node.ask("POST", "/v1/blobs/missing", &json!({ "blobs": [here, away] }));
    assert_eq!((status, &answer["missing"]), (200, &json!([away])), "{answer}");
    for (path, status) in [(format!("/v1/blobs/{}", away.hash), 404), ("/v1/blobs/junk".to_owned(), 400)] {
        let (found, answer) = node.ask("GET", &path, &Value::Null);
        assert_eq!(found, status, "{answer}");
    }
    let many = vec![away; 5001];
    assert_eq!(node.ask("POST", "/v1/blobs/missing", &json!({ "blobs": many })).0, 413);
}
