//! Secrets by name: where each value is, and how it is looked up when a job starts.
//!
//! The configuration says where a value is, never what it is: in a variable of the daemon, in a file that only its user
//! may read, or in the keyring of the system, which the system's own program is asked for. A job names the secrets that
//! it wants; the values are looked up when it starts, live as long as its run, and are no part of a job, a row or a ticket.
//! So a job with secrets runs on the node where it was submitted, or on a peer that its owner has entrusted with all of
//! them, by its id: that peer asks for the values when it starts the job, and has them in memory until it ends.
//!
//! **The hard case** is a secret that could be read by others all along, such as a file with the mode 644: that is
//! refused, with the command that mends it, rather than used.

mod error;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use jobmesh_executors::{Secret, Secrets};
use jobmesh_protocol::NodeId;

pub use error::SecretError;

/// Most secrets of a node.
pub(crate) const SECRETS_MAX: usize = 1024;

/// Longest value: a private key or a certificate with all above it is much shorter.
const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// How long a keyring may take. It may ask a person first.
const KEYRING_WAIT: Duration = Duration::from_secs(30);
/// Time between two looks whether a program that has answered has ended: most have at the first.
const LOOK: Duration = Duration::from_millis(5);

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a variable of the daemon.
    Variable(String),
    /// In a file: all of it, but for one line break at its end.
    File(PathBuf),
    /// In the keyring of the system.
    Keyring {
        /// Of which service.
        service: String,
        /// Whose.
        account: String,
    },
}

impl Source {
    /// Reads a source as it is written.
    ///
    /// # Errors
    /// What it must be.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "\"env:VARIABLE\", \"file:/path\" or \"keyring:service/account\"".to_owned();
        let (kind, rest) = text.split_once(':').ok_or_else(wanted)?;
        if rest.is_empty() || rest.contains('\0') {
            return Err(wanted());
        }
        match kind {
            "env" if !rest.contains('=') => Ok(Self::Variable(rest.to_owned())),
            "file" if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            "keyring" => match rest.split_once('/') {
                Some((service, account)) if !service.is_empty() && !account.is_empty() => {
                    Ok(Self::Keyring { service: service.to_owned(), account: account.to_owned() })
                }
                Some(_) | None => Err(wanted()),
            },
            _ => Err(wanted()),
        }
    }

    fn look_up(&self) -> Result<Secret, SecretError> {
        let value = match self {
            Self::Variable(variable) => {
                std::env::var(variable).map_err(|_| SecretError::Variable { variable: variable.clone() })?
            }
            Self::File(path) => read_file(path)?,
            Self::Keyring { service, account } => ask(keyring(service, account), self, KEYRING_WAIT)?,
        };
        if value.is_empty() {
            return Err(SecretError::Empty { place: self.to_string() });
        }
        if value.contains('\0') {
            return Err(SecretError::NotText { place: self.to_string() });
        }
        Ok(Secret::new(value))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(variable) => write!(f, "env:{variable}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Keyring { service, account } => write!(f, "keyring:{service}/{account}"),
        }
    }
}

/// What a node knows of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where its value is.
    pub source: Source,
    /// The members that may have it for the jobs that they do for this node.
    pub peers: BTreeSet<NodeId>,
}

/// The secrets that a node knows of, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vault(BTreeMap<String, Kept>);

impl Vault {
    /// Knows of these.
    pub(crate) const fn new(kept: BTreeMap<String, Kept>) -> Self {
        Self(kept)
    }

    /// Every name with what is known of it, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Kept)> {
        self.0.iter().map(|(name, kept)| (name.as_str(), kept))
    }

    /// The members that may have each secret which is entrusted to any.
    pub(crate) fn entrusted(&self) -> BTreeMap<String, BTreeSet<NodeId>> {
        let shared = self.0.iter().filter(|(_, kept)| !kept.peers.is_empty());
        shared.map(|(name, kept)| (name.clone(), kept.peers.clone())).collect()
    }

    /// Whether a member may have every one of these.
    pub(crate) fn is_entrusted<'n>(&self, peer: NodeId, mut names: impl Iterator<Item = &'n String>) -> bool {
        names.all(|name| self.0.get(name).is_some_and(|kept| kept.peers.contains(&peer)))
    }

    /// Looks up a value. May take as long as a keyring does.
    ///
    /// # Errors
    /// [`SecretError`] says what to do about it.
    pub fn look_up(&self, name: &str) -> Result<Secret, SecretError> {
        let Some(kept) = self.0.get(name) else { return Err(SecretError::Unknown { name: name.to_owned() }) };
        kept.source.look_up()
    }

    /// Looks up everything that a job wants, by the variable that it wants it in.
    pub(crate) fn of_job(&self, wanted: &BTreeMap<String, String>) -> Result<Secrets, SecretError> {
        let mut secrets = Secrets::default();
        for (variable, name) in wanted {
            secrets.insert(variable.clone(), name.clone(), self.look_up(name)?);
        }
        Ok(secrets)
    }
}

/// Whether a text can be the name of a secret: it stands in logs in place of the value, and in the names of tables.
pub(crate) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.len() <= jobmesh_protocol::job::NAME_BYTES_MAX && text.chars().all(legal)
}

