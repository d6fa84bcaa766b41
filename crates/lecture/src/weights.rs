//! Pretrained weights that the sections on features and on transfer learning start from.

use firstsight_models::ModelInfo;
use firstsight_transfer::{Error, Event, Hub, HubConfig, Pretrained, WeightsSource};

use crate::Context;

/// The weights of `model` that were named, or else the published ones.
pub(crate) fn locate(
    model: &'static ModelInfo,
    named: Option<&str>,
    context: &Context<'_>,
) -> Result<Pretrained, Error> {
    let source = named.map_or(Ok(WeightsSource::Published), WeightsSource::parse)?;
    let hub = Hub::new(context.settings.hub.clone())?;
    Pretrained::locate(model, &source, &hub, &mut |progress| {
        context.runtime.report(&Event::Download(progress));
    })
}

/// The published weights of `model`, if they lie in the cache. The network is not asked.
pub(crate) fn cached(model: &'static ModelInfo, context: &Context<'_>) -> Result<Option<Pretrained>, Error> {
    let hub = Hub::new(HubConfig { offline: true, ..context.settings.hub.clone() })?;
    match Pretrained::locate(model, &WeightsSource::Published, &hub, &mut |_| ()) {
        Ok(found) => Ok(Some(found)),
        Err(Error::Hub(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether weights could not be used because they are another network's.
pub(crate) fn are_anothers(error: &Error) -> bool {
    matches!(error, Error::Architecture { .. } | Error::Config { .. })
}

/// The last of an error's causes.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
