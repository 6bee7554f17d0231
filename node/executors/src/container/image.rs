//! Having the image on this machine before the container is made.

use bollard::models::CreateImageInfo;
use bollard::query_parameters::CreateImageOptions;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use jobmesh_protocol::task::Pull;

use super::engine::{ContainerError, Engine, is_final_refusal, is_missing};
use super::policy::{Name, Permit};

/// News of a transfer from a registry.
pub(super) type Transfer = BoxStream<'static, Result<CreateImageInfo, bollard::errors::Error>>;

/// Whether an image has to be fetched.
pub(super) async fn must_be_fetched(engine: &Engine, permit: &Permit) -> Result<bool, ContainerError> {
    if permit.pull == Pull::Always {
        return Ok(true);
    }
    match engine.docker.inspect_image(&permit.image).await {
        Ok(_) => Ok(false),
        Err(error) if is_missing(&error) => match permit.pull {
            Pull::Missing | Pull::Always => Ok(true),
            Pull::Never => Err(ContainerError::NoImage { image: permit.image.clone(), engine: engine.kind }),
        },
        Err(source) => Err(ContainerError::Engine { what: "look for the image", source }),
    }
}

/// An image as it is made into a container.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Its name, or for a container that is kept apart its id: what was looked at is what is run.
    pub(super) name: String,
    /// The directories that the engine would give it room for on its own disk.
    pub(super) volumes: Vec<String>,
}

/// Most volumes of an image for a container that is kept apart. The images of databases have one or two.
const VOLUMES_MAX: usize = 16;

/// Looks at an image that is to run kept apart.
pub(super) async fn inspect(engine: &Engine, image: &str) -> Result<Image, ContainerError> {
    let found = match engine.docker.inspect_image(image).await {
        Ok(found) => found,
        Err(error) if is_missing(&error) => {
            return Err(ContainerError::NoImage { image: image.to_owned(), engine: engine.kind });
        }
        Err(source) => return Err(ContainerError::Engine { what: "look at the image", source }),
    };
    let volumes = found.config.and_then(|config| config.volumes).unwrap_or_default();
    if volumes.len() > VOLUMES_MAX {
        return Err(ContainerError::Volumes { image: image.to_owned(), max: VOLUMES_MAX });
    }
    Ok(Image { name: found.id.unwrap_or_else(|| image.to_owned()), volumes })
}

/// Begins to fetch an image.
pub(super) fn fetch(engine: &Engine, image: &str) -> Transfer {
    // A name without a tag means every tag to an engine; the full name always has one, or a digest.
    let options = CreateImageOptions { from_image: Some(Name::of(image).full()), ..CreateImageOptions::default() };
    let docker = engine.docker.clone();
    futures::stream::once(async move { docker.create_image(Some(options), None, None) }).flatten().boxed()
}

/// What a transfer's failure means for the job.
pub(super) fn failure(image: &str, error: &bollard::errors::Error) -> ContainerError {
    let problem = error.to_string();
    let is_final = is_final_refusal(&problem);
    ContainerError::Pull { image: image.to_owned(), problem, is_final }
}

/// How far a transfer has come, in ten-thousandths of the layers that were told of, and what it is at.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    /// Bytes that are here, and all bytes, for each layer. At most [`LAYERS_MAX`].
    layers: std::collections::BTreeMap<String, (i64, i64)>,
}

/// Most layers of an image that are counted: engines refuse more than 127.
const LAYERS_MAX: usize = 256;

impl Fetched {
    /// Takes in one piece of news, and returns what there is to tell.
    pub(super) fn hear(&mut self, news: &CreateImageInfo) -> (Option<u16>, String) {
        let status = news.status.clone().unwrap_or_default();
        if let (Some(id), Some(detail)) = (&news.id, &news.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
            && (self.layers.len() < LAYERS_MAX || self.layers.contains_key(id))
        {
            self.layers.insert(id.clone(), (current.clamp(0, total.max(0)), total.max(0)));
        }
        let sum = |pick: fn(&(i64, i64)) -> i64| self.layers.values().map(pick).fold(0_i64, i64::saturating_add);
        let (here, all) = (sum(|layer| layer.0), sum(|layer| layer.1));
        let parts = i128::from(here) * 10_000;
        let done = (all > 0).then(|| u16::try_from(parts / i128::from(all)).unwrap_or(10_000));
        (done, status)
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    fn news(id: &str, current: i64, total: i64) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some("Downloading".to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn progress_is_that_of_all_layers_together() {
        let mut fetched = Fetched::default();
        assert_eq!(fetched.hear(&CreateImageInfo::default()), (None, String::new()));
        assert_eq!(fetched.hear(&news("a", 50, 100)).0, Some(5_000));
        assert_eq!(fetched.hear(&news("b", 0, 100)).0, Some(2_500));
        assert_eq!(fetched.hear(&news("a", 999, 100)).0, Some(5_000), "no more than all of it");
        assert_eq!(fetched.hear(&news("b", -1, -1)).0, Some(10_000));
    }
}
