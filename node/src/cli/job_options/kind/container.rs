//! A command in a container.

use clap::Args;
use jobmesh_protocol::task::{ContainerTask, Pull, Task};

use super::{misplaced, type_name};
use crate::cli::failure::Failure;
use crate::cli::job_options::Draft;

#[derive(Args, Debug, Default)]
pub(super) struct ContainerOptions {
    /// Run the words after `--` in a container of this image, or its own command if there are none
    #[arg(long = "container", value_name = "IMAGE", group = "kind")]
    image: Option<String>,
    /// When the image is fetched: missing, always or never [default: missing]
    #[arg(long, value_name = "WHEN", value_parser = parse_pull)]
    pull: Option<Pull>,
}

impl ContainerOptions {
    pub(super) const fn says_what(&self) -> bool {
        self.image.is_some()
    }

    pub(super) fn draft(&self, words: &[String]) -> Option<Draft> {
        let image = self.image.as_ref()?;
        Some(Draft::of(image_name(image), Task::Container(ContainerTask::new(image.clone(), words.to_vec()))))
    }

    pub(super) fn lay_over(self, draft: &mut Draft) -> Result<(), Failure> {
        if let Some(pull) = self.pull {
            let task = &mut draft.submission.spec.task;
            let Task::Container(container) = &mut *task else { return Err(misplaced("--pull", "--container", task)) };
            container.pull = Some(pull);
        }
        Ok(())
    }
}

/// The name of an image without its registry, folders, tag and digest: what its jobs are grouped by.
fn image_name(image: &str) -> String {
    let tagged = image.split('@').next().unwrap_or(image);
    let name = tagged.rsplit('/').next().unwrap_or(tagged);
    type_name(name.split(':').next().unwrap_or(name), "container")
}

fn parse_pull(word: &str) -> Result<Pull, String> {
    Pull::from_word(word).ok_or_else(|| "write missing, always or never".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_grouped_by_their_image() {
        for (image, name) in [
            ("busybox", "busybox"),
            ("docker.io/library/busybox:1.36", "busybox"),
            ("localhost:5000/a/b@sha256:00", "b"),
            ("", "container"),
        ] {
            assert_eq!(image_name(image), name);
        }
    }
}