fn read_file(path: &Path) -> Result<String, SecretError> {
    let read = |source| SecretError::Read { path: path.to_owned(), source };
    // Nobody is waited for on the other side of a pipe.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(read)?;
    let found = file.metadata().map_err(read)?;
    if !found.is_file() {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        return Err(SecretError::Owner { path: path.to_owned(), owner: found.uid(), us });
    }
    if found.mode() & 0o077 != 0 {
        return Err(SecretError::Wide { path: path.to_owned(), mode: found.mode() & 0o777 });
    }
    let mut value = String::new();
    let count = file.take(VALUE_BYTES_MAX + 1).read_to_string(&mut value).map_err(read)?;
    if count as u64 > VALUE_BYTES_MAX {
        return Err(SecretError::TooLong { place: Source::File(path.to_owned()).to_string() });
    }
    Ok(without_line_break(value))
}

/// Programs write a line; the value is what stands on it.
fn without_line_break(mut value: String) -> String {
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    value
}

/// The system's own program for its keyring.
fn keyring(service: &str, account: &str) -> Command {
    if cfg!(target_os = "macos") {
        let mut command = Command::new("security");
        command.args(["find-generic-password", "-w", "-s", service, "-a", account]);
        return command;
    }
    let mut command = Command::new("secret-tool");
    command.args(["lookup", "service", service, "account", account]);
    command
}

/// What a program answers. It is ended if it takes too long: a keyring that is locked waits for a person.
fn ask(mut command: Command, asked: &Source, wait: Duration) -> Result<String, SecretError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| SecretError::Program { program: program.clone(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let (answered, answer) = mpsc::sync_channel(1);
    if let Some(output) = child.stdout.take() {
        // On a thread of its own: what the program has started may keep its output open for as long as it likes.
        std::thread::spawn(move || {
            let mut value = String::new();
            let read = output.take(VALUE_BYTES_MAX + 1).read_to_string(&mut value);
            answered.send(read.map(|_| value))
        });
    }
    let deadline = Instant::now() + wait;
    let said = answer.recv_timeout(wait).ok();
    // Also one that closed its output may stay.
    let status = end_by(&mut child, deadline).map_err(failed)?;
    let (Some(said), Some(status)) = (said, status) else {
        return Err(SecretError::Silent { place: asked.to_string() });
    };
    if !status.success() {
        return Err(SecretError::NotInKeyring { place: asked.to_string() });
    }
    let value = said.map_err(failed)?;
    if value.len() as u64 > VALUE_BYTES_MAX {
        return Err(SecretError::TooLong { place: asked.to_string() });
    }
    Ok(without_line_break(value))
}

/// How a program ended of itself; it is killed if it has not by then.
fn end_by(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn sources_are_read_as_they_are_shown() {
        for text in ["env:TOKEN", "file:/etc/token", "keyring:registry/me"] {
            assert_eq!(Source::parse(text).unwrap().to_string(), text);
        }
        for text in ["TOKEN", "env:", "env:A=B", "file:token", "keyring:registry", "keyring:/me", "vault:x", ""] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_mends_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Source::File(path.clone()).look_up().unwrap_err().to_string();
        assert!(refused.contains("chmod 600"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Source::File(path.clone()).look_up().unwrap().reveal(), "hunter2");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(Source::File(path.clone()).look_up(), Err(SecretError::Empty { .. })));
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(Source::File(path).look_up(), Err(SecretError::TooLong { .. })));
        assert!(matches!(Source::File(place.path().to_owned()).look_up(), Err(SecretError::NotAFile { .. })));
    }

    #[test]
    fn a_program_is_asked_and_its_refusal_told() {
        let asked = Source::Keyring { service: "registry".to_owned(), account: "me".to_owned() };
        let shell = |script: &str, wait: Duration| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            ask(command, &asked, wait)
        };
        assert_eq!(shell("echo hunter2", KEYRING_WAIT).unwrap(), "hunter2");
        assert!(matches!(shell("exit 1", KEYRING_WAIT), Err(SecretError::NotInKeyring { .. })));
        // A keyring that waits for a person, and a program that has said all and stays.
        for silent in ["exec sleep 60", "echo hunter2; exec >&-; exec sleep 60"] {
            let refused = shell(silent, Duration::from_millis(200));
            assert!(matches!(refused, Err(SecretError::Silent { .. })), "{silent}");
        }
        let none = ask(Command::new("no-such-program"), &asked, KEYRING_WAIT).unwrap_err().to_string();
        assert!(none.contains("no-such-program"), "{none}");
    }

    #[test]
    fn a_job_gets_what_it_names_or_hears_what_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("token");
        std::fs::write(&path, "hunter2").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let kept = Kept { source: Source::File(path), peers: BTreeSet::new() };
        let vault = Vault::new([("registry".to_owned(), kept)].into());
        let want = |name: &str| vault.of_job(&[("TOKEN".to_owned(), name.to_owned())].into());
        assert!(!want("registry").unwrap().is_empty());
        let missing = want("other").unwrap_err().to_string();
        assert!(missing.contains("[secrets.other]"), "{missing}");
    }
}
