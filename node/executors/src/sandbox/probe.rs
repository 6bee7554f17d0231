//! Whether sandboxes can be made on this machine: by making one.

#[cfg(target_os = "linux")]
pub(crate) use linux::probe;

/// Whether a sandbox can be made.
#[cfg(not(target_os = "linux"))]
pub(crate) fn probe(_worker: &std::path::Path) -> Result<(), Vec<String>> {
    Err(vec!["sandboxes of processes need Linux; jobs of peers can run as WebAssembly or in containers".to_owned()])
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::{self, Write as _};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    use crate::sandbox::{Failure, OUTER_WORD, PATH, Plan, ProcessLimits, failure, words_path};
    use crate::worker::WORKER_WORD;

    /// Settings of the kernel that forbid namespaces of users to others than root, the value with which they do, and what
    /// to do about it.
    const SETTINGS: [(&str, &str, &str); 3] = [
        (
            "kernel/unprivileged_userns_clone",
            "0",
            "user namespaces are for root only; `sysctl -w kernel.unprivileged_userns_clone=1` allows them",
        ),
        (
            "user/max_user_namespaces",
            "0",
            "user namespaces are switched off; `sysctl -w user.max_user_namespaces=10000` allows them",
        ),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor restricts user namespaces; `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` allows \
             them, or a profile for this program with `userns,`",
        ),
    ];

    /// Whether a sandbox can be made; if not, why, and what helps.
    pub(crate) fn probe(worker: &Path) -> Result<(), Vec<String>> {
        let failure = match try_out(worker) {
            Ok(None) => return Ok(()),
            Ok(Some(failure)) => failure.to_string(),
            Err(error) => format!("failed to try out a sandbox: {error}"),
        };
        let forbidding = SETTINGS.into_iter().filter(|(name, value, _)| {
            let found = fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default();
            found.trim() == *value && !rustix::process::geteuid().is_root()
        });
        Err([failure].into_iter().chain(forbidding.map(|(_, _, remedy)| remedy.to_owned())).collect())
    }

    /// A directory of its own, removed in the end.
    struct Place(PathBuf);

    impl Place {
        fn make() -> io::Result<Self> {
            use std::os::unix::fs::DirBuilderExt as _;
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let name = format!("jobmesh-probe-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let place = Self(std::env::temp_dir().join(name));
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o700);
            // Never one that somebody else made.
            builder.create(&place.0)?;
            builder.create(place.0.join("work"))?;
            builder.create(words_path(&place.0))?;
            Ok(place)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            if let Err(error) = fs::remove_dir_all(&self.0) {
                tracing::debug!(path = %self.0.display(), %error, "failed to remove what a probe left");
            }
        }
    }

    /// What the tried program ends with: a success may come from anywhere, also from a program that is no worker.
    const PROOF: i32 = 47;

    /// Runs a program in a sandbox that does nothing.
    fn try_out(worker: &Path) -> io::Result<Option<Failure>> {
        let place = Place::make()?;
        let plan = Plan {
            directory: place.0.clone(),
            work: place.0.join("work"),
            shown: Vec::new(),
            stdin: None,
            network: false,
            program: "sh".to_owned(),
            argv: ["sh", "-c", &format!("exit {PROOF}")].map(str::to_owned).to_vec(),
            environment: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
            limits: ProcessLimits::default(),
        };
        let mut command = Command::new(worker);
        command.args([WORKER_WORD, OUTER_WORD]).env_clear();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&plan.encode()?));
        let status = child.wait()?;
        if status.code() == Some(PROOF) {
            return written.map(|()| None);
        }
        let unknown = || Failure::Sandbox(format!("its first process ended with {status}"));
        Ok(Some(failure(&place.0).unwrap_or_else(unknown)))
    }
}
