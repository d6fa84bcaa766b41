//! What several tests need.

use std::path::{Path, PathBuf};

use firstsight_data::{ColorMode, DecodeSettings};

/// A file beside the scripts that made it.
pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name)
}

pub(crate) fn settings(height: usize, width: usize, color: ColorMode) -> DecodeSettings {
    DecodeSettings { color, ..DecodeSettings::rgb(height, width) }
}

/// A folder for one test, with an image of one grey at each of the names.
pub(crate) fn folder(images: &[(&str, u8)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, grey) in images {
        write_image(&root.path().join(name), *grey);
    }
    root
}

pub(crate) fn write_image(path: &Path, grey: u8) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::GrayImage::from_pixel(5, 4, image::Luma([grey]))
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}
