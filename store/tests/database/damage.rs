//! Disks that fail: pages that are wrong, files that are cut off, directories that can't be written. Each gives an
//! error that says what to do, and never a panic or a guess.

use std::error::Error;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jobmesh_store::{DATABASE_NAME, Fault, OpenError, Reader, Store, StoreError};
use tempfile::{TempDir, tempdir};

use crate::fixture::everything;
use crate::samples::{self, INCARNATION, fill, insert_job, number};

/// SQLite's own page size.
const PAGE_BYTES: usize = 4096;

/// The bytes of a closed database with some hundred jobs.
fn healthy() -> Vec<u8> {
    let directory = tempdir().unwrap();
    let mut store = samples::open(directory.path());
    let txn = store.begin().unwrap();
    fill(&txn);
    (10..300).for_each(|at| drop(insert_job(&txn, at)));
    let _committed = txn.commit().unwrap();
    drop(store);
    std::fs::read(directory.path().join(DATABASE_NAME)).unwrap()
}

fn directory_with(bytes: &[u8]) -> TempDir {
    let directory = tempdir().unwrap();
    std::fs::write(directory.path().join(DATABASE_NAME), bytes).unwrap();
    directory
}

/// Opens a database and reads all of it, as the daemon does.
fn read_all(directory: &Path) -> Result<String, Box<dyn Error>> {
    let mut store = Store::open(directory, INCARNATION)?;
    let txn = store.begin()?;
    Ok(everything(&txn.view())?)
}

/// The error and its sources, as the edge prints them.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[test]
fn a_page_that_is_wrong_is_reported_with_a_remedy() {
    let mut bytes = healthy();
    let middle = bytes.len() / PAGE_BYTES / 2 * PAGE_BYTES;
    bytes.iter_mut().skip(middle).take(PAGE_BYTES).for_each(|byte| *byte ^= 0xFF);
    let directory = directory_with(&bytes);
    let error = read_all(directory.path()).unwrap_err();
    let text = chain(error.as_ref());
    for said in ["damaged", "stop the daemon", ".recover", "malformed"] {
        assert!(text.contains(said), "{text}");
    }
    let reader = Reader::open(directory.path()).unwrap();
    let error = everything(&reader.view()).unwrap_err();
    assert!(matches!(error, StoreError::Sqlite(Fault::Corrupt(_))), "a reader says the same: {error:?}");
}

