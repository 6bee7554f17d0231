//! A database that can't be used: read-only, damaged, of a newer version. Each is told with what to do about it, the node
//! does not panic, and once the fault is gone everything that was acknowledged is there.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jobmesh_tests::{Bench, Mount, Node, Place, Run, private_mounts};

use crate::bench;
use crate::record::Record;

/// How long a node may need to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Exit code of a fault in the data directory.
const DATA: i32 = 78;

/// A node that has done some jobs and is down.
struct Stage {
    node: Node,
    jobs: Vec<String>,
    _bench: Bench,
}

impl Stage {
    fn new() -> Self {
        let bench = bench();
        let node = bench.up("a");
        let mut jobs: Vec<String> = (0..20).map(|_| node.submit(&["--", "true"])).collect();
        node.wait_for(&jobs);
        jobs.push(node.submit(&["--hold", "--", "true"]));
        node.down();
        // A node that stopped by itself leaves everything in the one file.
        assert!(!node.home().join("jobs.db-wal").exists(), "a log beside the database of a node that is down");
        Self { node, jobs, _bench: bench }
    }

    /// Tries to start the node in both ways, and looks whether it says what is wrong and what to do.
    fn refuses(&self, words: &[&str]) {
        for arguments in [["up"].as_slice(), &["up", "-d"]] {
            let run: Run = self.node.command(arguments).output().unwrap().into();
            refused(&run, DATA, words);
        }
    }

    /// Everything is as it was.
    fn is_whole(&self) {
        self.node.up();
        let (held, ended) = self.jobs.split_last().unwrap();
        self.node.wait_for(ended);
        assert_eq!(self.node.run(&["release", held]).code, 0);
        self.node.wait_for(&self.jobs);
        assert!(!self.node.log().contains("panicked"), "{}", self.node.log());
    }
}

fn refused(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, code, "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in {}", run.stderr);
    }
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Writes nonsense over a page.
fn damage(database: &Path, page: u64, page_bytes: u64) {
    let file = OpenOptions::new().write(true).open(database).unwrap();
    let nonsense: Vec<u8> = (0..page_bytes).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    file.write_all_at(&nonsense, page * page_bytes).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let stage = Stage::new();
    let record = rusqlite::Connection::open(stage.node.database()).unwrap();
    let known: u32 = record.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    record.execute_batch("PRAGMA user_version = 9999").unwrap();
    drop(record);
    stage.refuses(&["jobs.db has schema 9999", "run a newer jobmesh"]);
    let record = rusqlite::Connection::open(stage.node.database()).unwrap();
    record.execute_batch(&format!("PRAGMA user_version = {known}")).unwrap();
    drop(record);
    stage.is_whole();
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let stage = Stage::new();
    let database = stage.node.database();
    let kept = stage.node.home().join("kept");
    fs::rename(&database, &kept).unwrap();
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    stage.refuses(&["jobs.db is no job database of jobmesh"]);
    fs::rename(&kept, &database).unwrap();
    stage.is_whole();
}

