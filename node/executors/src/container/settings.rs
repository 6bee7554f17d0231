//! What the owner of a node says of containers.

use std::path::PathBuf;

/// Most patterns of images.
pub const IMAGE_PATTERNS_MAX: usize = 256;

/// What the container executor is told from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Containers {
    /// The engine's socket; none looks in the usual places.
    pub socket: Option<PathBuf>,
    /// Whose containers these are: the mark by which a node finds its own again.
    pub node: String,
    /// Which images the node's own jobs may name.
    pub images: Images,
    /// Patterns of images that peers' jobs may name without a digest, and that are fetched for them, such as
    /// `docker.io/library/*`. At most [`IMAGE_PATTERNS_MAX`].
    pub allow: Vec<String>,
}

/// Which images the node's own jobs may name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Images {
    /// Every one.
    #[default]
    Any,
    /// Those that are named by their digest, `name@sha256:…`.
    Digest,
}
