//! What the processes of a sandbox are told: what to start, and what it is given.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where programs are in a sandbox.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Largest plan: arguments and environment of a job fit into 64 KiB, and JSON may write each byte of them as six.
pub(super) const PLAN_BYTES_MAX: u64 = 1 << 20;

/// Everything that a sandbox is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The run's directory. Nothing of it is seen inside but what is named below.
    pub(crate) directory: PathBuf,
    /// Its working directory: [`WORK`](super::WORK) inside.
    pub(crate) work: PathBuf,
    /// What else can be seen inside.
    pub(crate) shown: Vec<Shown>,
    /// The file that is its standard input.
    pub(crate) stdin: Option<PathBuf>,
    /// Whether it has the machine's network.
    pub(crate) network: bool,
    /// The program as it is found inside.
    pub(crate) program: String,
    /// Its arguments, the name that it is called by first.
    pub(crate) argv: Vec<String>,
    /// Its whole environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// How much it may take where no control group counts.
    pub(crate) limits: ProcessLimits,
}

/// Something of the machine that can be seen in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// Where it is.
    pub(crate) from: PathBuf,
    /// Where it is seen, to be read.
    pub(crate) at: PathBuf,
}

/// Limits that a process takes upon itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessLimits {
    /// Largest file that it may write.
    pub(crate) file_bytes: Option<u64>,
    /// Most address space of each process.
    pub(crate) address_bytes: Option<u64>,
}

impl Plan {
    /// The plan as bytes.
    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self)?;
        if bytes.len() as u64 > PLAN_BYTES_MAX {
            return Err(io::Error::from(io::ErrorKind::ArgumentListTooLong));
        }
        Ok(bytes)
    }

    /// Reads a plan to the end of `source`.
    #[cfg(target_os = "linux")]
    pub(super) fn read(source: impl io::Read) -> io::Result<(Self, Vec<u8>)> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        source.take(PLAN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let plan = serde_json::from_slice(&bytes)?;
        Ok((plan, bytes))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_plan_reads_back_and_one_that_is_too_long_is_refused() {
        let mut plan = Plan {
            directory: "/r".into(),
            work: "/r/work".into(),
            shown: vec![Shown { from: "/a".into(), at: "/b".into() }],
            stdin: None,
            network: false,
            program: "/bin/true".to_owned(),
            argv: vec!["true".to_owned()],
            environment: BTreeMap::from([("A".to_owned(), "\u{1}".to_owned())]),
            limits: ProcessLimits { file_bytes: Some(1), address_bytes: None },
        };
        let bytes = plan.encode().unwrap();
        assert_eq!(serde_json::from_slice::<Plan>(&bytes).unwrap(), plan);
        plan.argv.push("x".repeat(2 << 20));
        assert_eq!(plan.encode().unwrap_err().kind(), io::ErrorKind::ArgumentListTooLong);
    }
}