/// The node began anew instead, and its jobs were gone without a word.
#[test]
fn a_database_that_is_gone_is_told_and_made_again_only_when_asked_for() {
    let stage = Stage::new();
    let (database, kept) = (stage.node.database(), stage.node.home().join("kept"));
    fs::rename(&database, &kept).unwrap();
    stage.refuses(&["jobs.db is missing or empty", "restore a backup", "jobmesh up --new-database"]);
    let log = stage.node.home().join("jobs.db-wal");
    fs::write(&log, "something").unwrap();
    stage.refuses(&["jobs.db is missing or empty", "jobs.db-wal beside it", "another directory", "--new-database"]);
    let run = stage.node.run(&["up", "-d", "--new-database"]);
    refused(&run, DATA, &["jobs.db-wal beside it", "another directory"]);
    fs::remove_file(&log).unwrap();
    let doctor = stage.node.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.code == 1 && said.contains("jobs.db is missing or empty"), "{said}");
    let runs = || fs::read_dir(stage.node.home().join("runs")).unwrap().count();
    fs::create_dir(stage.node.home().join("runs/0198c0de-0000-7000-8000-000000000000.1")).unwrap();
    let before = runs();
    let run = stage.node.run(&["up", "-d", "--new-database"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let aside = stage.node.home().join("aside-1");
    assert!(run.stderr.contains(&*aside.to_string_lossy()), "{}", run.stderr);
    assert_eq!(fs::read_dir(aside.join("runs")).unwrap().count(), before, "what the old jobs left stays");
    assert_eq!(stage.node.run(&["up", "-d", "--new-database"]).code, 69, "a running node is left alone");
    stage.node.down();
    fs::rename(&kept, &database).unwrap();
    stage.is_whole();
}

#[test]
fn a_damaged_first_page_is_told() {
    let stage = Stage::new();
    let whole = fs::read(stage.node.database()).unwrap();
    damage(&stage.node.database(), 0, 512);
    stage.refuses(&["jobs.db", "no database, or its first page is damaged", "restore a backup", "--new-database"]);
    fs::write(stage.node.database(), whole).unwrap();
    stage.is_whole();
}

#[test]
fn a_page_that_was_damaged_while_the_node_was_down_is_told() {
    let stage = Stage::new();
    let whole = fs::read(stage.node.database()).unwrap();
    let (page, bytes) = Record::open(&stage.node.database()).root_page("job");
    let doctor = stage.node.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("every page of jobs.db makes sense"), "{said}");
    damage(&stage.node.database(), page, bytes);
    stage.refuses(&["the job database is damaged", "restore a backup", "sqlite3 jobs.db .recover"]);
    let doctor = stage.node.run(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(doctor.code == 1 && said.contains("sqlite3 jobs.db .recover"), "{said}");
    fs::write(stage.node.database(), whole).unwrap();
    stage.is_whole();
}

/// The node finds out when it reads the page, says so to whoever asked, and can still be stopped.
#[test]
fn a_page_that_is_damaged_while_the_node_runs_is_told() {
    let stage = Stage::new();
    let (page, bytes) = Record::open(&stage.node.database()).root_page("event");
    let whole = fs::read(stage.node.database()).unwrap();
    stage.node.up();
    damage(&stage.node.database(), page, bytes);
    let first = stage.jobs.first().unwrap();
    let words = ["the job database is damaged", "restore a backup", "hint:"];
    refused(&stage.node.run(&["show", first]), DATA, &words);
    refused(&stage.node.run(&["submit", "--", "true"]), DATA, &words);
    stage.node.down();
    for beside in ["jobs.db-wal", "jobs.db-shm"] {
        let _ = fs::remove_file(stage.node.home().join(beside));
    }
    fs::write(stage.node.database(), whole).unwrap();
    stage.is_whole();
}

/// A leaf of the table of jobs with those that ended first, which only a list or a count reads.
fn oldest_leaf(stage: &Stage) -> (u64, u64) {
    let (root, bytes) = Record::open(&stage.node.database()).root_page("job");
    let whole = fs::read(stage.node.database()).unwrap();
    let page = &whole[usize::try_from(root * bytes).unwrap()..];
    assert_eq!(page[0], 5, "an inner page of a table");
    let cell = usize::from(u16::from_be_bytes([page[12], page[13]]));
    let child = u32::from_be_bytes(page[cell..cell + 4].try_into().unwrap());
    (u64::from(child) - 1, bytes)
}

/// It ended with 78 and left a node behind that took jobs, and that nothing could stop.
#[test]
fn a_node_that_finds_damage_is_not_left_behind_takes_no_jobs_and_can_be_stopped() {
    let stage = Stage::new();
    let (page, bytes) = oldest_leaf(&stage);
    let whole = fs::read(stage.node.database()).unwrap();
    let mend = || {
        for beside in ["jobs.db-wal", "jobs.db-shm"] {
            let _ = fs::remove_file(stage.node.home().join(beside));
        }
        fs::write(stage.node.database(), &whole).unwrap();
    };
    let words = ["the job database is damaged", "restore a backup"];
    damage(&stage.node.database(), page, bytes);
    refused(&stage.node.run(&["up", "-d"]), DATA, &words);
    assert!(stage.node.run(&["down"]).text().contains("No node runs"), "{}", stage.node.log());
    // In the foreground it goes on, for whoever wants to save what still reads.
    let mut daemon = stage.node.command(&["up"]).spawn().unwrap();
    let deadline = Instant::now() + LIMIT;
    let status = loop {
        let run = stage.node.run(&["status"]);
        if run.code != 69 {
            break run;
        }
        assert!(Instant::now() < deadline, "{}", run.stderr);
    };
    refused(&status, DATA, &words);
    refused(&stage.node.run(&["submit", "--", "true"]), DATA, &words);
    let down = stage.node.run(&["down"]);
    assert_eq!(down.code, 0, "{}", down.stderr);
    assert!(daemon.wait().unwrap().success());
    mend();
    stage.is_whole();
}

/// A node without its socket could not be stopped, and was said not to run.
#[test]
fn a_node_whose_socket_is_gone_is_found_by_its_lock() {
    let stage = Stage::new();
    stage.node.up();
    fs::remove_file(stage.node.home().join("control.sock")).unwrap();
    let run = stage.node.run(&["down"]);
    refused(&run, 69, &["a node runs in", "with pid", "does not answer", "jobmesh down --now"]);
    let run = stage.node.run(&["down", "--now"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(stage.node.run(&["down"]).text().contains("No node runs"));
    stage.is_whole();
}

/// A command that obeys permissions even as root; none where that can't be had.
fn mortal(command: &Command) -> Option<Command> {
    let mut outer = if rustix::process::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        let works = setpriv.args(["--bounding-set", "-dac_override,-dac_read_search", "true"]).status();
        works.ok().filter(std::process::ExitStatus::success)?;
        let mut outer = Command::new("setpriv");
        outer.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(command.get_program());
        outer
    } else {
        Command::new(command.get_program())
    };
    outer.args(command.get_args()).env_clear();
    outer.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    Some(outer)
}

#[test]
fn a_database_that_may_not_be_written_is_told() {
    let stage = Stage::new();
    let (home, database) = (stage.node.home(), stage.node.database());
    for (path, mode, usual) in [(database.as_path(), 0o400, 0o600), (home, 0o500, 0o700)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for arguments in [["up"].as_slice(), &["up", "-d"]] {
            let Some(mut command) = mortal(&stage.node.command(arguments)) else {
                eprintln!("SKIPPED: this is root, and there is no setpriv to become less");
                return;
            };
            let run: Run = command.output().unwrap().into();
            refused(&run, DATA, &["let the user of the daemon write"]);
        }
        fs::set_permissions(path, Permissions::from_mode(usual)).unwrap();
    }
    stage.is_whole();
}

#[test]
fn a_file_system_that_may_not_be_written_is_told() {
    if private_mounts("damage::a_file_system_that_may_not_be_written_is_told") == Place::Outside {
        return;
    }
    let bench = bench();
    let disk = Mount::new(bench.folder().join("disk"), "size=64m");
    let home = disk.directory().join("home");
    fs::create_dir(&home).unwrap();
    let node = bench.node_at(home);
    node.up();
    let job = node.submit(&["--", "true"]);
    node.wait_for(std::slice::from_ref(&job));
    node.down();
    let stage = Stage { node, jobs: vec![job.clone()], _bench: bench };
    disk.change("ro");
    stage.refuses(&["let the user of the daemon write"]);
    disk.change("rw");
    stage.node.up();
    stage.node.wait_for(&stage.jobs);
    assert_eq!(stage.node.json(&["show", &job])["job"]["epoch"], 1);
}