/// Whether an error says that the file is not as it was written.
fn names_damage(error: &(dyn Error + 'static)) -> bool {
    let of_store = |error: &StoreError| {
        matches!(error, StoreError::Damaged { .. } | StoreError::Sqlite(Fault::Corrupt(_) | Fault::NoDatabase(_)))
    };
    match (error.downcast_ref::<StoreError>(), error.downcast_ref::<OpenError>()) {
        (Some(error), _) | (_, Some(OpenError::Sqlite { source: error, .. })) => of_store(error),
        (None, Some(OpenError::Foreign { .. } | OpenError::TooNew { .. })) => true,
        _ => false,
    }
}

/// Every page in turn, at its head and in its middle. What reads in spite of it has lost nothing but the bytes of a
/// text; whatever else is said, it is said that the file is damaged.
#[test]
fn no_wrong_page_is_mistaken_for_another_failure() {
    let healthy = healthy();
    let mut reported = 0;
    for at in (0..healthy.len()).step_by(PAGE_BYTES).flat_map(|page| [page, page + PAGE_BYTES / 2]) {
        let mut bytes = healthy.clone();
        bytes.iter_mut().skip(at).take(32).for_each(|byte| *byte ^= 0xFF);
        let directory = directory_with(&bytes);
        if let Err(error) = read_all(directory.path()) {
            assert!(names_damage(error.as_ref()), "byte {at}: {}", chain(error.as_ref()));
            reported += 1;
        }
    }
    assert!(reported > healthy.len() / PAGE_BYTES / 2, "only {reported} wrong pages were found");
}

#[test]
fn a_file_that_was_cut_off_is_damaged() {
    let bytes = healthy();
    for length in [bytes.len() / 2, bytes.len() / PAGE_BYTES / 2 * PAGE_BYTES, PAGE_BYTES, 100] {
        let directory = directory_with(bytes.get(..length).unwrap());
        let error = read_all(directory.path()).unwrap_err();
        assert!(names_damage(error.as_ref()), "{length} bytes: {}", chain(error.as_ref()));
    }
}

/// A power cut can leave anything in the log beyond what was synchronised.
#[test]
fn a_log_of_nonsense_is_not_replayed() {
    let directory = directory_with(&healthy());
    let wanted = read_all(directory.path()).unwrap();
    std::fs::write(directory.path().join(format!("{DATABASE_NAME}-wal")), vec![0xA5; 3 * PAGE_BYTES]).unwrap();
    assert_eq!(read_all(directory.path()).unwrap(), wanted);
}

/// The variable by which [`an_ordinary_user_opens_the_directory`] knows that it is the child of the tests below.
const TRY: &str = "JOBMESH_TEST_TRY";
/// A user with no right to anything: `nobody`.
const NOBODY: u32 = 65_534;

/// Not a test by itself: opens the directory and says what came of it.
#[test]
fn an_ordinary_user_opens_the_directory() {
    use std::io::Write as _;
    #[expect(clippy::disallowed_methods, reason = "it tells the child of a test from the test run itself")]
    let Some(directory) = std::env::var_os(TRY) else { return };
    let said = match Store::open(Path::new(&directory), INCARNATION) {
        Ok(_store) => "opened".to_owned(),
        Err(error) => chain(&error),
    };
    writeln!(std::io::stdout(), "\nsaid {said}").unwrap();
}

/// A data directory with a job, closed, of a user whom permissions bind: root writes what is read-only.
struct Bound {
    home: TempDir,
    is_root: bool,
}

impl Bound {
    fn new() -> Self {
        let bound = Self { home: tempdir().unwrap(), is_root: rustix::process::geteuid().is_root() };
        std::fs::create_dir(bound.data()).unwrap();
        let mut store = samples::open(&bound.data());
        let txn = store.begin().unwrap();
        insert_job(&txn, 1);
        let _committed = txn.commit().unwrap();
        drop(store);
        if bound.is_root {
            bound.mode(bound.home.path(), 0o755);
            let files = std::fs::read_dir(bound.data()).unwrap().map(|entry| entry.unwrap().path());
            for path in files.chain([bound.data()]) {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
            // The test itself may lie where only root can read. Another process makes the copy: a file that this one
            // writes can't be run while a child of another test, forked in between, still has it open.
            let test = std::env::current_exe().unwrap();
            assert!(Command::new("cp").arg(test).arg(bound.program()).status().unwrap().success());
            bound.mode(&bound.program(), 0o755);
        }
        bound
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn program(&self) -> PathBuf {
        if self.is_root { self.home.path().join("program") } else { std::env::current_exe().unwrap() }
    }

    fn mode(&self, path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// What the user is told who opens the directory.
    fn open(&self) -> String {
        let mut command = Command::new(self.program());
        command.args(["--exact", "damage::an_ordinary_user_opens_the_directory", "--nocapture"]);
        command.env(TRY, self.data()).current_dir(self.home.path());
        if self.is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.lines().find_map(|line| line.strip_prefix("said "));
        said.map(str::to_owned).ok_or_else(|| format!("the child said nothing: {output:?}")).unwrap()
    }
}

#[test]
fn a_database_that_may_not_be_written_is_named() {
    let bound = Bound::new();
    let file = bound.data().join(DATABASE_NAME);
    bound.mode(&file, 0o400);
    let said = bound.open();
    assert!(said.starts_with(&format!("{} can't be written; let the user", file.display())), "{said}");
    bound.mode(&file, 0o600);
    assert_eq!(bound.open(), "opened");
}

#[test]
fn a_directory_that_may_not_be_written_is_named() {
    let bound = Bound::new();
    bound.mode(&bound.data(), 0o500);
    let said = bound.open();
    let named = said.contains(&bound.data().join(DATABASE_NAME).display().to_string());
    assert!(named && said.contains("data directory"), "{said}");
    bound.mode(&bound.data(), 0o700);
    assert_eq!(bound.open(), "opened");
    let mut store = samples::open(&bound.data());
    assert!(store.begin().unwrap().view().job_by_number(number(1)).unwrap().is_some(), "nothing was lost");
}

#[test]
fn a_lock_that_may_not_be_made_is_named() {
    let bound = Bound::new();
    let lock = bound.data().join("daemon.lock");
    std::fs::remove_file(&lock).unwrap();
    bound.mode(&bound.data(), 0o500);
    let said = bound.open();
    assert!(said.starts_with(&format!("{} can't be written", lock.display())), "{said}");
    bound.mode(&bound.data(), 0o700);
}
