//! Why an image could not be decoded.

use std::path::Path;

use super::format::Format;
use crate::error::Error;

/// The error of a format's reader. The caller adds the file's name.
pub(super) enum Failure {
    TooManyPixels(u64, u64),
    Undecodable(String),
    /// A setting is invalid, whatever the file.
    Setting(Error),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Undecodable(error.to_string())
    }
}

impl Failure {
    pub(super) fn on(self, path: &Path, format: Format, max_pixels: u64) -> Error {
        let path = path.to_owned();
        match self {
            Self::TooManyPixels(width, height) => Error::TooManyPixels { path, width, height, max_pixels },
            Self::Undecodable(message) => Error::Undecodable { path, format: format.name(), message },
            Self::Setting(error) => error,
        }
    }
}

pub(super) fn check_pixels(width: u32, height: u32, max_pixels: u64) -> Result<(), Failure> {
    let (width, height) = (u64::from(width), u64::from(height));
    if width == 0 || height == 0 {
        return Err(Failure::Undecodable(format!("expected at least one pixel, found {width}x{height}")));
    }
    if width * height > max_pixels {
        return Err(Failure::TooManyPixels(width, height));
    }
    Ok(())
}

/// Checks that no more than a tenth of a damaged image is lost; `is_cut` tells a file that ends too early from one whose
/// bytes are wrong.
pub(super) fn check_lost(lost: usize, total: usize, parts: &str, is_cut: bool) -> Result<(), Failure> {
    match lost * 10 <= total {
        true => Ok(()),
        false => {
            let (are, file) = if is_cut { ("missing", "cut off") } else { ("unreadable", "corrupt") };
            Err(Failure::Undecodable(format!("{lost} of {total} {parts} are {are}: the file is {file}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_pixels_on_both_sides_and_no_more_than_the_limit() {
        for (width, height) in [(0, 0), (0, 5), (5, 0)] {
            assert!(matches!(check_pixels(width, height, 100), Err(Failure::Undecodable(_))));
        }
        assert!(check_pixels(20, 5, 100).is_ok());
        assert!(matches!(check_pixels(101, 1, 100), Err(Failure::TooManyPixels(101, 1))));
    }
}
