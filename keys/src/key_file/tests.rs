#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Barrier;

use super::*;

/// Returns a private directory that is removed on drop.
fn private() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    chmod(directory.path(), 0o700);
    directory
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_key_is_created_once_and_loaded_after() {
    let home = private();
    let directory = home.path().join("a/b");
    assert!(load(&directory, "node.key").unwrap().is_none());
    let created = load_or_create(&directory, "node.key", || [5; 32]).unwrap();
    let loaded = load_or_create(&directory, "node.key", || [6; 32]).unwrap();
    assert_eq!(created.node(), Identity::from_seed([5; 32]).node());
    assert_eq!(loaded.node(), created.node());
    assert_eq!(mode(&home.path().join("a")), 0o700);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&directory.join("node.key")), 0o600);
    assert_eq!(fs::read(directory.join("node.key")).unwrap(), [5; 32]);
    assert_eq!(names(&directory), ["node.key"], "no temporary file is left");
}

#[test]
fn a_key_is_never_overwritten() {
    let home = private();
    create_new(home.path(), "node.key", || [5; 32]).unwrap();
    let error = create_new(home.path(), "node.key", || [6; 32]).unwrap_err();
    assert!(matches!(error, KeyFileError::AlreadyExists { .. }));
    let kept = load(home.path(), "node.key").unwrap().unwrap();
    assert_eq!(kept.to_seed(), [5; 32]);
    assert_eq!(names(home.path()), ["node.key"]);
}

#[test]
fn creators_at_the_same_time_end_up_with_one_key() {
    let home = private();
    let directory = home.path().join("keys");
    let start = Barrier::new(8);
    let nodes: Vec<_> = std::thread::scope(|scope| {
        let race = |seed: u8| {
            let (start, directory) = (&start, &directory);
            scope.spawn(move || {
                start.wait();
                load_or_create(directory, "node.key", || [seed; 32]).unwrap().node()
            })
        };
        let racers: Vec<_> = (1..=8).map(race).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let kept = load(&directory, "node.key").unwrap().unwrap().node();
    assert!(nodes.iter().all(|node| *node == kept));
    assert_eq!(names(&directory), ["node.key"]);
}

#[test]
fn what_others_can_reach_is_refused_with_a_remedy() {
    let home = private();
    create_new(home.path(), "node.key", || [5; 32]).unwrap();
    let path = home.path().join("node.key");
    for open in [0o644, 0o640, 0o602, 0o610] {
        chmod(&path, open);
        let message = load(home.path(), "node.key").unwrap_err().to_string();
        let shown = path.display();
        assert_eq!(message, format!("{shown} is open to others (mode {open:04o}); run: chmod 600 {shown}"));
    }
    chmod(&path, 0o600);
    chmod(home.path(), 0o750);
    let message = load(home.path(), "node.key").unwrap_err().to_string();
    let shown = home.path().display();
    assert_eq!(message, format!("{shown} is open to others (mode 0750); run: chmod 700 {shown}"));
    let error = create_new(home.path(), "other.key", || [5; 32]).unwrap_err();
    assert!(matches!(error, KeyFileError::Mode { wanted: 0o700, .. }));
    chmod(home.path(), 0o700);
    assert!(load(home.path(), "node.key").unwrap().is_some());
}

#[test]
fn a_file_of_another_user_is_refused() {
    let home = private();
    create_new(home.path(), "node.key", || [5; 32]).unwrap();
    let path = home.path().join("node.key");
    // Only the superuser can give a file away; anybody else can look at the superuser's root
    // directory instead, which is not theirs.
    let stranger = Some(65_534);
    let checked = if std::os::unix::fs::chown(&path, stranger, None).is_ok() {
        load(home.path(), "node.key").map(|_| ())
    } else {
        load(Path::new("/"), "node.key").map(|_| ())
    };
    assert!(matches!(checked, Err(KeyFileError::Owner { .. })));
}

#[test]
fn a_link_is_refused_even_to_a_good_key() {
    let home = private();
    create_new(home.path(), "real.key", || [5; 32]).unwrap();
    symlink("real.key", home.path().join("node.key")).unwrap();
    let error = load(home.path(), "node.key").unwrap_err();
    assert!(matches!(error, KeyFileError::Symlink { .. }));
    symlink("nowhere", home.path().join("dangling.key")).unwrap();
    let error = load_or_create(home.path(), "dangling.key", || [6; 32]).unwrap_err();
    assert!(matches!(error, KeyFileError::Symlink { .. }));
    assert!(!home.path().join("nowhere").exists());
}

#[test]
fn what_is_no_key_is_refused_and_kept() {
    let home = private();
    let path = home.path().join("node.key");
    for length in [0, 31, 33] {
        fs::write(&path, vec![1; length]).unwrap();
        chmod(&path, 0o600);
        let error = load_or_create(home.path(), "node.key", || [6; 32]).unwrap_err();
        let expected = u64::try_from(length).unwrap();
        assert!(matches!(error, KeyFileError::Length { found, .. } if found == expected));
        assert_eq!(fs::read(&path).unwrap().len(), length);
    }
    fs::create_dir(home.path().join("folder")).unwrap();
    let error = load(home.path(), "folder").unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }));
    let pipe = home.path().join("pipe");
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, Mode::RUSR, 0).unwrap();
    let error = load(home.path(), "pipe").unwrap_err();
    assert!(matches!(error, KeyFileError::NotAFile { .. }));
}

#[test]
fn a_name_can_not_lead_elsewhere() {
    let home = private();
    for name in ["", ".", "..", "../node.key", "a/b", "/etc/key", ".hidden", "a\0b"] {
        let loaded = load(home.path(), name).unwrap_err();
        let created = create_new(home.path(), name, || [5; 32]).unwrap_err();
        assert!(matches!(loaded, KeyFileError::Name { .. }), "{name:?}");
        assert!(matches!(created, KeyFileError::Name { .. }), "{name:?}");
    }
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error() {
    let home = private();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = load(&file, "node.key").unwrap_err();
    assert!(matches!(error, KeyFileError::OpenDirectory { .. }));
    assert!(create_new(&file, "node.key", || [5; 32]).is_err());
}
