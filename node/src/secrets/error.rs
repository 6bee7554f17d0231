//! Why a secret can't be had, and what to do about it.

use std::io;
use std::path::PathBuf;

use jobmesh_protocol::Outcome;

use crate::causes::causes;

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nobody declared it.
    #[error("this node has no secret {name}; declare it in config.toml: [secrets.{name}] with from = \"env:VARIABLE\"")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// The daemon has no such variable.
    #[error("the node was started without the variable {variable}; start it with that, or keep the secret in a file")]
    Variable {
        /// The variable.
        variable: String,
    },
    /// The file can't be read.
    #[error("failed to read the secret in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else has the file's name.
    #[error("{} is no file; keep the secret in one", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else's file.
    #[error("{} belongs to user {owner}, but the node runs as user {us}; run `chown {us} {}`", path.display(), path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may read the file.
    #[error("others may read the secret in {} (mode {mode:o}); run `chmod 600 {}`", path.display(), path.display())]
    Wide {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Nothing is there.
    #[error("the secret in {place} is empty; put its value there")]
    Empty {
        /// Where.
        place: String,
    },
    /// No text that a variable can hold.
    #[error("the secret in {place} has a zero byte, which no variable can have; keep it as text, such as base64")]
    NotText {
        /// Where.
        place: String,
    },
    /// More than a secret has.
    #[error("the secret in {place} is longer than 64 KiB; hand a large one over as an input file")]
    TooLong {
        /// Where.
        place: String,
    },
    /// The program for the keyring can't be started.
    #[error(
        "failed to ask the keyring by {program}; install it (Debian: libsecret-tools), or keep the secret in a file"
    )]
    Program {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The keyring has no such entry.
    #[error("the keyring has nothing for {place}; on Linux `secret-tool store` puts it there, on macOS `security`")]
    NotInKeyring {
        /// What it was asked for.
        place: String,
    },
    /// The keyring does not answer.
    #[error("the keyring did not answer for {place}; it may be locked, so unlock it in your session")]
    Silent {
        /// What it was asked for.
        place: String,
    },
}

impl SecretError {
    /// What it means for the job that wants it: would it be the same the next time?
    pub(crate) fn outcome(&self) -> Outcome {
        let message = causes(self);
        match self {
            Self::Read { .. } | Self::Program { .. } | Self::Silent { .. } => Outcome::error(message),
            Self::Unknown { .. }
            | Self::Variable { .. }
            | Self::NotAFile { .. }
            | Self::Owner { .. }
            | Self::Wide { .. }
            | Self::Empty { .. }
            | Self::NotText { .. }
            | Self::TooLong { .. }
            | Self::NotInKeyring { .. } => Outcome::Permanent { message },
        }
    }
}
