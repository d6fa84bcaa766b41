//! The networks that are known by name.

use std::slice::from_ref;
use std::sync::{PoisonError, RwLock};

use crate::networks::{
    ALEXNET, CONVNEXTS, CONVNEXTS_V2, DEITS, DEITS_3, DINOS_V2, EFFICIENTNETS, LENET5, LOGISTIC,
    MOBILENET_V2, MOBILENETS_V2, MOBILENETS_V3, RESNET_SMALL, RESNETS, SMALL_CNN, SWINS, VITS, XCEPTION,
};
use crate::{Error, ModelInfo, Result};

/// A family is a slice of its variants.
static BUILT_IN: [&[ModelInfo]; 18] = [
    from_ref(&LOGISTIC),
    from_ref(&SMALL_CNN),
    from_ref(&LENET5),
    from_ref(&ALEXNET),
    from_ref(&MOBILENET_V2),
    &MOBILENETS_V2,
    &MOBILENETS_V3,
    &EFFICIENTNETS,
    from_ref(&XCEPTION),
    from_ref(&RESNET_SMALL),
    &RESNETS,
    &CONVNEXTS,
    &CONVNEXTS_V2,
    &VITS,
    &DEITS,
    &DEITS_3,
    &DINOS_V2,
    &SWINS,
];

static REGISTERED: RwLock<Vec<&'static ModelInfo>> = RwLock::new(Vec::new());

fn built_in() -> impl Iterator<Item = &'static ModelInfo> {
    BUILT_IN.iter().copied().flatten()
}

/// Every network: the built-in ones, then those that were [registered](register), in order.
pub fn all() -> Vec<&'static ModelInfo> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    built_in().chain(registered.iter().copied()).collect()
}

/// Adds a network for the rest of the process.
///
/// # Errors
///
/// [`Error::NameTaken`] if another network has one of its names.
pub fn register(info: &'static ModelInfo) -> Result<()> {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    for known in built_in().chain(registered.iter().copied()) {
        if let Some(name) = info.names().find(|name| known.names().any(|taken| taken == *name)) {
            return Err(Error::NameTaken { model: info.name, name, by: known.name });
        }
    }
    registered.push(info);
    Ok(())
}

/// The network with this name: its own, timm's or an alias.
///
/// ```
/// use firstsight_models::networks::XCEPTION;
/// use firstsight_models::registry;
///
/// assert_eq!(registry::find("legacy_xception")?, &XCEPTION);
/// let error = registry::find("smal-cnn").unwrap_err().to_string();
/// assert!(error.contains("did you mean 'small-cnn'?"));
/// # Ok::<(), firstsight_models::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::UnknownModel`], with the nearest known name if one is similar.
pub fn find(name: &str) -> Result<&'static ModelInfo> {
    let all = all();
    if let Some(info) = all.iter().find(|info| info.names().any(|known| known == name)) {
        return Ok(info);
    }
    let nearest = all
        .iter()
        .flat_map(|info| info.names())
        .map(|known| (strsim::jaro_winkler(&name.to_lowercase(), known), known))
        .filter(|(similarity, _)| *similarity > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known);
    let (variants, known): (Vec<&ModelInfo>, Vec<&ModelInfo>) =
        all.into_iter().partition(|info| info.timm == Some(info.name));
    let known = known.into_iter().map(|info| info.name).collect();
    let mut families = Vec::new();
    for info in variants {
        if !families.contains(&info.family) {
            families.push(info.family);
        }
    }
    Err(Error::UnknownModel { name: name.to_owned(), nearest, known, families })
}
