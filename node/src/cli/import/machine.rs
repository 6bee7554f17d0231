//! Who and where this is: what a crontab takes for granted.

use std::path::{Path, PathBuf};

/// The zone of a machine that does not say.
const ZONE_DEFAULT: &str = "UTC";

/// The user and the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The user that runs this, and so the node.
    pub(super) user: String,
    /// The user's home directory.
    pub(super) home: Option<String>,
    /// The zone of the wall clock.
    pub(super) zone: String,
}

impl Machine {
    pub(super) fn detect() -> Self {
        let id = rustix::process::geteuid().as_raw();
        let entry = std::fs::read_to_string("/etc/passwd").ok().and_then(|users| entry(&users, id));
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (user, home) = match entry {
            Some((user, home)) => (Some(user), Some(home)),
            None => (None, None),
        };
        let user = user.or_else(|| variable("LOGNAME")).or_else(|| variable("USER")).unwrap_or_else(|| id.to_string());
        Self { user, home: variable("HOME").or(home), zone: zone() }
    }
}

/// Where pueue keeps its state unless it was told otherwise.
pub(super) fn pueue_directory() -> Option<PathBuf> {
    directories::BaseDirs::new().map(|directories| directories.data_local_dir().join("pueue"))
}

/// Name and home directory of a user, from the lines of `/etc/passwd`.
fn entry(users: &str, id: u32) -> Option<(String, String)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, number, _, _, home, ..] if number.parse() == Ok(id) => {
                Some(((*name).to_owned(), (*home).to_owned()))
            }
            _ => None,
        }
    })
}

/// The zone by its name in the zone database: from `TZ`, else from the link `/etc/localtime`, else from
/// `/etc/timezone`.
fn zone() -> String {
    let variable = std::env::var("TZ").ok().map(|zone| zone.trim_start_matches(':').to_owned());
    let link = || std::fs::canonicalize("/etc/localtime").ok().and_then(|target| zone_of(&target));
    let file = || std::fs::read_to_string("/etc/timezone").ok().map(|zone| zone.trim().to_owned());
    let named = |zone: &String| !zone.is_empty() && !zone.starts_with('/');
    variable.filter(named).or_else(link).or_else(|| file().filter(named)).unwrap_or_else(|| ZONE_DEFAULT.to_owned())
}

/// The name of a zone in the path of its file.
fn zone_of(target: &Path) -> Option<String> {
    let text = target.to_str()?;
    let (_, name) = text.split_once("zoneinfo/").or_else(|| text.split_once("zoneinfo.default/"))?;
    let name = name.strip_prefix("posix/").or_else(|| name.strip_prefix("right/")).unwrap_or(name);
    Some(name.to_owned()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_zone_is_in_the_path_of_its_file() {
        for (path, zone) in [
            ("/usr/share/zoneinfo/Europe/Oslo", Some("Europe/Oslo")),
            ("/usr/share/zoneinfo/posix/Etc/UTC", Some("Etc/UTC")),
            ("/var/db/timezone/zoneinfo/America/New_York", Some("America/New_York")),
            ("/etc/localtime", None),
        ] {
            assert_eq!(zone_of(Path::new(path)).as_deref(), zone);
        }
    }

    #[test]
    fn a_user_is_found_by_number() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\nme:x:1000:1000::/home/me:/bin/zsh\n";
        assert_eq!(entry(users, 1000), Some(("me".to_owned(), "/home/me".to_owned())));
        assert_eq!(entry(users, 7), None);
    }
}
