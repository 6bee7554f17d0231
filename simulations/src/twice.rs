//! The same seed in two processes whose surroundings differ: what comes out must be the same.

use std::io;
use std::process::Command;

/// What one process says of a seed: the lines with the hashes, or that it failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hashes(Vec<String>);

/// Runs a seed in two processes.
///
/// # Errors
/// What the system says if a process can't be started.
pub(crate) fn twice(seed: u64, millis: u64) -> io::Result<(Hashes, Hashes)> {
    let here = hashes(seed, millis, &[("TZ", "UTC"), ("LANG", "C")])?;
    let surroundings =
        [("TZ", "Pacific/Auckland"), ("LANG", "tr_TR.UTF-8"), ("HOME", "/nonexistent"), ("MALLOC_PERTURB_", "165")];
    Ok((here, hashes(seed, millis, &surroundings)?))
}

fn hashes(seed: u64, millis: u64, surroundings: &[(&str, &str)]) -> io::Result<Hashes> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["run", "--seed", &seed.to_string(), "--millis", &millis.to_string()]);
    command.envs(surroundings.iter().copied());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tells = |line: &&str| ["trace", "databases", "FAILED", "broken"].iter().any(|word| line.starts_with(word));
    Ok(Hashes(text.lines().filter(tells).map(str::to_owned).collect()))
}

impl Hashes {
    /// Whether both hashes are there.
    pub(crate) fn is_good(&self) -> bool {
        ["trace", "databases"].iter().all(|word| self.0.iter().any(|line| line.starts_with(word)))
    }
}

impl std::fmt::Display for Hashes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}
