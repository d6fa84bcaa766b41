//! The photo that the reader names, or the scene that stands in for it.

use std::path::Path;

use firstsight_data::{DecodeSettings, Interpolation, ResizeMode, decode_image};
use firstsight_report::escape_markup;

use super::drawings::{Picture, scene};
use crate::Result;

/// The photo scaled and cropped to (height, width), with where it is from, for captions.
pub(super) fn photo(path: Option<&Path>, (height, width): (usize, usize)) -> Result<(Picture, String)> {
    let Some(path) = path else {
        return Ok((scene(height, width), "a scene drawn by this program".to_owned()));
    };
    let settings = DecodeSettings {
        interpolation: Interpolation::Bicubic,
        resize_mode: ResizeMode::CenterCrop,
        ..DecodeSettings::rgb(height, width)
    };
    let pixels = decode_image(path, &settings)?;
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    Ok((Picture { height, width, pixels }, format!("the photo {}", escape_markup(&name))))
}
