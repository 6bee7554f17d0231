//! The data directory: everything that one node keeps, under one path that only its owner can enter.
//!
//! ```text
//! node.key  mesh.key   who the node is, and the root of the mesh it founded
//! jobs.db   daemon.lock
//! config.toml          what a person wrote
//! runs/<job>.<epoch>/  output and working directory of each run here
//! aside-<n>/           runs/ and blobs/ of a database that was lost
//! blobs/<hash>         inputs, and outputs of peers too large for the database
//! outboards/<hash>     hashes inside of large files that were sent to peers; safe to delete
//! control.sock         where the daemon answers
//! task.sock  task.key  where running jobs report, and what proves them
//! exports/             what the node has learnt, by day
//! daemon.log
//! ```
//!
//! **The hard case** is the socket: its path may have about 100 bytes, and a data directory deep in some temporary
//! folder is longer. It then goes to a directory under `/tmp` whose name both sides derive from the data directory.
//! That is `/tmp` and no variable, because the daemon and its clients may have been started in different environments.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jobmesh_protocol::RunId;

/// The variable that names the data directory.
pub const HOME_VARIABLE: &str = "JOBMESH_HOME";

/// The name of the node's key file, which comes after its database and before its first job.
pub(crate) const NODE_KEY: &str = "node.key";

/// Longest socket path used: `sun_path` has 104 bytes on macOS and 108 on Linux, with the final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Mode bits that let anyone but the owner in.
const OTHERS: u32 = 0o077;
/// Those of them by which others can put something there.
const OTHERS_WRITE: u32 = 0o022;

/// A data directory. Knowing the path says nothing about whether it exists: see [`Self::create`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    path: PathBuf,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Nobody says where it is.
    #[error("there is no home directory to keep data in; set {HOME_VARIABLE} or give --home")]
    Nowhere,
    /// The path can't be made absolute.
    #[error("the data directory {} can't be found", path.display())]
    Path {
        /// As it was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory can't be made or looked at.
    #[error("failed to make the directory {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else could read or replace what is in it.
    #[error("{} must belong to you and to nobody else (its mode is {mode:o}); run `chmod 700 {}`", path.display(), path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

impl Home {
    /// Finds the data directory: `explicit`, else [`HOME_VARIABLE`], else the place that the system has for such data.
    ///
    /// # Errors
    /// [`HomeError::Nowhere`] or [`HomeError::Path`].
    pub fn locate(explicit: Option<&Path>) -> Result<Self, HomeError> {
        let variable = || std::env::var_os(HOME_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        let usual = || directories::ProjectDirs::from("", "", "jobmesh").map(|dirs| dirs.data_dir().to_owned());
        let given = explicit.map(Path::to_owned).or_else(variable).or_else(usual).ok_or(HomeError::Nowhere)?;
        let absolute = std::path::absolute(&given).map_err(|source| HomeError::Path { path: given, source })?;
        // Two ways to the same directory must lead to the same socket.
        let path = absolute.canonicalize().unwrap_or(absolute);
        Ok(Self { path })
    }

    /// Makes the directory and what belongs into it, as far as it is missing. A directory of ours that is empty is
    /// closed to others: that is what `mkdir` leaves to be closed, and nobody can have put anything there.
    ///
    /// # Errors
    /// [`HomeError::Create`], or [`HomeError::Open`] if others can get in.
    pub fn create(&self) -> Result<(), HomeError> {
        close_if_empty(&self.path).map_err(|source| HomeError::Create { path: self.path.clone(), source })?;
        make_private(&self.path)?;
        make_private(&self.runs())?;
        make_private(&self.blobs())?;
        match self.socket().parent() {
            Some(directory) if directory != self.path => make_private(directory),
            Some(_) | None => Ok(()),
        }
    }

    /// Moves what runs left, and the blobs, to a directory of their own beside them. Returns that directory; none if
    /// there was nothing.
    ///
    /// # Errors
    /// What the system said.
    pub fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        let mut aside: Option<PathBuf> = None;
        for folder in [self.runs(), self.blobs()] {
            if !folder.exists() || is_empty(&folder)? {
                continue;
            }
            let into = match &aside {
                Some(into) => into.clone(),
                None => self.new_aside()?,
            };
            fs::rename(&folder, into.join(folder.file_name().unwrap_or_default()))?;
            DirBuilder::new().mode(0o700).create(&folder)?;
            aside = Some(into);
        }
        Ok(aside)
    }

    /// Makes a directory for what is set aside, one that was not there.
    fn new_aside(&self) -> io::Result<PathBuf> {
        let mut number = 1_u32;
        loop {
            let path = self.path.join(format!("aside-{number}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(path),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Checks that nobody else can get into the directory. One that is missing is fine.
    ///
    /// # Errors
    /// [`HomeError::Open`].
    pub fn check(&self) -> Result<(), HomeError> {
        if self.path.exists() && !is_left_to_us(&self.path) { check_private(&self.path) } else { Ok(()) }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a node has lived here.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.path.join(NODE_KEY).exists()
    }

    /// What a person wrote.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// Where the daemon writes what it does when it has no terminal.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("daemon.log")
    }

    /// Where the hashes inside of files are kept that were sent to peers. They can be computed anew.
    #[must_use]
    pub fn outboards(&self) -> PathBuf {
        self.path.join("outboards")
    }

    /// Where blobs are kept.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.path.join("blobs")
    }

    /// Where what was learnt is written down.
    #[must_use]
    pub fn exports(&self) -> PathBuf {
        self.path.join("exports")
    }

    /// Where runs have their directories.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.path.join("runs")
    }

    /// Where runs that have secrets are marked.
    #[must_use]
    pub fn guarded(&self) -> PathBuf {
        self.path.join("guarded")
    }

    /// Where directories of runs that left nothing wait for the next run.
    #[must_use]
    pub fn spares(&self) -> PathBuf {
        self.path.join("spares")
    }

    /// The directory of one run.
    #[must_use]
    pub fn run(&self, run: RunId) -> PathBuf {
        self.runs().join(run.to_string())
    }

    /// Where the daemon answers: the same path for the daemon and its clients.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        let inside = self.path.join("control.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return inside;
        }
        let digest = blake3::hash(self.path.as_os_str().as_bytes());
        let tag: String = digest.to_hex().chars().take(16).collect();
        let owner = rustix::process::getuid().as_raw();
        PathBuf::from(format!("/tmp/jobmesh-{owner}-{tag}/control.sock"))
    }

    /// Where running jobs report: beside [`Self::socket`].
    #[must_use]
    pub fn task_socket(&self) -> PathBuf {
        self.socket().with_file_name("task.sock")
    }

    /// Checks that nobody else can have put the socket there. For clients, before they trust who answers.
    ///
    /// # Errors
    /// [`HomeError::Open`] if another user owns the socket's directory or can write to it. A directory that is missing is fine:
    /// then there is no socket either.
    pub fn check_socket(&self) -> Result<(), HomeError> {
        match self.socket().parent() {
            // The first daemon will close it; until then only we can put a socket there.
            Some(directory) if is_left_to_us(directory) => Ok(()),
            Some(directory) if directory.exists() => check_private(directory),
            Some(_) | None => Ok(()),
        }
    }
}

