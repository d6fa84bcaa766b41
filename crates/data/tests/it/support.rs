//! Helpers of several tests.

use std::path::{Path, PathBuf};

use firstsight_data::{ColorMode, DecodeSettings};

/// A golden file.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

pub(crate) fn settings(height: usize, width: usize, color: ColorMode) -> DecodeSettings {
    DecodeSettings { color, ..DecodeSettings::rgb(height, width) }
}

/// A folder for one test, with an image of one gray at each of the names.
pub(crate) fn folder(images: &[(&str, u8)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, gray) in images {
        write_image(&root.path().join(name), *gray);
    }
    root
}

pub(crate) fn write_image(path: &Path, gray: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(5, 4, image::Luma([gray]))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}
