//! The pretrained networks that the section starts from.

use firstsight_data::{Interpolation, ResizeMode};
use firstsight_models::ModelInfo;
use firstsight_models::networks::{MOBILENET_V2, XCEPTION};
use firstsight_transfer::Pretrained;

use crate::{Context, Result, weights as hub};

/// Height and width that the lecture shows its pretrained networks.
pub(super) const SIDE: usize = 150;

/// Where the section's weights come from.
pub(super) enum Weights {
    /// ImageNet's, of each network.
    Pretrained(Vec<Pretrained>),
    /// The hub cannot be reached, for this reason: the report trains a network of its own.
    Own(String),
}

/// The weights that were typed, or else the published ones from the hub: of both networks or, where it must go quickly,
/// of the smaller one.
pub(super) fn find(typed: &[String], quick: bool, context: &Context<'_>) -> Result<Weights> {
    if !typed.is_empty() {
        let found = typed.iter().map(|text| of_any_network(text, context)).collect::<Result<_>>()?;
        return Ok(Weights::Pretrained(found));
    }
    let wanted: &[&'static ModelInfo] = if quick { &[&MOBILENET_V2] } else { &[&MOBILENET_V2, &XCEPTION] };
    let mut found = Vec::new();
    for &model in wanted {
        match hub::locate(model, None, context) {
            Ok(pretrained) => found.push(as_the_lecture(pretrained)),
            Err(error) => {
                context.runtime.message(&format!("no pretrained weights: {error}"));
                if found.is_empty() {
                    return Ok(Weights::Own(hub::root_cause(&error)));
                }
            }
        }
    }
    Ok(Weights::Pretrained(found))
}

/// The weights that `text` names, of whichever network they are.
fn of_any_network(text: &str, context: &Context<'_>) -> Result<Pretrained> {
    let mut last = None;
    for model in [&MOBILENET_V2, &XCEPTION] {
        match hub::locate(model, Some(text), context) {
            Ok(pretrained) => return Ok(as_the_lecture(pretrained)),
            Err(error) if hub::are_anothers(&error) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match last {
        Some(error) => Err(error.into()),
        None => Err(firstsight_transfer::Error::NoSource(text.to_owned()).into()),
    }
}

/// The input that the lecture gives its pretrained networks: the whole photo, stretched to 150 × 150.
fn as_the_lecture(mut pretrained: Pretrained) -> Pretrained {
    let input = &mut pretrained.input;
    input.input_size = (3, SIDE, SIDE);
    input.crop_mode = ResizeMode::Squash;
    input.crop_pct = 1.0;
    input.interpolation = Interpolation::Bilinear;
    pretrained
}
