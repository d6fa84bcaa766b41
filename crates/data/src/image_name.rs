//! Image files by their names.

use std::path::Path;

/// Ends of the names of image files, matched in any letter case.
pub(crate) const EXTENSIONS: [&str; 14] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "gif", "bmp", "webp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm"];

/// Whether a file is named like an image: `a.jpg`, in any letter case, also as downloads name it: `a.jpg?width=640` or
/// `a.jpg.1`.
pub fn is_image_name(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let name = name.split('?').next().unwrap_or(name);
    let numbered = name.rsplit_once('.').filter(|(_, end)| end.bytes().all(|b| b.is_ascii_digit()));
    let name = Path::new(numbered.map_or(name, |(name, _)| name));
    name.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension)))
}
