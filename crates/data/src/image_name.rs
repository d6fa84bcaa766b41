//! Image files by their names.

use std::path::Path;

/// Extensions of image files, matched in any letter case.
pub(crate) const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "gif", "bmp", "webp"];

/// Whether a file name has an image's extension, in any letter case.
pub fn is_image_name(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}
