//! `[container]`: which engine runs containers, and of which images.

use jobmesh_executors::{Containers, IMAGE_PATTERNS_MAX, Images, check_image_pattern};

use crate::config::table::{Entry, Fault, Lined, Table, value};

pub(super) const KEYS: &[&str] = &["socket", "images", "allow"];

/// What one file says of containers; `None` where it is silent.
#[derive(Debug, Default)]
pub(super) struct ContainerTable {
    socket: Option<Lined<String>>,
    images: Option<Lined<Images>>,
    allow: Option<Lined<Vec<String>>>,
}

impl ContainerTable {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, Fault> {
        table.check_keys(KEYS, &[])?;
        Ok(Self {
            socket: table.read("socket", read_socket)?,
            images: table.read("images", |entry| entry.word(&[("any", Images::Any), ("digest", Images::Digest)]))?,
            allow: table.read("allow", |entry| entry.list(IMAGE_PATTERNS_MAX, read_pattern))?,
        })
    }

    /// What holds. Whose the containers are is known only at the start.
    pub(super) fn resolve(&self) -> Containers {
        Containers {
            socket: value(self.socket.as_ref()).map(Into::into),
            node: String::new(),
            images: value(self.images.as_ref()).unwrap_or_default(),
            allow: value(self.allow.as_ref()).unwrap_or_default(),
        }
    }
}

fn read_socket(entry: &Entry<'_>) -> Result<Lined<String>, Fault> {
    entry.parsed(|text| {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        if path.starts_with('/') { Ok(path.to_owned()) } else { Err("the path of a socket, from the root".to_owned()) }
    })
}

fn read_pattern(entry: &Entry<'_>) -> Result<Lined<String>, Fault> {
    entry.parsed(|text| match check_image_pattern(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(problem) => Err(format!("a pattern of images such as docker.io/library/* ({problem})")),
    })
}

/// Writes which images may be named the way it is read.
pub(super) const fn images_word(images: Images) -> &'static str {
    match images {
        Images::Any => "any",
        Images::Digest => "digest",
    }
}