fn make_private(path: &Path) -> Result<(), HomeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| HomeError::Create { path: path.to_owned(), source })?;
    check_private(path)
}

fn close_if_empty(path: &Path) -> io::Result<()> {
    let Some(mode) = mode_if_open_and_empty(path)? else { return Ok(()) };
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    // Somebody may have put something there between the look and the closing: then it is not ours to close.
    if !is_empty(path)? {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The permission bits of a directory of ours that others can get into and that nobody has used yet.
fn mode_if_open_and_empty(path: &Path) -> io::Result<Option<u32>> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
    let is_ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw();
    let is_met = is_ours && found.mode() & OTHERS != 0 && is_empty(path)?;
    Ok(is_met.then_some(found.mode() & 0o7777))
}

fn is_empty(path: &Path) -> io::Result<bool> {
    Ok(fs::read_dir(path)?.next().is_none())
}

/// Whether a directory is open and empty, and nobody but us can change the latter.
fn is_left_to_us(path: &Path) -> bool {
    mode_if_open_and_empty(path).is_ok_and(|mode| mode.is_some_and(|mode| mode & OTHERS_WRITE == 0))
}

fn check_private(path: &Path) -> Result<(), HomeError> {
    let found = fs::symlink_metadata(path).map_err(|source| HomeError::Create { path: path.to_owned(), source })?;
    let is_ours = found.uid() == rustix::process::getuid().as_raw();
    if found.is_dir() && is_ours && found.mode() & OTHERS == 0 {
        return Ok(());
    }
    Err(HomeError::Open { path: path.to_owned(), mode: found.mode() & 0o7777 })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn home(path: &Path) -> Home {
        Home::locate(Some(path)).unwrap()
    }

    #[test]
    fn what_a_lost_database_leaves_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let home = home(&directory.path().join("home"));
        home.create().unwrap();
        assert_eq!(home.set_aside().unwrap(), None, "nothing was left");
        for number in [1, 2] {
            fs::write(home.runs().join("output"), "text").unwrap();
            let aside = home.set_aside().unwrap().unwrap();
            assert_eq!(aside, home.path().join(format!("aside-{number}")));
            assert_eq!(fs::read_to_string(aside.join("runs/output")).unwrap(), "text");
            assert!(!aside.join("blobs").exists() && is_empty(&home.runs()).unwrap());
            home.create().unwrap();
        }
    }

    #[test]
    fn a_new_home_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let home = home(&folder.path().join("deep/home"));
        home.create().unwrap();
        home.create().unwrap();
        for path in [home.path().to_owned(), home.runs(), home.blobs()] {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_home_that_others_can_enter_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let open = || fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        open();
        home(folder.path()).check_socket().unwrap();
        home(folder.path()).create().unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o777, 0o700, "nothing was in it, so it was closed");
        open();
        let error = home(folder.path()).create().unwrap_err().to_string();
        assert!(error.contains("755") && error.contains("chmod 700"), "{error}");
    }

    /// Another user could put a socket there after the look.
    #[test]
    fn an_empty_home_that_others_can_write_to_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = home(folder.path()).check_socket().unwrap_err().to_string();
        assert!(error.contains("777") && error.contains("chmod 700"), "{error}");
        home(folder.path()).create().unwrap();
        home(folder.path()).check_socket().unwrap();
    }

    #[test]
    fn a_long_path_has_its_socket_elsewhere_and_always_in_the_same_place() {
        let folder = tempfile::tempdir().unwrap();
        let near = home(folder.path());
        assert_eq!(near.socket(), near.path().join("control.sock"));
        let far = home(&folder.path().join("x".repeat(120)));
        let before = far.socket();
        assert!(before.as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        far.create().unwrap();
        far.check_socket().unwrap();
        assert_eq!(home(far.path()).socket(), before);
        fs::remove_dir(before.parent().unwrap()).unwrap();
    }
}
