//! Which images may run here, and which may be fetched.
//!
//! A person's own jobs run what they name. A peer's job names an image by its digest, which nobody can change behind
//! our back, or one that the node's owner allows by pattern; only the latter are ever fetched for it.
//!
//! **The hard case** is the short name: `busybox` means one thing to Docker and another to Podman, which first looks
//! among what was built on the machine. So names are judged in full (`docker.io/library/busybox`), and for a peer's job
//! the engine is asked for exactly the name that was judged.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use jobmesh_protocol::task::{ContainerTask, Pull};

use super::settings::{Containers, IMAGE_PATTERNS_MAX, Images};

/// Checks a pattern of images.
///
/// # Errors
/// What is wrong with it.
pub fn check_image_pattern(pattern: &str) -> Result<(), String> {
    glob(pattern).map(drop).map_err(|error| error.kind().to_string())
}

/// Why an image may not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PolicyError {
    #[error("image {image} is not named by its digest, as container.images asks; name it like {name}@sha256:…")]
    OwnDigest { image: String, name: String },
    #[error(
        "image {image} is refused for jobs of peers: name it by its digest, or have this node's owner put {name} into \
         container.allow"
    )]
    Foreign { image: String, name: String },
}

/// What may be done about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    /// What the engine is asked for.
    pub(super) image: String,
    pub(super) pull: Pull,
}

/// The rules of a node.
#[derive(Debug)]
pub(super) struct Policy {
    images: Images,
    allow: GlobSet,
}

impl Policy {
    pub(super) fn new(settings: &Containers) -> Self {
        let mut allow = GlobSetBuilder::new();
        for pattern in settings.allow.iter().take(IMAGE_PATTERNS_MAX) {
            match glob(pattern) {
                Ok(glob) => drop(allow.add(glob)),
                Err(error) => tracing::error!(pattern, %error, "a pattern in container.allow is none"),
            }
        }
        let allow = allow.build().unwrap_or_else(|error| {
            tracing::error!(%error, "the patterns in container.allow are too many; none is allowed");
            GlobSet::empty()
        });
        Self { images: settings.images, allow }
    }

    /// Whether the image of a task may run, and when it is fetched.
    pub(super) fn judge(&self, task: &ContainerTask, is_foreign: bool) -> Result<Permit, PolicyError> {
        let name = Name::of(&task.image);
        let wanted = task.pull.unwrap_or(Pull::Missing);
        if !is_foreign {
            if self.images == Images::Digest && name.digest.is_none() {
                return Err(PolicyError::OwnDigest { image: task.image.clone(), name: name.path });
            }
            return Ok(Permit { image: task.image.clone(), pull: wanted });
        }
        let is_allowed = self.allow.is_match(&name.path) || self.allow.is_match(name.tagged());
        match (is_allowed, &name.digest) {
            (true, _) => Ok(Permit { image: name.full(), pull: wanted }),
            (false, Some(_)) => Ok(Permit { image: name.full(), pull: Pull::Never }),
            (false, None) => Err(PolicyError::Foreign { image: task.image.clone(), name: name.path }),
        }
    }
}

/// A star stays within one part of a name, as in a path.
fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).build()
}

/// The parts of an image's name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Registry and path.
    path: String,
    tag: Option<String>,
    /// With its algorithm, `sha256:…`; none if what stands there is none.
    digest: Option<String>,
}

impl Name {
    pub(super) fn of(image: &str) -> Self {
        let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        let (parents, last) = name.rsplit_once('/').map_or((None, name), |(parents, last)| (Some(parents), last));
        let (last, tag) = last.split_once(':').map_or((last, None), |(last, tag)| (last, Some(tag)));
        let has_registry = parents.and_then(|parents| parents.split('/').next()).is_some_and(is_registry);
        let path = match parents {
            None => format!("docker.io/library/{last}"),
            Some(parents) if has_registry => format!("{parents}/{last}"),
            Some(parents) => format!("docker.io/{parents}/{last}"),
        };
        let digest = digest.filter(|digest| is_digest(digest)).map(str::to_owned);
        Self { path, tag: tag.map(str::to_owned), digest }
    }

    fn tagged(&self) -> String {
        format!("{}:{}", self.path, self.tag.as_deref().unwrap_or("latest"))
    }

    /// The one name that means this image and nothing else.
    pub(super) fn full(&self) -> String {
        self.digest.as_ref().map_or_else(|| self.tagged(), |digest| format!("{}@{digest}", self.path))
    }
}

fn is_registry(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    const DIGEST: &str = "sha256:0fc9ad1550e463bec900b2b330b4c343232919e1df6e527ff597d5f987f1dcc3";

    fn judge(allow: &[&str], images: Images, image: &str, is_foreign: bool) -> Result<Permit, PolicyError> {
        let allow = allow.iter().map(|pattern| (*pattern).to_owned()).collect();
        let policy = Policy::new(&Containers { images, allow, ..Containers::default() });
        policy.judge(&ContainerTask::new(image, Vec::new()), is_foreign)
    }

    #[test]
    fn names_are_read_like_an_engine_reads_them() {
        let full = |image| Name::of(image).full();
        assert_eq!(full("busybox"), "docker.io/library/busybox:latest");
        assert_eq!(full("me/tool:2"), "docker.io/me/tool:2");
        assert_eq!(full("localhost/x"), "localhost/x:latest");
        assert_eq!(full("host:5000/a/b:1"), "host:5000/a/b:1");
        assert_eq!(full(&format!("ghcr.io/a/b:1@{DIGEST}")), format!("ghcr.io/a/b@{DIGEST}"));
        assert_eq!(Name::of("busybox@sha256:12").digest, None, "a digest that is none names nothing");
    }

    #[test]
    fn own_jobs_run_what_they_name_unless_digests_are_asked_for() {
        assert_eq!(judge(&[], Images::Any, "busybox", false).unwrap().image, "busybox");
        let refused = judge(&[], Images::Digest, "busybox:1", false).unwrap_err();
        assert!(refused.to_string().contains("docker.io/library/busybox@sha256:"), "{refused}");
        let image = format!("busybox@{DIGEST}");
        assert_eq!(judge(&[], Images::Digest, &image, false).unwrap().image, image);
    }

    #[test]
    fn jobs_of_peers_run_digests_and_what_is_allowed_and_only_that_is_fetched() {
        let image = format!("busybox@{DIGEST}");
        let permit = judge(&[], Images::Any, &image, true).unwrap();
        assert_eq!(permit, Permit { image: format!("docker.io/library/{image}"), pull: Pull::Never });
        assert!(judge(&[], Images::Any, "busybox", true).is_err());
        let allow = ["docker.io/library/*", "ghcr.io/me/tool:2"];
        let permit = judge(&allow, Images::Any, "busybox", true).unwrap();
        assert_eq!(permit, Permit { image: "docker.io/library/busybox:latest".to_owned(), pull: Pull::Missing });
        assert!(judge(&allow, Images::Any, "ghcr.io/me/tool:2", true).is_ok());
        assert!(judge(&allow, Images::Any, "ghcr.io/me/tool:3", true).is_err());
        assert!(judge(&allow, Images::Any, "docker.io/library/a/b", true).is_err(), "a star is one part");
        assert!(judge(&allow, Images::Any, "localhost/busybox", true).is_err());
    }
}
