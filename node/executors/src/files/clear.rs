//! Removing what runs left, however they left it.
//!
//! A run may take every right from its own directories, and whoever isn't root then neither lists nor empties them; and it
//! may nest them deeper than a path can be, or than a process may hold files open. So each directory is opened in the one
//! above it, never through a link, and given back the rights of its owner first; and what lies too deep is moved up.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, chmodat, fchmod, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Directories that are held open at once.
const DEPTH_MAX: usize = 32;

/// Names that are kept at once.
const NAMES_MAX: usize = 1024;

/// What its owner needs to list a directory and to empty it.
const RIGHTS: Mode = Mode::RWXU;

/// Removes a directory with all that is in it, or whatever else is there. No link is followed. That nothing is there is no
/// failure.
///
/// # Errors
/// What the system says of the first thing that can't be removed.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
    let above = match openat(CWD, above, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(above) => above,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let name = CString::new(name.as_encoded_bytes())?;
    Ok(remove(&above, &name, &mut Way::default())?)
}

/// Removes a file or a link. That it isn't there is no failure.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// How far down a removal is.
#[derive(Debug, Default)]
struct Way {
    /// The directories that are open, from the uppermost that is removed.
    open: Vec<Rc<OwnedFd>>,
    /// How many directories were moved up.
    moved: u64,
}

/// Removes what has this name in a directory.
fn remove(above: &impl AsFd, name: &CStr, way: &mut Way) -> Result<(), Errno> {
    match unlinkat(above, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // A directory: Linux says the one, other systems the other.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    if way.open.len() >= DEPTH_MAX {
        return move_up(above, name, way);
    }
    let directory = open(above, name)?;
    way.open.push(Rc::new(directory));
    let emptied = empty(way);
    way.open.pop();
    emptied?;
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes all that is in the directory that was opened last.
fn empty(way: &mut Way) -> Result<(), Errno> {
    let Some(directory) = way.open.last().cloned() else { return Ok(()) };
    loop {
        let names = names(&directory)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            remove(&*directory, &name, way)?;
        }
    }
}

/// The first names in a directory.
fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() >= NAMES_MAX {
            break;
        }
    }
    Ok(names)
}

/// Moves a directory from far down into the uppermost one, whose removal comes to it.
fn move_up(above: &impl AsFd, name: &CStr, way: &mut Way) -> Result<(), Errno> {
    // Only who may write to a directory may give it another parent.
    drop(open(above, name)?);
    let Some(uppermost) = way.open.first() else { return Err(Errno::NOENT) };
    loop {
        way.moved += 1;
        match renameat(above, name, &**uppermost, format!("deep-{}", way.moved)) {
            // The run has something of that name there.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            moved => return moved,
        }
    }
}

/// Opens a directory, with the rights that it takes to empty it.
fn open(above: &impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match openat(above, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            give_rights(above, name)?;
            openat(above, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if !Mode::from_raw_mode(fstat(&directory)?.st_mode).contains(RIGHTS) {
        // Whose owner is somebody else may be writable all the same; else its removal says why not.
        let _ = fchmod(&directory, RIGHTS);
    }
    Ok(directory)
}

/// Gives the owner of a directory its rights back, without opening it for anything else.
#[cfg(target_os = "linux")]
fn give_rights(above: &impl AsFd, name: &CStr) -> Result<(), Errno> {
    use std::os::fd::AsRawFd as _;
    // Older kernels can't change the rights of what is not followed; what is held open by its place only, they can.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = openat(above, name, flags, Mode::empty())?;
    chmodat(CWD, format!("/proc/self/fd/{}", place.as_raw_fd()), RIGHTS, AtFlags::empty())
}

#[cfg(not(target_os = "linux"))]
fn give_rights(above: &impl AsFd, name: &CStr) -> Result<(), Errno> {
    chmodat(above, name, RIGHTS, AtFlags::SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::process::Command;

    use super::*;

    /// Names the directory in which [`whoever_is_not_root_removes_what_can_not_be_read`] goes on as somebody else.
    const PLACE: &str = "JOBMESH_TEST_CLEAR";

    /// A user of no rights at all.
    const NOBODY: u32 = 65_534;

    #[test]
    fn trees_files_and_links_go_and_what_links_lead_to_stays() {
        let home = tempfile::tempdir().unwrap();
        let kept = home.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let tree = home.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        for number in 0..2 * NAMES_MAX {
            fs::write(tree.join(number.to_string()), "").unwrap();
        }
        symlink(&kept, tree.join("a/link")).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
        symlink(&kept, &tree).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&home.path().join("nowhere/tree")).unwrap();
        assert!(fs::symlink_metadata(&tree).is_err() && kept.join("file").exists());
    }

    /// Deeper than a path can be, with names in the way of what is moved up.
    #[test]
    fn a_tree_of_any_depth_goes() {
        let home = tempfile::tempdir().unwrap();
        let script = "mkdir tree && cd tree && mkdir deep-1 deep-3 && touch deep-1/x deep-2 && n=0; \
                      while [ $n -lt 300 ]; do d=$(printf %0100d $n); mkdir $d && cd -P $d || exit 1; n=$((n+1)); done; \
                      touch bottom";
        let made = Command::new("sh").args(["-c", script]).current_dir(home.path()).status().unwrap();
        assert!(made.success());
        remove_tree(&home.path().join("tree")).unwrap();
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    /// A job left such a directory, and its node could never remove it.
    #[test]
    fn whoever_is_not_root_removes_what_can_not_be_read() {
        if let Some(place) = std::env::var_os(PLACE) {
            return remove_locked(Path::new(&place));
        }
        let home = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return remove_locked(home.path());
        }
        // Root could read it anyway, so somebody else goes on.
        std::os::unix::fs::chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let test = "files::clear::tests::whoever_is_not_root_removes_what_can_not_be_read";
        let program = home.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let ids = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
        let mut command = Command::new("setpriv");
        command.args(ids).arg(&program).args(["--exact", test]).env(PLACE, home.path()).current_dir("/");
        match command.output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
            }
            Err(error) => {
                assert!(std::env::var_os("JOBMESH_REQUIRE_TOOLS").is_none(), "no setpriv: {error}");
                eprintln!("SKIPPED: this is root, and there is no setpriv to become somebody else: {error}");
            }
        }
    }

    fn remove_locked(place: &Path) {
        let tree = place.join("tree");
        for mode in [0o000, 0o100, 0o200, 0o400, 0o500] {
            let (locked, deeper) = (tree.join("locked"), tree.join("locked/deeper"));
            fs::create_dir_all(&deeper).unwrap();
            fs::write(deeper.join("file"), "x").unwrap();
            for path in [&deeper, &locked, &tree] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            }
            assert!(fs::remove_dir_all(&tree).is_err(), "{mode:o} keeps nobody out");
            remove_tree(&tree).unwrap();
            assert!(fs::symlink_metadata(&tree).is_err(), "{mode:o}");
        }
    }
}
